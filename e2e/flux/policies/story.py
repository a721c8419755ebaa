"""manifests/flux on the real API server: what regent's account may do, and what nobody else may do with Kustomizations, artifacts and
tokens that are regent's. kustomize-controller runs all the while, and its own writes pass.

Everybody is asked by a real token; the admin is system:masters, whom no RBAC stops. What is refused is refused with a sentence."""

import copy
import json
import threading

from kustomizations import Flux
from stage import TOP, at, config_map, free_port, until

MANIFESTS = TOP / "manifests/flux"
KUSTOMIZATIONS = MANIFESTS / "kustomizations"
REGENT = "flux-system", "regent"
SOURCE, DECRYPTION, ARTIFACTS, TOKENS = (f"regent-flux-{part}" for part in ("source", "decryption", "artifacts", "tokens"))
DRY = {"dryRun": "All"}
MINE = {"app.kubernetes.io/managed-by": "regent"}
# Which versions `*` is, for the checker of types.
VERSIONS = {"apiVersions": ["v1"]}


def story(stage):
    flux = Flux(stage, source=False)
    cluster = flux.cluster
    flux.namespace("app", "other")
    cluster.apply(MANIFESTS / "example")
    before = versions(cluster)
    cluster.apply(MANIFESTS / "example")
    assert versions(cluster) == before, "a second apply changes something"
    fit(cluster)
    regent = cluster.token(*REGENT)
    # A namespace's admin, as Flux's install and Kubernetes make one.
    tenant = cluster.account("app", "tenant")
    cluster.kubectl("create", "clusterrole", "tenant", "--verb=*", "--resource=secrets,externalartifacts.source.toolkit.fluxcd.io,"
                    "externalartifacts.source.toolkit.fluxcd.io/status,kustomizations.kustomize.toolkit.fluxcd.io")
    cluster.kubectl("create", "rolebinding", "tenant", "--clusterrole=tenant", "--serviceaccount=app:tenant", "--namespace=app")
    in_force(cluster)
    rights(cluster, regent)
    artifacts(cluster, regent, tenant)
    tokens(cluster, regent, tenant)
    kustomizations(flux, regent, tenant)
    going(flux, regent)


def versions(cluster):
    """What every object of the manifests is now, to the last write."""
    built = cluster.kubectl("kustomize", str(MANIFESTS / "example"))
    lines = cluster.kubectl("get", "--filename=-", "--output=json", stdin=built)
    found = {(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]): each["metadata"]["resourceVersion"]
             for each in json.loads(lines)["items"]}
    assert len(found) > 20, found
    return found


def fit(cluster):
    """Each expression fits the types of what it looks at, by the API server's own checker."""
    cluster.run("policies", cluster.peers / "kube-controller-manager", "--bind-address=127.0.0.1", f"--secure-port={free_port()}",
                f"--cert-dir={cluster.folder / 'policies'}", "--leader-elect=false",
                "--controllers=validatingadmissionpolicy-status-controller",
                *(f"--{flag}kubeconfig={cluster.kubeconfig()}" for flag in ("", "authentication-", "authorization-")))
    # A kind that the checker does not know yet fits everything.
    for group, kind in (("kustomize", "Kustomization"), ("source", "ExternalArtifact")):
        until(f"the schema of {kind} is told", lambda group=group, kind=kind: f".{kind}\":" in json.dumps(
            cluster.request("GET", f"/openapi/v3/apis/{group}.toolkit.fluxcd.io/v1").body))
    for name in (SOURCE, DECRYPTION, ARTIFACTS, TOKENS):
        policy = cluster.get("ValidatingAdmissionPolicy", name).ok()
        assert warnings(cluster, today(policy)) == [], name
        assert warnings(cluster, policy) == [], name
    wrong = today(cluster.get("ValidatingAdmissionPolicy", DECRYPTION).ok())
    wrong["metadata"]["name"] = "wrong"
    wrong["spec"]["validations"][0]["expression"] = "has(object.spec.decrypts)"
    assert ["undefined field 'decrypts'" in each for each in warnings(cluster, wrong)] == [True]


def today(policy):
    """The same with today's versions, bound to nothing: `*` is not checked."""
    checked = copy.deepcopy(policy)
    checked["metadata"] = {"name": f"today-{policy['metadata']['name']}"}
    checked.pop("status", None)
    for rule in checked["spec"]["matchConstraints"]["resourceRules"]:
        assert rule["apiVersions"] == ["*"]
        rule.update(VERSIONS)
        # The checker knows whole resources only.
        rule["resources"] = [resource for resource in rule["resources"] if "/" not in resource]
    return checked


