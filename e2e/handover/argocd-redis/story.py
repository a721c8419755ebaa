from applications import NAMESPACE
from delivered import OTHERS, Delivered
from stage import until

BUSY = {"operationState": {"phase": "Running", "startedAt": "2026-01-01T00:00:00Z", "operation": {"sync": {}},
                           "message": "waiting for something that is slow"}}


def story(stage):
    # Soft refreshes each few seconds: who may not ask waits for them.
    with Delivered(stage, "--app-resync", 3, "--app-resync-jitter", 0, "--application-namespaces", "team") as hand:
        told(hand)


def told(hand):
    app = hand.deployed(3)
    # Others of the same root: one that is busy, one that is broken, one elsewhere, and one that is deleted.
    busy, gone = (hand.application(name, policy=None) for name in ("busy", "gone"))
    broken = hand.application("broken", policy=None, project="nowhere")
    hand.elsewhere("far", "team")
    for each in (busy, gone):
        each.wait("compared", lambda it: "reconciledAt" in it.get("status", {}))
    gone.delete()
    busy.patch({"status": BUSY})
    assert hand.cached("prod") == set(hand.revisions) and hand.cached("gone") and hand.cached("team_far")

    redis = f"127.0.0.1:{hand.stage.house.redis_port}"
    config = hand.config(redis=redis)
    # A request that began before: it ends while Argo CD is waited for.
    hand.held.arm()
    slow = OTHERS.submit(hand.argocd.manifests, "prod")
    hand.held.wait()
    killed = hand.begun_settling("--config", config)
    killed.kill()
    assert hand.over(killed)[0] == -9 and hand.settled() is None
    hand.vault_rules()
    OTHERS.submit(lambda: until("it is let go", lambda: hand.held.let_go() or True))
    slow.result()

    # Each is named, and with it what goes on; one that nobody may ask is waited for all the same.
    hand.handover("--yes", "--config", config, "--settle-timeout", 8, ends=7, code="unmirrored",
                  says=["not settled", "argocd/busy: an operation is under way, begun at 2026-01-01T00:00:00Z", "argocd/broken",
                        "this identity may not refresh", "regent refresh", "goes on from here"])
    assert hand.settled() is None and "phase 3" in status(hand)
    skipped = hand.begun_settling("--config", config, "--skip-app", f"{NAMESPACE}/broken")
    hand.refresh("prod", "busy", "team/far")
    busy.patch({"status": {"operationState": {"phase": "Succeeded"}}})
    returned, said = hand.over(skipped)
    assert returned == 0 and f"closed: {hand.authority()['handoverId']}" in said, said
    message = hand.settled()
    assert "left behind: argocd/broken" in message and "removed from Redis" in message, message
    assert "left behind: argocd/broken" in status(hand)
    for name in ("prod", "busy", "gone", "broken", "team_far"):
        assert not hand.cached(name), name

    # Once more: nothing is done.
    before = hand.everything()
    hand.handover("--yes", "--config", config, says="closed: ")
    assert hand.everything() == before
    for each in (busy, broken):
        each.delete()
    hand.cluster.delete("Application", "far", "team").ok()
    hand.stays(app, 1)
    hand.unlock()
    hand.stays(app, 2)
    hand.stays_uncached(app, 4)
    # The one that was deleted, made again: nothing old is waiting for it.
    again = hand.application("gone", policy=None)
    again.wait("compared", lambda it: "reconciledAt" in it.get("status", {}))
    before = hand.rotate(3)
    assert again.sync(revision=hand.revisions[0])["phase"] == "Succeeded" and hand.same() == before


def status(hand):
    return hand.regent("status", hand.place.root, *hand.where)
