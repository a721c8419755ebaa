import json
import shutil
import uuid

from bao import Bao
from clustered import Clustered, serve
from handed import SECRETS, Hand, regent_yaml
from stage import CANARY, Sealed, stub

ROTATED = {"password": "rotated", "user": "app"}
MORE = "secrets: { kinds: [ConfigMap], permanent: [{ name: app/api }] }\n"


def story(stage):
    hand = Clustered(stage, stage.cluster(), more=MORE)
    hand.mirrored("--yes")
    handover = hand.vault_rules()
    imported(hand)
    hand.bao.put("bootstrap/prod/app/db", ROTATED)
    versions = hand.versions()
    # From nothing, at the same address.
    hand.cluster.restore()
    hand.installed()
    refused(hand, handover)
    begun(hand, handover)
    not_new(hand, handover)
    assert hand.versions() == versions and hand.copies()["app/db"] == ROTATED
    hand.bao.stop()
    hand.cluster.close()
    in_a_folder(stage)


def imported(hand):
    """A document that came after the handover."""
    thing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map", "namespace": "app"}, "data": {"k": f"{CANARY}-map"}}
    hand.commit = hand.stage.repo.commit({"clusters/prod/map.yaml": Sealed(json.dumps(thing))})
    hand.where, there = hand.account, hand.where
    hand.regent("import", "app/map", "--kind", "ConfigMap", *hand.handover_words("--yes")[1:], says="imported/1")
    hand.where = there


def from_vault(hand, *words, **kwargs):
    root = hand.stage.repo.folder / "clusters/prod"
    return hand.regent("init", root, *hand.where, "--from-vault", "--vault-token-file", hand.token, *words, **kwargs)


def nothing(hand, *words, **kwargs):
    """Told, and nothing was written."""
    before = hand.everything()
    said = from_vault(hand, *words, **kwargs)
    assert hand.everything() == before, "something was written"
    return said


def refused(hand, handover):
    hand.begun("--vault-token-file", hand.token, ends=1, code="exists", says=handover)
    nothing(hand, "--yes", ends=5, code="other-place", says=[hand.cluster.uid(), f"--adopt {handover}"])
    nothing(hand, "--yes", "--adopt", str(uuid.uuid4()), ends=5, code="other-place", says=f"--adopt {handover}")
    nothing(hand, "--adopt", handover, ends=2, code="usage")
    nothing(hand, "--adopt", handover, "--dry-run", says=["found      none", f"will say   vault(1, {handover})"])


def begun(hand, handover):
    uid, record = hand.cluster.uid(), hand.record()
    from_vault(hand, "--yes", "--adopt", handover, says=[f"by handover {handover}: 3 documents", "restore`: app/api"])
    hand.connected()
    assert hand.vault_rules() == handover and hand.record() == record
    status = hand.cluster.get("Authority", "prod").ok()["status"]
    assert status["settled"] == {"epoch": 1, "handoverId": handover}, status
    assert [document["name"] for document in status["imported"].values()] == ["app/map"], status
    assert ("Settled", "True") in [(each["type"], each["status"]) for each in status["conditions"]], status
    appended = hand.bao.fields(f"regent/prod/authority/1/adopted/{uid}")
    assert (appended["handoverId"], appended["targetKubeUid"]) == (handover, uid), appended
    # The first answer of a front door, to its first request.
    door = serve(hand)
    config_map = {**stub("map"), "kind": "ConfigMap"}
    # What the lock is about are Secrets.
    del config_map["metadata"]["labels"]
    hand.stage.render([*[stub(name) for name in SECRETS], config_map])
    door.stop()
    assert hand.cluster.get("Secret", "api", "app").status == 404
    hand.regent("restore", "app/api", hand.place.root, "-i", hand.stage.key.file, *hand.where, "--vault-token-file", hand.token)
    assert hand.cluster.get("Secret", "api", "app").ok()["data"]
    hand.bites()
    before = hand.everything()
    hand.handover("--yes", says=handover)
    from_vault(hand, "--yes", says=handover)
    assert hand.everything() == before, "what was complete was written again"


def not_new(hand, handover):
    """Witnesses that were deleted in a cluster that lives come back; what it may hold of before is not known."""
    hand.cluster.delete("Authority", "prod", user="breakglass").ok()
    from_vault(hand, "--yes", ends=7, code="unmirrored", says="`regent handover` with this root settles it")
    assert hand.vault_rules() == handover
    hand.cluster.delete("Authority", "prod", user="breakglass").ok()
    hand.forgotten()
    from_vault(hand, "--yes", ends=7, code="unmirrored", says="`regent handover` with this root settles it")
    assert hand.vault_rules() == handover
    assert "settled" not in hand.cluster.get("Authority", "prod").ok()["status"]
    hand.bites()


class InFolder(Hand):
    def everything(self):
        return self.versions(), sorted(self.stage.store.rglob("*")) if self.stage.store.exists() else None


def in_a_folder(stage):
    stage.repo.commit({"clusters/prod/map.yaml": None})
    hand = InFolder(stage, Bao(stage, "folder"))
    early = hand.bao.snapshot()
    # Git rules here, and nobody jumps over that.
    nothing(hand, "--yes", ends=1, code="exists", says="git(1)")
    hand.handover("--yes")
    handover = hand.vault_rules()
    late = hand.bao.snapshot()
    shutil.rmtree(stage.store)
    hand.bao.restore(early)
    nothing(hand, "--yes", ends=4, code="P5", says="holds no handover record of epoch 1")
    hand.bao.restore(late)
    # A revision from before a later handover, and another root.
    hand.bao.put("regent/prod/authority/2", {"later": "yes"})
    nothing(hand, "--yes", ends=1, code="preflight")
    hand.bao.done("DELETE", "secret/metadata/regent/prod/authority/2")
    stage.repo.commit({"clusters/copy/regent.yaml": regent_yaml(hand.address)})
    hand.regent("init", stage.repo.folder / "clusters/copy", *hand.where, "--from-vault", "--vault-token-file", hand.token, "--yes",
                ends=5, code="other-place")
    # A copy is gone: whose value would stand?
    hand.bao.done("DELETE", "secret/metadata/bootstrap/prod/app/db")
    nothing(hand, "--yes", ends=5, code="record", says="app/db")
    hand.bao.restore(late)
    from_vault(hand, "--yes", says=handover)
    assert hand.handed_over() == handover
    assert json.loads((stage.store / "prod/status.json").read_text())["settled"] == {"epoch": 1, "handoverId": handover}
    hand.handover("--yes", says=handover)
    from_vault(hand, "--yes", says=handover)
    # Vault is an older one now.
    hand.bao.restore(early)
    nothing(hand, "--yes", ends=5, code="lost")
    hand.bao.stop()
