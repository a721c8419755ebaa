"""What the stories need: the real repo-server with a real Redis, Git repositories that the real sops filled,
and regent. Every folder lies in one scratch folder; every process is stopped at the end.

A House is what all stories share. A Stage is one story's: its folder, its plugin's name, its applications'
names. When a story ends, everything its regents left behind is searched for the canary.
"""

import base64
import collections
import concurrent.futures
import contextlib
import gzip
import http.client
import itertools
import json
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

# Every secret value of every story holds it; no other text does.
CANARY = "REGENT-CANARY"
HANDOVER = "0b0e7c1e-5b0a-4c0e-8c3e-0123456789ab"
PATIENCE = 90  # seconds for what takes a fraction of one, on a machine that has much else to do
GIVEN = set()  # ports that were given away and may not be taken yet


def leaks(data):
    """Whether bytes hold the canary: in the clear, or as base64 at any of its three alignments."""
    return any(needle in data for needle in NEEDLES)


def encoded(text, shift):
    # The first and the last group depend on the neighbours; those between do not.
    return base64.b64encode(b"x" * shift + text.encode())[4:-8]


NEEDLES = [CANARY.encode(), *(encoded(CANARY, shift) for shift in range(3))]


def until(what, happens, seconds=PATIENCE):
    """Waits for something to happen, and gives what it gave."""
    end = time.monotonic() + seconds
    while not (got := happens()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.01)
    return got


