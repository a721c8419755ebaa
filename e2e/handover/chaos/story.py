"""Handovers in trouble, by dice: one client or two, killed at any time; a server that is killed and comes back; values that
were there before, and a second writer as soon as there is a record. Then a last run, undisturbed, and the state is the one
right one. What was counted is printed. `chaos/run` plays more rounds, and others.
"""

import concurrent.futures
import contextlib
import http.client
import json
import os
import random
import time

from bao import Bao
from handed import ANY_HANDOVER, CANARY, Hand
from proxy import Proxy, end

SECRETS = {name: {"password": f"{CANARY}-{name}"} for name in ("api", "cache", "db", "queue")}


def story(stage):
    rounds, seed = int(os.environ.get("CHAOS_ROUNDS", "20")), os.environ.get("CHAOS_SEED", "1")
    print(f"chaos: seed {seed}", flush=True)
    bao = Bao(stage)
    try:
        with Proxy(bao) as proxy, concurrent.futures.ThreadPoolExecutor() as actors:
            hand = Hand(stage, bao, secrets=SECRETS, address=proxy.address)
            bao.policy("handover", ANY_HANDOVER)
            counts, wrong = dict.fromkeys(COUNTED, 0), []
            # Troubles begin within a handover, or a little later: two clients are slower than one.
            span = 1.2 * min(alone(hand, number) for number in range(3))
            try:
                for number in range(rounds):
                    hand.another(f"round-{number}")
                    Round(hand, proxy, actors, random.Random(f"{seed}/{number}"), span, counts).play(wrong)
                    counts["rounds"] += 1
            finally:
                print("chaos: " + ", ".join(f"{count} {what}" for what, count in counts.items()), flush=True)
                print("".join(f"  {line}\n" for line in wrong), end="", flush=True)
            assert not wrong, f"{len(wrong)} times"
            # Fewer rounds than a build plays may miss one of them.
            missed = [what for what in TROUBLES if not counts[what]]
            assert not missed or rounds < 20, f"it held, and there was not one of these: {missed}"
    finally:
        bao.stop()


def alone(hand, number):
    """Seconds that a handover takes."""
    hand.another(f"alone-{number}")
    start = time.monotonic()
    hand.handover("--yes")
    return time.monotonic() - start


COUNTED = ("rounds", "clients", "kills of clients", "kills of the server", "values there before", "rotations", "records by a cut off run",
           "overwrites", "disagreements", "lost values", "survivors that failed")
TROUBLES = "kills of clients", "kills of the server", "rotations", "records by a cut off run"


class Round:
    """One handover, with what the dice say."""

    def __init__(self, hand, proxy, actors, dice, span, counts):
        self.hand, self.proxy, self.actors, self.counts = hand, proxy, actors, counts
        # When it starts, and when it is killed, if it is.
        self.clients = [(dice.uniform(0, span / 3), dice.uniform(0, span) if dice.random() < 0.6 else None)
                        for _ in range(dice.choice((1, 2, 2)))]
        # Who is alone may be killed right when its record is there.
        self.cut_off = len(self.clients) == 1 and dice.random() < 0.5
        # When the server is killed, and how long it is away at least.
        self.server = (dice.uniform(0, span), dice.uniform(0, 0.5)) if dice.random() < 0.3 else None
        self.before = {name: dice.choice(("equal", "other")) for name in SECRETS if dice.random() < 0.15}
        self.rotated = dice.choice(list(SECRETS)) if dice.random() < 0.3 else None
        self.concurrency = str(dice.choice((1, 2, 16)))
        self.held = {name: (1, values) for name, values in SECRETS.items()}
        self.over = False

    def play(self, wrong):
        hand = self.hand
        for name, how in self.before.items():
            if how == "other":
                self.held[name] = 1, {"password": f"older than {name}"}
            hand.bao.put(f"bootstrap/{hand.name}/app/{name}", self.held[name][1])
        if others := [f"app/{name}" for name, how in self.before.items() if how == "other"]:
            hand.accept(others)
        self.counts["values there before"] += len(self.before)
        record = f"regent/{hand.name}/authority/1"
        self.proxy.again(lambda _, method, path:
                         end("after") if self.cut_off and method == "POST" and path.endswith(record) else None)
        clients = [self.actors.submit(self.client, *times) for times in self.clients]
        others = [self.actors.submit(does) for does in (self.kill_server, self.rotate)]
        ends = [client.result() for client in clients]
        self.over = True
        for other in others:
            other.result()
        self.proxy.again()
        for ended, said in ends:
            if ended not in (0, -9):
                self.counts["survivors that failed"] += 1
                wrong.append(f"{hand.name}: a client that nobody killed ended with {ended}: {said}")
        if all(ended == -9 for ended, _ in ends) and hand.record():
            self.counts["records by a cut off run"] += 1
        hand.handover("--yes")
        self.judge(wrong)

    # --- actors

    def client(self, starts, killed):
        time.sleep(starts)
        child = self.hand.begin("--yes", "--concurrency", self.concurrency)
        self.counts["clients"] += 1
        if self.cut_off:
            self.proxy.client = child
        elif killed is not None:
            time.sleep(killed)
            if child.poll() is None:
                child.kill()
        ended, said = self.hand.over(child)
        self.counts["kills of clients"] += ended == -9
        return ended, said

    def kill_server(self):
        if not self.server:
            return
        at, away = self.server
        time.sleep(at)
        node = self.hand.bao.nodes[0]
        node.kill()
        self.counts["kills of the server"] += 1
        time.sleep(away)
        node.start()
        self.hand.bao.active()

    def rotate(self):
        """A second writer, as soon as there is a record. It asks for the version that it knows, so it writes once."""
        if not self.rotated:
            return
        path, values = f"bootstrap/{self.hand.name}/app/{self.rotated}", {"password": "rotated"}
        body = {"data": values, "options": {"cas": 1}}
        last = False
        while not last:
            # Whatever the clients did, it is looked at once more after them.
            last = self.over
            with contextlib.suppress(OSError, http.client.HTTPException, json.JSONDecodeError):
                if self.hand.bao.ask("GET", f"secret/data/regent/{self.hand.name}/authority/1")[0] == 200:
                    status, _ = self.hand.bao.ask("POST", f"secret/data/{path}", body)
                    # 400: an earlier try was done, and its answer was lost.
                    if status in (200, 400):
                        self.held[self.rotated] = 2, values
                        self.counts["rotations"] += 1
                        return
            time.sleep(0.02)

    # --- the end

    def judge(self, wrong):
        hand = self.hand

        def count(what, detail):
            self.counts[what] += 1
            wrong.append(f"{hand.name}: {what}: {detail}")
        for name, (version, values) in self.held.items():
            held, there = hand.versioned(f"bootstrap/{hand.name}/app/{name}")
            if held != version:
                count("overwrites", f"app/{name} is at version {held}, not {version}")
            if there != values:
                count("lost values", f"app/{name}")
        version, record = hand.versioned(f"regent/{hand.name}/authority/1")
        if version != 1:
            count("overwrites", f"the record is at version {version}")
        names = {record["handoverId"], hand.authority()["handoverId"], hand.handover_witness()["handoverId"]}
        if len(names) != 1 or hand.authority()["authority"] != "vault":
            count("disagreements", names)
        if any(hand.rendered().values()):
            count("disagreements", "values are rendered")
