"""A root whose Secrets Flux delivers, with the real OpenBao beside it, and `regent handover` by the account that may, with the
operator's file that `regent serve flux` has.
"""

import json
import os
import re
import subprocess

import bootstrapped
from bao import HANDOVER, Bao
from handed import regent_yaml
from proxy import Proxy
from stage import PATIENCE, leaks

ACCOUNT = "regent-system", "regent-handover-prod"


def begin(stage, says="", **kwargs):
    """Git rules and everything is applied; gives who hands over. `says` is more of regent.yaml."""
    bao = Bao(stage)
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

    def before_the_record(self, acts):
        """Does something once everything was looked at, before the record is sent."""
        def does(number, method, path):
            if method in ("POST", "PUT") and "/regent/prod/authority/" in path and "/data/" in path:
                acts()
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
