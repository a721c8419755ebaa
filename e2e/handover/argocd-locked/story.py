import time

from authority import refused_by_lock
from delivered import LIMITS, Delivered
from killed import Killing


def story(stage):
    with Delivered(stage) as hand:
        told(hand)


def told(hand):
    app = hand.deployed(2)
    hand.may_refresh("prod")
    # Nobody can reach what is cached: the lock has to hold, for a day, and that day is not over.
    config = hand.config()
    hand.handover("--yes", "--config", config, "--caches-expired", ends=7, code="unmirrored", says="`--caches-expired` holds from")
    hand.vault_rules()
    assert hand.settled() is None
    quiet(hand, config)
    assert "the lock regent-lock-prod, which has to stay until" in hand.settled()
    assert hand.cached("prod") == {hand.revisions[0]}
    before = hand.rotate(1)
    for go in (lambda: app.sync(revision=hand.revisions[0]), lambda: app.rollback(hand.revisions[0])):
        operation = go()
        assert refused_by_lock(app.get()), operation
        assert hand.same() == before


def quiet(hand, config):
    """Nothing is noted for as long as a request to the plugin may take, and five seconds more. What a person did without is kept."""
    with Killing(hand.cluster) as killing:
        began = time.monotonic()
        ended, said = killing.run(hand, killing.handing(hand, "--config", config, "--settle-without", "operations"))
        assert ended == 0 and "closed: " in said, said
        _, path = killing.writes[-1]
        assert path.endswith("/authorities/prod/status"), killing.writes
        assert killing.times[-1] - began >= int(LIMITS["request"].removesuffix("s")) + 5, killing.times
    for _ in range(2):
        hand.regent("status", hand.place.root, *hand.where, says="without operations")
        # Once more, with nothing done without: it is settled.
        hand.handover("--yes", "--config", config, says="closed: ")
