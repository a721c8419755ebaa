//! What of regent is left in the clusters: keys, the sidecar, the lock, accounts, policies, witnesses, the CRD.

use std::collections::BTreeSet;

use k8s_openapi::jiff::Timestamp;
use regent_core::evidence::{ListedDocument, Reading};
use regent_core::name::{AuthorityName, Namespace, SecretName};
use regent_core::retire::{InUse, Seen, Standing, Step, Verdict, lock};
use serde_json::{Value, json};

use super::super::handover::keys::of_all_doors;
use super::super::root::quoted;
use super::{Run, Told};
use crate::cluster::applications::if_served;
use crate::cluster::authority::LEFT_BEHIND;
use crate::cluster::installation::{InForce, installed, path_of, rights, schema, witnesses_there};
use crate::cluster::lock::lock_name;
use crate::cluster::rights::HOME;
use crate::cluster::{Cluster, ClusterError, doors, witness};

/// An object, for people and for `kubectl`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Thing {
    /// Empty for what has none.
    namespace: String,
    kind: String,
    name: String,
}

impl Thing {
    fn new(kind: &str, namespace: &str, name: &str) -> Self {
        Self { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
    }

    fn of(object: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        Self { kind: text(&object["kind"]), namespace: text(&metadata["namespace"]), name: text(&metadata["name"]) }
    }

    fn is_binding(&self) -> bool {
        self.kind.ends_with("Binding")
    }

    fn told(&self) -> String {
        let slash = if self.namespace.is_empty() { "" } else { "/" };
        format!("{} {}{slash}{}", self.kind, self.namespace, self.name)
    }
}

/// A cluster, and how `kubectl` finds it.
struct Side<'a> {
    cluster: &'a Cluster,
    kubectl: String,
    /// Said of what is in it, where there are two.
    suffix: String,
}

type Looked<T> = Result<T, ClusterError>;

