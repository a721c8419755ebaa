"""`regent verify` beside a store in a folder: what is fine, and each thing that is not, told with its code; Vault is only read,
and one heartbeat counted.
"""

import shutil

from handed import CANARY, SECRETS, Hand
from stage import leaks, secret
from verified import CREDS, HEARTBEAT, PERMANENT, Verifies


class Verified(Verifies, Hand):
    """Two Secrets that Vault owns, and a permanent one."""


# From a folder nobody sees who renders: a person says that nobody does.
WITHOUT = [word for proof in ("operations", "outcome", "caches") for word in ("--settle-without", proof)]


def story(stage):
    hand = Verified(stage, secrets={**SECRETS, **CREDS}, more=PERMANENT)
    hand.reads()
    assert hand.told()["rules"] == "git(1)" and hand.beat() == 0
    hand.verify(says="nothing was handed over yet")
    git, before = keep(hand), hand.bao.snapshot()
    hand.handover("--yes", says="not noted as settled")
    hand.handover("--yes", *WITHOUT)
    fine(hand)
    not_mirrored(hand, git)
    copies(hand)
    rolled_back(hand)
    ahead(hand)
    token(hand)
    revision(hand)
    history(hand)
    record(hand)
    remounted(hand)
    hand.bao.restore(before)
    assert "--revision" not in hand.verify(ends=5, code="lost", says=["authority is lost", "rebootstrap"])
    metrics(hand, 5)
    hand.bao.seal()
    hand.verify("--vault-patience", "0", ends=4, code="vault")
    metrics(hand, 4)
    hand.bao.stop()


def keep(hand):
    """A backup of the store."""
    copy = hand.stage.folder / f"kept-{hand.beat()}-{len(list(hand.stage.folder.iterdir()))}"
    shutil.copytree(hand.stage.store, copy)
    return copy


def put_back(hand, copy):
    shutil.rmtree(hand.stage.store)
    shutil.copytree(copy, hand.stage.store)


def fine(hand):
    versions = hand.versions()
    hand.verify(says="everything is as the handover left it")
    report = hand.fine()
    assert report["heartbeat"] == hand.beat() == 2, report
    assert report["handover"]["id"] == hand.record()["handoverId"] and report["handover"]["settled"], report
    assert (report["copies"], report["secrets"]) == (3, None), report
    assert hand.versions() == versions, "more than the heartbeat was written"
    metrics(hand, 0)
    hand.regent("verify", "other", *hand.where, "--vault-token-file", hand.reader, ends=4, code="P5")
    hand.regent("verify", *hand.where, ends=2, says="AUTHORITY")


def metrics(hand, ends):
    """As node-exporter reads them; also of a run that could not look."""
    file = hand.stage.folder / "regent.prom"
    hand.verify("--metrics-file", file, "--vault-patience", "0", ends=ends, code={5: "lost", 4: "vault"}.get(ends))
    text = file.read_text()
    assert f'regent_verify_exit_code{{authority="prod"}} {ends}\n' in text and not leaks(text.encode()), text
    assert (f'regent_verify_heartbeat{{authority="prod"}} {hand.beat()}\n' in text) == (ends == 0), text


def not_mirrored(hand, git):
    """The store is that of before the handover, or holds one of the two witnesses: mirrored from the record."""
    now = keep(hand)
    put_back(hand, git)
    report = hand.finds("mirrored", "settlement-unseen", ends=0)
    assert report["heartbeat"] == hand.beat()
    hand.vault_rules()
    hand.finds("settlement-unseen", ends=0)
    for witness in ("handover-1.json", "authority.json"):
        put_back(hand, now)
        shutil.copy(git / "prod/authority.json", hand.stage.store / "prod/authority.json") if witness == "authority.json" else (
            hand.stage.store / "prod" / witness).unlink()
        (hand.stage.store / "prod/status.json").unlink()
        hand.finds("mirrored", "settlement-unseen", ends=0)
        hand.vault_rules()
    hand.handover("--yes", *WITHOUT)
    hand.fine()


