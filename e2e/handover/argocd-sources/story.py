import time

from delivered import OTHERS, Delivered
from stage import config_map


class Sources(Delivered):
    def sources(self):
        repo = f"file://{self.stage.repo.folder}"
        return [{"repoURL": repo, "path": "plain", "targetRevision": "base"},
                {"repoURL": repo, "path": "clusters/prod", "targetRevision": "main", "plugin": {"name": f"{self.stage.name}-held"}}]

    def at(self, revision):
        return {"revisions": [self.base, revision]}


def story(stage):
    with Sources(stage) as hand:
        told(hand)


def told(hand):
    app = hand.deployed(1)
    hand.base = hand.stage.repo.commit({"plain/settings.yaml": config_map("settings")})
    hand.stage.repo.git("branch", "base")
    hand.revisions.append(hand.base)
    app.patch({"spec": {"source": None, "sources": hand.sources()}})
    app.refresh()
    app.wait("both sources are deployed", lambda it: it["status"]["history"][-1].get("revisions") == [hand.base, hand.base])
    for number in (2, 3):
        hand.change(number)
        app.refresh()
        app.synced()
    assert [each.get("revisions", each.get("revision")) for each in app.get()["status"]["history"]] == [
        hand.revisions[0], *([hand.base, revision] for revision in hand.revisions[1:])]
    assert hand.cached("prod") == set(hand.revisions)

    hand.may_refresh("prod")
    config = hand.config(server={"address": f"127.0.0.1:{hand.argocd.api}", "plaintext": True})
    hand.handover("--plan", "--config", config)
    hand.held.arm()
    slow = OTHERS.submit(hand.argocd.manifests, "prod")
    hand.held.wait()
    child = hand.begun_settling("--config", config)
    time.sleep(1)
    hand.held.let_go()
    slow.result()
    returned, said = hand.over(child)
    assert returned == 0 and "closed: " in said, said
    assert f"{len(hand.revisions)} known revisions were overwritten through argocd-server" in hand.settled()
    assert not hand.cached("prod")
    hand.stays(app, 1)
    hand.unlock()
    hand.stays(app, 2)
