import uuid

from clustered import Clustered
from handed import SECRETS

ADOPTED = "regent/prod/authority/1/adopted"
ROTATED = {"password": "rotated", "user": "app"}


def story(stage):
    hand = Clustered(stage, stage.cluster())
    early = hand.cluster.snapshot()
    hand.mirrored("--yes")
    handover = hand.vault_rules()
    late = hand.cluster.snapshot()
    hand.bao.put("bootstrap/prod/app/db", ROTATED)
    versions = hand.versions()
    for restored in (again, closed, other_tree):
        hand.cluster.restore(early)
        hand.git_still_rules()
        restored(hand, handover)
        assert hand.vault_rules() == handover and hand.versions() == versions
        hand.bites()
    first = hand.cluster.uid()
    lost_authority(hand, handover)
    # From nothing, at the same address.
    hand.cluster.restore()
    rebuilt(hand, handover)
    mine = hand.cluster.uid()
    second(hand, handover, stage.cluster("second"))
    # The first cluster's backup from after the handover still says what it said.
    hand.cluster.close()
    hand.cluster = hand.target = stage.clusters[0]
    hand.cluster.restore(late)
    hand.connected()
    assert hand.cluster.uid() == first != mine
    hand.mirrored("--yes")
    assert hand.vault_rules() == handover
    expected = {**SECRETS, "db": ROTATED}
    assert hand.copies() == {f"app/{name}": values for name, values in expected.items()} and hand.versions() == versions
    hand.bao.stop()


def again(hand, handover):
    hand.handover("--plan", says=["recorded, not mirrored", handover])
    assert "mirrored   Vault rules epoch 1" in hand.mirrored("--yes")


def closed(hand, handover):
    """Git remembers what the cluster forgot: nothing is rendered in between."""
    repo = hand.stage.repo
    text = (hand.place.root / "regent.yaml").read_text()
    later = repo.commit({"clusters/prod/regent.yaml": f"{text}closed: {handover}\n"})
    hand.regent("render", hand.place.root, "-i", hand.stage.key.file, "--reveal", *hand.where, ends=1, code="P6")
    hand.refused("--yes", revision=later, ends=7, code="unmirrored", says="go back to the revision that was handed over")
    hand.mirrored("--yes")
    repo.commit({"clusters/prod/regent.yaml": text})


def other_tree(hand, handover):
    repo = hand.stage.repo
    later = repo.commit({"clusters/prod/api.yaml": None})
    hand.refused("--yes", revision=later, ends=7, code="unmirrored", says=f"--revision {hand.commit}")
    hand.refused("--yes", "--adopt", str(uuid.uuid4()), ends=5, code="other-place", says=handover)
    repo.git("checkout", "--quiet", hand.commit, "--", "clusters")
    repo.commit()
    hand.mirrored("--yes")


def lost_authority(hand, handover):
    """Deleted, with the ConfigMap left: written again, from the record."""
    hand.cluster.delete("Authority", "prod", user="breakglass").ok()
    hand.mirrored("--yes")
    assert hand.vault_rules() == handover
    # Both deleted, which no restore of etcd does.
    hand.cluster.delete("Authority", "prod", user="breakglass").ok()
    hand.forgotten()
    hand.mirrored("--yes")
    assert hand.vault_rules() == handover


def rebuilt(hand, handover):
    hand.installed()
    # Before anything of it is there again.
    hand.refused("--yes", by=hand.where, ends=5, code="other-place", says=f"--adopt {handover}")
    hand.begun("--vault-token-file", hand.token, ends=1, code="exists", says=handover)
    hand.begun("--no-vault-yet")
    # Git's values, until somebody says that Vault's are the ones.
    hand.git_still_rules()
    told_whose(hand, handover)
    adopted(hand, handover)


def live(hand, values):
    labels = {"regent.dev/authority": "prod"}
    thing = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "app", "labels": labels},
             "stringData": values}
    hand.target.apply_one(thing, "delivered", force=True).ok()


def second(hand, handover, cluster):
    hand.cluster = hand.target = cluster
    hand.installed()
    hand.begun("--vault-token-file", hand.token, ends=1, code="exists", says=handover)
    hand.begun("--no-vault-yet")
    told_whose(hand, handover)
    hand.git_still_rules()


def told_whose(hand, handover):
    """Whose record it is, and what a person could say."""
    for words in (["--plan"], ["--yes"]):
        hand.refused(*words, ends=5, code="other-place", says=[hand.cluster.uid(), f"--adopt {handover}", "of its own"])
    hand.refused("--yes", "--adopt", str(uuid.uuid4()), ends=5, code="other-place", says=f"--adopt {handover}")
    # Nobody says yes here.
    hand.refused("--adopt", handover, ends=2, code="usage")


def adopted(hand, handover):
    uid = hand.cluster.uid()
    record = hand.record()
    assert uid not in (record["witnessKubeUid"], record["targetKubeUid"])
    versions = hand.versions()
    before = hand.everything()
    hand.handover("--plan", "--adopt", handover, says=[handover, "it would be adopted for this cluster"])
    assert hand.everything() == before
    # Git's value is live, and Vault's is another by now.
    live(hand, SECRETS["db"])
    hand.handover("--yes", "--adopt", handover, ends=7, code="unmirrored", says="app/db differs from Vault in password")
    assert hand.vault_rules() == handover and hand.versions() == versions and hand.record() == record
    hand.handover("--yes", ends=7, code="unmirrored", says="app/db differs from Vault in password")
    live(hand, ROTATED)
    hand.mirrored("--yes")
    assert hand.vault_rules() == handover and hand.versions() == versions
    appended = hand.bao.fields(f"{ADOPTED}/{uid}")
    assert (appended["handoverId"], appended["witnessKubeUid"], appended["targetKubeUid"]) == (handover, uid, uid), appended
    hand.bites()
    # From now on it is this cluster's, without a word.
    before = hand.everything()
    hand.mirrored("--yes")
    hand.mirrored("--yes", "--adopt", handover)
    assert hand.everything() == before and hand.bao.fields(f"{ADOPTED}/{uid}") == appended
