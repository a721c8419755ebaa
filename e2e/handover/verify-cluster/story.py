"""`regent verify` in a real API server, as the ServiceAccount that `init` made, with its token and with what `--print-policy`
prints: live Secrets beside Vault's copies, an etcd that is restored, and nothing else that the account may.
"""

import base64
import json
import os
import subprocess

from clustered import Clustered
from handed import CANARY, SECRETS
from stage import PATIENCE
from vaulted import namespace
from verified import CREDS, PERMANENT, VERIFY, Verifies

ISSUER = "https://kubernetes.default.svc.cluster.local"


class Verified(Verifies, Clustered):
    """`verify` has the account's own token, for the API server and for Vault."""

    def verifier(self):
        return ["--kubeconfig", self.cluster.kubeconfig(self.cluster.token("regent-system", VERIFY))]

    def login(self):
        jwt = self.stage.folder / "jwt"
        jwt.write_text(self.cluster.token("regent-system", VERIFY, 600, [self.address]))
        return ["--vault-auth", "jwt", "--vault-role", VERIFY, "--vault-jwt-file", jwt]

    def verify(self, *words, by=None, **kwargs):
        by = by or [*self.verifier(), *self.login()]
        return self.regent("verify", "prod", *by, *words, **kwargs)


def story(stage):
    hand = Verified(stage, stage.cluster(), secrets={**SECRETS, **CREDS}, more=PERMANENT)
    printed(hand)
    before = hand.cluster.snapshot()
    classes = {entry["name"]: entry["class"] for entry in hand.plan()["documents"]}
    assert classes == {"app/api": "handover", "app/db": "handover", "app/creds": "permanent"}, classes
    table = [line.split()[:2] for line in hand.handover("--plan").splitlines() if line.strip().startswith("app/")]
    assert dict(table) == classes, table
    hand.handover("--yes")
    for name, values in {**SECRETS, **CREDS}.items():
        live(hand, name, values)
    report = hand.fine()
    assert (report["copies"], report["secrets"], report["heartbeat"]) == (3, 3, 1), report
    differs(hand)
    missing(hand)
    restored(hand, before)
    least(hand)
    hand.bao.stop()


def printed(hand):
    """What an administrator pastes: for Vault its policies and roles, for the cluster the listed Secrets by name."""
    public = subprocess.run(["openssl", "rsa", "-in", hand.cluster.key, "-pubout"], check=True, capture_output=True, text=True).stdout
    hand.bao.done("POST", "sys/auth/jwt", {"type": "jwt"})
    hand.bao.done("POST", "auth/jwt/config", {"jwt_validation_pubkeys": [public], "bound_issuer": ISSUER})
    text = hand.regent("handover", "--repo", hand.repo, "--revision", hand.commit, "--path", "clusters/prod", "--print-policy", "--vault-auth", "jwt")
    vault, kubernetes = text.split("\n# --- Kubernetes\n")
    namespace(hand.cluster, "argocd")
    home = hand.stage.folder / "administrator"
    home.mkdir()
    for part, environment in ((vault, {"BAO_ADDR": hand.bao.address, "BAO_TOKEN": hand.bao.root, "BAO_CACERT": str(hand.bao.ca)}),
                              (kubernetes, {"KUBECONFIG": str(hand.cluster.kubeconfig())})):
        done = subprocess.run(["bash", "-euo", "pipefail"], input=part, capture_output=True, text=True, timeout=4 * PATIENCE, env={
            "HOME": str(home), "PATH": f"{hand.stage.house.peers}:{os.environ['PATH']}", **environment})
        assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{part}"
    hand.cluster.rights_in_force()


def live(hand, name, values):
    """As whatever delivers it writes it."""
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    thing = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
             "metadata": {"name": name, "namespace": "app"}}
    hand.cluster.apply_one(thing, "delivery", force=True).ok()