impl Run<'_> {
    pub(super) async fn of_clusters(&self, listed: &Result<Vec<ListedDocument>, String>) -> Vec<(Step, Told)> {
        let or_unknown = |looked: Looked<Told>| looked.unwrap_or_else(Told::unknown);
        vec![
            (Step::Keys, self.keys().await),
            (Step::Sidecar, or_unknown(self.sidecar().await)),
            (Step::Lock, or_unknown(self.lock().await)),
            (Step::Accounts, or_unknown(self.accounts(listed.as_deref().unwrap_or_default()).await)),
            (Step::Policies, or_unknown(self.policies().await)),
            (Step::Witnesses, or_unknown(self.witnesses().await)),
            (Step::Schema, or_unknown(self.schema().await)),
            (Step::Home, or_unknown(self.home().await)),
        ]
    }

    fn name(&self) -> &AuthorityName {
        &self.tree.bootstrap.name
    }

    async fn keys(&self) -> Told {
        // Nobody gets here before.
        let keys = of_all_doors(&self.connected.witnesses, &self.doors, self.name(), &Standing::Settled).await;
        let keys = match keys {
            Ok(keys) => keys,
            Err(problem) => return Told::unknown(format!("the keys of doors cannot be looked at: {problem}")),
        };
        let (mut left, mut kept, mut commands) = (Vec::new(), Vec::new(), Vec::new());
        for key in keys {
            let secret = format!("Secret {}", key.told());
            match key.verdict {
                Verdict::Remove => {
                    commands.push(format!("{} -n {} delete secret/{}", self.kubectl(), key.namespace, key.name));
                    left.push(secret);
                }
                Verdict::Keep(why @ (InUse::By(_) | InUse::Mounted(_))) => kept.push(format!("{secret}: {why}")),
                Verdict::Keep(why @ (InUse::NotSettled | InUse::Maybe(..) | InUse::Unknown(_) | InUse::Unnamed)) => {
                    return Told::unknown(format!("{secret}: {why}"));
                }
                Verdict::NotIts => {}
            }
        }
        if left.is_empty() && !kept.is_empty() { kept_told(kept.join("; ")) } else { Told::left(left, commands) }
    }

    /// Whatever runs regent, and what was made for it.
    async fn sidecar(&self) -> Looked<Told> {
        let (argocd, flux) = (self.beside_argocd().await?, self.beside_flux().await?);
        Ok(argocd.and(flux))
    }

    /// What runs beside Flux' controllers. It is applied by Flux itself, mostly, and then Git says that it goes.
    async fn beside_flux(&self) -> Looked<Told> {
        let side = self.witnesses_side();
        let mut all = Told::gone();
        for namespace in &self.doors {
            let mut workloads = doors::lasting(side.cluster, namespace).await?;
            // Beside Argo CD a Deployment is its repo-server's, of which one container goes.
            let is_beside_argocd =
                |workload: &Value| *namespace == self.argocd.namespace && kind_of(workload) == "Deployment";
            workloads.retain(|workload| !is_beside_argocd(workload) && !doors::doors(workload).is_empty());
            if workloads.is_empty() {
                continue;
            }
            let others = self.others_by(side.cluster, namespace, &workloads).await?;
            if !others.is_empty() {
                return Ok(kept_told(format!(
                    "beside Flux it serves {}; take the rule of {} and its Kustomizations out of its file",
                    others.join(", "),
                    self.name()
                )));
            }
            for workload in &workloads {
                let kind = kind_of(workload);
                let (name, labels) = (text(&workload["metadata"]["name"]), &workload["metadata"]["labels"]);
                let by = |key: &str| labels[format!("kustomize.toolkit.fluxcd.io/{key}")].as_str();
                let told = match (by("namespace"), by("name")) {
                    (Some(of), Some(by)) => format!(
                        "{kind} {namespace}/{name} runs it, and Kustomization {of}/{by} applied that: first take it out of Git, or it \
                         comes back, and what kustomize-controller has of regent last (manifests/flux)"
                    ),
                    (_, _) => format!("{kind} {namespace}/{name} runs it"),
                };
                let command = format!("{} -n {namespace} delete {}/{name}", side.kubectl, kind.to_lowercase());
                all.append(Told::left(vec![told], vec![command]));
            }
        }
        if let Seen::Left(_) = all.seen {
            return Ok(all);
        }
        // What manifests/flux makes beside it. The policies bind whoever applies a Kustomization, and refuse the plain repository
        // to none.
        let mut things = Vec::new();
        for namespace in self.doors.iter().filter(|it| **it != self.argocd.namespace) {
            for (kind, path, names) in BESIDE_FLUX {
                for name in *names {
                    let path = format!("/{path}/{name}").replace("NAMESPACE", namespace.as_str());
                    let metadata = side.cluster.get_metadata(&path).await?;
                    let is_its = metadata.is_some_and(|it| it["labels"]["app.kubernetes.io/name"] == "regent");
                    let of = if path.contains("/namespaces/") { namespace.as_str() } else { "" };
                    things.extend(is_its.then(|| Thing::new(kind, of, name)));
                }
            }
        }
        for name in ["source", "decryption", "artifacts", "tokens"] {
            things.extend(policy_pair(side.cluster, &format!("regent-flux-{name}")).await?);
        }
        let others = self.other_authorities(side.cluster).await?;
        if !others.is_empty() && !things.is_empty() {
            return Ok(kept_told(format!("what manifests/flux made is for {} too", others.join(", "))));
        }
        Ok(side.deletion(things, &[]))
    }

    /// The other authorities that these serve.
    async fn others_by(&self, cluster: &Cluster, namespace: &Namespace, workloads: &[Value]) -> Looked<Vec<String>> {
        let mut others: BTreeSet<String> = BTreeSet::new();
        match doors::rules(cluster, namespace, workloads).await {
            Ok(rules) => others.extend(rules.iter().map(|rule| rule.authority.to_string())),
            Err(_) => others.extend(self.other_authorities(cluster).await?),
        }
        others.remove(self.name().as_str());
        Ok(others.into_iter().collect())
    }

    /// The container beside Argo CD's repo-server, and what was made for it.
    async fn beside_argocd(&self) -> Looked<Told> {
        let (side, argocd) = (self.witnesses_side(), self.argocd.namespace.as_str());
        let deployments = doors::deployments(side.cluster, &self.argocd.namespace).await?;
        if deployments.is_empty() && if_served(side.cluster).await?.is_some() {
            return Ok(Told::unknown(format!(
                "there is no Deployment in the namespace {argocd}: `--config` says where Argo CD's repo-server is"
            )));
        }
        let others = self.others_by(side.cluster, &self.argocd.namespace, &deployments).await?;
        let (mut left, mut commands) = (Vec::new(), Vec::new());
        for deployment in &deployments {
            let (found, name) = (doors::doors(deployment), text(&deployment["metadata"]["name"]));
            if found.is_empty() {
                continue;
            }
            left.push(format!("Deployment {argocd}/{name} runs it"));
            let spec = &deployment["spec"]["template"]["spec"];
            let mut changes = Vec::new();
            for (list, places) in [("containers", found), ("volumes", doors::own_volumes(deployment))] {
                // From the end, so that places stay what they are.
                for at in places.into_iter().rev() {
                    let place = format!("/spec/template/spec/{list}/{at}");
                    let name = &spec[list][at]["name"];
                    changes.push(json!({ "op": "test", "path": format!("{place}/name"), "value": name }));
                    changes.push(json!({ "op": "remove", "path": place }));
                }
            }
            commands.push(format!(
                "{} -n {argocd} patch deployment {name} --type json -p {}",
                side.kubectl,
                quoted(&Value::Array(changes).to_string())
            ));
        }
        if !others.is_empty() && !left.is_empty() {
            return Ok(kept_told(format!(
                "it serves {}; take the rule of {} out of its file",
                others.join(", "),
                self.name()
            )));
        }
        let mut things = Vec::new();
        for (kind, name) in
            [("ConfigMap", "regent"), ("NetworkPolicy", "regent-repo-server"), ("NetworkPolicy", "regent-redis")]
        {
            let path = match kind {
                "ConfigMap" => format!("/api/v1/namespaces/{argocd}/configmaps/{name}"),
                _network_policy => format!("/apis/networking.k8s.io/v1/namespaces/{argocd}/networkpolicies/{name}"),
            };
            let metadata = side.cluster.get_metadata(&path).await?;
            let is_its = metadata.is_some_and(|it| it["labels"]["app.kubernetes.io/name"] == "regent");
            things.extend(is_its.then(|| Thing::new(kind, argocd, name)));
        }
        things.extend(policy_pair(side.cluster, "regent-hydrator").await?);
        let mut told = side.deletion(things, &[]);
        told.prepend(left, commands);
        Ok(told)
    }

    async fn lock(&self) -> Looked<Told> {
        let side = self.target_side();
        let name = lock_name(self.name());
        let things = policy_pair(side.cluster, &name).await?;
        let is_there = match &self.evidence.authority {
            Reading::Present(_) | Reading::Unreadable(_) => true,
            // Without its Authority nobody knows, and the lock refuses every write of a labelled Secret.
            Reading::Absent => false,
        };
        if !things.is_empty() && is_there {
            let status = witness::status(&self.connected.witnesses, self.name()).await?;
            let settled = status.conditions.iter().find(|it| it.type_ == "Settled" && it.status == "True");
            let noted = settled.map(|it| lock::Noted { left_behind: it.reason == LEFT_BEHIND, message: &it.message });
            let now = Timestamp::from_second(Timestamp::now().as_second())
                .map_or_else(|_| String::new(), |it| it.to_string());
            if let Some(why) = lock::needed(noted.as_ref(), &name, &now) {
                return Ok(Told::unknown(why));
            }
        }
        Ok(side.deletion(things, &[]))
    }

    /// What `init` made for this authority beside it, what `--print-policy` printed, and what `manifests/vault` has for it by
    /// name. In a hub the target has some of it.
    async fn accounts(&self, listed: &[ListedDocument]) -> Looked<Told> {
        let (name, argocd) = (self.name(), &self.argocd.namespace);
        let object = |kind: &str, namespace: &str, name: &str| {
            let version = match kind {
                "ServiceAccount" | "Secret" | "ConfigMap" => "v1",
                "Job" => "batch/v1",
                _rights => "rbac.authorization.k8s.io/v1",
            };
            json!({ "apiVersion": version, "kind": kind, "metadata": { "namespace": namespace, "name": name } })
        };
        let of_jobs = [
            ("Secret", "regent-keys"),
            ("Secret", "regent-git"),
            ("ConfigMap", "regent-handover"),
            ("ConfigMap", "regent-verify"),
            ("Role", "regent-in-cluster"),
            ("RoleBinding", "regent-in-cluster"),
            ("Job", "regent-handover"),
            ("Job", "regent-refresh"),
            ("Job", "regent-verify"),
        ];
        let of_jobs = of_jobs.map(|(kind, of)| object(kind, HOME, &format!("{of}-{name}")));
        let in_cluster = ["ClusterRole", "ClusterRoleBinding"].map(|kind| {
            let metadata = json!({ "name": format!("regent-in-cluster-{name}") });
            json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata })
        });
        let refresh = format!("regent-refresh-{name}");
        let mut printed = vec![(HOME, refresh.clone()), (argocd.as_str(), refresh)];
        printed.extend(self.doors.iter().map(|namespace| (namespace.as_str(), format!("regent-retire-keys-{name}"))));
        let namespaces: BTreeSet<&str> = listed.iter().map(|it| it.name.namespace().as_str()).collect();
        printed.extend(namespaces.into_iter().map(|namespace| (namespace, format!("regent-listed-{name}"))));
        let printed = printed.iter().flat_map(|(namespace, name)| {
            ["ServiceAccount", "Role", "RoleBinding"].map(|kind| object(kind, namespace, name))
        });
        let objects: Vec<Value> = rights(name, self.tree.bootstrap.epoch, &[])
            .into_iter()
            .chain(printed)
            .chain(of_jobs)
            .chain(in_cluster)
            .collect();
        let mut all = Told::gone();
        for side in self.sides() {
            let mut things = Vec::new();
            for object in &objects {
                // No Secret is read.
                things.extend(side.cluster.get_metadata(&path_of(object)).await?.map(|_| Thing::of(object)));
            }
            let jobs = side.cluster.list(&format!("/apis/batch/v1/namespaces/{HOME}/cronjobs"), "").await?;
            let is_its = |job: &&Value| {
                let account = text(&job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["serviceAccountName"]);
                [format!("regent-verify-{name}"), format!("regent-handover-{name}")].iter().any(|its| its == account)
            };
            let named = |job: &Value| Thing::new("CronJob", HOME, text(&job["metadata"]["name"]));
            things.extend(jobs.iter().filter(is_its).map(named));
            all.append(side.deletion(things, &[]));
        }
        Ok(all)
    }

    /// What `manifests/cluster` installs once for all authorities, but the CRD and the namespace.
    async fn policies(&self) -> Looked<Told> {
        let mut all = Told::gone();
        for side in self.sides() {
            let mut things = Vec::new();
            for object in installed() {
                things.extend(side.cluster.get(&path_of(&object)).await?.map(|_| Thing::of(&object)));
            }
            let others = self.other_authorities(side.cluster).await?;
            if !others.is_empty() && !things.is_empty() {
                return Ok(kept_told(format!("they guard {} too{}", others.join(", "), side.suffix)));
            }
            all.append(side.deletion(things, &[]));
        }
        Ok(all)
    }

    async fn witnesses(&self) -> Looked<Told> {
        let mut all = Told::gone();
        for side in self.sides() {
            let has_schema = has_schema(side.cluster).await?;
            let found = if has_schema {
                witnesses_there(side.cluster, self.name()).await?
            } else {
                config_maps(side.cluster, self.name()).await?
            };
            let things = found.iter().map(|witness| match witness.split_once(' ') {
                Some(("Authority", name)) => Thing::new("Authority", "", name),
                Some((_, name)) => Thing::new("ConfigMap", "kube-system", name),
                None => Thing::new("ConfigMap", "kube-system", witness),
            });
            let things: Vec<Thing> = things.collect();
            // Where others keep the policies, only break-glass may.
            let others = self.other_authorities(side.cluster).await?;
            let flags: &[&str] = if others.is_empty() {
                &[]
            } else {
                &["--as", "\"$USER\"", "--as-group", "regent:break-glass", "--as-group", "system:masters"]
            };
            all.append(side.deletion(things, flags));
        }
        Ok(all)
    }

    async fn schema(&self) -> Looked<Told> {
        let mut all = Told::gone();
        for side in self.sides() {
            if !has_schema(side.cluster).await? {
                continue;
            }
            let others = self.other_authorities(side.cluster).await?;
            if !others.is_empty() {
                return Ok(kept_told(format!("{} need it too{}", others.join(", "), side.suffix)));
            }
            all.append(side.deletion(vec![Thing::new("CustomResourceDefinition", "", "authorities.regent.dev")], &[]));
        }
        Ok(all)
    }

    /// The namespace of the accounts: it goes only when nobody else lives there, such as the account that delivers.
    async fn home(&self) -> Looked<Told> {
        let mut all = Told::gone();
        let mine = [format!("regent-handover-{}", self.name()), format!("regent-verify-{}", self.name())];
        for side in self.sides() {
            if side.cluster.get_metadata(&format!("/api/v1/namespaces/{HOME}")).await?.is_none() {
                continue;
            }
            let mut others = Vec::new();
            for (kind, own) in
                [("serviceaccounts", "default"), ("secrets", ""), ("configmaps", "kube-root-ca.crt"), ("pods", "")]
            {
                let names = side.cluster.names(&format!("/api/v1/namespaces/{HOME}/{kind}")).await?;
                let names = names.into_iter().filter(|name| name != own && !mine.contains(name));
                others.extend(names.map(|name| format!("{kind}/{name}")));
            }
            if !others.is_empty() {
                return Ok(kept_told(format!("{} is there{}", others.join(", "), side.suffix)));
            }
            all.append(side.deletion(vec![Thing::new("Namespace", "", HOME)], &[]));
        }
        Ok(all)
    }

    async fn other_authorities(&self, cluster: &Cluster) -> Looked<Vec<String>> {
        if !has_schema(cluster).await? {
            return Ok(Vec::new());
        }
        let mut names = cluster.names("/apis/regent.dev/v1alpha1/authorities").await?;
        names.retain(|name| name != self.name().as_str());
        Ok(names)
    }

    // --- which cluster

    /// `kubectl`, for the cluster of the witnesses.
    pub(super) fn kubectl(&self) -> String {
        self.kubectl_of(self.args.store.cluster.context.as_ref())
    }

    /// ... and for that of the Secrets.
    pub(super) fn kubectl_target(&self) -> String {
        self.kubectl_of(self.args.target_context.as_ref().or(self.args.store.cluster.context.as_ref()))
    }

    fn kubectl_of(&self, context: Option<&String>) -> String {
        let file = self.args.store.cluster.kubeconfig.as_ref().map(|file| file.display().to_string());
        let flags = [("--kubeconfig", file.as_ref()), ("--context", context)];
        let flags = flags.into_iter().filter_map(|(flag, value)| Some(format!(" {flag} {}", quoted(value?))));
        format!("kubectl{}", flags.collect::<String>())
    }

    fn witnesses_side(&self) -> Side<'_> {
        let suffix = self.connected.is_hub().then(|| format!(" (in {})", self.connected.witnesses.name()));
        Side { cluster: &self.connected.witnesses, kubectl: self.kubectl(), suffix: suffix.unwrap_or_default() }
    }

    fn target_side(&self) -> Side<'_> {
        let suffix = self.connected.is_hub().then(|| format!(" (in {})", self.connected.target.name()));
        Side { cluster: &self.connected.target, kubectl: self.kubectl_target(), suffix: suffix.unwrap_or_default() }
    }

    fn sides(&self) -> Vec<Side<'_>> {
        let target = self.connected.is_hub().then(|| self.target_side());
        [self.witnesses_side()].into_iter().chain(target).collect()
    }
}