def warnings(cluster, policy):
    if "uid" not in policy["metadata"]:
        policy = cluster.create({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", **policy}).ok()
    name = policy["metadata"]["name"]
    seen = cluster.wait(f"{name} is checked", "ValidatingAdmissionPolicy", name, None, lambda policy: policy and
                        policy.get("status", {}).get("observedGeneration") == policy["metadata"]["generation"])
    return [f"{each['fieldRef']}: {each['warning']}" for each in seen["status"].get("typeChecking", {}).get("expressionWarnings", [])]


def in_force(cluster):
    """Waits until each policy has refused something that was only tried. regent-flux-decryption is asked once there is an artifact."""
    for policy, thing in ((SOURCE, kustomization("probe", git(), TOKEN)), (ARTIFACTS, artifact("probe")), (TOKENS, token())):
        until(f"{policy} is in force", lambda policy=policy, thing=thing: says(cluster.create(thing, query=DRY), policy))


# --- what there is

TOKEN = {"provider": "sops", "secretRef": {"name": "regent-token"}}


def git():
    return {"kind": "GitRepository", "name": "flux-system", "namespace": "flux-system"}


def external(name="app", **more):
    return {"kind": "ExternalArtifact", "name": name, **more}


def kustomization(name, source, decryption=None, namespace="app"):
    return {"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": {"name": name, "namespace": namespace},
            "spec": {"interval": "60m", "path": "./", "prune": True, "sourceRef": source,
                     **({"decryption": decryption} if decryption else {})}}


def artifact(name="app", namespace="app", labels=MINE, **more):
    return {"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "ExternalArtifact",
            "metadata": {"name": name, "namespace": namespace, "labels": labels}, **more}


def token(name="regent-token", namespace="app", value="dG9rZW4=", **metadata):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace, "labels": MINE, **metadata},
            "data": {"sops.vault-token": value}}


def says(answer, policy, *words):
    """Whether this very policy refused, with a sentence that has these words."""
    said = f"ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: regent: "
    return answer.status == 403 and any(cause.startswith(said) and all(word in cause for word in words) for cause in answer.causes)


def by_rbac(answer):
    return answer.status == 403 and not answer.causes and "cannot" in answer.message


def done(answer):
    assert answer.status in (200, 201), answer
    return answer.body


# --- regent's account

def rights(cluster, regent):
    """What the manifests give it is enough, and there is nothing beside it."""
    me = {"user": regent}
    status = {"artifact": {"url": "http://regent.flux-system.svc:9790/a", "path": "a", "revision": "bootstrap@sha256:00",
                           "digest": "sha256:" + "0" * 64, "lastUpdateTime": "2026-01-01T00:00:00Z"}}
    done(cluster.apply_one(artifact(), "regent", force=True, **me))
    done(cluster.apply_one(artifact(status=status), "regent", force=True, subresource="status", **me))
    assert done(cluster.get("ExternalArtifact", "app", "app", **me))["status"]["artifact"]["path"] == "a"
    for answer in (cluster.apply_one(artifact("web"), "regent", **me), cluster.create(artifact(), **me), cluster.get("ExternalArtifact", None, "app", **me),
                   cluster.apply_one(artifact(namespace="other"), "regent", **me), cluster.delete("ExternalArtifact", "app", "app", **me)):
        assert by_rbac(answer), answer

    done(cluster.apply_one(token(annotations={"regent.dev/token-of": "prod"}), "regent", force=True, **me))
    for answer in (cluster.get("Secret", "regent-token", "app", **me), cluster.get("Secret", None, "app", **me), cluster.create(token(), **me),
                   cluster.apply_one(token("db"), "regent", **me), cluster.apply_one(token(namespace="other"), "regent", **me),
                   cluster.delete("Secret", "regent-token", "app", **me)):
        assert by_rbac(answer), answer

    for kind, name, namespace in (("Kustomization", "app", "app"), ("GitRepository", "flux-system", "flux-system")):
        assert cluster.get(kind, name, namespace, **me).status == 404
        for answer in (cluster.get(kind, "else", namespace, **me), cluster.get(kind, None, namespace, **me),
                       cluster.patch(kind, name, namespace, {}, **me), cluster.delete(kind, name, namespace, **me)):
            assert by_rbac(answer), answer
    watch = {"watch": "true", "timeoutSeconds": "1"}
    only = {"fieldSelector": "metadata.name=flux-system"}
    assert cluster.get("GitRepository", None, "flux-system", query={**watch, **only}, **me).status == 200
    assert by_rbac(cluster.get("GitRepository", None, "flux-system", query=watch, **me))

    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "told", "namespace": "app"}, "reason": "DataKeyRefused",
             "involvedObject": {"kind": "Kustomization", "name": "app", "namespace": "app"}, "message": "no", "type": "Warning"}
    done(cluster.create(event, **me))
    assert by_rbac(cluster.get("Event", None, "app", **me))
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "regent-flux", "namespace": "flux-system"},
             "spec": {"holderIdentity": "regent-0"}}
    leases = "/apis/coordination.k8s.io/v1/namespaces/flux-system/leases"
    apply = {"content": "application/apply-patch+yaml", **me}
    done(cluster.request("PATCH", f"{leases}/regent-flux?fieldManager=regent", lease, **apply))
    assert by_rbac(cluster.request("PATCH", f"{leases}/other?fieldManager=regent", {**lease, "metadata": {"name": "other"}}, **apply))
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": regent}}
    assert done(cluster.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review, **me))["status"]["authenticated"]
    for kind, namespace in (("ConfigMap", "flux-system"), ("Secret", "flux-system"), ("Namespace", None), ("Authority", None)):
        assert cluster.get(kind, None, namespace, **me).status in (403, 404), kind


