"""After the handover: an older backup of Vault, another Vault, a mount made again, a record that was touched, another tree.
Authority stays where it is, nothing is copied a second time, and a person is told what the matter is.
"""

import json

from bao import Bao
from handed import SECRETS, Hand, regent_yaml


def story(stage):
    hand = Hand(stage)
    before = hand.bao.snapshot()
    hand.handover("--yes")
    handover = hand.vault_rules()
    after = hand.bao.snapshot()
    versions = hand.versions()
    # The backup from before: lost. Not one copy is made, whoever asks.
    hand.bao.restore(before)
    hand.handover("--yes", ends=5, code="lost", says=["authority is lost", "rebootstrap"])
    hand.handover("--yes", "--adopt", handover, ends=5, code="lost")
    assert hand.names() == [] and hand.record() is None
    assert not any(hand.rendered().values())
    # The newer one: nothing to do.
    hand.bao.restore(after)
    hand.handover("--yes", says=handover)
    assert hand.versions() == versions
    replaced(hand, stage)
    touched(hand, after)
    remounted(hand)
    hand.bao.stop()


def replaced(hand, stage):
    """A second authority store of the same name hands over to another Vault; that one is put in the place of ours."""
    other = Bao(stage, "other")
    there, hand.where = hand.where, ["--store", stage.folder / "store-2"]
    commit, bao, token = hand.commit, hand.bao, hand.token
    hand.bao = other
    other.policy("handover", "".join(f'path "secret/{of}/*" {{ capabilities = ["create", "read"] }}\n' for of in ("data", "metadata")))
    hand.token = other.token_file("handover")
    hand.commit = stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(other.address)})
    hand.init()
    hand.handover("--yes")
    snapshot = other.snapshot()
    hand.where, hand.commit, hand.bao, hand.token = there, commit, bao, token
    stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(hand.address)})
    mine = bao.snapshot()
    key, root = bao.key, bao.root
    bao.restore(snapshot, key=other.key)
    bao.root = other.root
    token = bao.token_file("handover")
    said = hand.handover("--yes", token=token, ends=5, code="replaced")
    assert "handover" in said
    bao.restore(mine, key=key)
    bao.root = root
    hand.handover("--yes")
    other.stop()


def touched(hand, good):
    """A record that was deleted, destroyed, written again, forged."""
    path = "regent/prod/authority/1"
    record = hand.record()
    hand.bao.done("POST", f"secret/delete/{path}", {"versions": [1]})
    hand.handover("--yes", ends=5, code="record", says="deleted")
    hand.bao.done("POST", f"secret/undelete/{path}", {"versions": [1]})
    hand.handover("--yes")
    hand.bao.put(path, record)
    hand.handover("--yes", ends=5, code="record", says="version 2")
    hand.bao.restore(good)
    for forged in ({**record, "schema": "2"}, {**record, "more": "x"}, {key: text for key, text in record.items() if key != "records"},
                   {**record, "epoch": "2"}, {"handoverId": record["handoverId"]}):
        hand.bao.done("DELETE", f"secret/metadata/{path}")
        hand.bao.put(path, forged)
        hand.handover("--yes", ends=4, code="vault", says=path)
    hand.bao.done("DELETE", f"secret/metadata/{path}")
    other = {**record, "handoverId": "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f"}
    hand.bao.put(path, other)
    hand.handover("--yes", ends=5, code="replaced", says=other["handoverId"])
    hand.bao.restore(good)
    hand.vault_rules()


def remounted(hand):
    """The mount, disabled and made again with everything put back by hand, is another one until a person says so, once."""
    copies, record = hand.copies(), hand.record()
    hand.bao.done("DELETE", "sys/mounts/secret")
    hand.bao.mount("secret")
    hand.handover("--yes", ends=5, code="lost")
    for name, fields in copies.items():
        hand.bao.put(f"bootstrap/prod/{name}", fields)
    hand.bao.put("regent/prod/authority/1", record)
    hand.handover("--yes", ends=5, code="other-place", says=["--accept-vault-identity", "mount"])
    hand.handover("--yes", "--accept-vault-identity")
    hand.handover("--yes")
    assert hand.bao.fields("regent/prod/authority/1/rebind-1")["handoverId"] == record["handoverId"]
    assert hand.record() == record
    assert json.dumps(hand.copies()) == json.dumps({f"app/{name}": values for name, values in sorted(SECRETS.items())})