impl Side<'_> {
    /// These are to be deleted, bindings before their policies.
    fn deletion(&self, mut things: Vec<Thing>, flags: &[&str]) -> Told {
        things.sort_by_key(|thing| (!thing.is_binding(), thing.clone()));
        let left = things.iter().map(|thing| format!("{}{}", thing.told(), self.suffix)).collect();
        Told::left(left, deletions(&self.kubectl, &things, flags))
    }
}

/// One command for each place, in order; bindings in commands of their own.
fn deletions(kubectl: &str, things: &[Thing], flags: &[&str]) -> Vec<String> {
    let mut by_place: Vec<((bool, &str), Vec<String>)> = Vec::new();
    for thing in things {
        let place = (thing.is_binding(), thing.namespace.as_str());
        let word = format!("{}/{}", thing.kind.to_lowercase(), thing.name);
        match by_place.iter_mut().find(|(known, _)| *known == place) {
            Some((_, words)) => words.push(word),
            None => by_place.push((place, vec![word])),
        }
    }
    let flags: String = flags.iter().flat_map(|flag| [" ", flag]).collect();
    let command = |((_, namespace), words): ((bool, &str), Vec<String>)| {
        let namespace = if namespace.is_empty() { String::new() } else { format!(" -n {namespace}") };
        format!("{kubectl}{namespace}{flags} delete {}", words.join(" "))
    };
    by_place.into_iter().map(command).collect()
}

