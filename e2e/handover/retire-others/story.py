import json

import sidecar
from applications import NAMESPACE
from clustered import Clustered
from sidecar import FOLDER, KEYS
from stage import GUARDS, bootstrap

EDGE = {"authority": "edge", "bootstrap": "clusters/edge/regent.yaml", "identities": [FOLDER]}


def story(stage):
    cluster = stage.cluster()
    hand = Clustered(stage, cluster)
    cluster.account(NAMESPACE, "argocd-repo-server")
    sidecar.beside(stage, cluster, stage.rule(**EDGE))
    stage.repo.commit({"clusters/edge/regent.yaml": bootstrap("edge")})
    hand.regent("init", stage.repo.folder / "clusters/edge", *hand.where, "--no-vault-yet", "--yes")
    edge = cluster.get("Authority", "edge").ok()

    # By an administrator, who may look at all of it.
    hand.mirrored("--yes")
    hand.handover("--yes", "--retire-keys", by=hand.where, ends=1, code="retire", says=["`edge`, which is not settled", KEYS])
    assert sidecar.mounted(cluster)
    # Whoever may not know is told that, too.
    hand.handover("--yes", "--retire-keys", ends=1, code="forbidden")
    assert "which regent does not see" in retire(hand, ends=7) and not retire(hand, "--manifests").count("kind:")

    live = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "app", "annotations": {
        "argocd.argoproj.io/sync-options": "Replace=true"}}}
    cluster.apply([live])
    offered = []
    while todo := [each for each in steps(hand) if each["state"] == "to do"]:
        step, = todo
        offered.append(step["step"])
        assert len(offered) < 12, offered
        for command in step["commands"]:
            sidecar.typed(hand, command)
    assert offered == ["closed", "guards", "lock", "accounts", "witnesses"], offered
    annotations = cluster.get("Secret", "db", "app").ok()["metadata"]["annotations"]
    assert annotations.items() >= {**GUARDS, "argocd.argoproj.io/sync-options": "Prune=false,Delete=false,Replace=true"}.items(), annotations
    stays = {each["step"]: each["why"] for each in steps(hand) if each["state"] == "stays"}
    assert set(stays) == {"keys", "sidecar", "policies", "crd", "namespace"}, stays
    assert all("edge" in stays[each] for each in ("keys", "sidecar", "policies", "crd", "namespace")), stays
    assert cluster.get("Authority", "prod").status == 404 and sidecar.mounted(cluster)
    now = cluster.get("Authority", "edge").ok()
    assert (now["spec"], now["metadata"]["uid"]) == (edge["spec"], edge["metadata"]["uid"])
    # Without `closed` nobody knows that it was ever handed over.
    stage.repo.git("revert", "--no-edit", "HEAD")
    retire(hand, ends=4, code="P5", says="no authority")
    hand.bao.stop()


def retire(hand, *words, **kwargs):
    return hand.regent("retire", "--repo", hand.stage.repo.folder, "--revision", "main", "--path", "clusters/prod", *hand.where,
                       *words, **kwargs)


def steps(hand):
    ends = 7 if hand.cluster.get("Authority", "prod").status == 200 else 0
    return json.loads(retire(hand, "-o", "json", ends=ends))["steps"]
