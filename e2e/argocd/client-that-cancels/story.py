import os
import socket
import threading
from pathlib import Path

from stage import CANARY, Asker, Between, Sealed, full, secret, until

VALUES = {"password": f"{CANARY}-cancel"}


def story(stage):
    stage.repo.write({"large.bin": os.urandom(8 << 20)})
    regent = stage.prod({"db.yaml": Sealed(secret("db", VALUES))})
    stage.render([full("db", VALUES)])

    def connections():
        """How many are connected to a socket in the folder: all of its lines but the listener's."""
        count = Path("/proc/net/unix").read_text().count(f" {regent.plugins}/") - 1
        assert count >= 0, "nobody listens"
        return count

    # So that what follows can fail: whoever is connected is counted.
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(str(regent.socket))
        until("one is connected", connections)
    common = {"call": "generate", "root": str(stage.repo.folder), "path": "clusters/prod", "env": stage.asked_env()}
    client = stage.socket_client()
    calls = [(after, client.ask(**common, cancelAfter=after)) for after in (1, 2, 100, 4000) for _ in range(4)]
    for after, call in calls:
        answer = call.result(60)
        assert "error" in answer and answer["sent"] >= after, answer
    deadline(stage, regent, common)
    until("their connections are closed", lambda: connections() == 0)
    stage.render([full("db", VALUES)])
    # One who dials and never says a word holds nobody up either.
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(regent.socket))
        stage.render([full("db", VALUES)])


def deadline(stage, regent, common):
    """The deadline passes in the middle of the upload, which stands still until it has."""
    # Where packing the upload takes longer than that, nobody gets into the middle of it, and a longer one is tried.
    for seconds in (1, 10, 60):
        front, over = stage.folder / f"front-{seconds}.sock", threading.Event()
        stands = Between(front, regent.socket, 1 << 20, over.wait)
        client = Asker(stage.house.peers / "argocd-socket", "-sock", front, env=stage.house.env)
        stage.askers.append(client)
        answer = client.ask(**common, seconds=seconds).result(120)
        over.set()
        assert "error" in answer and answer["millis"] >= 1000 * seconds, answer
        if stands.begun.is_set():
            until("the rest is passed on", stands.done.is_set)
            return stands.close()
    raise AssertionError("nobody got into the middle of the upload")
