# regent-deliver-prod: an example for External Secrets or the Vault Secrets Operator.

# The copies, by name. `dataFrom.find` of External Secrets needs `list` on their metadata, too.
path "secret/data/bootstrap/prod/*" { capabilities = ["read"] }
