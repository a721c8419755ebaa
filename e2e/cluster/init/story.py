import copy
import time

import init
from applications import NAMESPACE
from authority import Authority
from init_place import Place, objects
from installed import HANDOVERS, authority
from said import done, refused
from stage import Sealed, secret, until

BINDING, POLICY = "ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"
CRD = ("CustomResourceDefinition", "authorities.regent.dev")
MADE = {
    ("Authority", None, "prod"),
    *(("ServiceAccount", "regent-system", f"regent-{part}-prod") for part in ("handover", "verify")),
    *((kind, namespace, f"regent-{part}-prod") for part in ("reader", "handover", "verify")
      for kind, namespace in (("ClusterRole", None), ("ClusterRoleBinding", None), ("Role", "kube-system"),
                              ("RoleBinding", "kube-system"))),
    *((kind, None, "regent-lock-prod") for kind in (POLICY, BINDING)),
}
GUARDS = {"argocd.argoproj.io/sync-options": "Prune=false,Delete=false", "kustomize.toolkit.fluxcd.io/prune": "disabled",
          "helm.sh/resource-policy": "keep"}


def story(stage):
    cluster = stage.cluster()
    prod = Authority(stage, cluster, "prod")
    stage.repo.commit({f"{prod.root}/regent.yaml": prod.bootstrap(),
                       f"{prod.root}/db.yaml": Sealed(secret("db", {"password": "REGENT-CANARY-1"}, "prod"))})
    place = Place(stage, cluster, prod)
    # Written before the policies came: nobody but a handover could write them later.
    for name in ("regent-authority-prod-3", "regent-authority-prod-1-3"):
        cluster.create(witness(name)).ok()
    place.refused("not-ready", 1, ["authorities.regent.dev is missing", "regent-first is missing", "manifests/cluster"])
    init.install(cluster)
    protected(place)
    naive(stage, prod)
    waits(place)
    witnesses(place)
    words(place)
    rights(place)
    argocd(place)
    flux(place)
    created(place)
    moved(place)
    crashed(place)
    locked(place)


def witness(name):
    return {"apiVersion": "v1", "kind": "ConfigMap", "immutable": True, "metadata": {"name": name, "namespace": "kube-system"},
            "data": {"witness.json": "{}"}}


