from datetime import datetime

from applications import AUTOMATED, ArgoCD
from authority import begin, refused_by_lock, rotated, value, values_in

HARD = 30  # seconds, in which no busy machine gets to no refresh


def story(stage):
    cluster = stage.cluster()
    # Soft refreshes each second, and hard ones each thirty: those never come, because each refresh begins the time anew.
    argocd = ArgoCD(stage, cluster, "--app-resync", 1, "--app-hard-resync", HARD, "--app-resync-jitter", 0)
    door, bare, locked = begin(stage, cluster, ["bare", "locked"])
    apps = {each: argocd.application(each.name, each.root, policy=AUTOMATED, namespace=each.name)
            for each in (bare, locked)}
    revisions = []
    for number in (1, 2, 3):
        for each in apps:
            revision = each.change(number)
        revisions.append(revision)
        for each, app in apps.items():
            app.refresh()
            app.synced()
            each.holds(value(number))
    for each in apps:
        each.hand_over()
        each.lock(stays=each is locked)
    asked = door.answered()
    since = {each: app.get()["status"]["reconciledAt"] for each, app in apps.items()}
    for each, app in apps.items():
        unnoticed(argocd, each, app, since[each], revisions[-1])
    assert door.answered() == asked, "the plugin was asked without a hard refresh"
    for each, app in apps.items():
        undone(each, app, is_locked=each is locked)
    for each, app in apps.items():
        app.refresh("hard")
        app.synced()
        assert not values_in(argocd.cached(each.name), revisions[-1]), "a hard refresh left a value"
        before = each.rotate(20)
        app.refresh()
        assert each.same() == before and app.rows()["Secret", "db"].get("status") is None
        for number, revision in enumerate(revisions[:-1], 1):
            assert values_in(argocd.cached(each.name), revision), "the older revision is clean: this story cannot fail"
            for go in (lambda: app.rollback(revision), lambda: app.sync(revision=revision),
                       lambda: app.sync(revision=revision, options=["Replace=true"], force=True)):
                back(each, app, number, go, is_locked=each is locked)


def unnoticed(argocd, each, app, since, revision):
    """The time of a hard refresh and a soft one later Argo CD still has the values."""
    app.wait("refreshed by its timer, again and again", lambda it: later(it["status"]["reconciledAt"], since) >= HARD + 2)
    app.refresh()
    assert values_in(argocd.cached(each.name), revision), "it noticed"


def undone(each, app, is_locked):
    """Vault's operator writes a value, and self-healing brings the old one back; with the lock it cannot."""
    before = each.rotate(10)
    if is_locked:
        app.wait("self-healing was refused", refused_by_lock)
        assert each.same() == before
    else:
        each.holds(value(3))


def back(each, app, number, go, is_locked):
    """To an older revision: with its value, unless there is the lock."""
    before = each.rotate(30)
    operation = go()
    if is_locked:
        assert refused_by_lock(app.get()), operation
        assert each.same() == before
    else:
        assert operation["phase"] == "Succeeded", operation
        each.holds(value(number))
        assert rotated(30) != value(number)


def later(now, then):
    return (datetime.fromisoformat(now) - datetime.fromisoformat(then)).total_seconds()
