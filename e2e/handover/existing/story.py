"""What Vault holds already: the same is fine, another value stops until a person says whose stands, a deleted one stops."""

import os
import re
import subprocess

from bao import HANDOVER
from handed import SECRETS, Hand, regent_yaml


def decided(hand, stage, names):
    hand.commit = stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(
        hand.address, f"handover: {{ acceptExisting: [{', '.join(names)}] }}\n")})


def removed(hand):
    """Git is right: what the stop prints, typed by a Vault administrator, and the command goes on. All of it in another root."""
    there = hand.name, hand.commit, hand.token
    hand.another("test")
    hand.bao.policy("test", HANDOVER.replace("prod", "test"))
    hand.token = hand.bao.token_file("test")
    for name in SECRETS:
        hand.bao.put(f"bootstrap/test/app/{name}", {"of": "another"})
    said = hand.handover("--yes", ends=6, code="conflict", says="`handover.acceptExisting` of regent.yaml: `[app/api, app/db]`")
    printed = re.findall("^  (bao .*)$", said, re.M)
    assert len(printed) == 2, said
    for command in printed:
        done = subprocess.run(["bash", "-euc", command], capture_output=True, env={
            "PATH": os.environ["PATH"], "HOME": str(hand.stage.folder), "BAO_ADDR": hand.bao.address, "BAO_TOKEN": hand.bao.root,
            "BAO_CACERT": str(hand.bao.ca)})
        assert done.returncode == 0, done.stderr
    hand.handover("--yes")
    for name, values in SECRETS.items():
        assert hand.versioned(f"bootstrap/test/app/{name}") == (1, values)
    hand.name, hand.commit, hand.token = there


def story(stage):
    hand = Hand(stage)
    hand.bao.put("bootstrap/prod/app/db", SECRETS["db"])
    hand.bao.put("bootstrap/prod/app/api", {"token": "rotated"})
    states = {entry["name"]: entry["state"] for entry in hand.plan(ends=6, code="conflict")["documents"]}
    assert states == {"app/db": "equal", "app/api": "differs"}, states
    before = hand.versions()
    hand.handover("--yes", ends=6, code="conflict", says=["app/api", "handover.acceptExisting"])
    # One that only has more keys differs, too.
    hand.bao.put("bootstrap/prod/app/db", {**SECRETS["db"], "more": "x"})
    hand.handover("--yes", ends=6, code="conflict", says="app/api, app/db")
    hand.bao.put("bootstrap/prod/app/db", SECRETS["db"])
    removed(hand)
    # Deleted, and destroyed: nobody but a Vault administrator.
    decided(hand, stage, ["app/api"])
    for end in ("delete", "destroy"):
        hand.bao.done("POST", f"secret/{end}/bootstrap/prod/app/api", {"versions": [1]})
        hand.handover("--yes", ends=6, code="conflict", says=["app/api", "deleted"])
    hand.git_rules()
    hand.bao.put("bootstrap/prod/app/api", {"token": "rotated again"})
    hand.handover("--plan", says="Vault's stands")
    hand.handover("--yes")
    hand.vault_rules()
    assert hand.copies() == {"app/db": SECRETS["db"], "app/api": {"token": "rotated again"}}
    # db was written three times and api twice, by others; what was recorded is what stood there.
    assert hand.versions() == {"bootstrap/prod/app/db": 3, "bootstrap/prod/app/api": 2, "regent/prod/authority/1": 1}
    assert '["app/api",2,' in hand.record()["records"] and before["regent/prod/authority/1"] == 0
    hand.bao.stop()
