"""What reading the authority from a real API server costs: the rows that hack/bench prints of it.

Two regents answer the same root by turns, one with its authority in a folder, one with it in a cluster. The difference is
what the evidence costs, read twice for each answer.
"""

import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(1, str(Path(__file__).resolve().parent.parent))
sys.dont_write_bytecode = True

import authority  # noqa: E402
import stage as staging  # noqa: E402
from argocd.bench import load  # noqa: E402
from stage import Sealed, secret  # noqa: E402


def measure(row, regent, tools, peers, quick):
    """Calls `row(what, figure, target, met)` for every figure."""
    scratch = Path(tempfile.mkdtemp(prefix="regent-bench-"))
    house = stage = None
    try:
        house = staging.House(scratch, regent, tools, peers)
        house.serve()
        stage = staging.Stage(house, "evidence")
        cluster = stage.cluster()
        door, prod = authority.begin(stage, cluster, ["prod"], name="cluster")
        stage.init(prod.root)
        folder = stage.serve(stage.rule(authority="prod", bootstrap=f"{prod.root}/regent.yaml", paths=["**"]))
        unloaded(row, stage, prod, cluster, (folder, door.regent), 50 if quick else 300)
        burst(row, stage, prod, cluster, door.regent, 50 if quick else 250)
        stage.close()
    except BaseException:
        if stage:
            stage.abandon()
        raise
    finally:
        if house:
            house.close()
        shutil.rmtree(scratch, ignore_errors=True)


def unloaded(row, stage, prod, api, regents, rounds):
    """One request at a time. An answer rests on two readings of the evidence, one after the other; each is a few
    requests at once, so it takes as long as one of them. Their floor is what the API server itself needs for them by its
    own clock, most of it a round through etcd, since nothing less would be the evidence of this moment."""
    before = served(api)
    floor, mine = load(stage, [regent.socket for regent in regents], [f"{stage.repo.folder}:{prod.root}"], parallel=1, rounds=rounds)
    seconds, count = (after - first for after, first in zip(served(api), before))
    row("GenerateManifest, the authority in a folder", f"{floor['p50']:.2f} ms (p99 {floor['p99']:.2f})")
    row("  the authority in a cluster", f"{mine['p50']:.2f} ms (p99 {mine['p99']:.2f})")
    more = mine["p50"] - floor["p50"]
    row("  what both readings of the evidence add", f"{more:.2f} ms")
    row("  each of them", f"{more / 2:.2f} ms", "<= 2 ms", more / 2 <= 2)
    row("  of it inside the API server, for one GET", f"{seconds / count * 1000:.2f} ms")


def burst(row, stage, prod, cluster, regent, count):
    """Everything at once, as after a restart of Argo CD."""
    stage.repo.commit({f"{prod.root}/app-{n}/s.yaml": Sealed(secret(f"s{n}", authority.value(n), "prod")) for n in range(count)})
    uploads = [f"{stage.repo.folder}:{prod.root}/app-{n}" for n in range(count)]
    before = asked(cluster)
    got, = load(stage, (regent.socket,), uploads, parallel=64, rounds=1)
    made = asked(cluster) - before
    row(f"a burst of {count} applications, the authority in a cluster", f"{got['rate']:.0f}/s, {got['p50']:.1f} ms (p99 {got['p99']:.1f})")
    # Each answer rests on two readings, and a reading is the Authority and the witnesses of two epochs.
    row("  requests to the API server", f"{made:.0f}, of {count * 2 * 3} without sharing")


def asked(cluster):
    """How many reads of witnesses the API server has answered so far."""
    return sum(witnesses(cluster, "apiserver_request_total"))


def served(cluster):
    """The seconds that it spent on them, and their number."""
    return [sum(witnesses(cluster, f"apiserver_request_duration_seconds_{what}")) for what in ("sum", "count")]


def witnesses(cluster, metric):
    text = cluster.request("GET", "/metrics", headers={"Accept": "text/plain"}).body
    for labels, figure in re.findall(rf'^{metric}\{{([^}}]*)\}} ([0-9.e+-]+)$', text, re.M):
        if 'verb="GET"' in labels and ('resource="authorities"' in labels or 'resource="configmaps"' in labels):
            yield float(figure)


if __name__ == "__main__":
    # A line a row, for hack/bench: stage.py of Argo CD's stories and that of the cluster's have one name.
    measure(lambda *cells: print(json.dumps(cells), flush=True), sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]),
            "--quick" in sys.argv)
