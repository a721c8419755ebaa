"""What `regent serve argocd` costs, through the real Argo CD: the rows that hack/bench prints of it.

Whatever is compared takes turns in one run, on sockets in one folder, so that all see the same machine. The sink is
plugin/regent/examples/sink.rs: the same stack without a plugin in it.
"""

import contextlib
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import stage as staging
from stage import Sealed, bootstrap, config_map, secret, until


def measure(row, regent, sink, tools, peers, quick):
    """Calls `row(what, figure, target, met)` for every figure."""
    scratch = Path(tempfile.mkdtemp(prefix="regent-bench-"))
    house = None
    try:
        house = staging.House(scratch, regent, tools, peers)
        house.serve()
        for count in (1, 10, 100):
            rendering(row, house, sink, count, quick)
        applications(row, house, sink, quick)
        large_upload(row, house, sink, quick)
        idle(row, house, 5 if quick else 20)
    finally:
        if house:
            house.close()
        shutil.rmtree(scratch, ignore_errors=True)


def rendering(row, house, sink, count, quick):
    """One GenerateManifest of the repo-server, without its cache: fetch, checkout, tar, stream, plugin, parse."""
    with story(house, f"render-{count}") as stage:
        secrets = {f"s{n}.yaml": secret(f"s{n}", values(n)) for n in range(count)}
        stage.repo.write({f"plain/{name}": f"---\n{text}" for name, text in secrets.items()})
        stage.prod({f"app/{name}": Sealed(text) for name, text in secrets.items()})
        answer = answer_of(stage, "clusters/prod/app")
        for name in ("sink", "twin"):
            Sink(stage, sink, "--answer", answer, name=name)
        Stock(stage, "copy", "exec cat *.yaml")
        Stock(stage, "sops", 'set -e; for file in *.yaml; do sops -d "$file"; echo ---; done')
        takes = {stage.name: [], "sink": [], "copy": [], "sops": [], "twin": []}

        def take(name, **more):
            path = "plain" if name == "copy" else "clusters/prod/app"
            plugin = f"{name}-v1" if name == stage.name else f"{stage.name}-{name}-v1"
            got = stage.ask(plugin=plugin, path=path, **more).result(2 * staging.PATIENCE)
            assert "error" not in got, f"{name}: {got['error']}"
            return got

        for name in takes:
            manifests = take(name)["manifests"]
            assert len(manifests) == count, f"{name}: {len(manifests)} manifests of {count}"
        rounds = 30 if quick else 60
        # A process a file takes seconds.
        slow = rounds if count < 100 else 2 if quick else 6
        order = list(takes)
        for turn in range(rounds):
            # Whoever comes after a slow one finds another machine, so each begins a round in turn.
            for name in order[turn % len(order):] + order[:turn % len(order)]:
                if name != "sops" or turn < slow:
                    takes[name] += take(name, quiet=True)["millis"]
        regent, floor, copy, sops, twin = (Times(taken) for taken in takes.values())
        row(f"GenerateManifest, {count} encrypted Secret{'s' * (count > 1)}", str(regent))
        row("  the sink answers from memory", str(floor))
        compare(row, "  regent / sink", regent.p50 / floor.p50, 1.2)
        # What this machine can tell apart now: it should be 1.
        row("  a second sink / sink", f"{twin.p50 / floor.p50:.2f}")
        row("  the stock server, one process copies plain files", str(copy))
        row("  regent / stock copy", f"{regent.p50 / copy.p50:.2f}", "< 1", regent.p50 < copy.p50)
        row("  the stock server, a sops a file", str(sops))
        compare(row, "  regent / stock sops", regent.p50 / sops.p50, {1: None, 10: 1 / 4, 100: 1 / 20}[count])


