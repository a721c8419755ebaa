import json

from bao import Bao
from clustered import ACCOUNT
from handed import SECRETS, regent_yaml
from hubs import Hub
from stage import full, until
from vaulted import BREAK_GLASS

MORE = "secrets: { permanent: [{ name: app/api }] }\n"


def story(stage):
    bao = Bao(stage)
    hub, target = stage.cluster("hub"), stage.cluster("target")
    hand = Hub(stage, hub, target, bao=bao, more=MORE)
    hand.trusted()
    hand.mirrored("--yes")
    handover = hand.vault_rules()
    first, record, versions = target.uid(), hand.record(), hand.versions()
    witnesses = hand.authority(), hand.config_map()["data"]
    # From nothing, at the same address.
    target.restore()
    hand.installed()
    hand.administrator()
    hand.reads()
    new = target.uid()
    assert new != first
    refused(hand, handover, new)
    target_only(hand, "--yes", "--adopt", handover, ends=1, code="forbidden")
    target.account("regent-system", ACCOUNT)
    hand.trusted()
    target_only(hand, "--yes", "--adopt", handover, says=f"by handover {handover}")
    assert (hand.authority(), hand.config_map()["data"]) == witnesses and hand.record() == record and hand.versions() == versions
    assert hand.authority(target) == {**hand.authority(), "targetKubeUid": new}
    appended = bao.fields(f"regent/prod/authority/1/adopted/{hub.uid()}.{new}")
    assert (appended["handoverId"], appended["targetKubeUid"]) == (handover, new), appended
    hand.bites()
    told(hand, first, new)
    restore(hand)
    assert target.get("Secret", "api", "app").ok()["data"]
    # Complete, for the handover and for this.
    before = hand.everything()
    target_only(hand, "--yes", says=f"by handover {handover}")
    assert hand.everything() == before
    assert not any(hand.rendered().values())
    hand.account = hand.as_account(ACCOUNT)
    completed(hand)
    verified(hand)
    hand.mirrored("--yes")
    superseded(hand, handover, new)
    bao.stop()


def target_only(hand, *words, **kwargs):
    return hand.regent("init", hand.place.root, *hand.where, "--target-context", "target", "--target-only", "--vault-token-file",
                       hand.token, *words, **kwargs)


def restore(hand, **kwargs):
    return hand.regent("restore", "app/api", hand.place.root, "-i", hand.stage.key.file, *hand.where, "--target-context", "target",
                       "--vault-token-file", hand.token, **kwargs)


def told(hand, first, new):
    """The cluster that was is named, and nothing is wrong with the one that is."""
    report = json.loads(status(hand, "-o", "json"))
    clusters = report["evidence"]["clusters"]["secrets"]
    assert (clusters["recorded"], clusters["now"], clusters["real"], clusters["same"]) == (first, new, new, True), clusters
    assert not {each["code"] for each in report["warnings"]} & {"other-cluster", "copy", "lock"}, report["warnings"]
    assert f"Secrets in {first}, taken over by {new}, as here" in " ".join(status(hand).split())


def status(hand, *words):
    return hand.regent("status", hand.place.root, *hand.where, "--target-context", "target", *words)


def completed(hand):
    """The lock and the copy come back."""
    for kind in ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"):
        hand.target.delete(kind, "regent-lock-prod", user="breakglass").ok()
    before = hand.authority(hand.target)
    hand.regent("init", hand.place.root, *hand.where, "--target-context", "target", "--complete", "--yes", says="complete")
    assert hand.authority(hand.target) == before
    hand.bites()


def verified(hand):
    """What is not delivered yet is named; then all of it is as Vault has it."""
    hand.target.delete("Secret", "db", "app").ok()
    assert hand.finds("not-live", ends=1)["findings"][0]["secret"] == "app/db"
    hand.live("db", SECRETS["db"])
    hand.fine()


def superseded(hand, handover, new):
    """Vault is lost as well: the next epoch is that of the cluster that was taken over, in the hub too."""
    text = regent_yaml(hand.address, MORE).replace("epoch: 1", f"epoch: 2\nsupersedes: {handover}")
    hand.commit = hand.stage.repo.commit({"clusters/prod/regent.yaml": text})
    rebootstrap(hand, "--yes", "--abandon-vault", handover, says="Git rules epoch 2")
    for cluster in (hand.cluster, hand.target):
        spec = hand.authority(cluster)
        assert (spec["authority"], spec["epoch"], spec["supersedes"], spec["targetKubeUid"]) == ("git", 2, handover, new), spec
    hand.renders(True)
    # The lock there lets Argo CD in again, which guards what it writes.
    for name, values in SECRETS.items():
        until("Git's values are applied", lambda: hand.place.door(full(name, values)).status == 200)
    hand.handover("--yes", says="closed: ")
    record = hand.record(2)
    assert (record["supersedes"], record["targetKubeUid"]) == (handover, new), record
    for cluster in (hand.cluster, hand.target):
        spec = hand.authority(cluster)
        assert (spec["authority"], spec["handoverId"], spec["targetKubeUid"]) == ("vault", record["handoverId"], new), spec
    hand.renders(False)
    hand.bites()
    hand.fine()


def rebootstrap(hand, *words, **kwargs):
    return hand.regent("rebootstrap", hand.place.root, "-i", hand.stage.key.file, *hand.where, "--target-context", "target", *BREAK_GLASS,
                       *words, **kwargs)


def refused(hand, handover, new):
    before = hand.everything()
    hand.verify(ends=5, code="other-place", says=new, by=[*hand.where, "--target-context", "target"])
    restore(hand, ends=1, code="other-cluster", says=new)
    target_only(hand, "--yes", ends=5, code="other-place", says=[new, f"--adopt {handover}"])
    target_only(hand, "--adopt", handover, ends=2, code="usage")
    assert hand.everything() == before and set(SECRETS) == {"db", "api"}