# --- what the policies refuse

def artifacts(cluster, regent, tenant):
    """regent's artifact is regent's, whatever the others may."""
    for who in ("admin", tenant):
        them = {"user": who}
        for answer in (
                cluster.patch("ExternalArtifact", "app", "app", {"metadata": {"labels": {"app.kubernetes.io/managed-by": None}}}, **them),
                cluster.patch("ExternalArtifact", "app", "app", {"metadata": {"annotations": {"a": "b"}}}, **them),
                cluster.patch("ExternalArtifact", "app", "app", {"status": {"artifact": {"url": "http://evil.example/a"}}},
                              subresource="status", **them),
                cluster.apply_one(artifact(labels={}), "regent", force=True, **them),
                cluster.create(artifact("web"), **them),
                cluster.delete("ExternalArtifact", "app", "app", **them),
                cluster.delete_all("ExternalArtifact", "app", query={"fieldSelector": "metadata.name=app"}, **them)):
            assert says(answer, ARTIFACTS, "by regent alone"), (who, answer)
        # Another one is anybody's, but never becomes regent's.
        done(cluster.create(artifact("theirs", labels={"a": "b"}), **them))
        assert says(cluster.patch("ExternalArtifact", "theirs", "app", {"metadata": {"labels": MINE}}, **them), ARTIFACTS, "theirs")
        done(cluster.patch("ExternalArtifact", "theirs", "app", {"metadata": {"annotations": {"a": "b"}}}, **them))
        done(cluster.delete("ExternalArtifact", "theirs", "app", **them))
    done(cluster.patch("ExternalArtifact", "app", "app", {"metadata": {"annotations": {"a": "b"}}}, user="breakglass"))
    done(cluster.apply_one(artifact(), "regent", force=True, user=regent))


def tokens(cluster, regent, tenant):
    """So is the token. Secrets without a name of their own yet, and all others, are not looked at."""
    for who in ("admin", tenant):
        them = {"user": who}
        for answer in (
                cluster.patch("Secret", "regent-token", "app", {"data": {"sops.vault-token": "ZXZpbA=="}}, **them),
                cluster.patch("Secret", "regent-token", "app", {"metadata": {"annotations": {"regent.dev/token-of": None}}}, **them),
                cluster.delete("Secret", "regent-token", "app", **them),
                cluster.delete_all("Secret", "app", query={"fieldSelector": "metadata.name=regent-token"}, **them)):
            assert says(answer, TOKENS, "regent-token", "regent alone"), (who, answer)
        done(cluster.create({**token(), "metadata": {"generateName": "theirs-", "namespace": "app"}}, query=DRY, **them))
        done(cluster.create(token("theirs"), **them))
        assert says(cluster.patch("Secret", "theirs", "app", {"metadata": {"annotations": {"regent.dev/token-of": "prod"}}}, **them), TOKENS)
        done(cluster.delete("Secret", "theirs", "app", **them))
    # One by another name is known by what regent wrote on it.
    done(cluster.create(token("named", annotations={"regent.dev/token-of": "prod"}), user="breakglass"))
    assert says(cluster.patch("Secret", "named", "app", {"metadata": {"annotations": {"regent.dev/token-of": None}}}), TOKENS, "named")
    assert says(cluster.delete("Secret", "named", "app"), TOKENS, "named")
    done(cluster.delete("Secret", "named", "app", user="breakglass"))
    assert says(cluster.create(token(namespace="other")), TOKENS)
    # Emptied, it stays.
    empty = token(annotations={"regent.dev/token-of": "prod"})
    del empty["data"]
    assert "data" not in done(cluster.apply_one(empty, "regent", force=True, user=regent))
    assert says(cluster.delete("Secret", "regent-token", "app"), TOKENS, "it stays")
    done(cluster.apply_one(token(annotations={"regent.dev/token-of": "prod"}), "regent", force=True, user=regent))


