import json
import time

import sidecar
from applications import NAMESPACE
from operators import FILES, Operated
from sidecar import KEYS
from stage import CANARY, TOP, until

OTHER = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "other", "namespace": NAMESPACE}, "spec": {
    "replicas": 0, "serviceName": "other", "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {
        "containers": [{"name": "it", "image": "none", "envFrom": [{"secretRef": {"name": KEYS}}]}]}}}}
STEPS = ["closed", "delivery", "files", "plugin", "sidecar", "lock", "accounts", "policies", "witnesses", "crd"]


def story(stage):
    hand = Leaving(stage, "{ emit: externalSecret, store: { name: vault, kind: ClusterSecretStore } }", "ExternalSecret",
                   "external-secrets", "--metrics-addr=0", *(f"--enable-{kind}-reconciler=false" for kind in (
                       "push-secret", "cluster-push-secret", "cluster-external-secret")))
    hand.logs_in("external-secrets.yaml", "regent-system:regent-deliver-prod")
    sidecar.beside(stage, hand.cluster)
    first, before = hand.commit, hand.live()
    hand.retire(ends=1, code="retire", says="Git still rules")
    hand.handed_over()
    hand.retire(ends=7, code="unmirrored", says="is not settled")
    hand.looked_at_again()
    hand.keys_go()
    hand.jobs()
    hand.delivered(before)

    for step in STEPS:
        hand.does(step)
        hand.goes_on(before)
    said = json.loads(hand.retire("-o", "json"))
    kept = {each["step"]: each["why"] for each in said["steps"] if each["state"] == "stays"}
    assert {each["state"] for each in said["steps"]} == {"done", "stays"} and list(kept) == ["namespace"], said
    assert "serviceaccounts/regent-deliver-prod" in kept["namespace"], kept
    assert "nothing of regent is left" in hand.retire()
    hand.nothing_is_left()

    # What the lock kept away is not rendered.
    operation = hand.app.sync(revision=first, prune=True, options=["Replace=true"], force=True)
    assert operation["phase"] == "Succeeded", operation
    hand.goes_on(before)
    hand.bao.stop()


