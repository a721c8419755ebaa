import os

from stage import CANARY, Sealed, bootstrap, full, secret

VALUES = {"password": f"{CANARY}-gibibyte"}
WITHIN = 600  # seconds; it is memory that counts here


def story(stage):
    stage.repo.commit({"clusters/prod/regent.yaml": bootstrap("prod"), "clusters/prod/db.yaml": Sealed(secret("db", VALUES))})
    stage.init("clusters/prod")
    regent = stage.serve(stage.rule(), limits={"request": f"{WITHIN}s"})
    stage.repo.git("config", "core.compression", "1")
    # One blob under 16 names: Git keeps and fetches it once, and everything after Git has all of them.
    zeros, noise = stage.folder / "zeros", stage.folder / "noise"
    zeros.write_bytes(bytes(64 << 20))
    noise.write_bytes(os.urandom(100_000_000))
    blobs = stage.repo.git("hash-object", "-w", zeros, noise).split()
    entries = [f"100644,{blobs[0]},zeros/{number}.bin" for number in range(16)] + [f"100644,{blobs[1]},noise.bin"]
    stage.repo.git("update-index", "--add", *(word for entry in entries for word in ("--cacheinfo", entry)))
    stage.repo.git("commit", "--quiet", "--message", "large")
    stage.render([full("db", VALUES)], seconds=WITHIN)
    assert regent.peak() < 120, f"{regent.peak()} MiB"
