import json

from applications import AUTOMATED, ArgoCD

APP = "plain"


def story(stage):
    cluster = stage.cluster()
    argocd = ArgoCD(stage, cluster)
    stage.repo.commit({"plain/one.yaml": settings("one", "1"), "plain/two.yaml": settings("two", "1")})
    app = argocd.application(APP, "plain", None, AUTOMATED | {"syncOptions": ["CreateNamespace=true"]}, cascade=True)
    app.synced()
    assert live(cluster, "one")["data"] == {"value": "1"} and live(cluster, "two")
    assert app.rows()["ConfigMap", "one"]["status"] == "Synced" and not app.conditions()

    # A commit is followed, a change by hand undone, a removed file pruned.
    second = stage.repo.commit({"plain/one.yaml": settings("one", "2")})
    assert app.refresh()["status"]["sync"]["revision"] == second
    assert live(cluster, "one")["data"] == {"value": "2"}
    cluster.patch("ConfigMap", "one", "app", {"data": {"value": "by hand"}}).ok()
    cluster.wait("the change by hand is undone", "ConfigMap", "one", "app", lambda it: it["data"] == {"value": "2"})
    stage.repo.commit({"plain/two.yaml": None})
    app.refresh()
    cluster.wait("what Git dropped is pruned", "ConfigMap", "two", "app", lambda it: it is None)

    # Back to an older revision by hand, and away with all of it.
    first = stage.repo.git("rev-list", "--max-parents=0", "HEAD")
    assert app.rollback(first)["phase"] == "Succeeded"
    assert live(cluster, "one")["data"] == {"value": "1"} and live(cluster, "two")
    app.delete()
    assert cluster.get("ConfigMap", "one", "app").status == 404


def settings(name, value):
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"value": value}}) + "\n"


def live(cluster, name):
    return cluster.get("ConfigMap", name, "app").ok()
