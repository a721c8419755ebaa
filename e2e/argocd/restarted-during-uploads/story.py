import os

from stage import CANARY, Between, Sealed, bootstrap, full, secret, until

VALUES = {"password": f"{CANARY}-restart"}


def story(stage):
    behind = stage.folder / "behind"
    behind.mkdir()
    stage.repo.commit({"clusters/prod/regent.yaml": bootstrap("prod"),
                       "clusters/prod/db.yaml": Sealed(secret("db", VALUES)), "large.bin": os.urandom(8 << 20)})
    stage.init("clusters/prod")
    old = stage.serve(stage.rule(), plugins=behind)
    started = []

    def restart():
        # As a pod does it: the old one goes, the new one comes while the old one still has something to end.
        old.terminate()
        until("the old one's socket is gone", lambda: not old.socket.exists())
        started.append(stage.serve(stage.rule(), plugins=behind))

    between = Between(stage.house.plugins / old.socket.name, old.socket, 5 << 20, restart)
    stage.render([full("db", VALUES)])
    assert between.done.is_set() and not between.failed, between.failed
    old.gone()
    assert started[0].socket.is_socket(), "the old one removed the new one's socket"
    stage.render([full("db", VALUES)])
    between.close()
    started[0].stop()
    assert not started[0].socket.exists(), "a socket stayed behind"