impl Told {
    fn append(&mut self, more: Told) {
        let left = match more.seen {
            Seen::Left(left) => left,
            Seen::Gone | Seen::Kept(_) | Seen::Unknown(_) => return,
        };
        match &mut self.seen {
            Seen::Left(ours) => ours.extend(left),
            Seen::Gone | Seen::Kept(_) | Seen::Unknown(_) => self.seen = Seen::Left(left),
        }
        self.commands.extend(more.commands);
    }

    /// Of two places of one step: what is not known is told first, then what is left, and both of what stays.
    fn and(mut self, other: Told) -> Told {
        match (&self.seen, &other.seen) {
            (Seen::Unknown(_), _) | (_, Seen::Gone) => self,
            (Seen::Kept(one), Seen::Kept(two)) => kept_told(format!("{one}; {two}")),
            (_, Seen::Unknown(_)) | (Seen::Gone, _) | (Seen::Kept(_), Seen::Left(_)) => other,
            (Seen::Left(_), _) => {
                self.append(other);
                self
            }
        }
    }

    fn prepend(&mut self, left: Vec<String>, commands: Vec<String>) {
        let rest = std::mem::replace(self, Self::left(left, commands));
        self.append(rest);
    }
}

fn kept_told(why: String) -> Told {
    Told { seen: Seen::Kept(why), commands: Vec::new() }
}

