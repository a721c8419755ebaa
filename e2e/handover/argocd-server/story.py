import time

from delivered import OTHERS, Delivered


def story(stage):
    with Delivered(stage) as hand:
        told(hand)


def told(hand):
    app = hand.deployed(3)
    assert hand.cached("prod") == set(hand.revisions)
    hand.may_refresh("prod")
    config = hand.config(server={"address": f"127.0.0.1:{hand.argocd.api}", "plaintext": True})
    hand.held.arm()
    slow = OTHERS.submit(hand.argocd.manifests, "prod")
    hand.held.wait()
    child = hand.begun_settling("--config", config)
    time.sleep(1)
    hand.held.let_go()
    slow.result()
    returned, said = hand.over(child)
    assert returned == 0 and "closed: " in said, said
    message = hand.settled()
    assert "overwritten through argocd-server" in message, message
    assert not hand.cached("prod")
    hand.stays(app, 1)
    hand.unlock()
    hand.stays(app, 2)
