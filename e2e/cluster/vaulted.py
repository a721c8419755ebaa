"""An authority with a Vault beside it, handed over as `regent handover` will do it; and regent as a person runs it, on a
root with the keys of the offline root.
"""

import base64
import json
import os
import re
import subprocess
import uuid

from applications import DOOR
from installed import Who, bound, granted, install
from stage import PATIENCE, at, leaks, until

SYSTEM = "regent-system"
# The group, by impersonation, as manifests/cluster/rbac.yaml has it: nothing but its role counts.
BREAK_GLASS = "--as", "jane", "--as-group", "regent:break-glass"
LOCKED = "Vault is the authority for this Secret"


class Place:
    """clusters/prod of the story's repository, its cluster and its Vault."""

    def __init__(self, stage, cluster, bao, target=None):
        """`target` is where the Secrets are, in a hub."""
        self.stage, self.cluster, self.bao, self.target = stage, cluster, bao, target or cluster
        self.root = stage.repo.folder / "clusters/prod"
        self.work = stage.folder / "work"
        self.work.mkdir(exist_ok=True)

    def install(self):
        for cluster in {id(each): each for each in (self.cluster, self.target)}.values():
            install(cluster)
            bound(cluster)
            # As Argo CD's own manifests have it.
            if cluster.get("ClusterRoleBinding", "argocd-application-controller").status == 404:
                cluster.kubectl("create", "clusterrolebinding", "argocd-application-controller", "--clusterrole=cluster-admin", f"--user={DOOR}")
            granted(cluster, Who(DOOR, "admin", {"Impersonate-User": DOOR}), ("Secret",))

    # --- regent

    def command(self, *words, config=None):
        return [self.stage.house.regent, *map(str, words), "--kubeconfig", config or self.cluster.kubeconfig()]

    def environment(self):
        return {"HOME": str(self.work), "PATH": os.environ["PATH"], "TMPDIR": str(self.work)}

    def regent(self, *words, ends=0, code=None, says=(), config=None):
        """Runs it, expects an exit code and, of an error, its name; gives everything that it said."""
        done = subprocess.run(self.command(*words, config=config), cwd=self.work, stdin=subprocess.DEVNULL,
                              capture_output=True, env=self.environment(), timeout=4 * PATIENCE)
        assert not leaks(done.stdout + done.stderr), f"the canary is in what `{' '.join(map(str, words))}` said"
        said = (done.stdout + done.stderr).decode()
        assert done.returncode == ends, f"{done.returncode}, not {ends}: {said}"
        named = re.findall(r"^regent: error\[([\w-]+)\]", said, re.M)
        assert named == ([code] if code else []), f"{named}, not {code}: {said}"
        for word in [says] if isinstance(says, str) else says:
            assert word in said, f"`{word}` is not in: {said}"
        assert not list(self.work.iterdir()), f"regent left {list(self.work.iterdir())}"
        return said

    def values(self, *words):
        """What a front door would apply: the only output here with values in it."""
        done = subprocess.run(self.command("render", self.root, "-i", self.stage.key.file, "--reveal", "-o", "json", *words),
                              cwd=self.work, capture_output=True, env=self.environment(), timeout=PATIENCE)
        assert done.returncode == 0, done.stderr.decode()
        assert not leaks(done.stderr)
        return [json.loads(line) for line in done.stdout.decode().splitlines()]

    def door(self, thing):
        """Argo CD applies it."""
        return self.target.apply_one(thing, "argocd-controller", force=True, headers={"Impersonate-User": DOOR})

    def prunes(self, name):
        """Argo CD would delete this live Secret. Unlike a write, that is never what is there already."""
        return self.target.delete("Secret", name, "app", {"dryRun": "All"}, headers={"Impersonate-User": DOOR})

    def bites(self, name):
        """The lock holds the door off this Secret."""
        answer = until("the lock is in force", lambda: refused(self.prunes(name)))
        assert LOCKED in answer.message, answer

    def opens(self, name):
        until("the lock lets the door in", lambda: self.prunes(name).status == 200)

    # --- witnesses

    def authority(self, cluster=None):
        """What the Authority says: its spec, or None."""
        answer = (cluster or self.cluster).get("Authority", "prod")
        return None if answer.status == 404 else answer.ok()["spec"]

    def says(self, cluster=None):
        spec = self.authority(cluster)
        return spec and f"{spec['authority']}{spec['epoch']}"

    def witness(self, documents):
        """Begins a handover: the record in Vault, and the ConfigMap as the account that may. Gives its id."""
        spec, handover = self.authority(), str(uuid.uuid4())
        moved = {**spec, "authority": "vault", "handoverId": handover, "vaultClusterId": str(uuid.uuid4()),
                 "mountUuid": str(uuid.uuid4()), "markerVersion": 1, "markerCreatedTime": "2026-01-01T00:00:00Z",
                 "treeDigest": "0" * 64, "gitCommit": self.stage.repo.git("rev-parse", "HEAD"), "regentVersion": "0.1.0"}
        epoch = spec["epoch"]
        self.bao.put(f"regent/prod/authority/{epoch}", {**moved, "epoch": epoch})
        lines = self.stage.repo.git("ls-tree", "-r", "HEAD:clusters/prod").splitlines()
        blobs = {path: words.split()[2] for words, path in (line.split("\t") for line in lines)}
        listed = [{"path": path, "name": name, "kind": kind, "class": of, "blob": blobs[path]} for path, name, kind, of in documents]
        witness = {"apiVersion": "v1", "kind": "ConfigMap", "immutable": True,
                   "data": {"witness.json": json.dumps({**moved, "documents": listed})},
                   "metadata": {"name": f"regent-authority-prod-{epoch}", "namespace": "kube-system"}}
        token = self.cluster.token(SYSTEM, "regent-handover-prod")
        # A changed role is in force a moment later.
        until("the handover account may", lambda: self.cluster.apply_one(witness, "regent", user=token).status in (200, 201))
        self.moved = moved
        return handover

    def mirror(self):
        """... and ends it: the Authority."""
        token = self.cluster.token(SYSTEM, "regent-handover-prod")
        for cluster in {id(each): each for each in (self.cluster, self.target)}.values():
            user = token if cluster is self.cluster else "breakglass"
            thing = {"apiVersion": "regent.dev/v1alpha1", "kind": "Authority", "metadata": {"name": "prod"}, "spec": self.moved}
            cluster.apply_one(thing, "regent", force=True, user=user).ok()

    def hand_over(self, documents):
        handover = self.witness(documents)
        self.mirror()
        return handover

    def live(self, name, namespace="app"):
        answer = self.target.get("Secret", name, namespace)
        return None if answer.status == 404 else {
            key: base64.b64decode(text).decode() for key, text in answer.ok().get("data", {}).items()}


