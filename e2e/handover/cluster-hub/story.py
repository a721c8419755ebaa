import json

from bao import Bao
from clustered import ACCOUNT, Clustered
from proxy import Proxy

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
            hand.refused(word, ends=6, code="preflight", says="the clusters are fixed", by=hand.account[:-2])
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
    bao.stop()


class Hub(Clustered):
    def begun(self, *words, **kwargs):
        admin = self.config({each: each.tokens["admin"] for each in (self.cluster, self.target)})
        self.where = ["--kubeconfig", admin, "--context", "hub"]
        said = self.regent("init", self.place.root, *self.where, "--target-context", "target", "--yes", *words, **kwargs)
        self.target.account("regent-system", ACCOUNT)
        config = self.config({each: each.token("regent-system", ACCOUNT) for each in (self.cluster, self.target)})
        self.account = ["--kubeconfig", config, "--context", "hub", "--target-context", "target"]
        return said

    def trusted(self):
        """What the account needs in the target: the same as in the hub, and no witness."""
        rules = self.cluster.get("ClusterRole", ACCOUNT).ok()["rules"]
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": ACCOUNT}, "rules": rules}
        self.target.create(role).ok()
        self.target.kubectl("create", "clusterrolebinding", ACCOUNT, f"--clusterrole={ACCOUNT}", f"--serviceaccount=regent-system:{ACCOUNT}")

    def config(self, tokens):
        """One kubeconfig with both clusters, in each as whom its token says."""
        named = {"hub": self.cluster, "target": self.target}
        path = self.stage.folder / f"both-{len(list(self.stage.folder.glob('both-*')))}"
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "hub",
            "clusters": [{"name": name, "cluster": {"server": each.server, "certificate-authority": str(each.ca)}}
                         for name, each in named.items()],
            "users": [{"name": name, "user": {"token": tokens[each]}} for name, each in named.items()],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in named]}))
        path.chmod(0o600)
        return path


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
    hand.target.kubectl("create", "clusterrolebinding", ACCOUNT, f"--clusterrole={ACCOUNT}", f"--serviceaccount=regent-system:{ACCOUNT}")
    only_get = [{"op": "replace", "path": "/rules/0/verbs", "value": ["get"]}]
    hand.target.patch("ClusterRole", ACCOUNT, None, only_get, "json").ok()
    hand.refused("--yes", ends=6, code="preflight", says=["authorities", hand.target.server])
    hand.target.patch("ClusterRole", ACCOUNT, None, [{"op": "replace", "path": "/rules/0/verbs", "value": ["get", "create", "patch"]}], "json").ok()
    hand.plan()