def protected(place):
    """Each of what keeps it one-way has to be there as it is shipped."""
    cluster = place.cluster
    keep = cluster.get(BINDING, "regent-keep").ok()
    cluster.delete(BINDING, "regent-keep").ok()
    place.refused("not-ready", 1, ["regent-keep is missing"])
    fresh = {**keep, "metadata": {"name": "regent-keep"}}
    cluster.create({**fresh, "spec": {**keep["spec"], "validationActions": ["Audit"]}}).ok()
    place.refused("not-ready", 1, ["regent-keep does not deny"])
    cluster.delete(BINDING, "regent-keep").ok()
    narrowed = {"namespaceSelector": {"matchLabels": {"a": "b"}}}
    cluster.create({**fresh, "spec": {**keep["spec"], "matchResources": narrowed}}).ok()
    place.refused("not-ready", 1, ["regent-keep does not deny"])
    cluster.delete(BINDING, "regent-keep").ok()
    cluster.create(fresh).ok()
    # An exception that nobody shipped. The probe alone would not find it: it looks at another policy.
    for policy in ("regent-rules", "regent-witness"):
        before = cluster.get(POLICY, policy).ok()["spec"].get("matchConditions", [])
        off = {"name": "off", "expression": "request.userInfo.username != 'mallory'"}
        cluster.patch(POLICY, policy, None, {"spec": {"matchConditions": [*before, off]}}).ok()
        place.refused("not-ready", 1, [f"{policy} is not this version's"])
        cluster.patch(POLICY, policy, None, {"spec": {"matchConditions": before}}).ok()
    constraints = cluster.get(POLICY, "regent-first").ok()["spec"]["matchConstraints"]
    excluded = [{**constraints["resourceRules"][0], "resourceNames": ["prod"]}]
    cluster.patch(POLICY, "regent-first", None, {"spec": {"matchConstraints": {"excludeResourceRules": excluded}}}).ok()
    place.refused("not-ready", 1, ["regent-first is not this version's"])
    cluster.patch(POLICY, "regent-first", None, {"spec": {"matchConstraints": {"excludeResourceRules": None}}}).ok()
    # A CRD with a rule less lets an Authority go back; one that says more is a later version's.
    whole = cluster.get(*CRD).ok()
    less, more = copy.deepcopy(whole), copy.deepcopy(whole)
    spec = less["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["x-kubernetes-validations"] = spec["x-kubernetes-validations"][1:]
    spec = more["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    spec["properties"]["later"] = {"type": "string", "maxLength": 8}
    put_crd(cluster, less)
    place.refused("not-ready", 1, ["authorities.regent.dev is not this version's"])
    put_crd(cluster, more)
    until("a later CRD is in force", lambda: "will say      git(1)" in attempt(place))
    put_crd(cluster, whole)


def attempt(place):
    """What a dry run plans, past the witness of epoch 3 that is still there."""
    cluster = place.cluster
    there = cluster.get("ConfigMap", "regent-authority-prod-3", "kube-system")
    if there.status == 200:
        cluster.delete("ConfigMap", "regent-authority-prod-3", "kube-system", user="breakglass").ok()
    return place.done("--dry-run")


def put_crd(cluster, crd):
    crd = copy.deepcopy(crd)
    crd["metadata"].pop("resourceVersion", None)
    cluster.update(crd, user="breakglass").ok()


def naive(stage, prod):
    """An API server that has the policies and does not ask them."""
    cluster = stage.cluster("naive", "--disable-admission-plugins=ValidatingAdmissionPolicy")
    init.install(cluster)
    start = time.monotonic()
    Place(stage, cluster, prod).refused("not-ready", 1, ["would create an Authority that begins with vault"])
    assert time.monotonic() - start > 19, "it did not wait"
    cluster.close()


def waits(place):
    """A policy that was made this moment binds a moment later; so long `init` waits."""
    cluster = place.cluster
    probe = authority("probe", "vault1")
    first = cluster.get(BINDING, "regent-first").ok()
    cluster.delete(BINDING, "regent-first").ok()
    until("nothing refuses", lambda: cluster.create(probe, query={"dryRun": "All"}).status == 201)
    cluster.create({**first, "metadata": {"name": "regent-first"}}).ok()
    open_still = cluster.create(probe, query={"dryRun": "All"}).status == 201
    place.done("--dry-run")
    assert cluster.create(probe, query={"dryRun": "All"}).status == 403, "it went on before the policy was in force"
    print(f"  a new policy was {'not ' if open_still else ''}in force when `init` began", flush=True)


def witnesses(place):
    """Any of any epoch; those of an authority with a longer name are not meant."""
    cluster = place.cluster
    assert cluster.get("ConfigMap", "regent-authority-prod-1-3", "kube-system").status == 200
    with unprotected(cluster, "regent-witness"):
        cluster.create(witness("regent-authority-prod-3")).ok()
    place.refused("exists", 1, ["ConfigMap regent-authority-prod-3", "the witnesses say"])
    place.refused("exists", 1, ["ConfigMap regent-authority-prod-3"], "--dry-run")
    cluster.delete("ConfigMap", "regent-authority-prod-3", "kube-system", user="breakglass").ok()
    # An Authority alone: by hand, or where `init` was stopped right behind it.
    cluster.create(authority("prod", "git1", cluster.uid())).ok()
    place.refused("exists", 1, ["Authority prod", "git(1)", "is missing: `regent init --complete`"])
    cluster.delete("Authority", "prod", user="breakglass").ok()


class unprotected:
    """Without this policy for a moment."""

    def __init__(self, cluster, policy):
        self.cluster, self.policy = cluster, policy

    def __enter__(self):
        self.binding = self.cluster.get(BINDING, self.policy).ok()
        self.cluster.delete(BINDING, self.policy).ok()
        until("it is off", lambda: self.cluster.create(witness("regent-authority-probe-1"), query={"dryRun": "All"}).status == 201)

    def __exit__(self, *_):
        self.cluster.create({**self.binding, "metadata": {"name": self.policy}}).ok()
        until("it is on", lambda: self.cluster.create(witness("regent-authority-probe-1"), query={"dryRun": "All"}).status == 403)


def words(place):
    """What Git or the command line says, or does not say."""
    repo, prod = place.stage.repo, place.prod
    folder, config = repo.folder / prod.root, place.cluster.kubeconfig()
    silent = ("init", folder, "--kubeconfig", config, "--yes")
    refused(place.stage, "vault", 4, ["no token was given", "--vault-token-file", "--no-vault-yet"], *silent)
    refused(place.stage, "usage", 2, ["--yes"], "init", folder, "--kubeconfig", config, "--no-vault-yet")
    repo.commit({f"{prod.root}/regent.yaml": prod.bootstrap(closed=HANDOVERS[0])})
    place.refused("closed", 1, [HANDOVERS[0]])
    repo.commit({f"{prod.root}/regent.yaml": prod.bootstrap(epoch=2, supersedes=HANDOVERS[0])})
    # The policy's own word: a later epoch is a decision in an emergency.
    place.refused("denied", 1, ["epoch"])
    repo.commit({f"{prod.root}/regent.yaml": prod.bootstrap()})


def rights(place):
    token = place.cluster.account("app", "somebody")
    place.refused("forbidden", 1, ["regent-init", "namespaces"], user=token)
    place.cluster.kubectl("create", "clusterrole", "looker", "--verb=get", "--resource=namespaces")
    place.cluster.kubectl("create", "clusterrolebinding", "looker", "--clusterrole=looker", "--serviceaccount=app:somebody")
    until("it may look", lambda: place.cluster.get("Namespace", "kube-system", user=token).status == 200)
    place.refused("forbidden", 1, ["regent-init", "customresourcedefinitions"], user=token)


PROJECT = {"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject",
           "spec": {"sourceRepos": ["*"], "destinations": [{"namespace": "*", "server": "*"}]}}
IMPERSONATED = [{"server": "*", "namespace": "prod", "defaultServiceAccount": "deployer"},
                {"server": "*", "namespace": "team-*", "defaultServiceAccount": "elsewhere:deployer"},
                {"server": "*", "namespace": "stage-*", "defaultServiceAccount": "patterned"}]
FLUX = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "kustomizations.kustomize.toolkit.fluxcd.io"},
        "spec": {"group": "kustomize.toolkit.fluxcd.io", "scope": "Namespaced",
                 "names": {"kind": "Kustomization", "listKind": "KustomizationList", "plural": "kustomizations",
                           "singular": "kustomization"},
                 "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                     "type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]}}
