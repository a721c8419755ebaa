import os

from stage import CANARY, Between, Sealed, bootstrap, leaks, secret, stub

VALUES = {"password": f"{CANARY}-midway"}


def story(stage):
    behind = stage.folder / "behind"
    behind.mkdir()
    stage.repo.commit({"clusters/prod/regent.yaml": bootstrap("prod"),
                       "clusters/prod/db.yaml": Sealed(secret("db", VALUES)), "large.bin": os.urandom(8 << 20)})
    stage.init("clusters/prod")
    regent = stage.serve(stage.rule(), plugins=behind)
    between = Between(stage.house.plugins / regent.socket.name, regent.socket, 5 << 20,
                      lambda: stage.vault_rules([("db.yaml", "app/db")]))
    stage.render([stub("db")], cache=True)
    between.close()
    assert stage.cached() and not any(map(leaks, stage.cached())), "a value is in Redis"
