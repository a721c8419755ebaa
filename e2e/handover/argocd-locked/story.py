from authority import refused_by_lock
from delivered import Delivered


def story(stage):
    hand = Delivered(stage)
    told(hand)
    hand.close()


def told(hand):
    app = hand.application("prod")
    app.synced()
    hand.change(2)
    app.refresh()
    app.synced()
    hand.may_refresh("prod")
    # Nobody can reach what is cached: the lock has to hold, for a day, and that day is not over.
    config = hand.config()
    hand.handover("--yes", "--config", config, "--caches-expired", ends=7, code="unmirrored", says="`--caches-expired` holds from")
    hand.vault_rules()
    assert hand.settled() is None
    hand.handover("--yes", "--config", config, says="closed: ")
    assert "the lock regent-lock-prod, which has to stay until" in hand.settled()
    assert hand.cached("prod") == {hand.revisions[0]}
    before = hand.rotate(1)
    for go in (lambda: app.sync(revision=hand.revisions[0]), lambda: app.rollback(hand.revisions[0])):
        operation = go()
        assert refused_by_lock(app.get()), operation
        assert hand.same() == before