def kustomizations(flux, regent, tenant):
    """What decrypts with regent takes regent's artifact, and what takes it decrypts. With the migration's steps, there and back."""
    cluster = flux.cluster
    age = {"provider": "sops", "secretRef": {"name": "sops-age"}}
    for who in ("admin", tenant):
        them = {"user": who, "query": DRY}
        for thing, words in (
                (kustomization("app", git(), TOKEN), ("app decrypts with regent", "ExternalArtifact app", "not GitRepository flux-system")),
                (kustomization("app", {"kind": "OCIRepository", "name": "app"}, TOKEN), ("not OCIRepository app",)),
                (kustomization("app", external("theirs"), TOKEN), ("not ExternalArtifact theirs",)),
                (kustomization("web", external("app"), TOKEN), ("ExternalArtifact web", "not ExternalArtifact app")),
                (kustomization("app", external(namespace="other"), TOKEN), ("of its own namespace",)),
                (undecrypted("decrypt"), ("ciphertext would become the live value",)),
                (undecrypted("decrypt", "ssa"), ("all three belong into one patch",)),
                (undecrypted("decrypt", "prune"), ("all three belong into one patch",)),
                (undecrypted("decrypt", operations=True), ("all three belong into one patch",))):
            assert says(cluster.create(thing, **them), SOURCE, *words), (who, thing)
        until(f"{DECRYPTION} is in force", lambda them=them: says(
            cluster.create(kustomization("app", external()), **them), DECRYPTION, "app has no spec.decryption"))
        for thing in (
                kustomization("app", external(), TOKEN), kustomization("app", external(namespace="app"), TOKEN),
                kustomization("app", external(namespace=""), TOKEN),
                kustomization("app", git(), age), kustomization("app", git()), kustomization("app", external("theirs")),
                # Without regent's token it gets no data key; that is not for a policy.
                kustomization("app", external(), age),
                undecrypted("decrypt", "ssa", "prune"), undecrypted("prune"), undecrypted(),
                # Whoever decrypts what nobody else does is no business of regent's.
                undecrypted("decrypt", decryption=age)):
            done(cluster.create(thing, **them))
    other_names(cluster)
    # Nothing of regent is there.
    done(cluster.create(kustomization("app", external(), namespace="other"), query=DRY))

    published = flux.artifacts.publish(As(cluster, regent), "app", "app", {"apps/prod/settings.yaml": config_map("settings")})
    # The installation went before: as it was, through regent, back, through regent.
    sops = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "sops-age", "namespace": "app"}}
    done(cluster.create(sops))
    before, after = KUSTOMIZATIONS / "app-before.yaml", KUSTOMIZATIONS / "app.yaml"
    cluster.apply(KUSTOMIZATIONS / "regent.yaml")
    cluster.apply(before)
    assert says(cluster.patch("Kustomization", "app", "app", {"spec": {"decryption": TOKEN}}), SOURCE, "not GitRepository")
    for step in (after, before, after):
        cluster.apply(step)
    app = cluster.wait("app is Ready", "Kustomization", "app", "app", lambda thing: thing and thing.get("status", {}).get(
        "lastAppliedRevision") == published)
    assert app["metadata"]["finalizers"], "the controller's own writes pass"
    assert says(cluster.patch("Kustomization", "app", "app", {"spec": {"sourceRef": git()}}, user=tenant), SOURCE, "GitRepository")
    assert says(cluster.patch("Kustomization", "app", "app", {"spec": {"decryption": None}}, user=tenant), DECRYPTION)


def undecrypted(*annotations, decryption=TOKEN, operations=False):
    """One whose patch puts these on its Secrets."""
    keys = {f"kustomize.toolkit.fluxcd.io/{key}": "Ignore" if key == "ssa" else "disabled" for key in annotations}
    merge = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "any", "annotations": keys}}
    each = [{"op": "add", "path": f"/metadata/annotations/{key.replace('/', '~1')}", "value": value} for key, value in keys.items()]
    thing = kustomization("app", external(), decryption)
    thing["spec"]["patches"] = [{"target": {"kind": "Secret"}, "patch": json.dumps(each if operations else merge)}]
    return thing


