import os

from stage import CANARY, Sealed, bootstrap, full, secret

VALUES = {"password": f"{CANARY}-another-user"}


def story(stage):
    # Root writes everything, whatever its mode: only an account of its own shows it. Others cannot change accounts.
    uid = 64123 if os.getuid() == 0 else None
    stage.repo.commit({"clusters/prod/regent.yaml": bootstrap("prod"), "clusters/prod/db.yaml": Sealed(secret("db", VALUES))})
    stage.init("clusters/prod")
    owner = stage.serve(stage.rule(), flags=(), argocd={"version": "v2"})
    stage.refused("P1", "refresh", plugin=f"{stage.name}-v2")
    owner.stop()
    for folder, folders, files in os.walk(stage.store):
        for name in (".", *folders, *files):
            path = os.path.join(folder, name)
            if uid is not None:
                os.chown(path, -1, uid)
            os.chmod(path, 0o550 if os.path.isdir(path) else 0o440)
    if uid is not None:
        os.chown(stage.key.file, uid, uid)
    regent = stage.serve(stage.rule(), flags=(), uid=uid)
    stage.render([full("db", VALUES)])
    # Not even that account can look into the process: it is not dumpable.
    assert os.stat(f"/proc/{regent.child.pid}/environ").st_uid == 0
    assert regent.socket.stat().st_mode & 0o777 == 0o660, oct(regent.socket.stat().st_mode)
