import subprocess
import uuid

from bao import Bao
from clustered import ACCOUNT, AS, Clustered
from handed import SECRETS
from proxy import Proxy

RECORD = "/v1/secret/data/regent/prod/authority/1"


def story(stage):
    bao = Bao(stage)
    cluster = stage.cluster()
    with Proxy(bao) as proxy:
        hand = Clustered(stage, cluster, bao=bao, address=proxy.address)
        proxy.does = lambda number, method, path: cluster.stop_apiserver() if (method, path) == ("POST", RECORD) else None
        hand.handover("--yes", by=[*hand.where, *AS], ends=7, code="unmirrored", says="recorded, not mirrored")
        proxy.does = lambda number, method, path: None
        assert hand.record()
        versions = hand.versions()
        assert set(versions.values()) == {1}, versions
        # Nobody can be asked who rules.
        hand.handover("--yes", ends=4, code="cluster")
        cluster.start_apiserver()
        assert hand.authority()["authority"] == "git" and hand.config_map() is None
        hand.handover("--plan", says=["recorded, not mirrored", hand.record()["handoverId"]])
        replaced(hand)
        changed(hand)
        half(hand)
        another_machine(hand)
        handover = hand.vault_rules()
        hand.bites()
        assert hand.versions() == versions and hand.copies() == {f"app/{name}": values for name, values in SECRETS.items()}
        hand.mirrored("--yes")
        assert hand.vault_rules() == handover and hand.versions() == versions
    bao.stop()


def replaced(hand):
    """The ConfigMap of another handover is in the way."""
    hand.foreign(str(uuid.uuid4()))
    hand.refused("--yes", ends=5, code="replaced")
    hand.forgotten()


def changed(hand):
    """Git has moved on: the revision of the record completes it, and is named."""
    later = hand.stage.repo.commit({"clusters/prod/api.yaml": None})
    hand.refused("--yes", revision=later, ends=7, code="unmirrored", says=f"--revision {hand.commit}")
    hand.stage.repo.git("checkout", "--quiet", hand.commit, "--", "clusters")
    hand.stage.repo.commit()


def half(hand):
    """The ConfigMap is written, and the Authority refused."""
    cluster = hand.cluster
    assert cluster.get("ClusterRole", ACCOUNT).ok()["rules"][0]["resources"] == ["authorities"]
    only_get = [{"op": "replace", "path": "/rules/0/verbs", "value": ["get"]}]
    cluster.patch("ClusterRole", ACCOUNT, None, only_get, "json").ok()
    hand.handover("--yes", ends=7, code="unmirrored", says=["recorded, not mirrored", "authorities"])
    assert hand.config_map() and hand.authority()["authority"] == "git"
    # That is enough for every front door, and not for the lock.
    assert not any(hand.rendered().values())
    said = hand.regent("status", hand.place.root, *hand.where)
    assert said.startswith("recorded, not mirrored: handover "), said
    assert "the Authority still says git" in said.splitlines()[0], said
    hand.regent("status", hand.place.root, *hand.where, "--exit-code", ends=7, says="recorded, not mirrored")
    hand.begun("--complete")


def another_machine(hand):
    home = hand.stage.folder / "elsewhere"
    home.mkdir()
    hand.repo = hand.stage.folder / "clone"
    subprocess.run(["git", "clone", "--quiet", hand.stage.repo.folder, hand.repo], check=True, env=hand.stage.house.env)
    said = hand.mirrored("--yes", env={"HOME": str(home)})
    assert "mirrored   Vault rules epoch 1" in said and not list(home.iterdir()), said
