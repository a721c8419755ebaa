from applications import AUTOMATED, ArgoCD
from authority import begin, data, refused_by_lock, value
from stage import config_map


def story(stage):
    cluster = stage.cluster()
    argocd = ArgoCD(stage, cluster)
    door, bare, locked = begin(stage, cluster, ["bare", "locked"], "app/", argocd={"discover": ["db.yaml"]})
    apps = {each: argocd.application(each.name, f"{each.root}/app", None, AUTOMATED, namespace=each.name)
            for each in (bare, locked)}
    blocked = argocd.application("with-a-block", f"{bare.root}/app")
    for each, app in apps.items():
        assert app.synced()["status"]["sourceType"] == "Plugin"
        each.holds(value(1))
        each.hand_over()
        each.lock(stays=each is locked)
    for app in apps.values():
        app.refresh("hard")
        app.synced()
    before = {each: each.rotate(10) for each in apps}
    door.kill()
    for each in apps:
        stage.repo.commit({f"{each.root}/app/more.yaml": config_map("more", each.name)})
    for each, app in apps.items():
        assert app.refresh()["status"]["sourceType"] == "Directory"
        if each is locked:
            app.wait("the ciphertext was refused", refused_by_lock)
            assert each.same() == before[each]
        else:
            cluster.wait("the ciphertext is live", "Secret", "db", each.name,
                         lambda live: data(live)["password"].startswith("ENC["))
    assert "ComparisonError" in (blocked.refresh() and blocked.conditions())
    # With the plugin back a hard refresh, and the Secret that was kept is as it was.
    door.again()
    for app in apps.values():
        assert app.refresh("hard")["status"]["sourceType"] == "Plugin"
        app.synced()
    assert locked.same() == before[locked]
