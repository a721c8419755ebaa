"""`regent serve flux`, as its pod has it: a file with its configuration, a volume for its artifacts, and two addresses."""

import contextlib
import http.client
import itertools
import json
import math
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from argocd import stage as door
from artifacts import unpacked
from stage import PATIENCE, free_port, leaks, until


class Regent(door.Regent):
    """A running one. `data` is its volume; a later one of the same story may be given it again."""

    def __init__(self, stage, config, *flags, data=None, env=None):
        self.stage = stage
        self.folder = stage.folder / f"regent-{len(stage.regents)}"
        self.work, self.tmp = self.folder / "work", self.folder / "tmp"
        etc = self.folder / "etc"
        for made in (self.folder, self.work, self.tmp, etc):
            made.mkdir()
        self.data = data or self.folder / "data"
        self.data.mkdir(exist_ok=True)
        self.config, self.port = etc / "config.yaml", free_port()
        self.config.write_text(json.dumps(config))
        with (self.folder / "log").open("wb") as log:
            self.child = subprocess.Popen(
                [stage.house.regent, "serve", "flux", "--config", self.config, "--log-format", "json", "--log-level", "debug", "--data", self.data,
                 "--listen", f"127.0.0.1:{self.port}", *flags], cwd=self.work, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"TMPDIR": str(self.tmp), **(env or {})},
                # SIGXFSZ stays ignored, as Python has it: a file that may not grow is an error, as on a full volume.
                restore_signals=False)
        stage.regents.append(self)
        until(f"regent is ready: {self.log()[-500:]}", lambda: self.get("/readyz")[0] == 200)

    def kill(self):
        """As a node that dies; its volume stays. What it leaves is searched, too."""
        self.child.kill()
        self.child.wait()
        for where, data in {"log": self.log().encode(), **self.left()}.items():
            assert not leaks(data), f"the canary in {where}"

    def limit(self, size=None):
        """None of its files may grow beyond this many bytes, as on a full volume; without a size they may again. The soft limit alone:
        raising the hard one needs root."""
        size = "unlimited" if size is None else size
        subprocess.run(["prlimit", f"--pid={self.child.pid}", f"--fsize={size}:"], check=True)

    def pause(self):
        """Its addresses take connections, and nothing answers."""
        self.child.send_signal(signal.SIGSTOP)

    def resume(self):
        self.child.send_signal(signal.SIGCONT)

    def left(self):
        """What is on its volume, and in each artifact there."""
        found = {str(file): file.read_bytes() for file in self.data.rglob("*") if file.is_file()}
        inside = {f"{file}:{name}": content for file, data in found.items() if file.endswith(".tar.gz")
                  for name, content in unpacked(data).items()}
        return found | inside


class Service:
    """What a Service does for replicas: its addresses pass a connection on to one that is ready, by turns. Readiness is asked for as
    a kubelet asks, only more often. `lost` tells of connections that were made and got no answer."""

    def __init__(self, endpoint, artifacts):
        self.replicas, self.turns, self.lost, self.passed = {}, itertools.count(), [], 0
        self.closed = threading.Event()
        self.listeners = [self.listen(port, index) for index, port in enumerate((endpoint, artifacts))]
        threading.Thread(target=self.probe, daemon=True).start()

    def join(self, replica, endpoint, artifacts):
        self.replicas[replica] = {"ports": (endpoint, artifacts), "ready": True, "until": math.inf}

    def leave(self, replica, late=0):
        """No new connection gets there, from so many seconds on: the pod is being deleted."""
        self.replicas[replica]["until"] = time.monotonic() + late

    def probe(self):
        while not self.closed.wait(0.2):
            for replica, entry in list(self.replicas.items()):
                entry["ready"] = is_ready(replica.port)

    def listen(self, port, index):
        listener = socket.create_server(("127.0.0.1", port), backlog=128)
        threading.Thread(target=self.accept, args=(listener, index), daemon=True).start()
        return listener

    def accept(self, listener, index):
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self.pass_on, args=(client, index), daemon=True).start()

    def pass_on(self, client, index):
        with client:
            server, port = self.connected(index)
            if not server:
                return
            server.settimeout(None)
            with server:
                asking = threading.Thread(target=relay, args=(client, server), daemon=True)
                asking.start()
                if relay(server, client):
                    self.passed += 1
                else:
                    self.lost.append(f"{port}: closed without an answer")
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
                asking.join(PATIENCE)

    def connected(self, index):
        """A connection to one of them, and its port."""
        while True:
            ready = [entry for entry in list(self.replicas.values()) if entry["ready"] and time.monotonic() < entry["until"]]
            if not ready:
                self.lost.append("no replica is ready")
                return None, None
            entry = ready[next(self.turns) % len(ready)]
            port = entry["ports"][index]
            try:
                return socket.create_connection(("127.0.0.1", port), PATIENCE), port
            except OSError as error:
                # Where this process stood still meanwhile, nobody had to be there any more.
                if time.monotonic() < entry["until"]:
                    self.lost.append(f"{port}: {error}")
                    return None, None

    def close(self):
        self.closed.set()
        for listener in self.listeners:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def relay(source, target):
    """Passes on what comes until there is no more; how many bytes it was."""
    passed = 0
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            passed += len(data)
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    return passed


def unread(port):
    """How many connections to a port hold what nobody has read yet: who asked there, and waits."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # Local address, remote one, state 1 for an open one, and what is to be sent and to be read.
    return sum(local.endswith(f":{port:04X}") and state == "01" and int(queues.partition(":")[2], 16) > 0
               for _, local, _, state, queues, *_ in rows)


def is_ready(port):
    # One that has ended refuses at once; on a busy machine a ready one may need a moment.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


class Busy:
    """Reconciles a Kustomization again and again, and keeps how each ended: whether it was Ready, and how long it took."""

    def __init__(self, kustomization, pause=0.2):
        self.kustomization, self.pause, self.ended, self.trouble = kustomization, pause, [], None
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        try:
            while not self.over.is_set():
                start = time.monotonic()
                thing = self.kustomization.reconcile()
                said = next(each for each in thing["status"]["conditions"] if each["type"] == "Ready")
                self.ended.append((said["status"], said["reason"], said["message"][:200], time.monotonic() - start))
                time.sleep(self.pause)
        except Exception as error:
            self.trouble = error

    def __enter__(self):
        self.thread.start()
        return self

    def more(self, count=2, seconds=PATIENCE):
        """Waits until it was reconciled so many times more: nothing holds it up."""
        at = len(self.ended) + count
        until(f"{self.kustomization.name} is reconciled: {self.trouble}", lambda: len(self.ended) >= at or self.trouble, seconds)
        self.check()

    def check(self):
        if self.trouble:
            raise self.trouble
        assert all(status == "True" for status, *_ in self.ended), [each for each in self.ended if each[0] != "True"]

    def __exit__(self, kind, *_):
        self.over.set()
        self.thread.join(PATIENCE)
        if kind is None:
            self.check()
