import os
import time

from stage import CANARY, Between, Sealed, bootstrap, comparable, full, secret, until

VALUES = {"password": f"{CANARY}-too-late"}


def story(stage):
    behind = stage.folder / "behind"
    behind.mkdir()
    stage.repo.commit({"clusters/prod/regent.yaml": bootstrap("prod"),
                       "clusters/prod/db.yaml": Sealed(secret("db", VALUES)), "large.bin": os.urandom(8 << 20)})
    stage.init("clusters/prod")
    regent = stage.serve(stage.rule(), plugins=behind, limits={"request": "2s"})
    between = Between(stage.house.plugins / regent.socket.name, regent.socket, 2 << 20, lambda: time.sleep(3))
    stage.refused("late")
    between.close()
    regent.stop()
    stage.serve(stage.rule(), limits={"request": "2s"})
    # On a busy machine an upload of this size may be late once more.
    answer = until("an upload in time is answered", lambda: in_time(stage.answer()))
    assert [comparable(manifest) for manifest in answer["manifests"]] == [comparable(full("db", VALUES))], "other manifests"


def in_time(answer):
    """Nothing where it was late; no other error is accepted."""
    if "error" not in answer:
        return answer
    assert "regent[late]" in answer["error"], answer["error"]
    return None