class Leaving(Operated):
    def __init__(self, *words):
        super().__init__(*words)
        self.turn = 0
        self.file = self.config(version="v1", redis=f"127.0.0.1:{self.stage.house.redis_port}")

    def retire(self, *words, **kwargs):
        return self.regent("retire", "--repo", self.stage.repo.folder, "--revision", "main", "--path", "clusters/prod",
                           "--config", self.file, *self.where, *words, **kwargs)

    def looked_at_again(self):
        """What was left behind keeps the lock, until Redis was looked into."""
        self.handover("--config", self.config(version="v1"), "--settle-without", "caches", "--yes", says="closed: ")
        assert "without caches" in self.lock_stays()
        self.handover("--config", self.file, "--yes", says="closed: ")
        assert "without caches" in self.lock_stays()
        self.handover("--config", self.file, "--caches-locked", "--yes", says="closed: ")
        assert "removed from Redis" in self.settled() and "without" not in self.settled()

    def lock_stays(self):
        said = json.loads(self.retire("-o", "json", ends=4))
        lock, = (each for each in said["steps"] if each["step"] == "lock")
        assert lock["state"] == "unknown" and lock["commands"] == [], lock
        return lock["why"]

    def jobs(self):
        """What the Jobs have, by the names that `manifests/vault` gives it."""
        self.cluster.apply(TOP / "manifests/vault/in-cluster.yaml")
        name, who = "regent-in-cluster-prod", "--serviceaccount=people:jane"
        self.cluster.kubectl("create", "rolebinding", name, f"--role={name}", who, "--namespace=regent-system")
        self.cluster.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", who)
        self.cluster.apply([{"apiVersion": "v1", "kind": kind, "metadata": {"name": f"{name}-prod", "namespace": "regent-system"}} for
                            kind, name in (("Secret", "regent-keys"), ("Secret", "regent-git"),
                                           ("ConfigMap", "regent-handover"), ("ConfigMap", "regent-verify"))])

    def keys_go(self):
        """Not before it is settled, not while somebody else has them, and then once."""
        def run(*words, **kwargs):
            return self.handover("--config", self.file, "--retire-keys", *words, **kwargs)
        run("--yes", ends=1, code="forbidden", says="deployments")
        assert self.settled() and sidecar.mounted(self.cluster)
        printed = json.loads(self.handover("--print-policy", "--vault-auth", "kubernetes", "--retire-keys", "-o", "json"))
        self.cluster.apply([each for each in printed["kubernetes"]["toCreate"] if each["metadata"]["name"] == "regent-retire-keys-prod"])
        sidecar.beside(self.stage, self.cluster, self.stage.rule(authority="edge", bootstrap="clusters/edge/regent.yaml", identities=["../../run/regent/keys"]))
        run("--yes", ends=4, code="retire", says=[f"{NAMESPACE}/{KEYS}", "`edge`"])
        assert "would stay: the rule of `edge`" in run("--plan")
        sidecar.beside(self.stage, self.cluster)
        self.cluster.apply([OTHER])
        assert "would stay: other/it has it" in run("--plan")
        run("--yes", ends=1, code="retire", says="other/it")
        self.cluster.kubectl("-n", NAMESPACE, "delete", "statefulset", "other")
        assert "argocd/regent-keys-prod would be removed" in run("--plan")
        assert sidecar.mounted(self.cluster)
        assert f"Secret {NAMESPACE}/{KEYS} was removed" in run("--yes")
        assert not sidecar.mounted(self.cluster)
        assert "none is left" in run("--yes")

    def delivered(self, before):
        until("the objects are there", lambda: set(self.objects()) == {"db", "pinned", "keystore"})
        for name in ("db", "keystore"):
            until(f"{name} is delivered", lambda name=name: self.ready(name))
        self.app.synced()
        self.goes_on(before)

    def ready(self, name):
        conditions = self.objects()[name].get("status", {}).get("conditions", [])
        return {each["type"]: each["status"] for each in conditions}.get("Ready") == "True"

    def does(self, step):
        """It is the one step that is offered; its own commands do it."""
        while True:
            said = json.loads(self.retire("-o", "json", ends=7))
            states = {each["step"]: each["state"] for each in said["steps"]}
            offered, = (each for each in said["steps"] if each["state"] == "to do")
            if offered["step"] != step:
                break
            assert offered["left"] and offered["commands"], offered
            assert all(each["commands"] == [] for each in said["steps"] if each["state"] != "to do"), said
            assert f"to do    {step}" in self.retire(ends=7)
            for command in offered["commands"]:
                sidecar.typed(self, command, REGENT_CONFIG=str(self.file))
            if step == "sidecar":
                self.door.stop()
            self.commit = self.stage.repo.git("rev-parse", "HEAD")
            self.app.refresh("hard")
            self.app.synced()
            if step == STEPS[-1]:
                return
            self.turn += 1
            assert self.turn < 30, said
        assert states[step] == "done", (step, states)

    def goes_on(self, before):
        """The live Secrets are the ones that they were, and a rotation arrives."""
        self.rotations = getattr(self, "rotations", 0) + 1
        self.rotate("db", password=f"{CANARY}-{self.rotations}")
        self.cluster.patch(self.kind, "db", "app", {"metadata": {"annotations": {"force-sync": str(time.time())}}}).ok()
        self.holds("db", password=f"{CANARY}-{self.rotations}")
        for name in FILES:
            self.same(before, name)
            if name != "db":
                assert self.secret(name)["data"] == before[name]["data"], name

    def nothing_is_left(self):
        """By name, of every kind that regent is made of."""
        kinds = ("clusterroles,clusterrolebindings,roles,rolebindings,serviceaccounts,configmaps,secrets,crds,validatingadmissionpolicies,"
                 "validatingadmissionpolicybindings,cronjobs,jobs,networkpolicies")
        listed = json.loads(self.cluster.kubectl("get", "-A", "-o", "json", kinds))["items"]
        found = {f"{each['kind']} {each['metadata']['name']}" for each in listed
                 if "regent" in each["metadata"]["name"]}
        assert found == {"ServiceAccount regent-deliver-prod"}, found
        deployment = self.cluster.get("Deployment", "argocd-repo-server", NAMESPACE).ok()["spec"]["template"]["spec"]
        assert [each["name"] for each in deployment["containers"]] == ["argocd-repo-server"], deployment
        assert [each["name"] for each in deployment["volumes"]] == ["plugins"], deployment
