from applications import AUTOMATED, NAMESPACE, ArgoCD
from authority import LOCKED, begin, refused_by_lock
from stage import GUARDS, until


def story(stage):
    cluster = stage.cluster()
    argocd = ArgoCD(stage, cluster)
    _, *authorities = begin(stage, cluster, ["pruned-bare", "pruned-locked", "deleted-bare", "deleted-locked"])
    apps = {each: argocd.application(each.name, each.root, policy=AUTOMATED, namespace=each.name, cascade=True)
            for each in authorities}
    for each, app in apps.items():
        way, lock = each.name.split("-")
        app.synced()
        each.hand_over()
        each.lock(stays=lock == "locked")
        app.refresh("hard")
        app.synced()
        cluster.patch("Secret", "db", each.name, {"metadata": {"annotations": dict.fromkeys(GUARDS)}}).ok()
        each.rotate(10)
        # It asks its own copy of what is live.
        until("Argo CD sees it without guards",
              lambda: app.refresh() and not argocd.sees(app, "Secret", "db", "Prune=false"))
        {"pruned": pruned, "deleted": deleted}[way](stage, cluster, each, app, is_locked=lock == "locked")


def pruned(stage, cluster, each, app, is_locked):
    """The encrypted file leaves Git."""
    before = each.same()
    stage.repo.commit({f"{each.root}/db.yaml": None})
    app.refresh()
    if is_locked:
        app.wait("pruning was refused", refused_by_lock)
        assert each.same() == before
    else:
        cluster.wait("it is pruned", "Secret", "db", each.name, lambda it: it is None)


def deleted(_, cluster, each, app, is_locked):
    """The Application is deleted."""
    if not is_locked:
        app.delete()
        assert cluster.get("Secret", "db", each.name).status == 404
        return
    before = each.same()
    cluster.delete("Application", app.name, NAMESPACE).ok()
    app.wait("the deletion was refused", lambda it: any(LOCKED in condition["message"] for condition in
                                                       it["status"].get("conditions", ())))
    cluster.wait("the rest is gone", "ConfigMap", "settings", each.name, lambda it: it is None)
    assert each.same() == before