DOORS = ["system:serviceaccount:argocd:argocd-application-controller", "system:serviceaccount:argocd:argocd-server",
         "system:serviceaccount:flux-system:kustomize-controller", "system:serviceaccount:flux-system:helm-controller",
         "system:serviceaccount:prod:deployer", "system:serviceaccount:elsewhere:deployer",
         "system:serviceaccount:tenant:reconciler", "ci@example.org"]


def argocd(place):
    """A hydrator commits what the plugin renders, and a project of a rule may name the plugin in a file."""
    cluster = place.cluster
    cluster.apply(place.stage.house.peers / "crds")
    cluster.apply([FLUX])
    cluster.established("applications.argoproj.io", "appprojects.argoproj.io", FLUX["metadata"]["name"])
    for name in (NAMESPACE, "tenant", "prod"):
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).ok()
    cluster.apply([{**PROJECT, "metadata": {"name": "platform", "namespace": NAMESPACE},
                    "spec": {**PROJECT["spec"], "destinationServiceAccounts": IMPERSONATED}},
                   {"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
                    "metadata": {"name": "apps", "namespace": "tenant"}, "spec": {"serviceAccountName": "reconciler"}}])
    config = place.stage.folder / "config.yaml"
    config.write_text("""{"apiVersion": "regent.dev/v1alpha1", "kind": "RegentConfig", "store": {"kind": "kubernetes"},
      "rules": [{"authority": "prod", "bootstrap": "clusters/prod/regent.yaml", "project": "platform",
                 "repo": "https://git.example/infra.git", "paths": ["clusters/prod/**"], "namespaces": ["*"],
                 "revisions": ["main"], "identities": ["/nowhere"]}]}""")
    for project, plugin, caught in (("other", {"name": "regent-v1"}, True), ("other", {}, True), ("platform", None, True),
                                    ("other", {"name": "avp"}, False), ("other", None, False)):
        dry = {"repoURL": "https://git.example/infra.git", "path": "clusters/prod", "targetRevision": "main",
               **({} if plugin is None else {"plugin": plugin})}
        cluster.create({"apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
                        "metadata": {"name": "hydrated", "namespace": NAMESPACE},
                        "spec": {"project": project, "destination": {"server": "https://kubernetes.default.svc", "namespace": "prod"},
                                 "sourceHydrator": {"drySource": dry, "syncSource": {"targetBranch": "env", "path": "prod"}}}}).ok()
        if caught:
            place.refused("not-ready", 1, ["argocd/hydrated", "sourceHydrator"], "--config", config)
        else:
            place.done("--dry-run", "--config", config)
        cluster.delete("Application", "hydrated", NAMESPACE).ok()


