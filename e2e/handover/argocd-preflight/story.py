from applications import NAMESPACE
from delivered import Delivered
from stage import GUARDS, free_port

ELSEWHERE = {"destination": {"server": "https://elsewhere.example", "namespace": "app"}}
OWN = {"argocd.argoproj.io/sync-options": "Prune=true,SkipDryRunOnMissingResource=true"}


def story(stage):
    hand = Delivered(stage)
    told(hand)
    hand.close()


def told(hand):
    cluster = hand.cluster
    app = hand.application("prod")
    app.synced()
    admin = [*hand.where, "--as", "system:serviceaccount:regent-system:regent-handover-prod"]
    config = hand.config()
    # A Secret that it may not look at could lack its guards.
    cluster.delete("RoleBinding", "listed", "app").ok()
    hand.refused("--plan", "--config", config, ends=6, code="preflight", says=["may not `get` them: app/api, app/db", "`--print-policy`"])
    may_read(cluster)
    # It may not patch Applications, and that is somebody else's to do.
    note = "this identity may not refresh argocd/prod: somebody who may has to"
    for by in (None, admin):
        hand.handover("--plan", "--config", config, by=by, says=[note, "neither `argocd.redis` nor `argocd.server`"])
    hand.may_refresh("prod")
    assert "may not refresh" not in hand.handover("--plan", "--config", config)

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
    hand.cluster.delete("Application", "far", NAMESPACE).ok()

    before = cluster.get("Secret", "db", "app").ok()
    hand.handover("--yes", "--config", config, "--apply-guards", says=["Secret app/db was guarded", "closed: "])
    after = cluster.get("Secret", "db", "app").ok()
    annotations = after["metadata"]["annotations"]
    assert annotations["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false,SkipDryRunOnMissingResource=true"
    assert annotations["argocd.argoproj.io/compare-options"] == "IgnoreExtraneous", annotations
    assert after["metadata"]["labels"]["regent.dev/authority"] == "prod"
    assert (after["data"], after["type"], after["metadata"]["uid"]) == (before["data"], before["type"], before["metadata"]["uid"])
    kept = {key: text for key, text in before["metadata"]["annotations"].items() if key not in GUARDS}
    assert kept.items() <= annotations.items(), (kept, annotations)


def may_read(cluster):
    """Secrets of the root, as somebody who runs a handover by hand has it."""
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "guards", "namespace": "app"}}
    cluster.apply([
        {**rbac, "kind": "Role", "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "patch"]}]},
        {**rbac, "kind": "RoleBinding", "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "guards"},
         "subjects": [{"kind": "ServiceAccount", "name": "regent-handover-prod", "namespace": "regent-system"}]}])