def copies(hand):
    """Deleted, destroyed, removed, made again: named, never with a value."""
    good, kept = hand.bao.snapshot(), keep(hand)
    path = "bootstrap/prod/app/db"
    # A rotation is none of it.
    hand.bao.put(path, {"password": f"{CANARY}-rotated", "user": "app"})
    hand.fine()
    for how in ("delete", "destroy"):
        hand.bao.done("POST", f"secret/{how}/{path}", {"versions": [2]})
        report = hand.finds("copy-deleted", ends=5)
        assert report["findings"][0]["secret"] == "app/db", report
    hand.bao.done("DELETE", f"secret/metadata/{path}")
    hand.finds("copy-absent", ends=5)
    hand.bao.put(path, SECRETS["db"])
    hand.finds("copy-recreated", ends=5)
    hand.verify(ends=5, says="person: Vault's copy of app/db was made anew")
    back(hand, good, kept)
    hand.fine()


def back(hand, snapshot, kept):
    """Vault and the store, both as they were."""
    hand.bao.restore(snapshot)
    put_back(hand, kept)


def rolled_back(hand):
    """An older backup of Vault, newer than the handover: told until a person says that it is known."""
    older = hand.bao.snapshot()
    at = hand.beat()
    for _ in range(3):
        hand.fine()
    hand.bao.restore(older)
    for _ in range(2):
        report = hand.finds("rolled-back", ends=5)
        assert report["findings"][0]["beats"] == 3 and hand.beat() == at, report
    hand.verify(ends=5, says=["person: Vault was taken back: it is 3 heartbeats older", "--accept-restored"])
    hand.vault_rules()
    hand.finds("restore-accepted", ends=0, words=["--accept-restored"])
    assert hand.fine()["heartbeat"] == hand.beat() == at + 5
    hand.bao.done("POST", f"secret/delete/{HEARTBEAT}", {"versions": [at + 5]})
    hand.finds("heartbeat-deleted", ends=5)
    hand.finds("heartbeat-deleted", ends=5, words=["--accept-restored"])
    hand.bao.done("POST", f"secret/undelete/{HEARTBEAT}", {"versions": [at + 5]})
    hand.fine()


def ahead(hand):
    """One beat whose mirror was not written is a run that was cut off; more are an older store, or somebody else."""
    kept = keep(hand)
    hand.fine()
    put_back(hand, kept)
    hand.fine()
    kept = keep(hand)
    for _ in range(2):
        hand.fine()
    put_back(hand, kept)
    at = hand.beat()
    report = hand.finds("ahead", ends=5)
    assert report["findings"][0]["beats"] == 2 and hand.beat() == at, report
    hand.finds("restore-accepted", ends=0, words=["--accept-restored"])
    hand.fine()


def token(hand):
    """A token that may not: what could not be looked at is told as that."""
    hand.bao.policy("no-beat", 'path "secret/data/bootstrap/*" { capabilities = ["read"] }\n'
                    'path "secret/metadata/bootstrap/*" { capabilities = ["read"] }\n'
                    'path "secret/data/regent/prod/authority/*" { capabilities = ["read"] }\n')
    hand.finds("heartbeat-unknown", ends=4, token=hand.bao.token_file("no-beat"))
    hand.bao.policy("nothing", 'path "secret/data/other" { capabilities = ["read"] }\n')
    hand.verify(ends=4, code="vault", token=hand.bao.token_file("nothing"))


def revision(hand):
    """What a front door answers now, and whether the permanent document is Vault's."""
    report = hand.fine(how=hand.in_git)
    assert report["revision"]["documents"] == 3, report
    hand.finds("no-identity", ends=0, how=hand.in_git, key=False)
    hand.finds("no-identity", ends=0, how=hand.in_git, key=False, words=["--history"])
    # Changed in Git alone; then in Vault, too.
    changed = {"key": f"{CANARY}-creds-2"}
    hand.change("creds", changed)
    hand.finds("stale-in-git", ends=1, how=hand.in_git)
    hand.fine(how=hand.in_git, revision=hand.commit)
    hand.bao.put("bootstrap/prod/app/creds", changed)
    hand.fine(how=hand.in_git)
    hand.finds("stale-in-git", ends=1, how=hand.in_git, revision=hand.commit)
    hand.change("creds", None)
    hand.finds("absent-in-git", ends=1, how=hand.in_git)
    hand.change("creds", changed)
    # A document that the handover does not list.
    hand.change("late", {"key": f"{CANARY}-late"})
    hand.finds("renders-nothing", ends=1, how=hand.in_git)
    hand.change("late", None)
    hand.fine(how=hand.in_git)