def pause(child):
    """Holds a program where it is, until SIGCONT. The signal is sent before every thread has taken it up, which is waited for."""
    child.send_signal(signal.SIGSTOP)

    def stands():
        with contextlib.suppress(OSError):
            states = [stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{child.pid}/task").glob("*/stat")]
            return set(states) == {"T"}
    until(f"process {child.pid} stands still", stands)


def free_port():
    """Below those that the kernel gives to clients: one could take it, or reach itself while nobody listens."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.choice(range(10000, first) or range(1025, 65536))
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            if port not in GIVEN:
                GIVEN.add(port)
                return port


def answers_on(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True


class Asker:
    """A program that takes questions as lines of JSON and answers them in any order."""

    def __init__(self, *command, **kwargs):
        self.child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **kwargs)
        self.ids, self.open, self.lock = itertools.count(1), {}, threading.Lock()
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.child.stdout:
            answer = json.loads(line)
            with self.lock:
                future = self.open.pop(answer.pop("id"))
            future.set_result(answer)
        with self.lock:
            for future in self.open.values():
                future.set_exception(AssertionError(f"{self.child.args[0]} ended without an answer"))

    def ask(self, **question):
        """A Future with the answer."""
        future = concurrent.futures.Future()
        with self.lock:
            question["id"] = next(self.ids)
            self.open[question["id"]] = future
            self.child.stdin.write(json.dumps(question) + "\n")
            self.child.stdin.flush()
        return future

    def close(self):
        self.child.stdin.close()
        self.child.wait(PATIENCE)
        self.reader.join(PATIENCE)
        self.child.stdout.close()


class House:
    """Redis, the repo-server and whoever asks it, for all stories: there from `serve` to `close`."""

    def __init__(self, folder, regent, tools, peers):
        self.folder, self.regent, self.peers = folder, regent, peers
        self.plugins = folder / "plugins"
        home, tmp = folder / "home", folder / "repo-server"
        for made in (self.plugins, home, tmp, folder / "bin"):
            made.mkdir()
        self.plugins.chmod(0o777)  # as the pod's emptyDir
        wrapper = folder / "bin/git-verify-wrapper.sh"
        # Argo CD's image has this script; the repo-server runs it for every commit.
        wrapper.write_text('#!/bin/sh\ngit verify-commit "$1" 2>&1 || :\n')
        wrapper.chmod(0o755)
        self.env = {
            "PATH": f"{folder}/bin:{tools}:{os.environ['PATH']}", "HOME": str(home), "TMPDIR": str(tmp),
            "GIT_CONFIG_NOSYSTEM": "1", "SOPS_DISABLE_VERSION_CHECK": "1",
            "GIT_AUTHOR_NAME": "e2e", "GIT_AUTHOR_EMAIL": "e2e@example.invalid",
            "GIT_COMMITTER_NAME": "e2e", "GIT_COMMITTER_EMAIL": "e2e@example.invalid",
        }
        self.started = []

    def serve(self):
        self.redis_port, self.repo_port = free_port(), free_port()
        self.start_redis()
        self.start_repo_server(self.repo_port)
        self.driver = Asker(self.peers / "argocd-driver", "-requests", "-server", f"127.0.0.1:{self.repo_port}",
                            env=self.env)

    def start_redis(self):
        self.redis_server = self.start("redis", "redis-server", "--bind", "127.0.0.1", "--port", self.redis_port,
                                       "--save", "", "--appendonly", "no", "--dir", self.folder)
        until(f"port {self.redis_port} answers", lambda: answers_on(self.redis_port))

    def restart_redis(self):
        """It keeps nothing."""
        self.started.remove(self.redis_server)
        self.redis_server.kill()
        self.redis_server.wait()
        self.start_redis()

    def start_repo_server(self, port, tmp=None):
        """The one of the house, or another with a place of its own for its checkouts."""
        home = self.env["HOME"]
        child = self.start(
            "repo-server", self.peers / "argocd", "--disable-tls", "--client-ca-path=", "--address", "127.0.0.1",
            "--port", port, "--metrics-address", "127.0.0.1", "--metrics-port", free_port(),
            "--redis", f"127.0.0.1:{self.redis_port}", "--plugin-use-manifest-generate-paths", "--loglevel", "warn",
            env={"ARGOCD_BINARY_NAME": "argocd-repo-server", "ARGOCD_GPG_ENABLED": "false",
                 "ARGOCD_PLUGINSOCKFILEPATH": str(self.plugins), "ARGOCD_FAKE_IN_CLUSTER": "true",
                 "ARGOCD_ASK_PASS_SOCK": f"{tmp or self.folder}/ask-pass.sock",
                 "ARGOCD_TLS_DATA_PATH": home, "ARGOCD_SSH_DATA_PATH": home, **({"TMPDIR": str(tmp)} if tmp else {})})
        until(f"port {port} answers", lambda: answers_on(port))
        return child

    def start(self, name, *command, env=None):
        log = (self.folder / f"{name}.log").open("ab")
        child = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                 env={**self.env, **(env or {})})
        log.close()
        self.started.append(child)
        return child

    def redis(self, *words):
        """One command of Redis."""
        with socket.create_connection(("127.0.0.1", self.redis_port), PATIENCE) as connection:
            encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
            connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in encoded))
            with connection.makefile("rb") as reader:
                return resp(reader)

    def close(self):
        if hasattr(self, "driver"):
            self.driver.close()
        for child in self.started:
            child.kill()
            child.wait()


def resp(reader):
    """One answer of Redis, in its protocol."""
    kind, text = (line := reader.readline())[:1], line[1:].strip()
    if kind == b"*":
        return [resp(reader) for _ in range(int(text))]
    if kind == b"$":
        return None if int(text) < 0 else reader.read(int(text) + 2)[:-2]
    assert kind in b"+:", line
    return text


class Key:
    """An age key, made for the story."""

    def __init__(self, file):
        subprocess.run(["age-keygen", "-o", file], check=True, capture_output=True)
        file.chmod(0o600)
        self.file = file
        self.recipient = re.search(r"public key: (\S+)", file.read_text())[1]


class Sealed:
    """Text that is committed as the real sops encrypts it."""

    def __init__(self, text, key=None):
        self.text, self.key = text, key


class Link(str):
    """A symbolic link to this."""


class Repo:
    """A Git repository with one branch, `main`."""

    def __init__(self, stage, folder):
        self.stage, self.folder = stage, folder
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch", "main")

    def git(self, *words):
        done = subprocess.run(["git", "-C", self.folder, *words], env=self.stage.house.env, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode().strip()

    def write(self, files):
        """Writes files: text, bytes, Sealed, Link, or None for one that goes."""
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            sealed = {path: pool.submit(self.stage.seal, path, content)
                      for path, content in files.items() if isinstance(content, Sealed)}
            files = {**files, **{path: future.result() for path, future in sealed.items()}}
        for path, content in files.items():
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                file.unlink()
            elif isinstance(content, Link):
                file.symlink_to(content)
            else:
                file.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, files=()):
        """Writes files and commits everything; gives the commit."""
        self.write(dict(files))
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "one")
        return self.git("rev-parse", "HEAD")


class Stage:
    """One story's place."""

    def __init__(self, house, name):
        self.house, self.name = house, name
        self.folder = house.folder / "stories" / name
        self.folder.mkdir(parents=True)
        self.regents, self.askers, self.apps = [], [], itertools.count(1)
        (self.folder / "keys").mkdir()
        self.key = Key(self.folder / "keys/age.txt")
        self.store = self.folder / "store"
        self.repo = Repo(self, self.folder / "repo")

    def seal(self, path, sealed):
        key = sealed.key or self.key
        done = subprocess.run(
            ["sops", "--encrypt", "--age", key.recipient, "--encrypted-regex", "^(data|stringData)$",
             "--filename-override", path, "--input-type", "yaml", "--output-type", "yaml", "/dev/stdin"],
            input=sealed.text.encode(), capture_output=True, env=self.house.env)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def rule(self, **changes):
        """The operator's rule for clusters/prod."""
        return {"authority": "prod", "bootstrap": "clusters/prod/regent.yaml", "project": "platform",
                "repo": f"file://{self.repo.folder}", "paths": ["clusters/prod", "clusters/prod/**"], "namespaces": ["*"],
                "revisions": ["main"], "identities": [str(self.key.file)], **changes}

    def prod(self, files, **rule):
        """Commits files in clusters/prod beside its regent.yaml, lets Git rule, and starts regent for it."""
        self.repo.commit({"clusters/prod/regent.yaml": bootstrap("prod"),
                          **{f"clusters/prod/{path}": content for path, content in files.items()}})
        self.init("clusters/prod")
        return self.serve(self.rule(**rule))

    def init(self, path):
        done = subprocess.run([self.house.regent, "init", self.repo.folder / path, "--store", self.store, "--yes"],
                              env=self.house.env, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()

    def vault_rules(self, documents=()):
        """Writes what a handover writes: the witness with the list of documents, then the Authority."""
        folder = self.store / "prod"
        lines = self.repo.git("ls-tree", "-r", "HEAD:clusters/prod").splitlines()
        blobs = {path: words.split()[2] for words, path in (line.split("\t") for line in lines)}
        authority = json.loads((folder / "authority.json").read_text())
        authority.update(authority="vault", handoverId=HANDOVER)
        listed = {"schema": authority["schema"], "authorityId": "prod", "authority": "vault", "epoch": 1,
                  "handoverId": HANDOVER,
                  "documents": [{"path": path, "name": name, "kind": "Secret", "class": "handover",
                                 "blob": blobs[path]}
                                for path, name in documents]}
        for name, content in (("handover-1.json", listed), ("authority.json", authority)):
            part = folder / f".{name}.part"
            part.write_text(json.dumps(content))
            part.chmod(0o600)
            part.rename(folder / name)

    def serve(self, *rules, **kwargs):
        """Starts regent with these rules."""
        config = {"apiVersion": "regent.dev/v1alpha1", "kind": "RegentConfig",
                  "store": kwargs.pop("store", {"kind": "directory", "path": str(self.store)}), "rules": rules,
                  "argocd": {"name": self.name, "version": "v1", **kwargs.pop("argocd", {})},
                  "limits": kwargs.pop("limits", {})}
        plugin = "{name}-{version}".format(**config["argocd"])
        return Regent(self, json.dumps(config), plugin, **kwargs)

    def ask(self, **changes):
        """Asks the repo-server for an Application's manifests, as a Future. By default its own, of clusters/prod."""
        return self.house.driver.ask(**{
            "repo": str(self.repo.folder), "revision": "main", "path": "clusters/prod", "plugin": f"{self.name}-v1",
            "app": f"{self.name}-{next(self.apps)}", "project": "platform", "namespace": "app", "seconds": 2 * PATIENCE, **changes})

    def answer(self, **changes):
        """Asks, and waits a little longer than the call itself may take."""
        return self.ask(**changes).result(changes.get("seconds", 2 * PATIENCE) + PATIENCE)

    def render(self, expected, **changes):
        """Asks, and expects exactly these objects, in any order."""
        answer = self.answer(**{"app": self.name, **changes})
        assert "error" not in answer, answer["error"]
        got, want = ([comparable(manifest) for manifest in each] for each in (answer["manifests"], expected))
        missing, more = [one for one in want if one not in got], [one for one in got if one not in want]
        assert len(got) == len(want) and not missing and not more, f"missing: {missing}\n  not expected: {more}"
        return answer

    def refused(self, code, *words, **changes):
        """Asks, and expects an error of ours: one line under 200 characters, with code and way out."""
        answer = self.answer(**changes)
        assert "error" in answer, f"{len(answer['manifests'])} manifests instead of regent[{code}]"
        self.check_error(answer["error"], code, *words)
        return answer["error"]

    def check_error(self, error, code, *words):
        assert not leaks(error.encode()), f"the canary in {error}"
        # The part that is ours, behind Argo CD's own words.
        found = re.search(r"regent\[([\w-]+)\]", error)
        assert found and code in (found[1], None), f"expected regent[{code}]: {error}"
        ours = error[found.start():]
        assert len(ours) < 200 and "\n" not in ours, f"{len(ours)} characters: {ours!r}"
        # Code, sentence and way out.
        assert re.match(r"regent\[[\w-]+\]: .+; .+", ours), ours
        for word in words:
            assert word in ours, f"`{word}` is not in: {ours}"

    def socket_client(self):
        """Argo CD's plugin client straight on the story's socket."""
        client = Asker(self.house.peers / "argocd-socket", "-sock", self.house.plugins / f"{self.name}-v1.sock",
                       env=self.house.env)
        self.askers.append(client)
        return client

    def asked_env(self, **changes):
        """The environment that Argo CD sends for the story's Application."""
        return [f"{name}={value}" for name, value in {
            "ARGOCD_APP_NAME": self.name, "ARGOCD_APP_NAMESPACE": "app", "ARGOCD_APP_PROJECT_NAME": "platform",
            "ARGOCD_APP_REVISION": self.repo.git("rev-parse", "HEAD"), "ARGOCD_APP_SOURCE_PATH": "clusters/prod",
            "ARGOCD_APP_SOURCE_REPO_URL": f"file://{self.repo.folder}", "ARGOCD_APP_SOURCE_TARGET_REVISION": "main",
            **changes}.items()]

    def cached(self):
        """What Redis holds of manifests of the story's applications, unpacked."""
        keys = self.house.redis("KEYS", f"mfst|*|{self.name}*|*")
        return [gzip.decompress(self.house.redis("GET", key)) for key in keys]

    def close(self):
        for asker in self.askers:
            asker.close()
        for regent in self.regents:
            regent.stop()

    def abandon(self):
        """After a failure: nothing is checked any more."""
        for asker in self.askers:
            asker.child.kill()
        for regent in self.regents:
            regent.child.kill()
            regent.child.wait()


class Regent:
    """A running `regent serve argocd`."""

    def __init__(self, stage, config, plugin, flags=("--single-process-demo",), plugins=None, uid=None, env=None):
        self.stage, self.plugins = stage, plugins or stage.house.plugins
        self.folder = stage.folder / f"regent-{len(stage.regents)}"
        self.work, self.tmp = self.folder / "work", self.folder / "tmp"
        # Apart from the log, as in a pod: what is written beside a followed file wakes those who follow it.
        etc = self.folder / "etc"
        for made in (self.folder, self.work, self.tmp, etc):
            made.mkdir()
            if uid is not None:
                os.chown(made, uid, uid)
        self.config = etc / "config.yaml"
        if config is not None:
            self.config.write_text(config)
        self.socket = self.plugins / f"{plugin}.sock"
        self.port = free_port()
        before = self.socket.stat().st_ino if self.socket.exists() else None
        with (self.folder / "log").open("wb") as log:
            self.child = subprocess.Popen(
                [stage.house.regent, "serve", "argocd", "--config", self.config, "--log-format", "json",
                 "--listen", f"127.0.0.1:{self.port}", *flags], cwd=self.work, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"ARGOCD_PLUGINSOCKFILEPATH": str(self.plugins), "TMPDIR": str(self.tmp), **(env or {})},
                user=uid, group=uid, extra_groups=None if uid is None else [])
        stage.regents.append(self)
        until(f"regent is ready: {self.log()[-500:]}", lambda: self.get("/readyz")[0] == 200)
        assert self.socket.is_socket() and self.socket.stat().st_ino != before, "ready without a socket"

    def log(self):
        return (self.folder / "log").read_text()

    def get(self, path):
        """Status and body over HTTP; 0 where nobody answers."""
        assert self.child.poll() is None, f"regent ended with {self.child.returncode}: {self.log()[-2000:]}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError:
            return 0, ""
        finally:
            connection.close()

    def metrics(self):
        """The values of all metrics at one moment, named with their labels."""
        lines = [line.rsplit(" ", 1) for line in self.get("/metrics")[1].splitlines() if line and not line.startswith("#")]
        twice = {name for name, count in collections.Counter(name for name, _ in lines).items() if count > 1}
        assert not twice, f"more than once in /metrics: {twice}"
        return {name: float(value) for name, value in lines}

    def metric(self, name):
        """The value of one metric, named with its labels."""
        return self.metrics()[name]

    def peak(self):
        """Most memory so far, in MiB."""
        return int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{self.child.pid}/status").read_text())[1]) / 1024

    def stop(self):
        """Ends it as a pod does, then looks for the canary in everything it can have left."""
        if self.child.returncode is not None:
            return
        process = Path(f"/proc/{self.child.pid}")
        seen = {"/metrics": self.get("/metrics")[1].encode()}
        for name in ("environ", "cmdline"):
            # A process that is not dumpable shows its environment to root alone.
            with contextlib.suppress(PermissionError) if os.getuid() else contextlib.nullcontext():
                seen[name] = (process / name).read_bytes()
        self.terminate()
        self.gone(seen)

    def terminate(self):
        self.child.send_signal(signal.SIGTERM)

    def gone(self, seen=None):
        code = self.child.wait(PATIENCE)
        assert code == 0, f"regent ended with {code}: {self.log()[-2000:]}"
        seen = {"log": self.log().encode(), **self.left(), **(seen or {})}
        assert not list(self.work.iterdir()) and not list(self.tmp.iterdir()), "regent left files"
        for where, data in seen.items():
            assert not leaks(data), f"the canary in {where}"

    def left(self):
        """What it may leave behind: files beside its socket."""
        return {str(file): file.read_bytes() for file in self.plugins.iterdir() if file.is_file()}


class Between:
    """Stands between the repo-server and a plugin's socket. When one connection has brought `after` bytes it
    stops, does `then`, and goes on: so something happens in the middle of an upload, every time."""

    def __init__(self, front, back, after, then):
        self.back, self.after, self.then = back, after, then
        self.begun, self.done, self.failed = threading.Event(), threading.Event(), None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(front))
        self.listener.listen()
        self.front = front
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                plugin = socket.socket(socket.AF_UNIX)
                plugin.connect(str(self.back))
                for pair in ((client, plugin, True), (plugin, client, False)):
                    threading.Thread(target=self.pass_on, args=pair, daemon=True).start()

    def pass_on(self, source, target, counted):
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                target.sendall(data)
                passed += len(data)
                if counted and passed > self.after and not self.begun.is_set():
                    self.begun.set()
                    # The plugin has read most of it by now.
                    time.sleep(0.1)
                    try:
                        self.then()
                    except Exception as error:
                        self.failed = error
                    self.done.set()
            target.shutdown(socket.SHUT_WR)

    def close(self):
        self.listener.close()
        self.front.unlink()
        assert self.done.is_set(), "the upload was too small for anything to happen in it"
        if self.failed:
            raise self.failed


