# regent-verify-prod: reads all that, and writes nothing but a heartbeat.

# The copies.
path "secret/data/bootstrap/prod/*" { capabilities = ["read"] }
path "secret/metadata/bootstrap/prod/*" { capabilities = ["read"] }

# The records.
path "secret/data/regent/prod/authority/*" { capabilities = ["read"] }
path "secret/metadata/regent/prod/authority/*" { capabilities = ["read"] }

# The heartbeat, by which an older backup of Vault is told.
path "secret/data/regent/prod/heartbeat" { capabilities = ["create", "update", "read"] }

# Its own token: for as long as the run takes.
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
