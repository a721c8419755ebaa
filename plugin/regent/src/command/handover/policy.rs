//! `regent handover --print-policy`: what has to be there before a handover, printed for those who may create it. All of it
//! comes from the root at one commit: no Vault and no key is asked, and no cluster but for the Kustomizations of a root that
//! Flux delivers.
//!
//! Three identities, so that no single token moves everything: *handover* creates in Vault and moves the Authority; *verify*
//! reads what it created and writes a heartbeat; *refresh* makes Argo CD ask again and has no business in Vault. What
//! delivers the values afterwards reads the copies alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::SystemTime;

use regent_core::Refusal;
use regent_core::bootstrap::{Bootstrap, VaultPlace};
use regent_core::handover::rights::{Policy, Rule, own_token};
use regent_core::name::{AuthorityName, Namespace, SecretName};
use regent_core::render::Class;
use regent_core::rules::{ArgoCd, RegentConfig};
use regent_core::settle::ApplicationName;
use regent_core::survey::{SurveyedFile, survey};
use regent_sops::{Keyring, Limits};
use serde_json::{Value, json};

use super::super::root::{built, delivered_by_flux, quoted};
use super::super::status::secret_name;
use super::stop::{HandoverStop, stopped};
use crate::cli::{HandoverArgs, ReportOutputArg, VaultAuthArg};
use crate::cluster::doors::{self, KEYS};
use crate::cluster::rights::{self, HOME};
use crate::config;
use crate::failure::{Failure, one_line};
use crate::output;
use crate::source::{BOOTSTRAP, Bounds, bootstrap_of, git};