def flux(place):
    """kustomize-controller writes as an account of the Kustomization's own namespace where its flag says so. Its Deployment shows
    the flag; where it does not, the person is told, and says it."""
    cluster = place.cluster
    thing = {"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": {"name": "plain", "namespace": "tenant"},
             "spec": {}}
    dry = lambda *words: done(place.stage, *place.words("--dry-run", *words))  # noqa: E731
    door = "system:serviceaccount:tenant:flux\n"
    said = dry()
    assert "--default-service-account" not in said.err, "nothing hangs on it yet"
    cluster.create(thing).ok()
    said = dry()
    assert "there is no Deployment flux-system/kustomize-controller" in said.err and "`--default-service-account NAME`" in said.err, said.err
    said = dry("--default-service-account", "flux")
    assert door in said.out and not said.err.count("is not known"), said
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "flux-system"}}).ok()
    for flag, found in (("--log-level=info", False), ("--default-service-account=flux", True)):
        labels = {"app": "kustomize-controller"}
        cluster.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "kustomize-controller", "namespace": "flux-system"},
                        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
                            "containers": [{"name": "manager", "image": "kustomize-controller", "args": ["--watch-all-namespaces", flag]}]}}}}).ok()
        said = dry()
        assert (door in said.out) == found and "is not known" not in said.err, (flag, said)
        # Whoever names an account is impersonated as that one.
        assert "system:serviceaccount:tenant:reconciler\n" in said.out, said.out
        cluster.delete("Deployment", "kustomize-controller", "flux-system").ok()
    cluster.delete("Kustomization", "plain", "tenant").ok()


