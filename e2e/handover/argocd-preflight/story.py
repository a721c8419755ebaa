from applications import NAMESPACE
from delivered import Delivered
from handed import regent_yaml
from stage import GUARDS, free_port, until

ELSEWHERE = {"destination": {"server": "https://elsewhere.example", "namespace": "app"}}
OWN = {"argocd.argoproj.io/sync-options": "Prune=true,SkipDryRunOnMissingResource=true"}


def story(stage):
    with Delivered(stage) as hand:
        told(hand)


def told(hand):
    cluster = hand.cluster
    app = hand.deployed(1)
    admin = [*hand.where, "--as", "system:serviceaccount:regent-system:regent-handover-prod"]
    config = "--config", hand.config(), "--caches-locked"
    # A Secret that it may not look at could lack its guards.
    cluster.delete("RoleBinding", "listed", "app").ok()
    hand.refused("--plan", *config, ends=6, code="preflight", says=["may not `get` them: app/api, app/db", "`--print-policy`"])
    may_read(cluster)
    # It may not patch Applications, and that is somebody else's to do.
    note = "this identity may not refresh argocd/prod: somebody who may has to"
    for by in (None, admin):
        hand.handover("--plan", *config, by=by, says=note)
    hand.refused("--plan", *config[:2], ends=6, code="preflight", says=[note, "neither `argocd.redis` nor `argocd.server`", "`--caches-locked`"])
    hand.may_refresh("prod")
    assert "may not refresh" not in hand.handover("--plan", *config)

    operator(hand, config)

    # By hand, so that Argo CD does not put the guards back.
    app.patch({"spec": {"syncPolicy": None}})
    cluster.patch("Secret", "db", "app", {"metadata": {"annotations": {**dict.fromkeys(GUARDS), **OWN},
                                                        "labels": {"regent.dev/authority": None}}}).ok()
    hand.application("far", policy=None, destination=ELSEWHERE["destination"])
    hand.cluster.patch("Application", "far", NAMESPACE, {"spec": {"sourceHydrator": {
        "drySource": {"repoURL": "https://git.example/r", "path": "p", "targetRevision": "main"},
        "syncSource": {"targetBranch": "b", "path": "p"}}}}).ok()
    nowhere = hand.config(redis=f"127.0.0.1:{free_port()}")
    for word in ("--plan", "--yes"):
        hand.refused(word, "--config", nowhere, ends=6, code="preflight", says=[
            "argocd/far to https://elsewhere.example", "argocd/prod to its own cluster", "hydrator of argocd/far", "Argo CD's Redis",
            "Secret app/db lacks Prune=false, Delete=false, IgnoreExtraneous, prune: disabled, regent.dev/authority",
            "`--apply-guards`"])
    nobody = hand.config(server=f"127.0.0.1:{free_port()}")
    # What is found in Vault, in the cluster, and in Argo CD is told at once.
    hand.bao.put("bootstrap/prod/app/api", {"token": "another"})
    hand.refused("--plan", "--config", nobody, ends=6, code="preflight", says=["app/api", "argocd-server 127.0.0.1", "Secret app/db lacks"])
    hand.bao.done("DELETE", "secret/metadata/bootstrap/prod/app/api")
    hand.cluster.delete("Application", "far", NAMESPACE).ok()

    before = cluster.get("Secret", "db", "app").ok()
    hand.handover("--yes", *config, "--apply-guards", says=["Secret app/db was guarded", "closed: "])
    after = cluster.get("Secret", "db", "app").ok()
    annotations = after["metadata"]["annotations"]
    assert annotations["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false,SkipDryRunOnMissingResource=true"
    assert annotations["argocd.argoproj.io/compare-options"] == "IgnoreExtraneous", annotations
    assert after["metadata"]["labels"]["regent.dev/authority"] == "prod"
    assert (after["data"], after["type"], after["metadata"]["uid"]) == (before["data"], before["type"], before["metadata"]["uid"])
    kept = {key: text for key, text in before["metadata"]["annotations"].items() if key not in GUARDS}
    assert kept.items() <= annotations.items(), (kept, annotations)


def operator(hand, config):
    """`after:` names an operator that nobody installed, or another version of it."""
    hand.commit = hand.stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(hand.address).replace(
        "{ emit: stub }", "{ emit: externalSecret, store: { name: vault, kind: ClusterSecretStore } }")})
    lacks = "ExternalSecret of external-secrets.io/v1, which"
    hand.refused("--plan", *config, ends=6, code="preflight", says=[lacks, "install the operator first"])
    group, plural = "external-secrets.io", "externalsecrets"

    def crd(version):
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"{plural}.{group}"}, "spec": {
            "group": group, "scope": "Namespaced", "names": {"plural": plural, "singular": "externalsecret", "kind": "ExternalSecret"},
            "versions": [{"name": version, "served": True, "storage": True, "schema": schema}]}}
    for version, served in (("v1beta1", False), ("v1", True)):
        hand.cluster.apply_one(crd(version), "story", force=True).ok()
        hand.cluster.established(f"{plural}.{group}")
        until("it is served", lambda: hand.cluster.request("GET", f"/apis/{group}/{version}").status == 200)
        if served:
            hand.handover("--plan", *config)
        else:
            hand.refused("--plan", *config, ends=6, code="preflight", says=lacks)
        hand.cluster.delete("CustomResourceDefinition", f"{plural}.{group}").ok()
        until("it is gone", lambda: hand.cluster.request("GET", f"/apis/{group}").status == 404)
    hand.commit = hand.stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(hand.address)})


def may_read(cluster):
    """Secrets of the root, as somebody who runs a handover by hand has it."""
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "guards", "namespace": "app"}}
    cluster.apply([
        {**rbac, "kind": "Role", "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "patch"]}]},
        {**rbac, "kind": "RoleBinding", "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "guards"},
         "subjects": [{"kind": "ServiceAccount", "name": "regent-handover-prod", "namespace": "regent-system"}]}])