/// What `manifests/flux/base` makes beside what runs, by kind, by where that is, and by name; and the configuration of its example.
const BESIDE_FLUX: &[(&str, &str, &[&str])] = &[
    ("Service", "api/v1/namespaces/NAMESPACE/services", &["regent", "regent-metrics"]),
    ("ConfigMap", "api/v1/namespaces/NAMESPACE/configmaps", &["regent"]),
    ("PodDisruptionBudget", "apis/policy/v1/namespaces/NAMESPACE/poddisruptionbudgets", &["regent"]),
    ("NetworkPolicy", "apis/networking.k8s.io/v1/namespaces/NAMESPACE/networkpolicies", &["regent"]),
    ("RoleBinding", "apis/rbac.authorization.k8s.io/v1/namespaces/NAMESPACE/rolebindings", &["regent-replicas"]),
    ("Role", "apis/rbac.authorization.k8s.io/v1/namespaces/NAMESPACE/roles", &["regent-replicas"]),
    ("ServiceAccount", "api/v1/namespaces/NAMESPACE/serviceaccounts", &["regent"]),
    ("ClusterRoleBinding", "apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &["regent-flux"]),
    ("ClusterRole", "apis/rbac.authorization.k8s.io/v1/clusterroles", &["regent-flux"]),
];

/// What a list holds does not name its kind; a `StatefulSet` alone has a Service.
fn kind_of(workload: &Value) -> &'static str {
    if workload["spec"]["serviceName"].is_null() { "Deployment" } else { "StatefulSet" }
}

