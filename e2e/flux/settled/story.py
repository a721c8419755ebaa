"""`regent handover` moves an authority that Flux delivers: what would stand in the way is told before anything moves; then the record, the
stubs, and `Settled` once the Kustomization holds them. The live Secret is the same to the last byte, the Kustomization stays Ready, the
Secret with its token is empty and still there, and who waits for the handover by `readyExpr` begins only then. A Kustomization of another
source that has a Secret of the list keeps it from being settled, until a person leaves it out."""

import let_go
from bootstrapped import TOKEN
from stage import config_map, until

HANDED_OVER = ("dep.status.lastAppliedRevision.startsWith('handover@') && "
               "dep.status.conditions.exists(c, c.type == 'Ready' && c.status == 'True')")


def story(stage):
    handing = let_go.begin(stage)
    it = handing.it
    consumer = consumes(it)
    in_the_way(handing)

    before = it.live()
    assert it.live(TOKEN)["data"], "there is no token"
    assert consumer.applied() is None
    said = handing.handover("--yes", says=[r"Flux may take up to \d+ s", r"settled +.*1 Kustomization let go"])
    assert "closed: " in said, said
    assert handing.settled() == "there is no Argo CD here; 1 Kustomization let go", handing.settled()
    assert it.app.applied().startswith("handover@sha256:"), it.app.applied()
    it.flux.unchanged(before)

    emptied = until("the token is taken away", lambda: (secret := it.live(TOKEN)) and not secret.get("data") and secret)
    assert emptied["metadata"]["annotations"]["regent.dev/token-of"] == "prod", emptied["metadata"]
    it.app.reconcile()
    it.app.ready(handing.stubs())
    it.flux.unchanged(before)
    consumer.ready()

    # Run again it has nothing to do.
    handing.handover("--yes", says=["rules +Vault rules"])
    handing.bao.stop()


def consumes(it):
    """One that waits for the handover."""
    it.flux.namespace("consumer")
    it.flux.publish("consumer", "consumer", {"a.yaml": config_map("begun", "consumer")})
    return it.flux.kustomization("consumer", "consumer", retryInterval="2s", dependsOn=[
        {"name": "prod", "namespace": "prod", "readyExpr": HANDED_OVER}])


def in_the_way(handing):
    """Everything that could not be settled stops it before the record."""
    it = handing.it
    refused = lambda *says: handing.handover("--yes", ends=6, says=says)  # noqa: E731
    it.app.spec(suspend=True)
    refused(r"Kustomization prod/prod: it is suspended \(`flux resume kustomization prod -n prod`\)")
    it.app.spec(suspend=None)
    it.app.reconcile()
    tenant = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "tenant", "namespace": "prod"}}
    it.cluster.create(tenant).ok()
    it.app.spec(serviceAccountName="tenant")
    refused(r"the lock does not name system:serviceaccount:prod:tenant")
    it.app.spec(serviceAccountName=None)
    it.app.reconcile()
    it.app.ready()
    # The same account by the controller's own flag, which its Deployment shows.
    planned = handing.handover("--plan")
    assert "`--default-service-account` is not known" in planned and "prod/prod" in planned, planned
    it.cluster.apply([controller("--default-service-account=tenant")])
    refused(r"the lock does not name system:serviceaccount:prod:tenant")
    it.cluster.apply([controller("--log-level=info")])
    assert "--default-service-account" not in handing.handover("--plan")
    assert handing.settled() is None and handing.cluster.get("Authority", "prod").ok()["spec"]["authority"] == "git"


def controller(flag):
    labels = {"app": "kustomize-controller"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "kustomize-controller", "namespace": "flux-system"},
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
                "containers": [{"name": "manager", "image": "kustomize-controller", "args": [flag]}]}}}}
