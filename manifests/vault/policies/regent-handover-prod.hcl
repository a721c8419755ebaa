# regent-handover-prod: creates, and cannot change, delete, undelete or list what exists.

# The copies.
path "secret/data/bootstrap/prod/*" { capabilities = ["create", "read"] }
path "secret/metadata/bootstrap/prod/*" { capabilities = ["read"] }

# The record of each epoch, and what people append beside it.
path "secret/data/regent/prod/authority/*" { capabilities = ["create", "read"] }
path "secret/metadata/regent/prod/authority/*" { capabilities = ["read"] }

# Whether what is written goes by itself (`delete_version_after`): known before anything is.
path "secret/config" { capabilities = ["read"] }

# Whether it may do all that and no more: key by key, or at once where this text is all it has.
path "sys/capabilities-self" { capabilities = ["update"] }
path "auth/token/lookup-self" { capabilities = ["read"] }
path "sys/policies/acl/regent-handover-prod" { capabilities = ["read"] }

# Its own token: for as long as the run takes.
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
