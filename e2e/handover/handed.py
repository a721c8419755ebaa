"""A root with a Vault beside it, and `regent handover` as a person runs it. The authority is kept in a folder, unless the
story has a cluster.
"""

import json
import os
import re
import subprocess

from bao import HANDOVER, Bao
from stage import CANARY, PATIENCE, Sealed, leaks, secret  # noqa: F401

# The policy of any authority's handover.
ANY_HANDOVER = HANDOVER.replace("prod", "+")

SECRETS = {"db": {"password": f"{CANARY}-db", "user": "app"}, "api": {"token": f"{CANARY}-api"}}


def regent_yaml(address, more="", name="prod", epoch=1, **vault):
    place = {"address": address, "mount": "secret", "prefix": f"bootstrap/{name}", **vault}
    return (f"apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: {name}\nepoch: {epoch}\nvault: {json.dumps(place)}\n"
            f"after: {{ emit: stub }}\n{more}")


def sealed(name, values, namespace="app"):
    """A Secret with clear text, as a person writes it and sops encrypts it."""
    return Sealed(json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
                              "stringData": values}))


class Hand:
    """clusters/prod, its Vault, and the store of its authority."""

    def __init__(self, stage, bao=None, secrets=SECRETS, address=None, more="", init=True, **vault):
        self.stage, self.bao, self.name = stage, bao or Bao(stage), "prod"
        self.epoch = 1
        self.expected = {f"app/{name}": (1, values) for name, values in secrets.items()}
        self.bao.policy("handover", HANDOVER)
        self.token = self.bao.token_file("handover")
        self.address = address or self.bao.address
        self.work = stage.folder / "work"
        self.work.mkdir(exist_ok=True)
        self.commit = stage.repo.commit({
            "clusters/prod/regent.yaml": regent_yaml(self.address, more, **vault),
            **{f"clusters/prod/{name}.yaml": sealed(name, values) for name, values in secrets.items()}})
        self.where = ["--store", stage.store]
        if init:
            self.init()

    def init(self):
        self.regent("init", self.stage.repo.folder / "clusters/prod", *self.where, "--yes")

    def another(self, name, **vault):
        """The same root as another authority's, of which nothing is in Vault yet: as good as a new Vault, and cheaper."""
        self.name = name
        self.commit = self.stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(
            self.address, name=name, **vault)})
        self.init()

    def accept(self, names):
        """Vault's values of these stand."""
        self.commit = self.stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(
            self.address, f"handover: {{ acceptExisting: [{', '.join(names)}] }}\n", name=self.name)})

    # --- regent

    def environment(self):
        return {"HOME": str(self.work), "PATH": os.environ["PATH"], "TMPDIR": str(self.work), "VAULT_CACERT": str(self.bao.ca)}

    def command(self, *words):
        return [str(self.stage.house.regent), *map(str, words)]

    def regent(self, *words, ends=0, code=None, says=(), env=None):
        """Runs it, expects an exit code and, of an error, its name; gives everything that it said."""
        done = subprocess.run(self.command(*words), cwd=self.work, stdin=subprocess.DEVNULL, capture_output=True,
                              env={**self.environment(), **(env or {})}, timeout=6 * PATIENCE)
        return self.judged(done.returncode, done.stdout + done.stderr, words, ends, code, says)

    def begin(self, *words, terminal=None, **kwargs):
        """A handover that goes on while others do: a process, for `over`. Of a terminal, it asks there and tells there how far it
        is."""
        return self.started(self.handover_words(*words, **kwargs), terminal)

    def started(self, words, terminal=None):
        return subprocess.Popen(self.command(*words), cwd=self.work, stdin=terminal or subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=terminal or subprocess.STDOUT, env=self.environment())

    @staticmethod
    def over(child):
        """Waits for it; how it ended (-9 for a kill), and what it said."""
        said, _ = child.communicate(timeout=6 * PATIENCE)
        assert not leaks(said), "the canary is in what a handover said"
        return child.returncode, said.decode()

    def judged(self, returned, output, words, ends, code, says):
        assert not leaks(output), f"the canary is in what `{' '.join(map(str, words))}` said"
        said = output.decode()
        assert returned == ends, f"{returned}, not {ends}: {said}"
        named = re.findall(r"^regent: error\[([\w-]+)\]", said, re.M)
        assert named == ([code] if code else []), f"{named}, not {code}: {said}"
        for word in [says] if isinstance(says, str) else says:
            assert word in said, f"`{word}` is not in: {said}"
        assert not list(self.work.iterdir()), f"regent left {list(self.work.iterdir())}"
        return said

    def handover_words(self, *words, token=None, revision=None):
        login = () if "--vault-auth" in words and token is None else ("--vault-token-file", token or self.token)
        return ["handover", "--repo", self.stage.repo.folder, "--revision", revision or self.commit, "--path", "clusters/prod",
                "-i", self.stage.key.file, *self.where, *login, *words]

    def handover(self, *words, ends=0, code=None, says=(), token=None, revision=None, env=None):
        return self.regent(*self.handover_words(*words, token=token, revision=revision), ends=ends, code=code, says=says, env=env)

    def plan(self, **kwargs):
        """The plan as JSON."""
        return json.loads(self.handover("--plan", "--output", "json", **kwargs).splitlines()[0])

    def rendered(self):
        """What a front door would apply now, by name: the `data` of each Secret, or None for a stub."""
        done = subprocess.run(
            self.command("render", self.stage.repo.folder / "clusters/prod", "-i", self.stage.key.file, "--reveal", "-o", "json",
                         *self.where), cwd=self.work, capture_output=True, env=self.environment(), timeout=PATIENCE)
        assert done.returncode == 0, done.stderr.decode()
        objects = [json.loads(line) for line in done.stdout.decode().splitlines()]
        return {thing["metadata"]["name"]: thing.get("data") for thing in objects if thing["kind"] == "Secret"}

    def rendered_redacted(self):
        """The commit as a person looks at it, all of it opened."""
        self.regent("render", "--repo", self.stage.repo.folder, "--revision", self.commit, "--path", "clusters/prod", "-i",
                    self.stage.key.file)

    def renders(self, values):
        """Every Secret of the root is rendered, with values or without."""
        rendered = self.rendered()
        assert rendered and {name.split("/")[1] for name in self.expected} <= set(rendered), rendered
        assert all(bool(data) == values for data in rendered.values()), rendered

    # --- Vault

    def copies(self):
        """Vault's copies by `namespace/name`, as its own client reads them."""
        return {name: self.get(f"bootstrap/{self.name}/{name}") for name in self.names()}

    def names(self):
        status, body = self.bao.ask("LIST", f"secret/metadata/bootstrap/{self.name}/app")
        return [f"app/{key}" for key in body["data"]["keys"]] if status == 200 else []

    def get(self, path):
        done = subprocess.run(["bao", "kv", "get", "-format=json", "-mount=secret", path], capture_output=True, env={
            **self.environment(), "BAO_ADDR": self.bao.active().address, "BAO_TOKEN": self.bao.root, "BAO_CACERT": str(self.bao.ca)})
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)["data"]["data"]

    def record(self, epoch=None):
        return self.bao.fields(self.key_of_record(epoch))

    def key_of_record(self, epoch=None):
        return f"regent/{self.name}/authority/{epoch or self.epoch}"

    def versions(self):
        """The version of every key below the mount that a handover may have touched."""
        found = {}
        for name in [f"bootstrap/{self.name}/{name}" for name in self.names()] + [self.key_of_record()]:
            status, body = self.bao.ask("GET", f"secret/metadata/{name}")
            found[name] = body["data"]["current_version"] if status == 200 else 0
        return found

    # --- witnesses

    def authority(self):
        return json.loads((self.stage.store / self.name / "authority.json").read_text())

    def handover_witness(self):
        return json.loads((self.stage.store / self.name / f"handover-{self.epoch}.json").read_text())

    def git_rules(self):
        assert self.authority()["authority"] == "git", self.authority()
        assert self.record() is None
        self.renders(True)

    def vault_rules(self):
        """Record and witnesses say the same, and no value is rendered."""
        record, authority = self.record(), self.authority()
        assert authority["authority"] == "vault" and authority["handoverId"] == record["handoverId"], (authority, record)
        assert self.handover_witness()["handoverId"] == record["handoverId"]
        self.renders(False)
        return record["handoverId"]

    def versioned(self, path):
        """Version and fields of a key."""
        data = self.bao.done("GET", f"secret/data/{path}")["data"]
        return data["metadata"]["version"], data["data"]

    def handed_over(self, **changed):
        """The one end of every handover, whatever came between: each copy once and with Git's values (or at the version and
        with the values of `changed`), one record, written once, and both witnesses and the rendering say the same."""
        expected = {**self.expected, **{f"app/{name}": held for name, held in changed.items()}}
        assert {name: self.versioned(f"bootstrap/{self.name}/{name}") for name in self.names()} == expected
        assert self.versioned(self.key_of_record())[0] == 1
        return self.vault_rules()
