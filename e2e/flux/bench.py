"""What an unchanged reconcile costs the stock kustomize-controller: the rows that hack/bench prints of it.

The same documents come to it in several ways: as sops encrypted them, with the age key in the cluster; as regent
publishes them, with regent's endpoint and with the least that one can be (peers/bare-transit, every data key in memory); as plain manifests; and as stubs.
All take turns, so that each sees the same machine. The time is kustomize-controller's own, `lastReconciledDuration`.

And what it takes from a commit of many documents to their artifact, beside `regent render` of the same folder.
"""

import base64
import concurrent.futures
import itertools
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from datetime import datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "handover"), str(HERE.parent / "cluster"), str(HERE.parent)]
sys.dont_write_bytecode = True

import stage as staging  # noqa: E402
import init  # noqa: E402
from artifacts import unpacked  # noqa: E402
from bootstrapped import DECRYPTION, Bootstrapped  # noqa: E402
from kustomizations import REGENT, Flux  # noqa: E402
from stage import answers_on, free_port, until  # noqa: E402

DOCUMENTS, MANY, VALUES = 100, 1000, 3
LONG = 600  # seconds for what takes some of them
PRUNE = {"kustomize.toolkit.fluxcd.io/prune": "disabled"}
STUB = {**PRUNE, "kustomize.toolkit.fluxcd.io/ssa": "Ignore"}
UNITS = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}


def measure(row, regent, tools, peers, quick):
    """Calls `row(what, figure, target, met)` for every figure."""
    scratch = Path(tempfile.mkdtemp(prefix="regent-bench-"))
    house = stage = None
    try:
        house = staging.House(scratch, Path(regent), tools, Path(peers))
        stage = staging.Stage(house, "flux")
        flux = Flux(stage, source=False)
        ways = published(stage, flux)
        took = rounds(ways, 6 if quick else 20)
        rows(row, took)
        commits(row, stage, flux, 2 if quick else 7)
        stage.close()
    except BaseException:
        if stage:
            stage.abandon()
        raise
    finally:
        if house:
            house.close()
        shutil.rmtree(scratch, ignore_errors=True)


def rows(row, took):
    row(f"an unchanged reconcile of {DOCUMENTS} documents by kustomize-controller, plain", milliseconds(took["plain"]))
    for way in ("age", "bare", "regent", "stubs"):
        row(f"  {NAMES[way]}", f"{milliseconds(took[way])}, {ratio(took, way, 'plain'):.2f} of plain")
    row("  a bare TLS endpoint / the age key in the cluster", f"{ratio(took, 'bare', 'age'):.2f}")
    regent = ratio(took, "regent", "bare")
    row("  regent's endpoint / a bare TLS endpoint", f"{regent:.2f}", "<= 1.15", regent <= 1.15)
    row("  regent's endpoint / the age key in the cluster", f"{ratio(took, 'regent', 'age'):.2f}")
    stubs = ratio(took, "stubs", "plain")
    row("  stubs / plain manifests", f"{stubs:.2f}", "<= 1", stubs <= 1)


def ratio(took, one, other):
    """The median over the rounds: of two reconciles in a row, whatever else the machine does."""
    return statistics.median(first / second for first, second in zip(took[one], took[other]))


NAMES = {"age": "the age key in the cluster", "bare": "a bare TLS endpoint with the keys in memory", "regent": "regent's endpoint",
         "stubs": "stubs"}


