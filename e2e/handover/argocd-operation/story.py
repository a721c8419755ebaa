from applications import NAMESPACE, REFRESH, fetch
from authority import refused_by_lock
from delivered import OTHERS, Delivered
from stage import config_map, until

# The sync that comes of it does not end by itself.
ASKED = {"metadata": {"annotations": {REFRESH: "normal"}}}


def story(stage):
    with Delivered(stage) as hand:
        told(hand)


def told(hand):
    app = hand.deployed(1)
    # Older values, whose sync waits for a hook.
    hand.stage.repo.write({"clusters/prod/first.yaml": hook("first")})
    hand.change(2)
    app.patch(ASKED)
    ends(hand, "first")
    app.synced()
    slow = hand.commit
    hand.stage.repo.write({"clusters/prod/first.yaml": None})
    hand.change(3)
    app.refresh()
    app.synced()
    old = hand.application("old", policy=None)
    old.wait("compared", lambda it: "reconciledAt" in it.get("status", {}))
    # What is encrypted stays as it is.
    hand.commit = hand.stage.repo.commit({"clusters/prod/second.yaml": hook("second"),
                                          "clusters/prod/settings.yaml": config_map("settings")})
    app.patch(ASKED)
    old.operate({"sync": {"revision": slow}})
    began = {each.name: waits(each, name) for each, name in ((app, "second"), (old, "first"))}

    hand.may_refresh("prod", "old")
    config = hand.config(redis=f"127.0.0.1:{hand.stage.house.redis_port}")
    named = [f"argocd/{name}: an operation is under way, begun at {at}" for name, at in began.items()]
    for _ in range(2):
        hand.handover("--yes", "--config", config, "--settle-timeout", 12, ends=7, code="unmirrored", says=["not settled", *named])
        hand.vault_rules()
        assert hand.settled() is None
    assert {each.name: waits(each, name) for each, name in ((app, "second"), (old, "first"))} == began, "it did not last"
    before = hand.rotate(1)
    settling = hand.begun_settling("--config", config)
    # What it had in hand is refused, and so would be what the next one has.
    ends(hand, "first")
    over(old)
    assert refused_by_lock(old.get()) and hand.same() == before, old.get()["status"]
    old.operate({"sync": {"revision": slow}})
    waits(old, "first")
    terminated(hand, "old")
    assert over(old)["phase"] == "Failed" and hand.same() == before
    assert settling.poll() is None and hand.settled() is None
    # Stubs are in this one's hand by now.
    ends(hand, "second")
    assert over(app)["phase"] == "Succeeded" and hand.same() == before
    returned, said = hand.over(settling)
    assert returned == 0 and f"closed: {hand.authority()['handoverId']}" in said, said
    assert '"waiting":"argocd/old","for":["an operation is under way' in said and "left behind" not in hand.settled(), said
    assert hand.same() == before and not hand.cached("prod") and not hand.cached("old")

    hand.unlock()
    before = hand.rotate(2)
    app.patch({"spec": {"syncPolicy": None}})
    for each in (app, old):
        ended = OTHERS.submit(ends, hand, "first")
        operation = each.sync(revision=slow)
        ended.result()
        assert operation["phase"] == "Succeeded", operation
        assert hand.same() == before, each.name
    # Without hooks, as a rollback is.
    assert app.rollback(slow)["phase"] == "Succeeded" and hand.same() == before


def hook(name):
    """A pod before the sync; nobody runs it."""
    return (f"apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  namespace: app\n  annotations:\n"
            "    argocd.argoproj.io/hook: PreSync\n"
            "spec:\n  restartPolicy: Never\n  containers: [{ name: one, image: none.example/none }]\n")


def waits(app, name):
    """The sync stands before its hook; when it began."""
    state = app.wait("it waits for its hook", lambda it: it.get("status", {}).get("operationState", {}).get("phase") == "Running"
                     and f"Pod/{name}" in it["status"]["operationState"].get("message", ""))["status"]["operationState"]
    return state["startedAt"]


def ends(hand, name):
    """As if a kubelet had run it. One of an earlier sync is deleted first."""
    path = f"/api/v1/namespaces/app/pods/{name}"

    def ended():
        pod = hand.cluster.request("GET", path)
        if pod.status == 404 or pod.ok()["status"].get("phase") == "Succeeded":
            return False
        patch = {"metadata": {"uid": pod.body["metadata"]["uid"]}, "status": {"phase": "Succeeded"}}
        return hand.cluster.request("PATCH", f"{path}/status", patch, content="application/merge-patch+json").status == 200
    until(f"the hook {name} ended", ended)


def over(app):
    return app.wait("the operation is over", lambda it: "operation" not in it
                    and it["status"]["operationState"]["phase"] not in ("Running", "Terminating"))["status"]["operationState"]


def terminated(hand, name):
    """By a person, through argocd-server."""
    assert fetch(hand.argocd.api, f"/api/v1/applications/{name}/operation?appNamespace={NAMESPACE}", "DELETE")[0] == 200