def applications(row, house, sink, quick):
    """A hard refresh of everything, by Argo CD's plugin client straight on the socket."""
    count = 50 if quick else 250
    names = [f"app-{n}" for n in range(count)]
    with story(house, "one-root") as stage, story(house, "own-roots") as own:
        # All in one root, which each of them uploads whole; and as a root each, which is all that it uploads.
        stage.prod({f"{name}/s{i}.yaml": Sealed(secret(f"s{i}", values(i), name)) for name in names for i in range(5)})
        # As a clone has it: one pack.
        stage.repo.git("gc", "--quiet")
        own.key = stage.key
        shutil.copytree(stage.repo.folder / "clusters", own.repo.folder / "clusters")
        own.repo.commit({"clusters/prod/regent.yaml": None,
                         **{f"clusters/prod/{name}/regent.yaml": bootstrap(name) for name in names}})
        uploads = {stage: [], own: []}
        for name in names:
            inside = f"clusters/prod/{name}"
            own.init(inside)
            shutil.copytree(own.repo.folder / inside, own.folder / name / inside)
            uploads[stage].append(f"{stage.repo.folder}:{inside}")
            uploads[own].append(f"{own.folder / name}:{inside}")
        own.serve(*(own.rule(authority=name, bootstrap=f"clusters/prod/{name}/regent.yaml", paths=[f"clusters/prod/{name}"])
                    for name in names))
        floor = Sink(stage, sink, "--answer", answer_of(stage, f"clusters/prod/{names[0]}"))
        # Enough rounds that what a start costs does not show: keys, threads and buffers are warm in a server that runs.
        for place, what, rounds in ((own, "a root each", 40), (stage, "all in one root", 8)):
            regent = place.regents[0]
            mine, least = load(place, (regent.socket, floor.socket), uploads[place], parallel=8, rounds=2 if quick else rounds)
            for line, got in ((f"{count} applications of 5 Secrets, {what}", mine), ("  the sink", least)):
                row(line, f"{got['rate']:.0f}/s, {got['p50']:.1f} ms (p99 {got['p99']:.1f})")
            row("  rate of regent / sink", f"{mine['rate'] / least['rate']:.2f}", ">= 0.5", mine["rate"] >= 0.5 * least["rate"])
            compare(row, "  peak memory", regent.peak(), 150, "MB")


def large_upload(row, house, sink, quick):
    """100 MiB, most of it what a .git folder is full of, of which the application is 1 MiB."""
    with story(house, "large") as stage:
        stage.prod({**{f"app/s{n}.yaml": Sealed(secret(f"s{n}", values(n))) for n in range(20)},
                    **{f"app/c{n}.yaml": config_map(f"c{n}")[:-1] + f"\n# {'x' * 16_000}\n" for n in range(64)}})
        pack = stage.repo.folder / ".git/objects/pack/pack-0.pack"
        pack.parent.mkdir(parents=True, exist_ok=True)
        pack.write_bytes(os.urandom(99 << 20))
        regent, floor = stage.regents[0], Sink(stage, sink, "--gunzip")
        mine, least = load(stage, (regent.socket, floor.socket), [f"{stage.repo.folder}:clusters/prod/app"], parallel=1,
                           rounds=3 if quick else 9, chunk=4 << 20)
        row("an upload of 100 MiB for 1 MiB of manifests", f"{mine['p50']:.0f} ms (p99 {mine['p99']:.0f})")
        row("  a sink that only inflates and checks it", f"{least['p50']:.0f} ms (p99 {least['p99']:.0f})")
        compare(row, "  regent / sink", mine["p50"] / least["p50"], 1.3)
        compare(row, "  peak memory", regent.peak(), 120, "MB")


def idle(row, house, starts):
    """One that has nothing to do; and how soon it is ready."""
    with story(house, "idle") as stage:
        regent = stage.prod({})
        time.sleep(1)
        before = switches(regent.child.pid)
        time.sleep(10)
        switched = switches(regent.child.pid) - before
        resident = int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{regent.child.pid}/status").read_text())[1]) / 1024
        compare(row, "resident when idle", resident, 15, "MB")
        compare(row, "context switches in 10 s when idle", switched, 10, "")
        command, environment = regent.child.args, dict(
            entry.split("=", 1) for entry in Path(f"/proc/{regent.child.pid}/environ").read_text().split("\0") if entry)
        regent.stop()
        took = []
        for _ in range(starts):
            with (stage.folder / "log").open("wb") as log:
                start = time.perf_counter()
                child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            while not connects(regent.socket):
                assert child.poll() is None, (stage.folder / "log").read_text()
            took.append((time.perf_counter() - start) * 1000)
            child.terminate()
            child.wait()
        took = Times(took)
        row(f"start to ready, {starts} times", str(took), "<= 30 ms", took.p50 <= 30)


