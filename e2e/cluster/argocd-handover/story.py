from applications import AUTOMATED, ArgoCD, state
from authority import begin, data, rotated, value, values_in
from stage import GUARDS, Key, Sealed, secret

# Every way to sync that Argo CD has.
SYNCS = [
    {}, {"prune": False}, {"force": True}, {"options": ["Replace=true"]}, {"options": ["Replace=true"], "force": True},
    {"options": ["ServerSideApply=true"]}, {"options": ["ServerSideApply=true", "ApplyOutOfSyncOnly=true"], "force": True},
    {"options": ["PruneLast=true"]}, {"dry": True},
    {"resources": [{"kind": "Secret", "name": "db"}], "options": ["Replace=true"], "force": True},
]


def story(stage):
    cluster = stage.cluster()
    # What answers later than this is late: long enough for a busy machine, and waited out six times below.
    argocd = ArgoCD(stage, cluster, "--repo-server-timeout-seconds", 10)
    door, prod = begin(stage, cluster, ["prod"])
    app = argocd.application("prod", prod.root, policy=AUTOMATED, namespace="prod", cascade=True)
    app.synced()
    live = prod.live()
    annotations = live["metadata"]["annotations"]
    assert data(live) == value(1) and live["metadata"]["labels"]["regent.dev/authority"] == "prod"
    assert all(annotations[name] == text for name, text in GUARDS.items()), annotations
    assert "kubectl.kubernetes.io/last-applied-configuration" not in annotations
    assert app.rows()["Secret", "db"]["status"] == "Synced" and not app.conditions()
    invalid(stage, app)
    failing(stage, cluster, app, prod, door)

    prod.change(2)
    app.refresh()
    app.synced()
    prod.holds(value(2))
    before, revision = prod.same(), app.get()["status"]["sync"]["revision"]
    assert values_in(argocd.cached("prod"), revision)
    prod.hand_over()
    app.refresh("hard")
    app.synced()
    assert prod.same() == before and not values_in(argocd.cached("prod"), revision)
    assert "status" not in app.rows()["Secret", "db"] and not app.conditions()

    before = prod.rotate(1)
    for words in SYNCS:
        operation = app.sync(**words)
        assert operation["phase"] == "Succeeded", (words, operation)
        assert prod.same() == before, words
    app.refresh("hard")
    app.synced()
    failing(stage, cluster, app, prod, door)
    assert data(prod.live()) == rotated(1) and prod.same() == before

    # The file leaves Git, and then the Application leaves.
    stage.repo.commit({f"{prod.root}/db.yaml": None})
    app.refresh()
    app.synced()
    assert app.sync(prune=True)["phase"] == "Succeeded" and prod.same() == before
    app.delete()
    assert prod.same() == before and cluster.get("ConfigMap", "settings", "prod").status == 404


def failing(stage, cluster, app, prod, door):
    """The plugin refuses, does not answer in time, or not at all: nothing is changed, and it is in order again afterwards."""
    before, revision = prod.same(), stage.repo.git("rev-parse", "HEAD")
    other = Key(stage.folder / f"keys/other-{revision[:8]}.txt")
    for fail, repair in (
            # In both phases an error: nothing of ours opens it, and no list has it.
            (lambda: stage.repo.commit({"clusters/prod/other.yaml":
                                        Sealed(secret("other", value(9), "prod"), other)}),
             lambda: stage.repo.git("reset", "--quiet", "--hard", revision)),
            (door.pause, door.resume), (door.kill, door.again)):
        fail()
        broken = app.refresh("hard")
        assert state(broken)[0] == "Unknown" and "ComparisonError" in app.conditions(), broken["status"]
        # A sync fails, or applies what Argo CD has cached where it gave up waiting; it prunes nothing either.
        operation = app.sync(prune=True)
        assert operation["phase"] in ("Error", "Succeeded"), operation
        assert prod.same() == before and cluster.get("ConfigMap", "settings", "prod").status == 200
        repair()
        app.refresh("hard")
        app.synced()
        assert prod.same() == before


def invalid(stage, app):
    """A Secret that is not valid is refused before Argo CD or the API server could print it."""
    before = stage.repo.git("rev-parse", "HEAD")
    pin = secret("pin", {"pin": 4711471147114711}, "prod")
    stage.repo.commit({"clusters/prod/pin.yaml": Sealed(pin)})
    app.refresh()
    said = app.conditions()["ComparisonError"]
    assert "regent[" in said and "4711471147114711" not in said, said
    stage.repo.git("reset", "--quiet", "--hard", before)
    app.refresh("hard")
    app.synced()