def history(hand):
    """What old commits hold is to be rotated; what was rotated is not told again."""
    look = {"how": hand.in_git, "words": ["--history"]}
    report = hand.finds("to-rotate", "to-rotate", "forgotten", ends=1, **look)
    found = {finding["secret"]: finding for finding in report["findings"]}
    assert found["app/db"]["keys"] == ["password", "user"] and found["app/db"]["commits"] == [hand.commit], found
    assert found["app/late"]["severity"] == "note" and report["history"]["commits"] >= 6, report
    hand.bao.put("bootstrap/prod/app/api", {"token": f"{CANARY}-api-2"})
    hand.bao.put("bootstrap/prod/app/db", {"password": f"{CANARY}-db-2", "user": "app"})
    report = hand.finds("to-rotate", "forgotten", ends=1, **look)
    found = {finding["secret"]: finding for finding in report["findings"]}
    assert found["app/db"]["keys"] == ["user"] and report["history"]["rotated"] == 1, report
    hand.bao.put("bootstrap/prod/app/db", {"password": f"{CANARY}-db-2", "user": "another"})
    hand.finds("forgotten", ends=0, **look)
    # A branch that was merged is history, too; a Secret in the clear stays known.
    git = hand.stage.repo.git
    main = git("rev-parse", "--abbrev-ref", "HEAD").strip()
    git("checkout", "--quiet", "-b", "side")
    hand.stage.repo.commit({"clusters/prod/clear.yaml": secret("clear", {"key": "in the clear"})})
    hand.stage.repo.commit({"clusters/prod/clear.yaml": None})
    git("checkout", "--quiet", main)
    hand.stage.repo.commit({"elsewhere.txt": "x"})
    git("merge", "--quiet", "--no-edit", "side")
    report = hand.finds("forgotten", "in-the-clear", ends=1, **look)
    hand.finds("no-identity", "in-the-clear", ends=1, key=False, **look)
    git("clone", "--quiet", "--depth", "1", f"file://{hand.stage.repo.folder}", str(hand.stage.folder / "shallow"))
    shallow = hand.told("--repo", hand.stage.folder / "shallow", "--revision", "HEAD", "--path", "clusters/prod", "-i", hand.stage.key.file,
                        "--history", ends=4)
    assert "history-cut" in [finding["code"] for finding in shallow["findings"]], shallow


def record(hand):
    """A record that was deleted, written again, or is another's: told with the codes of a handover."""
    path, good, kept = "regent/prod/authority/1", hand.bao.snapshot(), keep(hand)
    said = hand.record()
    hand.bao.done("POST", f"secret/delete/{path}", {"versions": [1]})
    hand.verify(ends=5, code="record", says="deleted")
    hand.bao.done("POST", f"secret/undelete/{path}", {"versions": [1]})
    hand.bao.put(path, said)
    hand.verify(ends=5, code="record", says="version 2")
    hand.bao.done("DELETE", f"secret/metadata/{path}")
    hand.bao.put(path, {**said, "handoverId": "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f"})
    hand.verify(ends=5, code="replaced")
    back(hand, good, kept)
    hand.fine()


def remounted(hand):
    """The mount was made again and filled by hand: another Vault, until a person accepts it for a handover."""
    good, kept = hand.bao.snapshot(), keep(hand)
    copies, record = hand.copies(), hand.record()
    hand.bao.done("DELETE", "sys/mounts/secret")
    hand.bao.mount("secret")
    hand.verify(ends=5, code="lost")
    for name, fields in copies.items():
        hand.bao.put(f"bootstrap/prod/{name}", fields)
    hand.bao.put("regent/prod/authority/1", record)
    hand.verify(ends=5, code="other-place", says="regent handover --accept-vault-identity")
    hand.handover("--yes", "--accept-vault-identity")
    hand.finds("rolled-back", ends=5)
    hand.finds("restore-accepted", ends=0, words=["--accept-restored"])
    hand.fine()
    back(hand, good, kept)
    hand.fine()
