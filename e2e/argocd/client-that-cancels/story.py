import os
import socket
from pathlib import Path

from stage import CANARY, Sealed, full, secret, until

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

    client = stage.socket_client()
    common = {"call": "generate", "root": str(stage.repo.folder), "path": "clusters/prod", "env": stage.asked_env()}
    calls = [client.ask(**common, cancelAfter=after) for after in (1, 2, 100, 4000) for _ in range(4)]
    calls += [client.ask(**common, seconds=0.15) for _ in range(4)]
    until("they are connected", connections)
    for call in calls:
        answer = call.result(60)
        assert "error" in answer, answer
    until("their connections are closed", lambda: connections() == 0)
    stage.render([full("db", VALUES)])
    # One who dials and never says a word holds nobody up either.
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(regent.socket))
        stage.render([full("db", VALUES)])