def other_names(cluster):
    """The patches that example/kustomization.yaml has for tokens, accounts and artifacts by other names."""
    example = (MANIFESTS / "example/kustomization.yaml").read_text()
    patches = "".join(line.removeprefix("# ") + "\n" for line in example.partition("\n# patches:\n")[2].splitlines())
    folder = cluster.folder / "other-names"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(f"resources: [policies.yaml]\npatches:\n{patches}")
    (folder / "policies.yaml").write_text((MANIFESTS / "base/policies.yaml").read_text())
    cluster.apply(folder, force=True)
    try:
        as_account = {"provider": "sops", "serviceAccountName": "anyone"}
        cluster.account("batch", "anyone")
        for thing, words in (
                (kustomization("app", git(), {"provider": "sops", "secretRef": {"name": "web-token"}}), ("ExternalArtifact app",)),
                (kustomization("batch", git(), as_account, "batch"), ("ExternalArtifact batch",)),
                (kustomization("web", external("web"), TOKEN), ("ExternalArtifact web-tree", "not ExternalArtifact web"))):
            until(f"{words} are refused", lambda thing=thing, words=words: says(cluster.create(thing, query=DRY), SOURCE, *words))
        for thing in (kustomization("web", external("web-tree"), TOKEN), kustomization("batch", external("batch"), as_account, "batch"),
                      kustomization("app", git(), as_account)):
            done(cluster.create(thing, query=DRY))
        # Each policy is taken up by itself.
        until("web-token is a token", lambda: says(cluster.create(token("web-token"), query=DRY), TOKENS, "web-token"))
    finally:
        cluster.apply(MANIFESTS / "example", force=True)
    until("the usual names count again", lambda: cluster.create(kustomization("web", external("web"), TOKEN), query=DRY).status == 201)


def going(flux, regent):
    """One that is as no policy would have it can be annotated and deleted; and a namespace goes with all that is in it."""
    cluster = flux.cluster
    binding = cluster.get("ValidatingAdmissionPolicyBinding", SOURCE).ok()
    cluster.delete("ValidatingAdmissionPolicyBinding", SOURCE).ok()
    early = kustomization("early", git(), TOKEN)
    until("it is open", lambda: cluster.create(early, query=DRY).status == 201)
    cluster.create(early).ok()
    binding["metadata"] = {"name": SOURCE}
    cluster.create(binding).ok()
    until("it is shut", lambda: says(cluster.create(kustomization("probe", git(), TOKEN), query=DRY), SOURCE))
    done(cluster.patch("Kustomization", "early", "app", {"metadata": {"annotations": {"a": "b"}}}))
    assert says(cluster.patch("Kustomization", "early", "app", {"spec": {"path": "./else"}}), SOURCE)
    for name in ("early", "app"):
        done(cluster.delete("Kustomization", name, "app"))
        cluster.wait(f"{name} is gone", "Kustomization", name, "app", lambda thing: thing is None)
    cluster.controllers()
    done(cluster.delete("Namespace", "app"))
    cluster.wait("the namespace is gone", "Namespace", "app", None, lambda thing: thing is None)
    # Without the kind that regent-flux-decryption takes its parameters from, Kustomizations are written as ever, also by an API server
    # that has never seen it.
    name = "externalartifacts.source.toolkit.fluxcd.io"
    crd = cluster.get("CustomResourceDefinition", name).ok()
    done(cluster.create(kustomization("left", git(), namespace="other")))
    done(cluster.delete("CustomResourceDefinition", name))
    cluster.wait("the kind is gone", "CustomResourceDefinition", name, None, lambda thing: thing is None)
    cluster.restart_apiserver()
    until(f"{SOURCE} is in force", lambda: says(cluster.create(kustomization("probe", git(), TOKEN, "other"), query=DRY), SOURCE))
    done(cluster.patch("Kustomization", "left", "other", {"metadata": {"annotations": {"a": "b"}}}))
    done(cluster.patch("Kustomization", "left", "other", {"spec": {"path": "./else"}}))
    done(cluster.create({**crd, "metadata": {"name": name}}))
    cluster.established(name)


class As:
    """A cluster as somebody else."""

    def __init__(self, cluster, user):
        self.cluster, self.user = cluster, user

    def apply_one(self, *args, **kwargs):
        return self.cluster.apply_one(*args, **{"user": self.user, **kwargs})
