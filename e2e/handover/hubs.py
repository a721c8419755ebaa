"""A hub: the witnesses are in one cluster, the Secrets in another, and each of regent's accounts has a token of both."""

import json

from clustered import ACCOUNT, Clustered
from vaulted import encoded
from verified import VERIFY, Verifies

RBAC = {"apiVersion": "rbac.authorization.k8s.io/v1"}


class Hub(Verifies, Clustered):
    def begun(self, *words, **kwargs):
        self.administrator()
        said = self.regent("init", self.place.root, *self.where, "--target-context", "target", "--yes", *words, **kwargs)
        self.target.account("regent-system", ACCOUNT)
        self.account = self.as_account(ACCOUNT)
        return said

    def administrator(self):
        admin = self.config({each: each.tokens["admin"] for each in (self.cluster, self.target)})
        self.where = ["--kubeconfig", admin, "--context", "hub"]

    def as_account(self, name):
        config = self.config({each: each.token("regent-system", name) for each in (self.cluster, self.target)})
        return ["--kubeconfig", config, "--context", "hub", "--target-context", "target"]

    def verifier(self):
        return self.as_account(VERIFY)

    def trusted(self):
        """What the accounts need in the target: the same as in the hub, and no witness. `verify` looks at the listed Secrets."""
        for account in (ACCOUNT, VERIFY):
            self.target.account("regent-system", account)
            rules = self.cluster.get("ClusterRole", account).ok()["rules"]
            self.target.create({**RBAC, "kind": "ClusterRole", "metadata": {"name": account}, "rules": rules}).ok()
            self.bound(account)
        self.target.kubectl("create", "rolebinding", "verified", "--namespace=app", "--role=listed",
                            f"--serviceaccount=regent-system:{VERIFY}")

    def bound(self, account=ACCOUNT):
        self.target.kubectl("create", "clusterrolebinding", account, f"--clusterrole={account}", f"--serviceaccount=regent-system:{account}")

    def live(self, name, values, cluster=None):
        """As whatever delivers it writes it."""
        thing = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": encoded(values),
                 "metadata": {"name": name, "namespace": "app"}}
        (cluster or self.target).apply_one(thing, "delivery", force=True).ok()

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
