"""What a handover costs, against a loop of the same requests that does nothing else: the rows that hack/bench prints of it.

OpenBao on Raft over TLS, on this machine. Regent's time for the copies is that of a whole handover less that of its plan, which
opens the same documents, reads what Vault holds and tries the same rights.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "cluster"), str(HERE.parent)]
sys.dont_write_bytecode = True

import stage as staging  # noqa: E402
from handed import Hand, regent_yaml, sealed  # noqa: E402

KEYS, AT_ONCE = 4, 16


def values(number):
    return {f"key-{n}": f"{number}-{n}-" + "x" * 240 for n in range(KEYS)}


def measure(row, regent, tools, bare, quick):
    """Calls `row(what, figure, target, met)` for every figure."""
    count, rounds = (200, 3) if quick else (1000, 5)
    scratch = Path(tempfile.mkdtemp(prefix="regent-bench-"))
    stage = staging.Stage(staging.House(scratch, Path(regent), tools, ""), "handover")
    hand = None
    try:
        hand = Hand(stage, secrets={}, init=False)
        files(stage, hand, count)
        run(row, stage, hand, bare, count, rounds)
    finally:
        if hand:
            hand.bao.stop()
        shutil.rmtree(scratch, ignore_errors=True)


def files(stage, hand, count):
    stage.repo.write({f"clusters/prod/s{n}.yaml": sealed(f"s{n}", values(n)) for n in range(count)})
    bodies = stage.folder / "bodies"
    bodies.write_text("".join(json.dumps({"options": {"cas": 0}, "data": values(n)}) + "\n" for n in range(count)))


def run(row, stage, hand, bare, count, rounds):
    """Each round has a prefix, an authority and a store of its own, and a floor beside it, which asks with the same token: that of
    the policy that `--print-policy` prints, without `default`."""
    plans, copies, agains, floors, reads, peaks, renders = [], [], [], [], [], [], []
    for number in range(rounds):
        place = f"bench-{number}"
        for name in (place, f"{place}-2"):
            text = regent_yaml(hand.address, prefix=place).replace("name: prod", f"name: {name}")
            hand.commit = stage.repo.commit({"clusters/prod/regent.yaml": text})
            hand.where = ["--store", stage.folder / f"store-{name}"]
            hand.init()
            hand.token = printed(hand)
            if name == place:
                # Nothing is there, then everything.
                plans.append(timed(hand, "--plan")[0])
                seconds, peak = timed(hand, "--yes")
                copies.append(seconds)
                peaks.append(peak)
                floor = [bare, hand.address, hand.bao.ca, hand.token, f"{place}/floor", stage.folder / "bodies", AT_ONCE]
                floors.append(float(output(floor)))
                reads.append(float(output([*floor, "--reads"])))
                start = time.perf_counter()
                hand.rendered_redacted()
                renders.append(time.perf_counter() - start)
            else:
                agains.append(timed(hand, "--yes")[0])
    plan, whole, again, floor, read, render = map(statistics.median, (plans, copies, agains, floors, reads, renders))
    row(f"handover of {count} Secrets of {KEYS} keys, OpenBao on Raft over TLS", f"{whole:.2f} s")
    row("  write and read back / a bare loop of the same requests", f"{(whole - plan) / floor:.2f}", "<= 1.2", (whole - plan) / floor <= 1.2)
    row("  again, where all is there / the first time", f"{again / whole:.2f}", "<= 1", again <= whole)
    row("  --plan / bare reads and `regent render`", f"{plan / (read + render):.2f}", "<= 1.2", plan / (read + render) <= 1.2)
    row("  peak memory", f"{max(peaks):.0f} MB", "<= 60 MB", max(peaks) <= 60)


def printed(hand):
    """A token as the printed roles give it."""
    said = hand.regent("handover", "--repo", hand.stage.repo.folder, "--revision", hand.commit, "--path", "clusters/prod", "--print-policy",
                       "-o", "json")
    policy = json.loads(said)["vault"]["policies"][0]
    hand.bao.policy(policy["name"], policy["hcl"])
    return hand.bao.token_file(policy["name"], no_default_policy=True)


def timed(hand, *words):
    """Seconds from start to exit, and the peak of memory in MB."""
    start = time.perf_counter()
    child = subprocess.Popen(hand.command(*hand.handover_words(*words)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE, cwd=hand.work, env=hand.environment())
    said = child.stderr.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    assert child.returncode == 0, said.decode()[-2000:]
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def output(command):
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    # A line a row, for hack/bench.
    measure(lambda *cells: print(json.dumps(cells), flush=True), sys.argv[1], sys.argv[2], Path(sys.argv[3]), "--quick" in sys.argv)