pub(super) fn print(args: &HandoverArgs) -> Result<ExitCode, Failure> {
    let config = args.run.store.config.as_deref().map(config::load).transpose()?;
    let (bootstrap, files) = root(args, config.as_ref())?;
    let Some(place) = bootstrap.vault.clone() else { return Err(stopped(HandoverStop::NoPlace)) };
    let needed = Needed {
        place,
        logins: LoginMethod::of(args)?,
        uid: args.service_account_uid.clone(),
        listed: Listed::of(files)?,
        refreshed: args.applications.clone(),
        door: doors::namespace_of(config.as_ref(), &bootstrap.name),
        is_flux: config.as_ref().is_some_and(|config| !delivered_by_flux(config, &bootstrap).is_empty()),
        argocd: config.map(|config| config.argocd).unwrap_or_default(),
        retire_keys: args.retire_keys,
        bootstrap,
    };
    output::text(&match args.run.output {
        ReportOutputArg::Human => needed.to_commands(),
        ReportOutputArg::Json => format!("{:#}\n", needed.to_json()),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The root as the commit has it, by its Kustomizations where Flux delivers it. Rights come from a commit that a handover would
/// take: by its full id, or signed.
fn root(args: &HandoverArgs, config: Option<&RegentConfig>) -> Result<(Bootstrap, Vec<SurveyedFile>), Failure> {
    let limits = config.map(|config| config.limits).unwrap_or_default();
    let place = git::Place::typed(&args.run.commit.repo, &args.run.commit.git)?;
    let held = git::Held::open(&place, &args.run.commit.revision, git::History::None)?;
    let name = format!("{}@{}", place.location, args.run.commit.revision);
    let mut gathered = git::gather_from(&held, &name, &args.run.commit.path, Bounds::of(&limits))?;
    // Nobody is asked about a root that Flux has nothing to do with.
    if let Some((config, store)) =
        config.and_then(|config| Some((config, config::store(&args.run.store, Some(config))?)))
    {
        built(&mut gathered, config, &store, &held)?;
    }
    let bootstrap = bootstrap_of(&gathered.files)?.ok_or_else(|| Failure::World {
        what: "read",
        name: format!("{}/{BOOTSTRAP}", gathered.label),
        reason: "it does not exist".to_owned(),
    })?;
    git::pinned(&held, &args.run.commit.revision, &bootstrap.handover.signers, SystemTime::now())?;
    let limits = Limits { document: limits.document, ..Limits::default() };
    let (files, problems) = survey(&gathered.files, Some(&bootstrap), &Keyring::default(), &limits);
    match problems.into_iter().next() {
        Some(problem) => Err(Refusal::from(problem).into()),
        None => Ok((bootstrap, files)),
    }
}

/// Everything that is printed, as plain data.
struct Needed {
    bootstrap: Bootstrap,
    place: VaultPlace,
    logins: Vec<LoginMethod>,
    /// That of the handover's `ServiceAccount`.
    uid: Option<String>,
    listed: Listed,
    /// Applications that were named.
    refreshed: Vec<ApplicationName>,
    argocd: ArgoCd,
    /// The namespace with the root's front door.
    door: Namespace,
    /// Whether Flux delivers the root.
    is_flux: bool,
    /// Whether it removes the keys, too.
    retire_keys: bool,
}

/// A way to log in, and where it is mounted below `auth/`.
struct LoginMethod {
    kind: MethodKind,
    mount: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MethodKind {
    Kubernetes,
    Jwt,
    AppRole,
}

/// One write to Vault, beside the policies.
struct VaultWrite {
    why: String,
    path: String,
    fields: Value,
}

/// The Secrets of a root that are encrypted, as far as they say in the clear who they are.
struct Listed {
    secrets: BTreeSet<SecretName>,
    /// Files whose documents do not say it.
    unnamed: Vec<String>,
}

/// How long a token lives, and how long renewals may stretch that. A handover takes seconds, and logs in again.
const TTL: (&str, &str) = ("10m", "30m");

impl Needed {
    fn name(&self) -> &AuthorityName {
        &self.bootstrap.name
    }

    fn policies(&self) -> [Policy; 3] {
        let name = self.name();
        let VaultPlace { mount, prefix, .. } = &self.place;
        let copies = |of: &str| format!("{mount}/{of}/{prefix}/*");
        let records = |of: &str| format!("{mount}/{of}/regent/{name}/authority/*");
        [
            Policy::of_handover(name, mount, prefix),
            Policy {
                name: format!("regent-verify-{name}"),
                what: "reads all that, and writes nothing but a heartbeat",
                rules: vec![
                    Rule {
                        why: "The copies.",
                        paths: vec![(copies("data"), &["read"]), (copies("metadata"), &["read"])],
                    },
                    Rule {
                        why: "The records.",
                        paths: vec![(records("data"), &["read"]), (records("metadata"), &["read"])],
                    },
                    Rule {
                        why: "The heartbeat, by which an older backup of Vault is told.",
                        paths: vec![(format!("{mount}/data/regent/{name}/heartbeat"), &["create", "update", "read"])],
                    },
                    Rule { why: "Its own token: for as long as the run takes.", paths: own_token() },
                ],
            },
            Policy {
                name: format!("regent-deliver-{name}"),
                what: "an example for External Secrets or the Vault Secrets Operator",
                rules: vec![Rule {
                    why: "The copies, by name. `dataFrom.find` of External Secrets needs `list` on their metadata, too.",
                    paths: vec![(copies("data"), &["read"])],
                }],
            },
        ]
    }

    /// Who becomes which policy, by login method.
    fn roles(&self, method: &LoginMethod) -> Vec<VaultWrite> {
        match method.kind {
            MethodKind::Kubernetes => self.kubernetes_roles(&method.mount),
            MethodKind::Jwt => self.jwt_roles(&method.mount),
            MethodKind::AppRole => self.app_role(&method.mount),
        }
    }

    /// The method checks a token's uid against the cluster, and has no role for one uid. So the policy is the identity's of
    /// that uid: an account that was made again under the same name gets a token that may nothing.
    fn kubernetes_roles(&self, mount: &str) -> Vec<VaultWrite> {
        let role = |part: &str, policies: &[String]| {
            let account = format!("regent-{part}-{}", self.name());
            let fields = json!({
                "bound_service_account_names": [account], "bound_service_account_namespaces": [HOME],
                "audience": self.place.address, "alias_name_source": "serviceaccount_uid", "token_policies": policies,
                "token_no_default_policy": true, "token_type": "service", "token_ttl": TTL.0, "token_max_ttl": TTL.1,
            });
            (format!("auth/{mount}/role/{account}"), fields)
        };
        let own = |part: &str| format!("regent-{part}-{}", self.name());
        let (path, fields) = role("handover", &if self.uid.is_some() { Vec::new() } else { vec![own("handover")] });
        let why = match &self.uid {
            Some(_) => "The role gives no policy: the identity of the uid has it.".to_owned(),
            None => UNBOUND.to_owned(),
        };
        let mut writes = vec![VaultWrite { why, path, fields }];
        let (path, fields) = role("verify", &[own("verify")]);
        writes.push(VaultWrite { why: "Whoever runs `regent verify`.".to_owned(), path, fields });
        writes
    }

    fn jwt_roles(&self, mount: &str) -> Vec<VaultWrite> {
        let role = |part: &str, uid: Option<&String>| {
            let account = format!("regent-{part}-{}", self.name());
            let mut fields = json!({
                "role_type": "jwt", "user_claim": "sub", "bound_audiences": [self.place.address],
                "bound_subject": format!("system:serviceaccount:{HOME}:{account}"), "token_policies": [account],
                "token_no_default_policy": true, "token_type": "service", "token_ttl": TTL.0, "token_max_ttl": TTL.1,
            });
            if let Some(uid) = uid {
                fields["bound_claims"] = json!({ "/kubernetes.io/serviceaccount/uid": uid });
            }
            (format!("auth/{mount}/role/{account}"), fields)
        };
        let (path, fields) = role("handover", self.uid.as_ref());
        let why = match &self.uid {
            Some(_) => {
                "This very ServiceAccount: one that is made again under the same name has another uid.".to_owned()
            }
            None => UNBOUND.to_owned(),
        };
        let mut writes = vec![VaultWrite { why, path, fields }];
        let (path, fields) = role("verify", None);
        writes.push(VaultWrite { why: "Whoever runs `regent verify`.".to_owned(), path, fields });
        writes
    }

    fn app_role(&self, mount: &str) -> Vec<VaultWrite> {
        let name = format!("regent-handover-{}", self.name());
        let path = format!("auth/{mount}/role/{name}");
        vec![VaultWrite {
            why: format!(
                "`--vault-role` is the `role_id` of `bao read {path}/role-id`; `--vault-token-file` holds the token of `bao \
                 write -wrap-ttl=5m -f {path}/secret-id`, of which each run needs another, with `--plan` too"
            ),
            fields: json!({
                "token_policies": [name], "secret_id_num_uses": 1, "secret_id_ttl": TTL.0,
                "token_no_default_policy": true, "token_type": "service", "token_ttl": TTL.0, "token_max_ttl": TTL.1,
            }),
            path,
        }]
    }

    /// The identity that has the handover's policy where a role cannot be bound to a uid: its name, the uid, and where the
    /// method is mounted that tells it.
    fn identity(&self) -> Option<(String, &str, &str)> {
        let method = self.logins.iter().find(|method| method.kind == MethodKind::Kubernetes)?;
        Some((format!("regent-handover-{}", self.name()), self.uid.as_deref()?, &method.mount))
    }

    /// What `regent init` makes.
    fn made(&self) -> Vec<Value> {
        let (name, epoch) = (self.name(), self.bootstrap.epoch);
        let mut made = rights::handover(name, epoch);
        made.extend(rights::verify(name, epoch));
        made
    }

    /// What it does not make, since who may patch an Application may have Argo CD deploy anything, and who may read a Secret
    /// has its values.
    fn not_made(&self) -> Vec<Value> {
        let [refresh, verify, handover] =
            ["refresh", "verify", "handover"].map(|part| format!("regent-{part}-{}", self.name()));
        let account = |name: &str| json!({ "kind": "ServiceAccount", "name": name, "namespace": HOME });
        let role = |name: &str, namespace: &str, rules: &[Value], subjects: &[Value]| {
            let metadata = json!({ "name": name, "namespace": namespace });
            let role = json!({ "apiVersion": RBAC, "kind": "Role", "metadata": metadata, "rules": rules });
            let binding = json!({
                "apiVersion": RBAC, "kind": "RoleBinding", "metadata": metadata,
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name },
                "subjects": subjects,
            });
            [role, binding]
        };
        let mut objects = vec![json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": refresh, "namespace": HOME },
            "automountServiceAccountToken": false,
        })];
        for (namespace, names) in self.refreshed() {
            let applications = json!({
                "apiGroups": ["argoproj.io"], "resources": ["applications"], "resourceNames": names,
                "verbs": ["get", "patch"],
            });
            objects.extend(role(&refresh, namespace, &[applications], &[account(&refresh)]));
        }
        let mut by_namespace = BTreeMap::<&str, Vec<&str>>::new();
        for secret in &self.listed.secrets {
            by_namespace.entry(secret.namespace().as_str()).or_default().push(secret.name());
        }
        for (namespace, names) in by_namespace {
            let secrets =
                json!({ "apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["get"] });
            let name = format!("regent-listed-{}", self.name());
            objects.extend(role(&name, namespace, &[secrets], &[account(&verify), account(&handover)]));
        }
        if self.retire_keys {
            // Who has them, by whose rule; and this one Secret, as the manifests call it.
            let named = |resource: &str, name: &str, verbs: &[&str]| json!({ "apiGroups": [""], "resources": [resource], "resourceNames": [name], "verbs": verbs });
            let rules = [
                json!({ "apiGroups": ["apps"], "resources": ["deployments", "statefulsets", "daemonsets"], "verbs": ["list"] }),
                json!({ "apiGroups": ["batch"], "resources": ["cronjobs", "jobs"], "verbs": ["list"] }),
                named("configmaps", "regent", &["get"]),
                named("secrets", &format!("{KEYS}{}", self.name()), &["get", "delete"]),
            ];
            let name = format!("regent-retire-keys-{}", self.name());
            objects.extend(role(&name, self.door.as_str(), &rules, &[account(&handover)]));
        }
        objects
    }

    /// By namespace: what was named, else nothing that there could be. Where Flux delivers there may be no Argo CD, and no
    /// namespace of it.
    fn refreshed(&self) -> BTreeMap<&str, Vec<&str>> {
        if self.refreshed.is_empty() && self.is_flux {
            return BTreeMap::new();
        }
        if self.refreshed.is_empty() {
            return BTreeMap::from([(self.argocd.namespace.as_str(), vec![PLACEHOLDER])]);
        }
        let mut by_namespace = BTreeMap::<&str, Vec<&str>>::new();
        for ApplicationName { namespace, name } in &self.refreshed {
            by_namespace.entry(namespace).or_default().push(name);
        }
        by_namespace
    }

    fn to_json(&self) -> Value {
        let VaultPlace { address, namespace, mount, prefix } = &self.place;
        let policies = self.policies().map(|policy| {
            let rules = policy.rules.iter().flat_map(|rule| &rule.paths);
            let paths: Vec<_> = rules.map(|(path, may)| json!({ "path": path, "capabilities": may })).collect();
            json!({ "name": policy.name, "for": policy.what, "paths": paths, "hcl": policy.to_hcl() })
        });
        let roles: Vec<_> = self
            .logins
            .iter()
            .flat_map(|method| {
                self.roles(method).into_iter().map(|write| {
                    json!({
                        "method": method.kind.name(), "path": write.path, "fields": write.fields,
                    })
                })
            })
            .collect();
        let identity = self.identity().map(
            |(name, uid, mount)| json!({ "name": name, "policies": [name], "alias": { "name": uid, "mount": mount } }),
        );
        let made: Vec<_> = self.made().iter().map(|object| json!({
            "kind": object["kind"], "namespace": object["metadata"]["namespace"], "name": object["metadata"]["name"],
        })).collect();
        json!({
            "authority": self.name().as_str(),
            "vault": {
                "address": address, "namespace": namespace, "mount": mount, "prefix": prefix,
                "policies": policies, "roles": roles, "identity": identity,
            },
            "kubernetes": { "madeByInit": made, "toCreate": self.not_made(), "unnamed": self.listed.unnamed },
        })
    }

    fn to_commands(&self) -> String {
        let mut text = self.vault_commands();
        text.push_str(&self.kubernetes_commands());
        text
    }

    /// Writing to a String cannot fail, here and below.
    fn vault_commands(&self) -> String {
        let (name, place) = (self.name(), &self.place);
        let (within, at) = if place.namespace.is_empty() {
            (String::new(), String::new())
        } else {
            (format!("-namespace={} ", place.namespace), format!(", namespace {}", place.namespace))
        };
        let mut text = format!(
            "# What a handover of `{name}` needs before it is run. Nothing was created.\n#\n# --- Vault \
             {}{at}\n#\n# For its administrator. Where there is only HashiCorp's CLI, begin with: bao() {{ vault \"$@\"; }}\n",
            place.address
        );
        for policy in self.policies() {
            let _ = write!(text, "\nbao policy write {within}{} - <<'HCL'\n{}HCL\n", policy.name, policy.to_hcl());
        }
        for method in &self.logins {
            let _ = write!(
                text,
                "\n# Login by `{}`, mounted at auth/{}; enabled and configured once for all authorities.\n",
                method.kind.name(),
                method.mount
            );
            for VaultWrite { why, path, fields } in self.roles(method) {
                let path = quoted(&path);
                let _ = write!(text, "# {why}\nbao write {within}{path} - <<'JSON'\n{fields:#}\nJSON\n");
            }
            if method.kind == MethodKind::Kubernetes
                && let Some((identity, uid, mount)) = self.identity()
            {
                let accessor = quoted(&format!("sys/auth/{mount}"));
                let _ = write!(
                    text,
                    "# The identity of that uid, and of no other.\nbao delete {within}identity/entity/name/{identity}\n\
                     bao write {within}identity/entity name={identity} policies={identity}\n\
                     bao write {within}identity/entity-alias name={uid} \\\n  \
                     mount_accessor=\"$(bao read {within}-field=accessor {accessor})\" \\\n  \
                     canonical_id=\"$(bao read {within}-field=id identity/entity/name/{identity})\"\n"
                );
            }
        }
        let _ = write!(
            text,
            "\n# Afterwards nobody needs the first policy any more: `bao policy delete {within}regent-handover-{name}`, its \
             roles, and its identity.\n"
        );
        text
    }

    fn kubernetes_commands(&self) -> String {
        let mut text =
            "\n# --- Kubernetes\n#\n# `regent init` makes these (manifests/cluster/example shows them):\n".to_owned();
        for object in self.made().iter().filter(|object| object.get("roleRef").is_none()) {
            let (kind, metadata) = (&object["kind"], &object["metadata"]);
            let name = metadata["name"].as_str().unwrap_or_default();
            let namespace = metadata["namespace"].as_str().map(|namespace| format!("{namespace}/")).unwrap_or_default();
            let _ = writeln!(text, "#   {:<15} {namespace}{name}", kind.as_str().unwrap_or_default());
        }
        text.push_str("#\n# It does not make these.");
        if self.refreshed.is_empty() {
            let _ = write!(
                text,
                " In place of {PLACEHOLDER} name every Application that renders the root (`--application`)."
            );
        }
        text.push_str(
            " Who may patch an Application may\n# have Argo CD deploy anything, so the account that does reads no Secret. RBAC knows \
             no metadata: who may `get` a Secret may\n# read its values, though regent asks for the metadata alone wherever it does \
             not compare values.\n# The handover looks at their guards, and stops where it may not.\n",
        );
        for file in &self.listed.unnamed {
            // A file may be called anything, and this is pasted into a shell.
            let file = one_line(file);
            let _ = writeln!(text, "# {file} says only when it is opened which Secret it is: add it.");
        }
        text.push_str("kubectl apply --server-side -f - <<'YAML'\n");
        for object in self.not_made() {
            // A Value is always YAML.
            let _ = write!(text, "---\n{}", yaml_serde::to_string(&object).unwrap_or_default());
        }
        text.push_str("YAML\n");
        text
    }
}

/// Said of a role that any account of the right name gets.
const UNBOUND: &str = "Bound to a name alone; with `--service-account-uid UID` to the account that has that uid.";

/// Nothing can be called that, so nothing is allowed until a person names what is meant.
const PLACEHOLDER: &str = "APPLICATION";

const RBAC: &str = "rbac.authorization.k8s.io/v1";

impl LoginMethod {
    /// The method that was named; both of a platform where none was.
    fn of(args: &HandoverArgs) -> Result<Vec<Self>, Failure> {
        let kinds: &[MethodKind] = match args.run.vault.auth {
            VaultAuthArg::Token => &[MethodKind::Kubernetes, MethodKind::Jwt],
            VaultAuthArg::Kubernetes => &[MethodKind::Kubernetes],
            VaultAuthArg::Jwt => &[MethodKind::Jwt],
            VaultAuthArg::Approle => &[MethodKind::AppRole],
        };
        match (kinds, &args.run.vault.mount) {
            ([MethodKind::AppRole], _) if args.service_account_uid.is_some() => Err(Failure::Usage(
                "`--service-account-uid` binds a login by `kubernetes` or `jwt`, and an AppRole has no ServiceAccount"
                    .to_owned(),
            )),
            ([_, _, ..], Some(_)) => {
                Err(Failure::Usage("`--vault-auth-mount` expects `--vault-auth METHOD`".to_owned()))
            }
            (kinds, mount) => Ok(kinds
                .iter()
                .map(|kind| Self { kind: *kind, mount: mount.clone().unwrap_or_else(|| kind.name().to_owned()) })
                .collect()),
        }
    }
}

impl MethodKind {
    /// As Vault calls it, and where it is mounted unless somebody chose otherwise.
    fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Jwt => "jwt",
            Self::AppRole => "approle",
        }
    }
}

impl Listed {
    fn of(files: Vec<SurveyedFile>) -> Result<Self, Failure> {
        let mut listed = Self { secrets: BTreeSet::new(), unnamed: Vec::new() };
        for SurveyedFile { file, documents, .. } in files {
            let refused = |problem| Failure::from(Refusal::Document { file: file.clone(), problem });
            let documents = documents.map_err(refused)?;
            let mut unnamed = documents.is_empty();
            for document in documents {
                match (document.class.map_err(refused)?.0, document.identity) {
                    (Class::Plain, _) => {}
                    (Class::Handover | Class::Permanent { .. }, Some(identity)) => {
                        // Of other kinds nothing is copied, and nothing compared.
                        listed.secrets.extend(secret_name(&identity));
                    }
                    (Class::Handover | Class::Permanent { .. }, None) => unnamed = true,
                }
            }
            if unnamed {
                listed.unnamed.push(file.to_string());
            }
        }
        Ok(listed)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    const UID: &str = "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f";

    fn needed(vault: &str, methods: &[MethodKind], uid: Option<&str>) -> Needed {
        let yaml = format!("apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: 1\nvault: {vault}\n");
        let path = regent_core::name::FilePath::parse(BOOTSTRAP).unwrap();
        let bootstrap = Bootstrap::parse(&path, yaml.as_bytes()).unwrap();
        Needed {
            place: bootstrap.vault.clone().unwrap(),
            bootstrap,
            logins: methods.iter().map(|kind| LoginMethod { kind: *kind, mount: kind.name().to_owned() }).collect(),
            uid: uid.map(str::to_owned),
            listed: Listed {
                secrets: BTreeSet::from(["app/db", "argocd/repo"].map(|name| SecretName::parse(name).unwrap())),
                unnamed: vec!["tls.yaml.age".to_owned()],
            },
            refreshed: Vec::new(),
            argocd: ArgoCd::default(),
            door: ArgoCd::default().namespace,
            is_flux: false,
            retire_keys: false,
        }
    }

    const PLACE: &str = "{ address: \"https://vault.vault.svc:8200\", mount: secret, prefix: bootstrap/prod }";

    /// reference: a token that may only create and read can overwrite nothing, whatever is sent; what may list or write
    /// metadata could.
    #[test]
    fn nothing_but_the_heartbeat_can_be_changed_and_nothing_deleted_or_listed() {
        let needed = needed(PLACE, &[], None);
        let [handover, verify, deliver] = needed.policies();
        let may = |policy: &Policy| -> BTreeMap<String, Vec<&str>> {
            policy.rules.iter().flat_map(|rule| &rule.paths).map(|(path, may)| (path.clone(), may.to_vec())).collect()
        };
        let create = |prefix: &str, data: &[&'static str]| {
            [(format!("secret/data/{prefix}/*"), data.to_vec()), (format!("secret/metadata/{prefix}/*"), vec!["read"])]
        };
        let mut expected = BTreeMap::from(create("bootstrap/prod", &["create", "read"]));
        expected.extend(create("regent/prod/authority", &["create", "read"]));
        expected.insert("secret/config".to_owned(), vec!["read"]);
        // Of itself: what it may do, who it is, and its end. The routes of `default`, which no role gives.
        for (path, may) in [
            ("sys/capabilities-self", "update"),
            ("auth/token/lookup-self", "read"),
            ("sys/policies/acl/regent-handover-prod", "read"),
            ("auth/token/renew-self", "update"),
            ("auth/token/revoke-self", "update"),
        ] {
            expected.insert(path.to_owned(), vec![may]);
        }
        assert_eq!(may(&handover), expected);
        let mut expected = BTreeMap::from(create("bootstrap/prod", &["read"]));
        expected.extend(create("regent/prod/authority", &["read"]));
        expected.insert("secret/data/regent/prod/heartbeat".to_owned(), vec!["create", "update", "read"]);
        for path in ["auth/token/renew-self", "auth/token/revoke-self"] {
            expected.insert(path.to_owned(), vec!["update"]);
        }
        assert_eq!(may(&verify), expected);
        assert_eq!(may(&deliver), BTreeMap::from([("secret/data/bootstrap/prod/*".to_owned(), vec!["read"])]));
    }

    #[test]
    fn a_uid_is_bound_where_the_method_can_and_by_an_identity_where_it_cannot() {
        let both = [MethodKind::Kubernetes, MethodKind::Jwt];
        let handover = |needed: &Needed, at: usize| needed.roles(&needed.logins[at]).remove(0).fields;
        let bound = needed(PLACE, &both, Some(UID));
        assert_eq!(handover(&bound, 0)["token_policies"], json!([]));
        assert_eq!(handover(&bound, 0)["alias_name_source"], "serviceaccount_uid");
        assert_eq!(bound.identity(), Some(("regent-handover-prod".to_owned(), UID, "kubernetes")));
        assert_eq!(handover(&bound, 1)["bound_claims"], json!({ "/kubernetes.io/serviceaccount/uid": UID }));
        let free = needed(PLACE, &both, None);
        assert_eq!(handover(&free, 0)["token_policies"], json!(["regent-handover-prod"]));
        assert!(free.identity().is_none() && handover(&free, 1).get("bound_claims").is_none());
        // Without the method that needs it there is no such identity.
        assert!(needed(PLACE, &[MethodKind::Jwt], Some(UID)).identity().is_none());
        for needed in [bound, free] {
            for role in needed.logins.iter().flat_map(|method| needed.roles(method)) {
                let fields = &role.fields;
                let audience = fields.get("audience").unwrap_or(&fields["bound_audiences"][0]);
                assert_eq!(audience, "https://vault.vault.svc:8200", "{fields}");
                assert_eq!(fields["token_no_default_policy"], true);
                assert_eq!((&fields["token_ttl"], &fields["token_max_ttl"]), (&json!("10m"), &json!("30m")));
            }
        }
    }

    #[test]
    fn every_command_goes_to_the_namespace_of_the_place() {
        let place = "{ address: \"https://v:8200\", namespace: team/a, mount: kv/deep, prefix: b }";
        let text = needed(place, &[MethodKind::Kubernetes, MethodKind::Jwt], Some(UID)).vault_commands();
        let commands: Vec<&str> = text.lines().filter(|line| !line.starts_with('#') && line.contains("bao ")).collect();
        assert_eq!(commands.len(), 3 + 4 + 5, "{text}");
        assert!(commands.iter().all(|line| line.contains("-namespace=team/a ")), "{text}");
        assert!(text.contains("path \"kv/deep/data/b/*\" { capabilities = [\"create\", \"read\"] }"), "{text}");
    }

    #[test]
    fn a_file_name_ends_no_comment() {
        let mut needed = needed(PLACE, &[], None);
        needed.listed.unnamed = vec!["a\nreboot\r#.yaml.age".to_owned()];
        let text = needed.kubernetes_commands();
        let line = text.lines().find(|line| line.contains("reboot")).unwrap();
        assert!(line.starts_with("# ") && !text.contains('\r'), "{text}");
    }

    #[test]
    fn rights_in_the_cluster_have_names_and_change_nothing_but_applications() {
        let objects = needed(PLACE, &[], None).not_made();
        let rules: Vec<&Value> = objects.iter().filter_map(|object| object["rules"].as_array()).flatten().collect();
        assert_eq!(rules.len(), 3);
        for rule in rules {
            assert!(rule["resourceNames"].as_array().is_some_and(|names| !names.is_empty()), "{rule}");
            let is_application = rule["resources"] == json!(["applications"]);
            assert_eq!(rule["verbs"], if is_application { json!(["get", "patch"]) } else { json!(["get"]) }, "{rule}");
        }
        let named =
            |namespace: &str, name: &str| ApplicationName { namespace: namespace.to_owned(), name: name.to_owned() };
        let refreshed = vec![named("argocd", "a"), named("team", "b"), named("argocd", "c")];
        let objects = Needed { refreshed, ..needed(PLACE, &[], None) }.not_made();
        let named = objects.iter().filter(|it| it["rules"][0]["resources"] == json!(["applications"]));
        let found: Vec<_> = named.map(|it| (&it["metadata"]["namespace"], &it["rules"][0]["resourceNames"])).collect();
        assert_eq!(found, [(&json!("argocd"), &json!(["a", "c"])), (&json!("team"), &json!(["b"]))]);
        // As it stands it allows nothing: no Application is called that.
        assert!(PLACEHOLDER.bytes().any(|byte| byte.is_ascii_uppercase()));
    }

    #[test]
    fn to_remove_a_key_is_a_right_for_that_one_secret_and_only_where_it_is_asked_for() {
        let mut needed = needed(PLACE, &[], None);
        let deletes = |needed: &Needed| -> Vec<Value> {
            let objects = needed.not_made();
            let rules = objects.iter().filter_map(|object| object["rules"].as_array()).flatten();
            rules.filter(|rule| rule["verbs"].as_array().unwrap().contains(&json!("delete"))).cloned().collect()
        };
        assert_eq!(deletes(&needed), [Value::Null; 0]);
        needed.retire_keys = true;
        let [rule] = deletes(&needed).try_into().unwrap();
        assert_eq!((&rule["resources"], &rule["resourceNames"]), (&json!(["secrets"]), &json!(["regent-keys-prod"])));
    }

    /// The committed policies are what is printed for the example's authority. `REGENT_WRITE_EXAMPLE=1` writes them anew.
    #[test]
    fn the_examples_are_what_it_prints() {
        let needed = needed(PLACE, &[], None);
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../manifests/vault/policies");
        let mut names = BTreeSet::new();
        for policy in needed.policies() {
            let path = format!("{folder}/{}.hcl", policy.name);
            if std::env::var_os("REGENT_WRITE_EXAMPLE").is_some() {
                std::fs::create_dir_all(folder).unwrap();
                std::fs::write(&path, policy.to_hcl()).unwrap();
            }
            assert_eq!(std::fs::read_to_string(path).unwrap(), policy.to_hcl());
            names.insert(format!("{}.hcl", policy.name));
        }
        let there = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        assert_eq!(there.collect::<BTreeSet<_>>(), names);
        // The place is that of examples/bootstrap.
        let example = include_bytes!("../../../../../examples/bootstrap/clusters/prod/regent.yaml");
        let path = regent_core::name::FilePath::parse(BOOTSTRAP).unwrap();
        assert_eq!(Bootstrap::parse(&path, example).unwrap().vault, Some(needed.place));
    }

    /// Fields of a resource in Terraform, as the JSON that Vault's API takes.
    fn resource(terraform: &str, kind: &str, name: &str) -> BTreeMap<String, Value> {
        let (_, after) = terraform.split_once(&format!("resource \"{kind}\" \"{name}\" {{\n")).unwrap();
        let (block, _) = after.split_once("\n}").unwrap();
        let field = |line: &str| {
            let (key, value) = line.split_once(" = ").unwrap();
            let value = value.replace("${local.home}", HOME).replace("${local.", "${");
            let value = value.replace("${handover}", "regent-handover-prod").replace("${verify}", "regent-verify-prod");
            let meant = [
                ("local.handover", "regent-handover-prod"),
                ("vault_policy.handover.name", "regent-handover-prod"),
                ("local.verify", "regent-verify-prod"),
                ("vault_policy.verify.name", "regent-verify-prod"),
                ("local.home", HOME),
                ("local.audience", "https://vault.vault.svc:8200"),
                ("var.handover_uid", UID),
            ];
            let value = meant.iter().fold(value, |value, (word, text)| value.replace(word, &format!("\"{text}\"")));
            (key.trim().to_owned(), serde_json::from_str(&value.replace("\" = \"", "\": \"")).unwrap_or(Value::Null))
        };
        let fields = block.lines().map(field).filter(|(key, _)| key != "backend" && key != "role_name");
        fields.collect()
    }

    #[test]
    fn terraform_makes_the_same_roles() {
        let terraform = include_str!("../../../../../manifests/vault/terraform.tf");
        let needed = needed(PLACE, &[MethodKind::Kubernetes, MethodKind::Jwt], Some(UID));
        for policy in needed.policies() {
            assert!(terraform.contains(&format!("file(\"${{path.module}}/policies/{}.hcl\")", policy.name)));
        }
        for method in &needed.logins {
            for (write, name) in needed.roles(method).into_iter().zip(["handover", "verify"]) {
                let mut expected: BTreeMap<String, Value> = serde_json::from_value(write.fields).unwrap();
                expected.extend([("token_ttl".to_owned(), json!(600)), ("token_max_ttl".to_owned(), json!(1800))]);
                let kind = format!("vault_{}_auth_backend_role", method.kind.name());
                assert_eq!(resource(terraform, &kind, name), expected, "{kind} {name}");
            }
        }
        assert_eq!(
            resource(terraform, "vault_identity_entity", "handover")["policies"],
            json!(["regent-handover-prod"])
        );
        assert_eq!(resource(terraform, "vault_identity_entity_alias", "handover")["name"], UID);
    }

    /// e2e/manifests validates them as Kubernetes does; this is regent's part of it.
    #[test]
    fn the_jobs_are_commands_that_exist_as_the_accounts_that_vault_and_init_know() {
        let of = |text: &str| -> [Value; 2] {
            let documents = yaml_serde::Deserializer::from_str(text);
            let documents = documents.map(|document| serde::Deserialize::deserialize(document).unwrap());
            documents.collect::<Vec<_>>().try_into().unwrap()
        };
        let [job, config] = of(include_str!("../../../../../manifests/vault/job.yaml"));
        let Command::Handover(args) = job_command(&job, &job["spec"]["template"]["spec"], "handover") else {
            panic!("another command")
        };
        assert!(args.run.plan && args.run.vault.auth == VaultAuthArg::Kubernetes);
        assert_eq!(args.run.vault.role.as_deref(), Some("regent-handover-prod"));
        ruled(&config, &args.run.commit.path);
        let [cron, config] = of(include_str!("../../../../../manifests/vault/cronjob.yaml"));
        let pod = &cron["spec"]["jobTemplate"]["spec"]["template"]["spec"];
        let Command::Verify(args) = job_command(&cron, pod, "verify") else { panic!("another command") };
        assert!(args.authority.as_deref() == Some("prod") && args.vault.auth == VaultAuthArg::Kubernetes);
        assert_eq!(args.vault.role.as_deref(), Some("regent-verify-prod"));
        ruled(&config, "clusters/prod");
    }

    /// The command of a Job, which runs as the account that `init` made and that Vault's role knows, with the token of that
    /// role. Every file that it names lies in a folder that is mounted.
    fn job_command(job: &Value, pod: &Value, part: &str) -> Command {
        let needed = needed(PLACE, &[MethodKind::Kubernetes], None);
        let name = format!("regent-{part}-prod");
        let (made, roles) = (needed.made(), needed.roles(&needed.logins[0]));
        let account = made.iter().find(|it| it["kind"] == "ServiceAccount" && it["metadata"]["name"] == name).unwrap();
        let role = roles.iter().find(|write| write.path == format!("auth/kubernetes/role/{name}")).unwrap();
        assert_eq!(pod["serviceAccountName"], account["metadata"]["name"]);
        assert_eq!(job["metadata"]["namespace"], account["metadata"]["namespace"]);
        assert_eq!(role.fields["bound_service_account_names"], json!([pod["serviceAccountName"]]));
        let volumes = pod["volumes"].as_array().unwrap();
        let token = volumes.iter().find(|volume| volume["name"] == "vault-token").unwrap();
        let token = &token["projected"]["sources"][0]["serviceAccountToken"];
        assert_eq!(token["audience"], role.fields["audience"]);
        let container = &pod["containers"][0];
        assert_eq!(container["env"][0]["value"], needed.place.address);
        let words = container["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
        let mounts = container["volumeMounts"].as_array().unwrap().iter();
        let mounts: Vec<&str> = mounts.map(|mount| mount["mountPath"].as_str().unwrap()).collect();
        for file in words.clone().filter_map(|word| word.split_once("=/")) {
            assert!(mounts.iter().any(|mount| format!("/{}", file.1).starts_with(mount)), "{file:?}");
        }
        let cli = Cli::try_parse_from(["regent"].into_iter().chain(words)).map_err(|error| error.to_string());
        cli.unwrap().command
    }

    fn ruled(config: &Value, path: &str) {
        let written = config["data"]["regent.yaml"].as_str().unwrap();
        let config = RegentConfig::parse("regent.yaml", written.as_bytes()).unwrap();
        let needed = needed(PLACE, &[MethodKind::Kubernetes], None);
        config.rule_for(needed.name(), &format!("{path}/{BOOTSTRAP}")).unwrap();
    }
}