/// A policy and its binding, as far as they are there.
async fn policy_pair(cluster: &Cluster, name: &str) -> Looked<Vec<Thing>> {
    let mut things = Vec::new();
    for kind in ["ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"] {
        let object =
            json!({ "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": { "name": name } });
        things.extend(cluster.get(&path_of(&object)).await?.map(|_| Thing::of(&object)));
    }
    Ok(things)
}

async fn has_schema(cluster: &Cluster) -> Looked<bool> {
    match schema(cluster).await.in_force {
        InForce::Missing => Ok(false),
        InForce::Yes | InForce::Differs | InForce::Toothless => Ok(true),
        InForce::Unknown(why) => {
            Err(ClusterError::Unreachable(format!("whether the CRD is there is not known: {why}")))
        }
    }
}

/// The witnesses of handovers, where there is no CRD any more.
async fn config_maps(cluster: &Cluster, name: &AuthorityName) -> Looked<Vec<String>> {
    let names = cluster.names("/api/v1/namespaces/kube-system/configmaps").await?;
    let prefix = format!("regent-authority-{name}-");
    let is_its = |it: &String| {
        it.strip_prefix(&prefix)
            .is_some_and(|epoch| !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit()))
    };
    Ok(names.into_iter().filter(is_its).map(|it| format!("ConfigMap {it}")).collect())
}