def published(stage, flux):
    """The Kustomization of each way, Ready."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        sealed = list(pool.map(lambda number: seal(stage, number), range(DOCUMENTS)))
        keys = list(pool.map(lambda document: data_key(stage, document), sealed))
    regent, artifact = through_regent(stage, flux, sealed)
    age = {"age.agekey": stage.key.file.read_text()}
    return {
        "plain": way(flux, "plain", files(document(number) for number in range(DOCUMENTS)), None),
        "age": way(flux, "age", files(sealed), age),
        "bare": through_bare(stage, flux, artifact, keys),
        "regent": regent,
        # The live Secrets are there, with values, as after a handover.
        "stubs": handed(flux),
    }


def way(flux, name, files, keys):
    """A namespace and a Kustomization of its own. The documents name no namespace."""
    flux.namespace(name)
    decryption = {"decryption": flux.decryption("keys", name, keys)} if keys else {}
    revision = flux.publish(name, name, files)
    app = flux.kustomization(name, name, targetNamespace=name, **decryption)
    app.ready(revision, seconds=LONG)
    return app


def through_regent(stage, flux, documents):
    """The same documents from a repository that regent reads, with the guards that it gives them."""
    it = Bootstrapped(stage, flux, "regent", {}, watched=True)
    stage.repo.commit({f"{it.root}/{name}": text for name, text in {
        "regent.yaml": it.authority.bootstrap(secrets={"namespace": "regent"}), **files(documents)}.items()})
    init.install(flux.cluster)
    flux.namespace("regent")
    flux.cluster.account(*REGENT)
    init.init(stage, flux.cluster, "regent", "--reader", f"system:serviceaccount:{REGENT[0]}:{REGENT[1]}")
    it.allow()
    app = flux.kustomization("regent", "regent", path=it.root, decryption=DECRYPTION)
    it.serve()
    app.ready(seconds=LONG)
    with urllib.request.urlopen(it.artifact()["url"], timeout=LONG) as answer:
        return app, {Path(path).name: content.decode() for path, content in unpacked(answer.read()).items()}


def through_bare(stage, flux, artifact, keys):
    """What regent published, with another address in each document: nothing differs but who answers."""
    encs = {re.search(r'enc: "([^"]+)"', artifact[f"s{number}.yaml"])[1]: key for number, key in enumerate(keys)}
    endpoint = bare(stage, flux, encs)
    return way(flux, "bare", {path: content.replace(flux.endpoint, endpoint) for path, content in artifact.items()},
               {"sops.vault-token": "any"})


def handed(flux):
    app = way(flux, "stubs", files(document(number, PRUNE) for number in range(DOCUMENTS)), None)
    stub = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque"}
    stubs = [{**stub, "metadata": {"name": f"s{number}", "annotations": STUB}} for number in range(DOCUMENTS)]
    app.ready(flux.publish("stubs", "stubs", files(stubs), revision="handover"), seconds=LONG)
    return app


def commits(row, stage, flux, count):
    """From the moment that a commit of many documents is there to the published artifact. Where all of them are new to regent, it was
    started anew before: it has seen none of their data keys; one that is another again is one that it has seen. Rendering takes turns with it."""
    for other in stage.regents:
        other.stop()
    it = Bootstrapped(stage, flux, "many", {}, watched=True)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        sealed = list(pool.map(lambda number: seal(stage, number % MANY), range(2 * MANY)))
    one, other = ({f"{it.root}/{path}": text for path, text in files(half).items()} for half in (sealed[:MANY], sealed[MANY:]))
    stage.repo.commit({f"{it.root}/regent.yaml": it.authority.bootstrap(secrets={"namespace": "many"}), **one})
    flux.namespace("many")
    init.init(stage, flux.cluster, "many", "--reader", f"system:serviceaccount:{REGENT[0]}:{REGENT[1]}")
    it.allow()
    # What it would apply is none of this figure.
    flux.kustomization("many", "many", path=it.root, decryption=DECRYPTION, suspend=True)
    took = {"new": [], "one": [], "render": []}
    regent = None
    for number in range(count + 1):
        regent = it.started(data=regent and regent.data)
        # What it has published is still of this very tree.
        told(regent, stage.repo.git("rev-parse", "HEAD"), "an artifact was built")
        for way, changed in ("new", other), ("one", dict([next(iter(one.items()))])):
            seconds, rendered = artifact_of(it, regent, stage.repo.commit(changed)), render(stage, it)
            if number:
                took[way].append(seconds / rendered)
                took["render"].append(rendered)
        one, other = other, one
        # Not killed: its lease would keep the next one from writing.
        regent.stop()
    row(f"regent render of {MANY} documents", milliseconds(took["render"]))
    for way, name in ("new", "all of them new"), ("one", "one of them another"):
        figure = statistics.median(took[way])
        row(f"  from a commit to its artifact, {name} / render", f"{figure:.2f}", "<= 1.5", figure <= 1.5)


def artifact_of(it, regent, commit):
    """Seconds from the moment that the branch was moved to the commit until regent's artifact of it was published."""
    moved = (it.stage.repo.folder / ".git/refs/heads/main").stat().st_mtime
    return told(regent, commit, "an artifact was published") - moved


