"""A handover from plan to stubs: nothing before it is approved, everything once, and nothing again."""

from handed import SECRETS, Hand


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
    hand.handover("--approve", plan["digest"], says="closed: ")
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
    hand.bao.stop()