/// The Secrets that bear the label of an authority.
pub(super) async fn labelled(cluster: &Cluster, authority: &AuthorityName) -> Looked<BTreeSet<SecretName>> {
    let query = format!("&labelSelector=regent.dev%2Fauthority%3D{authority}");
    let found = cluster.list_metadata("/api/v1/secrets", &query).await?;
    let name = |metadata: &Value| {
        SecretName::parse(&format!("{}/{}", text(&metadata["namespace"]), text(&metadata["name"]))).ok()
    };
    Ok(found.iter().filter_map(name).collect())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_goes_before_its_policy_and_names_are_typed_as_kubectl_takes_them() {
        let things = [
            Thing::new("ValidatingAdmissionPolicyBinding", "", "regent-lock-prod"),
            Thing::new("RoleBinding", "kube-system", "r"),
            Thing::new("ValidatingAdmissionPolicy", "", "regent-lock-prod"),
            Thing::new("Role", "kube-system", "r"),
            Thing::new("ServiceAccount", "regent-system", "a"),
        ];
        assert_eq!(
            deletions("kubectl", &things, &[]),
            [
                "kubectl delete validatingadmissionpolicybinding/regent-lock-prod",
                "kubectl -n kube-system delete rolebinding/r",
                "kubectl delete validatingadmissionpolicy/regent-lock-prod",
                "kubectl -n kube-system delete role/r",
                "kubectl -n regent-system delete serviceaccount/a",
            ]
        );
        let [command] =
            deletions("kubectl", &[Thing::new("Authority", "", "prod")], &["--as", "x"]).try_into().unwrap();
        assert_eq!(command, "kubectl --as x delete authority/prod");
    }
}
