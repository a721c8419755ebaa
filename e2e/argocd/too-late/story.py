import os
import time

from stage import CANARY, Between, Sealed, bootstrap, full, secret

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
    stage.render([full("db", VALUES)])
