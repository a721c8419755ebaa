import gzip
import hashlib
import io
import os
import tarfile

from stage import CANARY, Sealed, bootstrap, full, secret

VALUES = {"password": f"{CANARY}-hostile"}
LIMITS = {"document": "1MiB", "upload": "8MiB", "stream": "64MiB", "files": 1000}


def story(stage):
    stage.repo.write({"clusters/prod/db.yaml": Sealed(secret("db", VALUES))})
    stage.repo.commit({"clusters/prod/regent.yaml": bootstrap("prod")})
    stage.init("clusters/prod")
    regent = stage.serve(stage.rule(), limits=LIMITS)
    client = stage.socket_client()
    mine = [(path, (stage.repo.folder / path).read_bytes()) for path in ("clusters/prod/regent.yaml", "clusters/prod/db.yaml")]
    filler = b"#" * (900 << 10)
    uploads = {
        "kept": mine + [(f"other/{number}.yaml", filler) for number in range(10)],
        "counted": mine + [(f"{number}.bin", b"\0" * (1 << 20)) for number in range(70)],
        "files": mine + [(f"{number}.bin", b"") for number in range(1001)],
        "document": mine + [("clusters/prod/large.yaml", b"#" * (1 << 20) + b"#")],
    }
    calls = {name: client.ask(**upload(stage, packed(stage.folder / f"{name}.tgz", files)))
             for name, files in uploads.items()}
    bomb = stage.folder / "bomb.tgz"
    with gzip.open(bomb, "wb", 1) as out, tarfile.open(fileobj=out, mode="w|") as tar:
        info = tarfile.TarInfo("bomb.bin")
        info.size = 1 << 30
        tar.addfile(info, Zeros())
    calls["bomb"] = client.ask(**upload(stage, bomb))
    # Truncated, and no archive at all.
    cut = stage.folder / "cut.tgz"
    cut.write_bytes((stage.folder / "kept.tgz").read_bytes()[:2000])
    noise = stage.folder / "noise.tgz"
    noise.write_bytes(os.urandom(3 << 20))
    for file in (cut, noise):
        calls[file.stem] = client.ask(**upload(stage, file))
    for name, future in calls.items():
        answer = future.result(120)
        assert "error" in answer, f"{name}: {answer['response']}"
        # All of it was read: Argo CD would have got `EOF` instead of the error otherwise.
        stage.check_error(answer["error"], "limit" if name == "document" else "upload")
    assert regent.peak() < 150, f"{regent.peak()} MiB"
    stage.render([full("db", VALUES)])


class Zeros(io.RawIOBase):
    def read(self, count=-1):
        return bytes(count)


def packed(file, files):
    with tarfile.open(file, "w:gz", compresslevel=1) as tar:
        for path, content in files:
            info = tarfile.TarInfo(path)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def upload(stage, file):
    content = file.read_bytes()
    env = [dict(zip(("name", "value"), entry.split("=", 1))) for entry in stage.asked_env()]
    metadata = {"appName": "prod", "appRelPath": "clusters/prod", "checksum": hashlib.sha256(content).hexdigest(),
                "size": len(content), "env": env}
    return {"call": "generate", "messages": [{"metadata": metadata}, {"file": str(file), "size": 1 << 14}]}
