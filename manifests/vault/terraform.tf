# What `regent handover --print-policy` prints for the authority `prod`, for those who keep Vault or OpenBao in Terraform or
# OpenTofu (provider hashicorp/vault). Apply it in two goes: the uid exists once `regent init` has made the ServiceAccount.
#
#   terraform apply -var "handover_uid=$(kubectl -n regent-system get serviceaccount regent-handover-prod \
#     -o jsonpath={.metadata.uid})"
#
# Destroy what is called `handover` when the handover is settled.

terraform {
  required_providers {
    vault = { source = "hashicorp/vault" }
  }
}

variable "handover_uid" {
  description = "The uid of the ServiceAccount regent-handover-prod: one that is made again under the same name has another."
  type        = string
}

locals {
  home     = "regent-system"
  audience = "https://vault.vault.svc:8200" # the address in regent.yaml
  handover = "regent-handover-prod"
  verify   = "regent-verify-prod"
}

resource "vault_policy" "handover" {
  name   = local.handover
  policy = file("${path.module}/policies/regent-handover-prod.hcl")
}

resource "vault_policy" "verify" {
  name   = local.verify
  policy = file("${path.module}/policies/regent-verify-prod.hcl")
}

resource "vault_policy" "deliver" {
  name   = "regent-deliver-prod"
  policy = file("${path.module}/policies/regent-deliver-prod.hcl")
}

# --- login by `kubernetes`: keep this or the next part

data "vault_auth_backend" "kubernetes" {
  path = "kubernetes"
}

# The role gives no policy. The identity of the uid has it, because the method can bind a role to a name alone.
resource "vault_kubernetes_auth_backend_role" "handover" {
  backend                          = data.vault_auth_backend.kubernetes.path
  role_name                        = local.handover
  bound_service_account_names      = [local.handover]
  bound_service_account_namespaces = [local.home]
  audience                         = local.audience
  alias_name_source                = "serviceaccount_uid"
  token_policies                   = []
  token_no_default_policy          = true
  token_type                       = "service"
  token_ttl                        = 600
  token_max_ttl                    = 1800
}

resource "vault_identity_entity" "handover" {
  name     = local.handover
  policies = [vault_policy.handover.name]
}

resource "vault_identity_entity_alias" "handover" {
  name           = var.handover_uid
  mount_accessor = data.vault_auth_backend.kubernetes.accessor
  canonical_id   = vault_identity_entity.handover.id
}

resource "vault_kubernetes_auth_backend_role" "verify" {
  backend                          = data.vault_auth_backend.kubernetes.path
  role_name                        = local.verify
  bound_service_account_names      = [local.verify]
  bound_service_account_namespaces = [local.home]
  audience                         = local.audience
  alias_name_source                = "serviceaccount_uid"
  token_policies                   = [vault_policy.verify.name]
  token_no_default_policy          = true
  token_type                       = "service"
  token_ttl                        = 600
  token_max_ttl                    = 1800
}

# --- login by `jwt`: for a Vault that cannot ask the API server

data "vault_auth_backend" "jwt" {
  path = "jwt"
}

resource "vault_jwt_auth_backend_role" "handover" {
  backend                 = data.vault_auth_backend.jwt.path
  role_name               = local.handover
  role_type               = "jwt"
  user_claim              = "sub"
  bound_audiences         = [local.audience]
  bound_subject           = "system:serviceaccount:${local.home}:${local.handover}"
  bound_claims            = { "/kubernetes.io/serviceaccount/uid" = var.handover_uid }
  token_policies          = [vault_policy.handover.name]
  token_no_default_policy = true
  token_type              = "service"
  token_ttl               = 600
  token_max_ttl           = 1800
}

resource "vault_jwt_auth_backend_role" "verify" {
  backend                 = data.vault_auth_backend.jwt.path
  role_name               = local.verify
  role_type               = "jwt"
  user_claim              = "sub"
  bound_audiences         = [local.audience]
  bound_subject           = "system:serviceaccount:${local.home}:${local.verify}"
  token_policies          = [vault_policy.verify.name]
  token_no_default_policy = true
  token_type              = "service"
  token_ttl               = 600
  token_max_ttl           = 1800
}