def told(regent, commit, message):
    """When regent said so, once it had built the artifact of the commit."""
    def at():
        # The last line may be one that is being written.
        lines = [json.loads(line) for line in regent.log().splitlines(keepends=True) if "an artifact was" in line and line.endswith("\n")]
        since = itertools.dropwhile(lambda line: not line.get("origin", "").endswith(commit), lines)
        return next((line["timestamp"] for line in since if line["message"] == message), None)
    return datetime.fromisoformat(until(f"{message}, of {commit}", at, LONG)).timestamp()


def render(stage, it):
    """Seconds of rendering the same folder, from start to end."""
    start = time.perf_counter()
    stdout(stage, [stage.house.regent, "render", stage.repo.folder / it.root, "-i", stage.key.file], b"")
    return time.perf_counter() - start


def files(documents):
    return {f"s{number}.yaml": json.dumps(each) for number, each in enumerate(documents)}


def document(number, annotations=None):
    return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": f"s{number}", **({"annotations": annotations} if annotations else {})},
            "stringData": {f"key-{n}": f"{number}-{n}-" + "x" * 24 for n in range(VALUES)}}


def seal(stage, number):
    """A document as sops has it."""
    done = stdout(stage, ["sops", "--encrypt", "--age", stage.key.recipient, "--encrypted-regex", "^(data|stringData)$",
                          "--input-type", "json", "--output-type", "json", "/dev/stdin"], json.dumps(document(number)).encode())
    return json.loads(done)


def data_key(stage, sealed):
    """The base64 of its data key."""
    key = stdout(stage, ["age", "--decrypt", "--identity", stage.key.file], sealed["sops"]["age"][0]["enc"].encode())
    assert len(key) == 32
    return base64.b64encode(key).decode()


def bare(stage, flux, keys):
    """Starts the bare endpoint, with the certificate that regent's has; gives its address."""
    file, port = stage.folder / "keys.json", free_port()
    file.write_text(json.dumps(keys))
    flux.cluster.run("bare-transit", stage.house.peers / "bare-transit", "-listen", f"127.0.0.1:{port}",
                     "-cert", flux.certificate, "-key", flux.key, "-keys", file)
    until("the bare endpoint answers", lambda: answers_on(port))
    return f"https://127.0.0.1:{port}"


def rounds(ways, count):
    """Seconds of each reconcile by way; the first round is not counted. Every other round goes backwards, so that none is always
    the one behind the slowest."""
    took = {way: [] for way in ways}
    for number in range(count + 1):
        for way, app in sorted(ways.items(), reverse=number % 2 == 1):
            done = app.reconcile(seconds=LONG)
            latest = done["status"]["history"][0]
            assert latest["lastReconciledStatus"] == "ReconciliationSucceeded", latest
            if number:
                took[way].append(duration(latest["lastReconciledDuration"]))
    return took


def duration(text):
    """Seconds, of Go's way to write them."""
    parts = re.findall(r"([\d.]+)(h|ms|µs|ns|m|s)", text)
    assert "".join(figure + unit for figure, unit in parts) == text, text
    return sum(float(figure) * UNITS[unit] for figure, unit in parts)


def milliseconds(seconds):
    return f"{statistics.median(seconds) * 1000:.0f} ms"


def stdout(stage, command, stdin):
    done = subprocess.run(list(map(str, command)), input=stdin, capture_output=True, env=stage.house.env)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


if __name__ == "__main__":
    # A line a row, for hack/bench.
    measure(lambda *cells: print(json.dumps(cells), flush=True), sys.argv[1], sys.argv[2], sys.argv[3], "--quick" in sys.argv)
