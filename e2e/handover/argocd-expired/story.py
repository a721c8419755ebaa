import base64
import json
import urllib.request
from datetime import datetime, timedelta

from delivered import Delivered
from stage import PATIENCE, until

WITNESS = "ConfigMap", "regent-authority-prod-1", "kube-system"
# An hour is more than anything takes here.
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def story(stage):
    # So that what etcd keeps can be read and written.
    with Delivered(stage, api=["--storage-media-type=application/json"]) as hand:
        told(hand)


def told(hand):
    app = hand.deployed(3)
    hand.may_refresh("prod")
    words = "--yes", "--config", hand.config(), "--caches-expired"
    refused(hand, words, "`--caches-expired` holds from")
    hand.vault_rules()
    assert hand.cached("prod") == set(hand.revisions)

    ages(hand, DAY - HOUR)
    made = datetime.fromisoformat(hand.cluster.get(*WITNESS).ok()["metadata"]["creationTimestamp"])
    refused(hand, words, f"`--caches-expired` holds from {(made + DAY):%Y-%m-%dT%H:%M:%SZ} on")
    ages(hand, HOUR)
    hand.cluster.delete("ValidatingAdmissionPolicyBinding", "regent-lock-prod", user="breakglass").ok()
    refused(hand, words, "the lock regent-lock-prod is not certainly in force")
    hand.begun("--complete")
    hand.bites()

    hand.handover(*words, says="closed: ")
    message = hand.settled()
    assert "a day has passed since the witness, by this machine's clock" in message and "has to stay until" in message, message
    assert not hand.cached("prod")
    hand.stays(app, 1)
    hand.unlock()
    hand.stays(app, 2)


def refused(hand, words, says):
    hand.handover(*words, ends=7, code="unmirrored", says=says)
    assert hand.settled() is None


def ages(hand, by):
    """The witness, and what is cached."""
    kind, name, namespace = WITNESS
    key = f"/registry/configmaps/{namespace}/{name}"
    thing = json.loads(base64.b64decode(etcd(hand, "range", key=key)["kvs"][0]["value"]))
    made = datetime.fromisoformat(thing["metadata"]["creationTimestamp"]) - by
    thing["metadata"]["creationTimestamp"] = f"{made:%Y-%m-%dT%H:%M:%SZ}"
    etcd(hand, "put", key=key, value=json.dumps(thing))
    until("the API server knows", lambda: hand.cluster.get(*WITNESS).ok()["metadata"]["creationTimestamp"] == thing["metadata"]["creationTimestamp"])
    redis = hand.stage.house.redis
    for key in redis("KEYS", "mfst|*"):
        left = int(redis("PTTL", key))
        assert left > 0, f"{key} is kept for ever"
        redis("PEXPIRE", key, str(left - by // timedelta(milliseconds=1)))


def etcd(hand, what, **fields):
    body = json.dumps({field: base64.b64encode(text.encode()).decode() for field, text in fields.items()}).encode()
    with urllib.request.urlopen(f"http://127.0.0.1:{hand.cluster.etcd_port}/v3/kv/{what}", body, timeout=PATIENCE) as answer:
        return json.loads(answer.read())
