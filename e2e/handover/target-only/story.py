import importlib.util
from pathlib import Path

from bao import Bao
from clustered import ACCOUNT
from handed import SECRETS

MORE = "secrets: { permanent: [{ name: app/api }] }\n"


def hub_of():
    spec = importlib.util.spec_from_file_location("hub", Path(__file__).parent.parent / "cluster-hub/story.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Hub


def story(stage):
    bao = Bao(stage)
    hub, target = stage.cluster("hub"), stage.cluster("target")
    hand = hub_of()(stage, hub, target, bao=bao, more=MORE)
    hand.trusted()
    hand.mirrored("--yes")
    handover = hand.vault_rules()
    first, record, versions = target.uid(), hand.record(), hand.versions()
    witnesses = hand.authority(), hand.config_map()["data"]
    # From nothing, at the same address.
    target.restore()
    hand.installed()
    hand.where = ["--kubeconfig", hand.config({each: each.tokens["admin"] for each in (hub, target)}), "--context", "hub"]
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
    restore(hand)
    assert target.get("Secret", "api", "app").ok()["data"]
    # Complete, for the handover and for this.
    before = hand.everything()
    target_only(hand, "--yes", says=f"by handover {handover}")
    assert hand.everything() == before
    assert not any(hand.rendered().values())
    bao.stop()


def target_only(hand, *words, **kwargs):
    return hand.regent("init", hand.place.root, *hand.where, "--target-context", "target", "--target-only", "--vault-token-file",
                       hand.token, *words, **kwargs)


def restore(hand, **kwargs):
    return hand.regent("restore", "app/api", hand.place.root, "-i", hand.stage.key.file, *hand.where, "--target-context", "target",
                       "--vault-token-file", hand.token, **kwargs)


def refused(hand, handover, new):
    before = hand.everything()
    restore(hand, ends=1, code="other-cluster", says=new)
    target_only(hand, "--yes", ends=5, code="other-place", says=[new, f"--adopt {handover}"])
    target_only(hand, "--adopt", handover, ends=2, code="usage")
    assert hand.everything() == before and set(SECRETS) == {"db", "api"}