def refused(answer):
    return answer if answer.status == 403 else None


def encoded(values):
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


def rotate(cluster, name, values, namespace="app"):
    """Another value, as an operator of Vault writes it."""
    live = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "data": encoded(values)}
    cluster.apply_one(live, "vault-operator", force=True).ok()


def namespace(cluster, *names):
    for name in names:
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).ok()


def events(cluster, name, namespace="app"):
    """What is told beside a Secret."""
    listed = cluster.request("GET", f"/api/v1/namespaces/{namespace}/events").ok()["items"]
    return [event for event in listed if event["involvedObject"].get("name") == name]


def unchanged(cluster, *things):
    """resourceVersions: nothing was written."""
    return [cluster.request("GET", at(*thing)).ok()["metadata"]["resourceVersion"] for thing in things]


def both(stage, hub, target):
    """One kubeconfig with both clusters."""
    path = stage.folder / "both.kubeconfig"
    named = {"hub": hub, "target": target}
    path.write_text(json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "hub",
        "clusters": [{"name": name, "cluster": {"server": each.server, "certificate-authority": str(each.ca)}}
                     for name, each in named.items()],
        "users": [{"name": name, "user": {"token": each.tokens["admin"]}} for name, each in named.items()],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in named]}))
    path.chmod(0o600)
    return path
