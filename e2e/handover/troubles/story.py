"""What stands in a handover's way, told before anything is written: a Vault that is not there, not this one, or not fit; a
token that may too little or too much.
"""

import os
import subprocess

from bao import HANDOVER
from handed import Hand, regent_yaml
from stage import Key, free_port, until


def story(stage):
    hand = Hand(stage)
    tokens(hand)
    environment(hand)
    places(hand, stage)
    memory(hand, stage)
    hand.git_rules()
    assert hand.names() == []
    # Sealed, then not there at all.
    hand.bao.seal()
    hand.handover("--plan", *IMPATIENT, ends=4, code="vault", says="sealed")
    hand.bao.stop()
    hand.handover("--plan", *IMPATIENT, ends=4, code="vault")


# Nobody waits for a failover that will not come.
IMPATIENT = "--vault-patience", "0"


def tokens(hand):
    policies = {
        "update": HANDOVER.replace('"create", "read"', '"create", "read", "update"'),
        "delete": HANDOVER.replace('"create", "read"', '"create", "read", "delete"'),
        "blind": HANDOVER.replace('"create", "read"', '"create"'),
        "copies": "".join(line + "\n" for line in HANDOVER.splitlines() if "authority" not in line),
    }
    says = {"update": "may update", "delete": "may delete", "blind": "", "copies": "regent/prod/authority/1"}
    for name, policy in policies.items():
        hand.bao.policy(name, policy)
        ends, code = (4, "vault") if name == "blind" else (6, "preflight")
        if name == "copies":
            ends, code = 4, "vault"
        hand.handover("--yes", token=hand.bao.token_file(name), ends=ends, code=code, says=says[name])
    root = hand.bao.folder / "root"
    root.write_text(hand.bao.root)
    hand.handover("--yes", token=root, ends=6, code="preflight", says="may root")
    bad = hand.bao.folder / "bad"
    bad.write_text("s.nonsense")
    hand.handover("--yes", token=bad, ends=6, code="vault", says="token")
    hand.git_rules()


def environment(hand):
    """A variable that means another Vault, or an unverified one, stops the run."""
    for variable, value in (("VAULT_ADDR", "https://other.example:8200"), ("BAO_NAMESPACE", "team"), ("VAULT_SKIP_VERIFY", "true"),
                            ("VAULT_SKIP_VERIFY", "perhaps"), ("VAULT_CACERT", "/nowhere")):
        said = hand.handover("--plan", ends=2, code="io" if value == "/nowhere" else "environment", env={variable: value})
        assert variable in said or value == "/nowhere", said
    hand.handover("--plan", env={"VAULT_ADDR": hand.address, "VAULT_NAMESPACE": "", "VAULT_SKIP_VERIFY": "false"})


def places(hand, stage):
    """regent.yaml and the Authority name one place; the mount is a KV store of version 2 that keeps what it gets."""
    there = hand.commit
    hand.bao.mount("old", version="1")
    hand.commit = stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(hand.address, mount="old")})
    hand.handover("--plan", ends=6, code="plan", says=["old/bootstrap/prod", "secret/bootstrap/prod", "--move"])
    # Somebody who has to be able to begin again could not open what is handed over.
    other = Key(stage.folder / "other.txt").recipient
    hand.commit = stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(
        hand.address, f"recipients: {{ root: [{other}], cluster: [{stage.key.recipient}] }}\n")})
    hand.handover("--plan", ends=6, code="preflight", says=["api.yaml", "db.yaml", other])
    hand.commit = there
    hand.bao.done("POST", "secret/config", {"delete_version_after": "1h"})
    hand.bao.policy("config", HANDOVER + 'path "secret/config" { capabilities = ["read"] }\n')
    hand.handover("--yes", token=hand.bao.token_file("config"), ends=6, code="preflight", says="delete_version_after")
    # Who may not look there finds out at the first copy, before the record.
    hand.handover("--yes", ends=6, code="vault", says="delete_version_after")
    hand.bao.done("POST", "secret/config", {"delete_version_after": "0s"})
    assert hand.record() is None
    for name in hand.names():
        hand.bao.done("DELETE", f"secret/metadata/bootstrap/prod/{name}")


def memory(hand, stage):
    """OpenBao's development mode forgets everything."""
    port = free_port()
    folder = stage.folder / "dev"
    folder.mkdir()

    def started():
        with (folder / "log").open("ab") as log:
            child = subprocess.Popen(
                ["bao", "server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root", f"-dev-listen-address=127.0.0.1:{port}"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        children.append(child)
        until("it answers", lambda: subprocess.run(["bao", "status"], env=env, capture_output=True).returncode == 0)
        token.write_text(bao("token", "create", "-policy=handover", "-field=token"))
        bao("policy", "write", "handover", "-", text=HANDOVER)

    def stop():
        for child in children:
            child.kill()
            child.wait()

    def bao(*words, text=None):
        return subprocess.run(["bao", *words], env=env, input=text, check=True, capture_output=True, text=True).stdout
    env = {"HOME": str(folder), "PATH": os.environ["PATH"], "BAO_ADDR": f"http://127.0.0.1:{port}", "BAO_TOKEN": "root"}
    token, root, children = folder / "token", folder / "root", []
    root.write_text("root")
    try:
        started()
        there, hand.where = hand.where, ["--store", stage.folder / "other"]
        commit = hand.commit
        hand.commit = stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(f"http://127.0.0.1:{port}")})
        hand.init()
        hand.handover("--plan", token=root, ends=6, code="preflight", says="--allow-ephemeral-storage")
        hand.handover("--plan", "--allow-ephemeral-storage", token=root, ends=6, code="preflight", says="may root")
        hand.handover("--yes", "--allow-ephemeral-storage", token=token, says="rules")
        # Started again it is empty, and another Vault at the same address. Git does not come back.
        stop()
        started()
        hand.handover("--yes", "--allow-ephemeral-storage", token=token, ends=5, code="lost", says="regent rebootstrap")
        assert not any(hand.rendered().values())
        hand.where, hand.commit = there, commit
        stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(hand.address)})
    finally:
        stop()
