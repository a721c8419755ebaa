import json
import os
import re
import time

import authority
from argocd.bench import load
from stage import Sealed, secret, until

COUNT = int(os.environ.get("BURST", "250"))
POLICY = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [
    {"level": "Metadata", "users": ["system:serviceaccount:argocd:argocd-repo-server"]}, {"level": "None"}]}


def story(stage):
    policy, log = stage.folder / "audit.json", stage.folder / "audit.log"
    policy.write_text(json.dumps(POLICY))
    stage.house.serve()
    cluster = stage.cluster("cluster", f"--audit-policy-file={policy}", f"--audit-log-path={log}")
    door, *authorities = authority.begin(stage, cluster, ["one", "two"])
    stage.repo.commit({f"{each.root}/app-{n}/s.yaml": Sealed(secret(f"s{n}", authority.value(n), each.name))
                       for each in authorities for n in range(COUNT // 2)})
    stage.repo.git("gc", "--quiet")
    uploads = [f"{stage.repo.folder}:{each.root}/app-{n}" for each in authorities for n in range(COUNT // 2)]
    counted, seen = quiet(cluster, log)
    # `load` sends every upload once to warm up and once to be measured, all at once.
    got, = load(stage, (door.regent.socket,), uploads, parallel=COUNT, rounds=1)
    reads = until("the audit log has as many requests as the metrics count", lambda: counted_too(cluster, log, counted, seen))
    answers = 2 * len(uploads)
    of_authorities = [line for line in reads if line["objectRef"]["resource"] == "authorities"]
    print(f"  {answers} answers, each resting on two readings of its authority: {2 * answers} readings asked for, "
          f"{len(of_authorities)} made ({len(of_authorities) / (2 * answers):.3f}), {len(reads)} requests; "
          f"{got['rate']:.0f} answers a second", flush=True)
    assert all(line["responseStatus"]["code"] in (200, 404) for line in reads)
    # How many share one depends on how long a reading takes beside the rest, a tenth to a quarter on two cores: no bound for other
    # machines. That one is made at a time, which is the rule, is counted below.
    assert 0 < len(of_authorities) < 2 * answers, "readings are not shared"
    for each in authorities:
        alone([line for line in reads if each.name in named(line)], each.name)


def named(line):
    """The authority of a witness or an Authority, in a list of one."""
    return [re.fullmatch(r"(?:regent-authority-)?([a-z]+)(?:-\d+)?", line["objectRef"]["name"])[1]]


def alone(lines, name):
    """A reading asks for its objects at once, and the next one begins when the last of them is there: so of one object no two
    requests overlap, and all of a reading begin before any of the next."""
    by_object = {}
    for line in lines:
        key = line["objectRef"]["resource"], line["objectRef"]["name"]
        by_object.setdefault(key, []).append((line["requestReceivedTimestamp"], line["stageTimestamp"]))
    assert len(by_object) == 3, f"{name}: {list(by_object)}"
    for key, spans in by_object.items():
        spans.sort()
        for (_, end), (begin, _) in zip(spans, spans[1:]):
            assert begin >= end, f"two readings of {key} at a time: one until {end}, one from {begin}"
    # The n-th reading of each object belongs to the n-th reading of the authority.
    readings = list(zip(*by_object.values(), strict=True))
    for one, other in zip(readings, readings[1:]):
        assert max(end for _, end in one) <= min(begin for begin, _ in other), f"{name}: two readings at a time"


def told(log):
    """The lines of the audit log that are written to their end."""
    return log.read_text().rpartition("\n")[0].splitlines()


def quiet(cluster, log):
    """How many requests are counted and how many lines are told, once neither grows: both may happen after the answer was sent."""
    def twice():
        before = requests(cluster), len(told(log))
        time.sleep(1)
        return before if before == (requests(cluster), len(told(log))) else None
    return until("the API server is quiet", twice)


def counted_too(cluster, log, counted, seen):
    """The reads that are told, where all of them are, and no others, are counted."""
    made, lines = quiet(cluster, log)
    reads = [line for line in map(json.loads, told(log)[seen:lines]) if line["verb"] == "get"]
    return reads if len(reads) == made - counted else None


def requests(cluster):
    """How many reads of witnesses the API server answered, by its own count."""
    text = cluster.request("GET", "/metrics", headers={"Accept": "text/plain"}).body
    lines = re.findall(r"^apiserver_request_total\{([^}]*)\} ([0-9.e+]+)$", text, re.M)
    witnesses = ('resource="authorities"', 'resource="configmaps"')
    return sum(float(count) for labels, count in lines if 'verb="GET"' in labels and any(map(labels.__contains__, witnesses)))
