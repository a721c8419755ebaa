"""Several runs at once: one record, whoever is first, and everybody ends well. One of them is slow; and a value that a second
writer rotates as soon as there is a record stays rotated, while others are still copying.
"""

import threading

from bao import Bao
from handed import ANY_HANDOVER, CANARY, Hand, sealed
from proxy import Proxy, delay
from stage import PATIENCE

SECRETS = {name: {"password": f"{CANARY}-{name}"} for name in ("api", "db", "queue")}


def story(stage):
    bao = Bao(stage)
    try:
        with Proxy(bao) as proxy:
            hand = Hand(stage, bao, secrets=SECRETS, address=proxy.address)
            bao.policy("handover", ANY_HANDOVER)
            for runs in (2, 8):
                at_once(hand, proxy, runs)
            one_is_slow(hand, proxy)
            overtaken(hand, proxy)
            two_revisions(hand, proxy, stage)
    finally:
        bao.stop()


def at_once(hand, proxy, runs):
    hand.another(f"at-once-{runs}")
    proxy.again()
    everybody_ends_well(hand, [hand.begin("--yes") for _ in range(runs)])
    hand.handed_over()


def everybody_ends_well(hand, children):
    handovers = set()
    for ends, said in map(hand.over, children):
        assert ends == 0, said
        handovers |= {word for word in said.split() if word.strip("`.,") == hand.record()["handoverId"]}
    assert handovers, "nobody said which handover it is"


def one_is_slow(hand, proxy):
    """Every second request takes longer, wherever the two are."""
    hand.another("slow")
    proxy.again(lambda number, method, path: delay(0.05) if number % 2 else None)
    everybody_ends_well(hand, [hand.begin("--yes") for _ in range(2)])
    hand.handed_over()


def overtaken(hand, proxy):
    """The first run is held at one request after the other, while a second one hands over and a value is rotated. It finds out,
    at whatever point it goes on, and says so: nothing of its own is written over the rotated value."""
    hand.another("count")
    proxy.again()
    hand.handover("--yes", "--concurrency", "1")
    requests = len(proxy.seen)
    rotated = {"password": "rotated"}
    for at in range(requests):
        hand.another(f"overtaken-{at}")
        held, goes_on = threading.Event(), threading.Event()

        def hold(number, method, path, at=at, held=held, goes_on=goes_on):
            if number == at:
                held.set()
                goes_on.wait()
        proxy.again(hold)
        slow = hand.begin("--yes", "--concurrency", "1")
        try:
            assert held.wait(PATIENCE), f"there is no request {at}"
            hand.handover("--yes")
            hand.bao.put(f"bootstrap/{hand.name}/app/db", rotated)
        finally:
            goes_on.set()
        ends, said = hand.over(slow)
        assert ends == 0, (at, said)
        hand.handed_over(db=(2, rotated))


def two_revisions(hand, proxy, stage):
    """Two people hand over two commits at once. One of them wins, or they meet in the middle and both stop before the record. A
    record is never about values that its commit does not have."""
    values = {"older": SECRETS["db"], "newer": {"password": f"{CANARY}-newer"}}
    won, number = [], 0
    # A dozen times; and on, as long as they have only met.
    while number < 12 or not won:
        number += 1
        assert number < 100, "nobody handed over, not once"
        hand.another(f"revisions-{number}")
        commits = {"older": hand.commit, "newer": stage.repo.commit({"clusters/prod/db.yaml": sealed("db", values["newer"])})}
        proxy.again()
        order = ("older", "newer") if number % 2 else ("newer", "older")
        ends = [hand.over(child) for child in [hand.begin("--yes", revision=commits[which]) for which in order]]
        record = hand.record()
        if record:
            (winner,) = (which for which, commit in commits.items() if commit == record["gitCommit"])
            assert 0 in [ended for ended, _ in ends], ends
            hand.handed_over(db=(1, values[winner]))
            won.append(winner)
        else:
            assert [ended for ended, _ in ends] == [6, 6], ends
            hand.git_rules()
        assert all(ended in (0, 6, 7) for ended, _ in ends), ends
        stage.repo.commit({"clusters/prod/db.yaml": sealed("db", values["older"])})