@contextlib.contextmanager
def story(house, name):
    stage = staging.Stage(house, name)
    stage.plugins = []
    try:
        yield stage
        stage.close()
    except BaseException:
        stage.abandon()
        raise
    finally:
        for plugin in stage.plugins:
            plugin.stop()


class Plugin:
    """Another plugin than regent, on the story's socket of this name."""

    def __init__(self, stage, name, command, **env):
        self.socket = stage.house.plugins / f"{stage.name}-{name}-v1.sock"
        with (stage.folder / f"{name}.log").open("wb") as log:
            self.child = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          env={**stage.house.env, **env})
        stage.plugins.append(self)
        until(f"{name} serves", lambda: connects(self.socket))

    def stop(self):
        # The stock server lives on after SIGTERM.
        self.child.kill()
        self.child.wait()
        self.socket.unlink(missing_ok=True)


class Sink(Plugin):
    """The least that a plugin can be."""

    def __init__(self, stage, program, *arguments, name="sink"):
        super().__init__(stage, name, [program, stage.house.plugins / f"{stage.name}-{name}-v1.sock", *arguments])


class Stock(Plugin):
    """Argo CD's own plugin server with a shell script."""

    def __init__(self, stage, name, script):
        folder = stage.folder / f"stock-{name}"
        folder.mkdir()
        write(folder / "plugin.yaml", json.dumps({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "ConfigManagementPlugin", "metadata": {"name": f"{stage.name}-{name}"},
            "spec": {"version": "v1", "generate": {"command": ["sh", "-c", script]}}}))
        super().__init__(
            stage, name, [stage.house.peers / "argocd-cmp-server", "--config-dir-path", folder, "--loglevel", "error"],
            ARGOCD_PLUGINSOCKFILEPATH=str(stage.house.plugins), ARGOCD_CMP_WORKDIR=str(folder),
            SOPS_AGE_KEY_FILE=str(stage.key.file))


class Times:
    """Milliseconds; the median counts."""

    def __init__(self, taken):
        taken = sorted(taken)
        self.p50, self.p99 = statistics.median(taken), taken[len(taken) * 99 // 100]

    def __str__(self):
        return f"{self.p50:.1f} ms (p99 {self.p99:.1f})"


def load(stage, sockets, uploads, parallel, rounds, chunk=1024):
    """What each socket took for all uploads, by turns."""
    done = subprocess.run(
        [stage.house.peers / "argocd-socket", "-load", "-sock", ",".join(map(str, sockets)), "-parallel", str(parallel),
         "-rounds", str(rounds), "-chunk", str(chunk), "-env", ",".join(stage.asked_env(ARGOCD_APP_SOURCE_PATH="@")), *uploads],
        check=True, stdout=subprocess.PIPE, text=True, env=stage.house.env)
    got = [json.loads(line) for line in done.stdout.splitlines()]
    for figures in got:
        assert not figures["failed"], figures["error"]
    return got


def compare(row, what, figure, most, unit=None):
    """A row whose figure may be at most this: an amount with a unit, else a ratio."""
    shown = f"{figure:.2f}" if unit is None else f"{figure:.0f} {unit}".strip()
    if most is None:
        return row(what, shown)
    return row(what, shown, f"<= {most:g} {unit or ''}".strip(), figure <= most)


def values(number):
    return {f"key{i}": f"value-{number}-{i}-{'x' * 12}" for i in range(5)}


def write(file, text):
    file.write_text(text)
    return file


def answer_of(stage, path):
    """A file with what regent answers for a folder, a manifest a line."""
    got = stage.socket_client().ask(call="generate", root=str(stage.repo.folder), path=path,
                                    env=stage.asked_env(ARGOCD_APP_SOURCE_PATH=path)).result(staging.PATIENCE)
    assert "error" not in got, got["error"]
    return write(stage.folder / "answer", "\n".join(got["response"]["manifests"]))


def connects(path):
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
        return True


def switches(pid):
    """How often its threads gave up or lost the processor so far."""
    tasks = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/status")]
    return sum(int(count) for task in tasks for count in re.findall(r"ctxt_switches:\s+(\d+)", task))
