from bao import Bao
from clustered import ACCOUNT
from handed import CANARY, SECRETS
from hubs import Hub
from proxy import Proxy
from vaulted import namespace

RECORD = "/v1/secret/data/regent/prod/authority/1"
LOCK = "regent-lock-prod"


def story(stage):
    bao = Bao(stage)
    hub, target = stage.cluster("hub"), stage.cluster("target")
    with Proxy(bao) as proxy:
        hand = Hub(stage, hub, target, bao=bao, address=proxy.address)
        # Nothing in the target is the account's yet.
        hand.refused("--plan", ends=1, code="forbidden")
        hand.trusted()
        hand.plan()
        # Whoever forgets the target would record another cluster.
        for word in ("--plan", "--yes"):
            hand.refused(word, ends=6, code="preflight", says="the cluster of the Secrets is fixed for an epoch", by=hand.account[:-2])
        locked(hand)
        policies(hand)
        hand.git_rules()
        proxy.does = lambda number, method, path: target.stop_apiserver() if (method, path) == ("POST", RECORD) else None
        hand.handover("--yes", ends=7, code="unmirrored", says=["recorded, not mirrored", target.server])
        proxy.does = lambda number, method, path: None
        versions = hand.versions()
        assert hand.authority()["authority"] == "vault" and hand.config_map()
        target.start_apiserver()
        # Every front door knows, and the lock there does not.
        assert hand.authority(target)["authority"] == "git"
        hand.handover("--plan", says="recorded, not mirrored")
        hand.mirrored("--yes")
        handover = hand.vault_rules()
        hand.bites()
        before = hand.everything()
        hand.mirrored("--yes")
        hand.refused("--yes", ends=5, code="other-place", says=target.uid(), by=hand.account[:-2])
        assert hand.everything() == before and hand.versions() == versions and hand.vault_rules() == handover
        verified(hand)
    bao.stop()


def locked(hand):
    """The lock that counts is the target's."""
    assert hand.cluster.get("ValidatingAdmissionPolicy", LOCK).status == 404
    hand.target.delete("ValidatingAdmissionPolicyBinding", LOCK).ok()
    hand.refused("--yes", ends=6, code="preflight", says=f"the lock {LOCK} is not there")
    hand.begun("--complete")
    hand.plan()


def policies(hand):
    """What the account may in the target is tried, too."""
    hand.target.delete("ClusterRoleBinding", ACCOUNT).ok()
    hand.refused("--yes", ends=1, code="forbidden")
    hand.bound()
    only_get = [{"op": "replace", "path": "/rules/0/verbs", "value": ["get"]}]
    hand.target.patch("ClusterRole", ACCOUNT, None, only_get, "json").ok()
    hand.refused("--yes", ends=6, code="preflight", says=["authorities", hand.target.server])
    hand.target.patch("ClusterRole", ACCOUNT, None, [{"op": "replace", "path": "/rules/0/verbs", "value": ["get", "create", "patch"]}], "json").ok()
    hand.plan()


def verified(hand):
    """The Secrets that are looked at are the target's, and so is the copy of the Authority that is mirrored."""
    hand.reads()
    for name, values in SECRETS.items():
        hand.live(name, values)
    report = hand.fine()
    assert (report["copies"], report["secrets"]) == (2, 2), report
    rotated = {"password": f"{CANARY}-rotated", "user": "app"}
    hand.bao.put("bootstrap/prod/app/db", rotated)
    namespace(hand.cluster, "app")
    hand.live("db", rotated, hand.cluster)
    finding, = hand.finds("live-differs", ends=1)["findings"]
    assert (finding["secret"], finding["keys"]) == ("app/db", ["password"]), finding
    hand.live("db", rotated)
    hand.target.delete("Secret", "api", "app").ok()
    assert hand.finds("not-live", ends=1)["findings"][0]["secret"] == "app/api"
    hand.live("api", SECRETS["api"])
    hand.fine()
    hand.target.delete("Authority", "prod", user="breakglass").ok()
    hand.finds("mirrored", ends=0)
    hand.vault_rules()
    hand.bites()
    # Another target than the record's, and one that does not answer.
    by = hand.verifier()
    hand.verify(ends=5, code="other-place", says=hand.target.uid(), by=by[:-2])
    hand.target.stop_apiserver()
    hand.verify(ends=4, code="cluster", says=hand.target.server, by=by)
    hand.target.start_apiserver()
    hand.fine()
