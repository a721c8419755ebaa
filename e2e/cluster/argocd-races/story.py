from concurrent.futures import ThreadPoolExecutor

from applications import AUTOMATED, REFRESH, ArgoCD
from authority import begin, refused_by_lock, value, values_in
from held import Held


OTHERS = ThreadPoolExecutor(1)


def story(stage):
    cluster = stage.cluster()
    argocd = ArgoCD(stage, cluster)
    argocd.serve()
    door, *authorities = begin(stage, cluster, ["lost-bare", "lost-locked", "late-bare", "late-locked"])
    # Argo CD's way to the plugin, with a place where an answer can be held back.
    held = Held(stage.house.plugins / f"{stage.name}-held.sock", door.regent.socket)
    try:
        for each in authorities:
            race, lock = each.name.split("-")
            each.is_locked = lock == "locked"
            app = argocd.application(each.name, each.root, f"{stage.name}-held", AUTOMATED, namespace=each.name)
            app.synced()
            {"lost": lost, "late": late}[race](argocd, each, app, held)
            undone(argocd, each, app)
    finally:
        held.close()


def lost(argocd, each, app, held):
    """The request for a hard refresh is lost."""
    held.arm()
    each.revision = each.change(2)
    app.patch({"metadata": {"annotations": {REFRESH: "normal"}}})
    held.wait()
    each.hand_over()
    each.lock(each.is_locked)
    app.patch({"metadata": {"annotations": {REFRESH: "hard"}}})
    held.let_go()
    app.wait("no refresh is asked for", lambda it: REFRESH not in it["metadata"].get("annotations", {}))
    # The values of Git are applied now where nothing refuses it; what is asked here is what comes after.


def late(argocd, each, app, held):
    """A request that began before ends after the hard refresh."""
    each.revision = argocd.stage.repo.git("rev-parse", "HEAD")
    app.refresh()
    held.arm()
    other = OTHERS.submit(argocd.manifests, each.name)
    held.wait()
    each.hand_over()
    each.lock(each.is_locked)
    app.refresh("hard")
    app.synced()
    assert not values_in(argocd.cached(each.name), each.revision), "the hard refresh left a value"
    held.let_go()
    other.result()


def undone(argocd, each, app):
    """The values are in the cache, and self-healing brings one back; with the lock it cannot. Then a hard refresh."""
    assert values_in(argocd.cached(each.name), each.revision), "the race was not lost: this story cannot fail"
    app.refresh()
    before, old = each.rotate(10), value(2 if each.name.startswith("lost") else 1)
    if each.is_locked:
        # Self-healing gave up where the lock refused it before; a sync by hand applies the same.
        operation = app.sync()
        assert refused_by_lock(app.get()) and each.same() == before, operation
    else:
        each.holds(old)
        before = each.rotate(11)
        each.holds(old)
    app.refresh("hard")
    app.synced()
    assert not values_in(argocd.cached(each.name), each.revision)
    before = each.rotate(12)
    app.refresh()
    assert each.same() == before
