"""A handover from plan to stubs: nothing before it is approved, everything once, and nothing again."""

import contextlib
import json
import os
import pty

from handed import ANY_HANDOVER, SECRETS, Hand


def story(stage):
    hand = Hand(stage)
    hand.git_rules()
    # A plan changes nothing, and is the same plan as long as nothing else changes.
    plan = hand.plan()
    assert [entry["state"] for entry in plan["documents"]] == ["new", "new"], plan
    assert [(entry["path"], entry["keys"]) for entry in plan["documents"]] == [
        ("bootstrap/prod/app/api", ["token"]), ("bootstrap/prod/app/db", ["password", "user"])], plan
    assert plan["commit"] == hand.commit and plan["documents"][0]["author"] == "e2e", plan
    assert hand.plan()["digest"] == plan["digest"]
    hand.handover("--plan", says=["app/db", "bootstrap/prod/app/db", plan["digest"]])
    assert hand.names() == [] and hand.record() is None
    # Nobody answers a question here, and another plan is not this one.
    hand.handover(ends=2, code="usage", says="--yes")
    hand.handover("--approve", "0" * 64, ends=6, code="approval", says=plan["digest"])
    hand.git_rules()
    said = hand.handover("--approve", plan["digest"], says="closed: ")
    # Who follows it by a program sees each copy once.
    lines = [json.loads(line) for line in said.splitlines() if line.startswith('{"copied"')]
    assert sorted(line["copied"] for line in lines) == ["app/api", "app/db"], said
    assert [(line["done"], line["of"]) for line in lines] == [(1, 2), (2, 2)], said
    handover = hand.vault_rules()
    assert hand.copies() == {f"app/{name}": values for name, values in SECRETS.items()}
    record = hand.record()
    assert record["gitCommit"] == hand.commit and record["treeDigest"] == plan["treeDigest"], record
    # Again, by whoever: nothing is written. A rotated value stays what it is.
    before = hand.versions()
    assert set(before.values()) == {1}, before
    hand.handover("--yes", says=handover)
    assert hand.versions() == before
    hand.bao.put("bootstrap/prod/app/db", {"password": "rotated", "user": "app"})
    rotated = hand.versions()
    hand.handover("--yes")
    hand.handover("--plan", says=handover)
    assert hand.versions() == rotated and hand.get("bootstrap/prod/app/db")["password"] == "rotated"
    # What Git says afterwards is not copied.
    later = stage.repo.commit({"clusters/prod/regent.yaml": (stage.repo.folder / "clusters/prod/regent.yaml").read_text()
                               + f"closed: {handover}\n", "clusters/prod/api.yaml": None})
    hand.handover("--yes", revision=later)
    assert hand.versions() == rotated
    on_a_terminal(hand)
    hand.bao.stop()


def on_a_terminal(hand):
    """A person is asked, and sees a bar."""
    hand.bao.policy("handover", ANY_HANDOVER)
    hand.another("terminal")
    ours, theirs = pty.openpty()
    child = hand.begin(terminal=theirs)
    os.close(theirs)
    os.write(ours, b"y\n")
    ends, _ = hand.over(child)
    said = b""
    # Until nobody has the other end any more, which is an error of its own; a terminal gives what it has by parts.
    with contextlib.suppress(OSError):
        while part := os.read(ours, 65536):
            said += part
    said = said.decode()
    os.close(ours)
    assert ends == 0, (ends, said)
    assert "Hand over? [y/N]" in said, said
    assert f"\rcopying [{30 * '#'}] 1 of 1\r\n" in said, said
    assert hand.copies() == {"app/db": SECRETS["db"]} and hand.authority()["authority"] == "vault"

