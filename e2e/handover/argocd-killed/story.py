from delivered import Delivered
from killed import WAYS, Killing
from stage import CANARY


def story(stage):
    with Delivered(stage) as hand:
        told(hand)


def told(hand):
    app = hand.deployed(2)
    hand.may_refresh("prod")
    hand.expected["app/db"] = 1, {"password": f"{CANARY}-db-2"}
    config = hand.config(redis=f"127.0.0.1:{hand.stage.house.redis_port}")
    before = hand.same()
    with Killing(hand.cluster) as killing:
        def handing():
            return killing.handing(hand, "--config", config)

        for kind, is_it in KINDS.items():
            for way in WAYS:
                ended, said = killing.run(hand, handing(), is_it, way)
                assert ended == -9, (kind, way, ended, said, killing.writes)
                assert hand.same() == before
                ruled = (kind, way) != ("witness", "before")
                assert bool(hand.config_map()) == ruled and all(bool(data) != ruled for data in hand.rendered().values())
                assert set(hand.versions().values()) == {1}, hand.versions()
                assert bool(hand.settled()) == ((kind, way) == ("settled", "after")), (kind, way)
        ended, said = killing.run(hand, handing())
        assert ended == 0 and "closed: " in said and not killing.writes, (said, killing.writes)
    hand.handed_over()
    assert hand.same() == before and not hand.cached("prod")
    hand.stays(app, 1)
    hand.unlock()
    hand.stays(app, 2)


def status(path):
    return path.endswith("/authorities/prod/status")


def refreshes(path):
    return path.endswith("/applications/prod")


# Which write is meant, by the paths of all that a run came to, and what it sends. What is disarmed is not asked of the plugin again.
KINDS = {
    "witness": lambda paths, body: paths[-1].endswith("/configmaps/regent-authority-prod-1"),
    "authority": lambda paths, body: paths[-1].endswith("/authorities/prod"),
    "settling": lambda paths, body: status(paths[-1]),
    "refresh": lambda paths, body: refreshes(paths[-1]) and b'"hard"' in body,
    "refresh of what is disarmed": lambda paths, body: refreshes(paths[-1]) and b'"normal"' in body,
    "settled": lambda paths, body: status(paths[-1]) and b'"settled":' in body,
}
