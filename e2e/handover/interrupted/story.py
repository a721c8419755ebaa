"""A handover that is cut off: its client is killed at every request, before Vault hears of it and after Vault answered, and
between the two witnesses; answers are lost, one by one and all. The next run, undisturbed, always ends in the one right
state, and until there is a record Git rules.
"""

import json
import signal
import socket
import time

from handed import ANY_HANDOVER, CANARY, Hand
from proxy import DROP, Proxy, end
from bao import Bao
from stage import PATIENCE

SECRETS = {name: {"password": f"{CANARY}-{name}"} for name in ("api", "db", "queue")}

# One request after the other, so that each number is the same request in every run.
IN_ORDER = "--concurrency", "1"


def story(stage):
    bao = Bao(stage)
    try:
        with Proxy(bao) as proxy:
            hand = Hand(stage, bao, secrets=SECRETS, address=proxy.address)
            bao.policy("handover", ANY_HANDOVER)
            at_every_request(hand, proxy)
            between_the_witnesses(hand, proxy)
            every_answer_once(hand, proxy)
            nobody_answers(hand)
    finally:
        bao.stop()


def at_every_request(hand, proxy):
    hand.handover("--yes", *IN_ORDER)
    hand.handed_over()
    requests = len(proxy.seen)
    writes = [number for number, (method, path, _) in enumerate(proxy.seen) if method == "POST" and "/data/" in path]
    assert len(writes) == len(SECRETS) + 1, proxy.seen
    ways = {"kill-before": end("before"), "kill-after": end("after"), "drop": DROP,
            "interrupt": end("after", signal.SIGINT)}
    recorded = dict.fromkeys(ways, 0)
    for way, does in ways.items():
        for at in range(0, requests, 3 if way == "interrupt" else 1):
            hand.another(f"{way}-{at}")
            cut_off(hand, proxy, at, does, begun=at >= writes[0])
            recorded[way] += settled(hand, proxy)
    # The record is there for a part of each way, and not for the other.
    assert all(0 < count < requests for count in recorded.values()), recorded


def nobody_answers(hand):
    """A server of the repository, or of the cluster, takes the connection and says nothing: whoever ends the run is heard there
    too, and nothing that was fetched is left."""
    hand.another("silent")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at = f"https://127.0.0.1:{silent.getsockname()[1]}"
        kubeconfig = hand.stage.folder / "silent.kubeconfig"
        kubeconfig.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": "silent", "users": [{"name": "nobody", "user": {}}],
            "clusters": [{"name": "silent", "cluster": {"server": at}}],
            "contexts": [{"name": "silent", "context": {"cluster": "silent", "user": "nobody"}}]}))
        of_git, of_cluster = (["--repo", f"{at}/repo.git", *hand.where],
                              ["--repo", hand.stage.repo.folder, "--kubeconfig", kubeconfig, "--context", "silent"])
        for words, by in (of_git, signal.SIGINT), (of_git, signal.SIGTERM), (of_cluster, signal.SIGINT):
            child = hand.started(["handover", *words, "--revision", hand.commit, "--path", "clusters/prod", "-i",
                                  hand.stage.key.file, "--vault-token-file", hand.token, "--yes"])
            silent.settimeout(PATIENCE)
            connection, _ = silent.accept()
            child.send_signal(by)
            ends, said = hand.over(child)
            connection.close()
            assert ends == 6 and "interrupted" in said and "regent handover --repo " in said, (words, ends, said)
            assert not list(hand.work.iterdir()), list(hand.work.iterdir())
    hand.git_rules()


def cut_off(hand, proxy, at, does, begun):
    proxy.again(lambda number, method, path: does if number == at else None)
    proxy.client = hand.begin("--yes", *IN_ORDER, "--vault-patience", "0")
    ends, said = hand.over(proxy.client)
    assert len(proxy.seen) > at, (at, said)
    if does == DROP:
        assert ends in (4, 6, 7), (at, ends, said)
    elif does[2] == signal.SIGINT:
        # It says where it stands, and what goes on.
        assert ends in (6, 7) and "interrupted" in said and "regent handover --repo " in said, (at, ends, said)
        assert begun or ends == 6, (at, ends, said)
    else:
        assert ends == -does[2], (at, ends, said)
    # Where it is known that Vault rules, that is what is said.
    if ends in (4, 6):
        assert hand.authority()["authority"] == "git", said


def settled(hand, proxy):
    """Whether there was a record; then a run that nobody disturbs."""
    proxy.again()
    recorded = hand.record() is not None
    if not recorded:
        hand.git_rules()
    hand.handover("--yes")
    hand.handed_over()
    return recorded


def between_the_witnesses(hand, proxy):
    """Behind Vault there are two files: `handover-1.json`, then `authority.json`. Whoever watches the folder can kill the client
    right after the first; where that was too late, the next client is tried."""
    for number in range(500):
        hand.another(f"witnesses-{number}")
        proxy.again()
        first = hand.stage.store / hand.name / "handover-1.json"
        child = hand.begin("--yes")
        while not first.exists() and child.poll() is None:
            time.sleep(0)
        child.kill()
        hand.over(child)
        between = first.exists() and hand.authority()["authority"] == "git"
        if between:
            # One witness is enough: no value any more.
            assert not any(hand.rendered().values())
        hand.handover("--yes")
        hand.handed_over()
        if between:
            return
    raise AssertionError("not once between the two witnesses")


def every_answer_once(hand, proxy):
    """Each request is answered only the second time; a client with patience asks again, and gets through by itself."""
    for number in range(3):
        hand.another(f"patient-{number}")
        asked = set()

        def deaf(_, method, path):
            lost = (method, path) not in asked
            asked.add((method, path))
            return DROP if lost else None
        proxy.again(deaf)
        hand.handover("--yes")
        hand.handed_over()
