# regent-handover-prod: creates, and cannot change, delete, undelete or list what exists.

# The copies.
path "secret/data/bootstrap/prod/*" { capabilities = ["create", "read"] }
path "secret/metadata/bootstrap/prod/*" { capabilities = ["read"] }

# The record of each epoch, and what people append beside it.
path "secret/data/regent/prod/authority/*" { capabilities = ["create", "read"] }
path "secret/metadata/regent/prod/authority/*" { capabilities = ["read"] }

# Whether what is written goes by itself (`delete_version_after`): known before anything is.
path "secret/config" { capabilities = ["read"] }