# What stands in Git.

def bootstrap(name, **more):
    """A regent.yaml."""
    return json.dumps({"apiVersion": "regent.dev/v1alpha1", "kind": "Bootstrap", "name": name, "epoch": 1, **more})


def secret(name, values, namespace="app"):
    """A Secret as a person writes it."""
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
                       "stringData": values}) + "\n"


def config_map(name, namespace="app"):
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace},
                       "data": {"mode": "on", "port": "8080"}}) + "\n"


# What Argo CD has to get for it, by the rules of rendering: values as base64, guards, label.

GUARDS = {"argocd.argoproj.io/sync-options": "Prune=false,Delete=false,ServerSideApply=true",
          "argocd.argoproj.io/compare-options": "IgnoreExtraneous", "kustomize.toolkit.fluxcd.io/prune": "disabled"}
STUB = {"argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
        "argocd.argoproj.io/compare-options": "IgnoreExtraneous", "argocd.argoproj.io/hook": "Skip"}
TRACKING = "argocd.argoproj.io/tracking-id"


def full(name, values, namespace="app", authority="prod"):
    """The Secret with its values."""
    return {"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace, "annotations": GUARDS,
                         "labels": {"regent.dev/authority": authority}},
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}}


def stub(name, namespace="app", authority="prod"):
    """The Secret once Vault rules."""
    return {"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace, "annotations": STUB,
                         "labels": {"regent.dev/authority": authority}}}


def plain(text):
    """What passes unchanged."""
    return json.loads(text)


def comparable(manifest):
    """Without what Argo CD adds itself, and with the sync options in order."""
    manifest = json.loads(json.dumps(manifest))
    metadata = manifest["metadata"]
    annotations = metadata.get("annotations", {})
    annotations.pop(TRACKING, None)
    options = annotations.get("argocd.argoproj.io/sync-options")
    if options:
        annotations["argocd.argoproj.io/sync-options"] = ",".join(sorted(options.split(",")))
    if not annotations:
        metadata.pop("annotations", None)
    return manifest