def created(place):
    cluster, prod = place.cluster, place.prod
    door = ("--door", DOORS[-1])
    before = objects(cluster)
    dry = done(place.stage, *place.words("--dry-run", *door))
    assert "nothing was written" in dry.err and objects(cluster) == before, "a dry run wrote something"
    for line in ("authority     prod", f"root          {prod.root}", "epoch         1", "will say      git(1)",
                 "vault         https://vault.example:8200 secret/bootstrap/prod", "record        not asked",
                 "found         no witness of any epoch", "regent-keep", "cannot protect themselves", *DOORS):
        assert line in dry.out, f"`{line}` is not in:\n{dry.out}"
    assert "`patterned`" in dry.err and "--door" in dry.err, dry.err
    said = place.done(*door)
    assert said.startswith(dry.out) and "Git rules epoch 1 of `prod`" in said, said
    after = objects(cluster)
    assert {name for name in after if name not in before} == MADE, set(after) - set(before)
    assert {name: version for name, version in after.items() if name in before} == before, "something else was changed"
    for kind, namespace, name in MADE:
        annotations = cluster.get(kind, name, namespace).ok()["metadata"]["annotations"]
        assert annotations == GUARDS, (kind, name, annotations)
    spec = cluster.get("Authority", "prod").ok()["spec"]
    assert spec == {"schema": 1, "authorityId": "prod", "authority": "git", "epoch": 1, "root": prod.root,
                    "vaultAddress": "https://vault.example:8200", "vaultNamespace": "", "mount": "secret",
                    "prefix": "bootstrap/prod", "witnessKubeUid": cluster.uid(), "targetKubeUid": cluster.uid(), "noVaultYet": True}, spec
    said = place.refused("exists", 1, ["Authority prod", "git(1)"])
    assert "--complete" not in said.err, said.err
    again = place.done("--complete")
    assert objects(cluster) == after, f"completing what is whole changed it: {again}"


def moved(place):
    """Root and place in Vault, while Git rules, by break-glass; nothing else of it."""
    cluster, prod, repo = place.cluster, place.prod, place.stage.repo
    spec = cluster.get("Authority", "prod").ok()["spec"]
    other = {"address": "https://other.example:8200", "namespace": "team", "mount": "kv", "prefix": "boot/prod"}
    repo.git("mv", prod.root, "clusters/eu")
    repo.commit({"clusters/eu/regent.yaml": prod.bootstrap().replace("https://vault.example:8200", other["address"])
                 .replace('"mount": "secret"', '"namespace": "team", "mount": "kv"').replace("bootstrap/prod", "boot/prod")})
    prod.root = "clusters/eu"
    place.refused("denied", 1, ["regent init --move", "--as-group regent:break-glass"], "--move")
    dry = place.done("--move", "--dry-run")
    assert "from       root clusters/prod" in dry and "to         root clusters/eu" in dry, dry
    glass = ("--as", "jane", "--as-group", "regent:break-glass")
    before = objects(cluster)
    assert place.done("--move", *glass).endswith("moved\n")
    now = cluster.get("Authority", "prod").ok()["spec"]
    assert now == {**spec, "root": "clusters/eu", "vaultAddress": other["address"], "vaultNamespace": "team", "mount": "kv",
                   "prefix": "boot/prod"}, now
    changed = {name for name, version in objects(cluster).items() if before.get(name) != version}
    assert changed == {("Authority", None, "prod")}, changed
    # Back again: the namespace in Vault goes too.
    repo.git("mv", "clusters/eu", "clusters/prod")
    prod.root = "clusters/prod"
    repo.commit({f"{prod.root}/regent.yaml": prod.bootstrap()})
    place.done("--move", *glass)
    assert cluster.get("Authority", "prod").ok()["spec"] == spec
    said = done(place.stage, *place.words("--move", *glass))
    assert "it says so already" in said.err, said
    repo.commit({f"{prod.root}/regent.yaml": prod.bootstrap(epoch=2, supersedes=HANDOVERS[0])})
    place.refused("exists", 1, ["git(1)", "only git of the epoch in regent.yaml can be moved"], "--move", *glass)
    repo.commit({f"{prod.root}/regent.yaml": prod.bootstrap()})


