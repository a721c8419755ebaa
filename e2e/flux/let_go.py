"""A root whose Secrets Flux delivers, with the real OpenBao beside it, and `regent handover` by the account that may, with the
operator's file that `regent serve flux` has.
"""

import base64
import json
import os
import re
import subprocess

import bootstrapped
from authority import value
from bao import HANDOVER, Bao
from handed import regent_yaml
from proxy import Once, Proxy
from stage import PATIENCE, leaks

ACCOUNT = "regent-system", "regent-handover-prod"


def begin(stage, says="", bao=None, **kwargs):
    """Git rules and everything is applied; gives who hands over. `says` is more of regent.yaml."""
    bao = bao or Bao(stage)
    proxy = Proxy(bao)
    files = {"regent.yaml": regent_yaml(proxy.address, says), **kwargs.pop("files", {})}
    it = bootstrapped.begin(stage, files=files, **kwargs)
    it.applied(it.first)
    return Handing(it, bao, proxy)


class Handing:
    def __init__(self, it, bao, proxy):
        self.it, self.stage, self.cluster, self.bao, self.proxy = it, it.stage, it.cluster, bao, proxy
        bao.policy("handover", HANDOVER)
        self.token = bao.token_file("handover")
        self.work = it.stage.folder / "work"
        self.work.mkdir(exist_ok=True)
        config = json.loads(it.regent.config.read_text())
        config["store"]["kubeconfig"] = str(self.cluster.kubeconfig(self.cluster.token(*ACCOUNT)))
        self.config = it.stage.folder / "handover.yaml"
        self.config.write_text(json.dumps(config))
        self.may_look()

    def may_look(self):
        """At the Secret that is handed over, by its name, as `--print-policy` has it."""
        rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "listed", "namespace": "prod"}}
        self.cluster.apply([
            {**rbac, "kind": "Role", "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["db"], "verbs": ["get"]}]},
            {**rbac, "kind": "RoleBinding", "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "listed"},
             "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT[1], "namespace": ACCOUNT[0]}]}])

    def may_look_at(self, names):
        """At these, too."""
        rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "listed-too", "namespace": "prod"}}
        self.cluster.apply([
            {**rbac, "kind": "Role", "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["get"]}]},
            {**rbac, "kind": "RoleBinding", "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "listed-too"},
             "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT[1], "namespace": ACCOUNT[0]}]}])

    def before_the_record(self, acts):
        """Does something once everything was looked at, before the record is sent. A client that is not answered in time sends it again,
        and that one waits, too."""
        once = Once(acts)

        def does(number, method, path):
            if method in ("POST", "PUT") and "/regent/prod/authority/" in path and "/data/" in path:
                once()
        self.proxy.does = does

    def words(self, *words):
        commit = self.stage.repo.git("rev-parse", "HEAD")
        # Whoever prints rights has no token yet.
        token = [] if "--print-policy" in words else ["--vault-token-file", self.token]
        return [self.stage.house.regent, "handover", "--repo", self.stage.repo.folder, "--revision", commit, "--path", "clusters/prod",
                "--config", self.config, *token, *words]

    def start(self, *words):
        """A handover that goes on while others do, for `over`."""
        env = {"HOME": str(self.work), "PATH": os.environ["PATH"], "TMPDIR": str(self.work), "VAULT_CACERT": str(self.bao.ca)}
        return subprocess.Popen(list(map(str, self.words(*words))), cwd=self.work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, env=env)

    @staticmethod
    def over(child, ends=0, says=()):
        """Waits for it; gives what it said."""
        said, _ = child.communicate(timeout=6 * PATIENCE)
        assert not leaks(said), "the canary is in what a handover said"
        said = said.decode()
        assert child.returncode == ends, f"{child.returncode}, not {ends}: {said}"
        for word in says:
            assert re.search(word, said), f"`{word}` is not in: {said}"
        return said

    def handover(self, *words, **kwargs):
        return self.over(self.start(*words), **kwargs)

    def hands_over(self, live, inventory):
        """Plan and handover of a root whose live Secrets are all but the last of these, a Deployment: each is in the plan, Vault holds a
        copy under its name, and nothing changes."""
        names = [each["metadata"]["name"] for each in live[:-1]]
        self.may_look_at(names)
        said = self.handover("--plan")
        assert all(f"prod/{name}" in said for name in names), said
        self.handover("--yes", says=[r"settled +.*1 Kustomization let go"])
        self.it.app.ready(self.stubs())
        self.it.flux.unchanged(*live)
        assert self.it.app.inventory() == inventory
        for name, each in zip(names, live):
            assert self.bao.fields(f"bootstrap/prod/prod/{name}") == plain(each), name

    def settled(self):
        """What is noted of it; None where it is not settled."""
        status = self.cluster.get("Authority", "prod").ok().get("status", {})
        if "settled" not in status:
            return None
        return next(each for each in status["conditions"] if each["type"] == "Settled")["message"]

    def stubs(self):
        """The revision of the artifact with stubs, as soon as it is published."""
        return self.it.published(lambda artifact: artifact.get("revision", "").startswith("handover@"))["revision"]


def types(repository, commands):
    for command in commands:
        subprocess.run(["sh", "-ec", command], cwd=repository, check=True, stdout=subprocess.DEVNULL)


def told(handing, name):
    """What an administrator is told of a step."""
    stage, file = handing.stage, admin(handing)
    words = ["retire", "--repo", stage.repo.folder, "--revision", "main", "--path", "clusters/prod", "--config", file, "-o", "json"]
    done = subprocess.run([stage.house.regent, *map(str, words)], capture_output=True, env=stage.house.env)
    assert not leaks(done.stdout + done.stderr)
    step, = (each for each in json.loads(done.stdout)["steps"] if each["step"] == name)
    return step


def admin(handing):
    """The operator's file, for an administrator."""
    config = json.loads(handing.it.regent.config.read_text())
    config["store"]["kubeconfig"] = str(handing.it.cluster.kubeconfig())
    file = handing.stage.folder / "admin.yaml"
    file.write_text(json.dumps(config))
    return file


def stock(it, **spec):
    """The Secrets that Flux makes of the same commit by its own decryption, in another namespace: the values of each by name."""
    it.flux.namespace("stock")
    decryption = it.flux.decryption("sops-age", "stock", {"key.agekey": it.stage.key.file.read_text()})
    app = it.flux.kustomization("stock", "stock", it.repository, path=it.root, targetNamespace="stock", decryption=decryption, **spec)
    app.ready(f"main@sha1:{it.stage.repo.git('rev-parse', 'HEAD')}")
    found = secrets(it, "stock", app)
    app.delete()
    return found


def secrets(it, namespace, app):
    """What is live of the Secrets that a Kustomization applied."""
    names = [entry.split("_")[1] for entry in app.inventory() if entry.endswith("__Secret")]
    return {name: plain(it.flux.live(name, namespace)) for name in names}


def plain(live):
    return {key: base64.b64decode(text).decode() for key, text in live["data"].items()}


def env(stage, number):
    """Text as the real sops encrypts it."""
    command = ["sops", "--encrypt", "--age", stage.key.recipient, "--input-type", "dotenv", "--output-type", "dotenv", "/dev/stdin"]
    text = f"PASSWORD={value(number)['password']}\n"
    done = subprocess.run(command, input=text.encode(), capture_output=True, env=stage.house.env)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def deployment(*secrets):
    """One that refers to these."""
    labels = {"app": "web"}
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [
            {"name": "web", "image": "none", "envFrom": [{"secretRef": {"name": each}} for each in secrets]}]}}}})


def refers(web):
    """What it refers to."""
    return [each["secretRef"]["name"] for each in web["spec"]["template"]["spec"]["containers"][0]["envFrom"]]