def differs(hand):
    """Rotated in Vault, and not delivered yet; and a key too many."""
    rotated = {"password": f"{CANARY}-rotated", "user": "app"}
    hand.bao.put("bootstrap/prod/app/db", rotated)
    report = hand.finds("live-differs", ends=1)
    finding = report["findings"][0]
    assert (finding["secret"], finding["keys"]) == ("app/db", ["password"]), report
    live(hand, "db", {**rotated, "more": "x"})
    assert hand.finds("live-differs", ends=1)["findings"][0]["keys"] == ["more"]
    live(hand, "db", {**rotated, "_raw": "whatever"})
    hand.fine()
    # A permanent one is changed by hand.
    hand.bao.put("bootstrap/prod/app/creds", {"key": f"{CANARY}-creds-2"})
    hand.verify(ends=1, says=["live Secret app/creds is not what Vault holds: key", "regent restore"])
    live(hand, "creds", {"key": f"{CANARY}-creds-2"})
    hand.finds("stale-in-git", ends=1, how=hand.in_git)
    hand.change("creds", {"key": f"{CANARY}-creds-2"})
    hand.fine(how=hand.in_git)


def missing(hand):
    hand.cluster.delete("Secret", "api", "app").ok()
    assert hand.finds("not-live", ends=1)["findings"][0]["secret"] == "app/api"
    live(hand, "api", SECRETS["api"])
    hand.fine()


def restored(hand, before):
    """etcd of before the handover: Git rules again for whoever asks the witnesses, until verify mirrors the record."""
    after, at = hand.cluster.snapshot(), hand.beat()
    for _ in range(2):
        hand.fine()
    hand.cluster.restore(after)
    report = hand.finds("ahead", ends=5)
    assert report["findings"][0]["beats"] == 2 and hand.beat() == at + 2, report
    hand.finds("restore-accepted", ends=0, words=["--accept-restored"])
    hand.fine()
    hand.cluster.restore(before)
    hand.git_still_rules()
    hand.finds("mirrored", "unsettled", "not-live", "not-live", "not-live", ends=7)
    hand.vault_rules()
    for name in SECRETS:
        live(hand, name, hand.get(f"bootstrap/prod/app/{name}"))
    live(hand, "creds", hand.get("bootstrap/prod/app/creds"))
    hand.verify(ends=7, says=["underway: Vault rules, and it is not settled", "`regent handover` goes on from here"])
    hand.handover("--yes", says="settled")
    hand.fine()
    # One witness is gone.
    hand.forgotten()
    hand.finds("mirrored", ends=0)
    hand.vault_rules()
    # Nobody answers.
    by = [*hand.verifier(), *hand.login()]
    hand.cluster.stop_apiserver()
    hand.verify(ends=4, code="cluster", by=by)
    hand.cluster.start_apiserver()


def least(hand):
    """The account looks at the Secrets of the list, each by its name, and at nothing else."""
    cluster, token = hand.cluster, hand.cluster.token("regent-system", VERIFY)
    live(hand, "other", {"key": "x"})
    asks = {"user": token}
    assert cluster.get("Secret", "db", "app", **asks).status == 200
    for answer in (cluster.get("Secret", "other", "app", **asks), cluster.get("Secret", None, "app", **asks),
                   cluster.delete("Secret", "db", "app", **asks), cluster.delete("Authority", "prod", **asks),
                   cluster.patch("Secret", "db", "app", {"metadata": {"labels": {"a": "b"}}}, **asks),
                   cluster.delete("ConfigMap", "regent-authority-prod-1", "kube-system", **asks),
                   cluster.get("Secret", None, "kube-system", **asks), cluster.get("ConfigMap", None, "kube-system", **asks),
                   cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "new", "namespace": "app"}}, **asks)):
        assert answer.status == 403, answer
    # Without the role of the listed Secrets what could not be compared is told as that.
    cluster.delete("RoleBinding", "regent-listed-prod", "app").ok()
    report = hand.finds("live-unknown", "live-unknown", "live-unknown", ends=4)
    assert not any(CANARY in json.dumps(finding) for finding in report["findings"])