def crashed(place):
    """In the order in which `init` makes them, each step may have been the last."""
    cluster = place.cluster
    whole = objects(cluster)
    expected = {name: place.cluster.get(*(name[0], name[2], name[1])).ok() for name in MADE}
    for kind in (BINDING, POLICY):
        cluster.delete(kind, "regent-lock-prod").ok()
        place.refused("exists", 1, [f"{kind} regent-lock-prod", "is missing: `regent init --complete`"])
    cluster.delete("RoleBinding", "regent-verify-prod", "kube-system").ok()
    cluster.delete("ServiceAccount", "regent-handover-prod", "regent-system").ok()
    before = objects(cluster)
    place.done("--complete", "--dry-run")
    assert objects(cluster) == before
    # The door that init was told of has to be told again where the lock is gone; a lock that is there keeps it.
    place.done("--complete", "--door", DOORS[-1])
    place.done("--complete")
    assert set(objects(cluster)) == set(whole)
    for (kind, namespace, name), was in expected.items():
        now = cluster.get(kind, name, namespace).ok()
        for part in ("spec", "rules", "subjects", "roleRef"):
            assert now.get(part) == was.get(part), (kind, name, part)
    # A role that somebody narrowed is set right; a lock that somebody put an exception into is not passed over.
    cluster.patch("Role", "regent-reader-prod", "kube-system", {"rules": []}).ok()
    place.done("--complete")
    rules = cluster.get("Role", "regent-reader-prod", "kube-system").ok()["rules"]
    assert rules == expected["Role", "kube-system", "regent-reader-prod"]["rules"], rules
    cluster.patch(POLICY, "regent-lock-prod", None, {"spec": {"matchConditions": [{"name": "door", "expression": "false"}]}}).ok()
    place.refused("not-ready", 1, ["another hand"], "--complete")
    for kind in (BINDING, POLICY):
        cluster.delete(kind, "regent-lock-prod").ok()
    place.done("--complete", "--door", DOORS[-1])
    # Before the Authority everything is harmless and is taken as it is.
    for kind in (BINDING, POLICY):
        cluster.delete(kind, "regent-lock-prod").ok()
    cluster.delete("Authority", "prod", user="breakglass").ok()
    cluster.delete("RoleBinding", "regent-verify-prod", "kube-system").ok()
    place.refused("P5", 4, ["regent init"], "--complete")
    place.done("--door", DOORS[-1])
    assert set(objects(cluster)) == set(whole)


def locked(place):
    """Once Vault rules, each of the doors is refused; others write as before."""
    cluster, prod = place.cluster, place.prod
    live = {"apiVersion": "v1", "kind": "Secret", "data": {"password": "b2xk"},
            "metadata": {"name": "db", "namespace": "prod", "labels": {"regent.dev/authority": "prod"}}}
    cluster.create(live).ok()
    # RBAC lets everybody: only the lock is left.
    cluster.kubectl("create", "clusterrolebinding", "everybody", "--clusterrole=cluster-admin", "--group=system:authenticated")
    patch = {"data": {"password": "bmV3"}}

    def tried(who):
        headers = {"Impersonate-User": who, "Impersonate-Group": "system:authenticated"}
        return cluster.patch("Secret", "db", "prod", patch, query={"dryRun": "All"}, headers=headers)
    for door in DOORS:
        until("RBAC lets it", lambda door=door: tried(door).status == 200)
    prod.hand_over()
    prod.lock(True)
    for door in DOORS:
        answer = tried(door)
        assert answer.status == 403 and "Vault is the authority" in answer.message, (door, answer)
    for other in ("system:serviceaccount:prod:other", "system:serviceaccount:external-secrets:external-secrets"):
        assert tried(other).status == 200, other
    place.refused("exists", 1, ["vault(1", "can be moved"], "--move", "--as", "jane", "--as-group", "regent:break-glass")
    place.refused("exists", 1, ["Authority prod", "ConfigMap regent-authority-prod-1", "vault(1"])
    before = objects(cluster)
    place.done("--complete")
    assert objects(cluster) == before
