"""After the handover: an older backup of Vault, another Vault, a mount made again, a record that was touched, another tree; and
a record that Git's witnesses know nothing of, and that is not theirs. Authority stays where it is, nothing is copied a second
time, and a person is told what the matter is.
"""

import json
import shutil

from bao import Bao
from handed import SECRETS, Hand, regent_yaml
from proxy import Proxy

RECORD = "regent/prod/authority/1"
OTHER = "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f"


def story(stage):
    bao = Bao(stage)
    with Proxy(bao) as proxy:
        told(Hand(stage, bao, address=proxy.address), stage, proxy)


def told(hand, stage, proxy):
    before, git = hand.bao.snapshot(), stage.folder / "store-of-git"
    shutil.copytree(stage.store, git)
    digest = hand.plan(revision=stage.repo.commit({"clusters/prod/db.yaml": None}))["treeDigest"]
    stage.repo.git("checkout", "--quiet", hand.commit, "--", "clusters")
    stage.repo.commit()
    another_root(hand, ends=1, code="P0", says="clusters/copy")
    hand.git_rules()
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
    another_root(hand, ends=5, code="other-place", says="clusters/copy")
    assert hand.versions() == versions
    record = hand.record()
    forged(hand, git, digest)
    raced(hand, git, before, proxy, record)
    hand.bao.restore(after)
    put_back(hand, git)
    hand.handover("--yes", says=handover)
    replaced(hand, stage)
    touched(hand, after)
    remounted(hand)
    hand.bao.stop()


def another_root(hand, **refused):
    """Another folder that says that it is this authority's."""
    folder = hand.stage.repo.folder / "clusters"
    shutil.copytree(folder / "prod", folder / "copy")
    commit = hand.stage.repo.commit()
    words = hand.handover_words("--yes", revision=commit)
    words[words.index("clusters/prod")] = "clusters/copy"
    hand.regent(*words, **refused)
    hand.stage.repo.git("rm", "-r", "-q", "clusters/copy")
    hand.stage.repo.commit()


def put_back(hand, store):
    """The witnesses as they were then."""
    shutil.rmtree(hand.stage.store)
    shutil.copytree(store, hand.stage.store)


def forged(hand, git, digest):
    """Git rules, and what is at the record's place is none of this tree: it is not mirrored, and nothing is written. `digest` is
    that of the tree without db.yaml."""
    record = hand.record()
    copies = json.loads(record["records"])
    assert [name for name, *_ in copies] == ["app/api", "app/db"], copies
    another = {**without_db(record, lambda document: None), "treeDigest": digest}
    older = [[name, version, "2026-01-01T00:00:00Z"] for name, version, _ in copies]

    def instead(**changed):
        hand.bao.done("DELETE", f"secret/metadata/{RECORD}")
        hand.bao.put(RECORD, {**record, **changed})

    def gone():
        instead()
        hand.bao.done("DELETE", "secret/metadata/bootstrap/prod/app/db")

    put_back(hand, git)
    for does, ends, code, says in (
            (lambda: instead(records=json.dumps(older)), 5, "record", "app/api"),
            # What contradicts itself is none.
            (lambda: instead(records=json.dumps(copies[:1])), 4, "vault", "`records` has no copy of it"),
            (lambda: instead(treeDigest="0" * 64), 4, "vault", "`treeDigest` is not that of its documents"),
            (lambda: instead(**without_db(record)), 5, "record", "app/db"),
            (lambda: instead(**another), 7, "unmirrored", "is not what was planned"),
            # A copy is gone, and the record is the real one.
            (gone, 5, "record", "app/db")):
        does()
        versions, values = hand.versions(), hand.copies()
        for word in ("--yes", "--plan"):
            hand.handover(word, ends=ends, code=code, says=says)
        assert (hand.versions(), hand.copies()) == (versions, values) and hand.authority()["authority"] == "git"
        hand.renders(True)


def raced(hand, git, early, proxy, record):
    """Somebody's record is there right before this run's own."""
    for forges, ends in ((False, 0), (True, 5)):
        hand.bao.restore(early)
        put_back(hand, git)
        sent = []

        def first(number, method, path, forges=forges, sent=sent):
            if method == "POST" and path.endswith(f"/data/{RECORD}") and not sent:
                sent.append(theirs(hand, record, forges))
                hand.bao.put(RECORD, sent[0])
        proxy.again(first)
        hand.handover("--yes", ends=ends, code="record" if forges else None)
        proxy.again()
        assert hand.record() == sent[0] and set(hand.versions().values()) == {1}
        if forges:
            assert hand.authority()["authority"] == "git"
            hand.renders(True)
        else:
            # It says the same, so it is as good.
            assert hand.vault_rules() == OTHER


def without_db(record, instead=lambda document: {**document, "class": "permanent"}):
    """One that has no copy of a Secret, which it lists otherwise, or not at all."""
    documents = [instead(each) if each["name"] == "app/db" else each for each in json.loads(record["documents"])]
    copies = [each for each in json.loads(record["records"]) if each[0] != "app/db"]
    return {"documents": json.dumps(list(filter(None, documents))), "records": json.dumps(copies)}


def theirs(hand, record, forges):
    """What another run would record of these copies; or somebody who leaves one of them out."""
    made = {name: hand.bao.done("GET", f"secret/metadata/bootstrap/prod/{name}")["data"]["created_time"] for name in hand.names()}
    copies = [[name, version, made[name]] for name, version, _ in json.loads(record["records"])]
    whole = {**record, "handoverId": OTHER, "records": json.dumps(copies)}
    return {**whole, **without_db(whole)} if forges else whole


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
    other = {**record, "handoverId": OTHER}
    hand.bao.put(path, other)
    hand.handover("--yes", ends=5, code="replaced", says=OTHER)
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
