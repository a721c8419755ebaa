import gzip
import hashlib
import io
import json
import os
import tarfile

from stage import CANARY, Sealed, comparable, full, secret

VALUES = {"password": f"{CANARY}-upstream"}
MAP = """# a comment
apiVersion: v1
kind: ConfigMap
metadata:
  name: my-map
  namespace: app
data:
  foo: bar   # another
"""
LONG = "/".join(["clusters/prod", *["l" * 90] * 4, "m" * 90 + ".yaml"])


def story(stage):
    stage.prod({"map.yaml": MAP, "db.yaml": Sealed(secret("db", VALUES))})
    plugins = stage.house.driver.ask(listPlugins=True).result(30)["plugins"]
    assert f"{stage.name}-v1" in plugins, plugins
    client = stage.socket_client()
    read = lambda path: (path, (stage.repo.folder / path).read_bytes())
    files = [read(f"clusters/prod/{name}") for name in ("regent.yaml", "map.yaml", "db.yaml")]
    good = [comparable(full("db", VALUES)), json.loads(ONE_LINE)]

    def generate(content, messages=None, name="", env=(), **changes):
        """Asks with one upload: by default its metadata, then all of it in one message."""
        file = stage.folder / f"upload-{name}.tgz"
        file.write_bytes(content)
        entries = [dict(zip(("name", "value"), entry.split("=", 1))) for entry in [*stage.asked_env(), *env]]
        metadata = {"metadata": {"appName": "prod", "appRelPath": "clusters/prod", "size": len(content),
                                 "checksum": hashlib.sha256(content).hexdigest(), "env": entries, **changes}}
        body = {"file": str(file), "size": len(content)}
        made = messages(metadata, body) if messages else [metadata, body]
        return client.ask(call="generate", messages=made)

    archive = packed(files)
    noise = packed([*files, ("noise.bin", os.urandom(24 << 20))])
    half = len(archive) // 2
    sound = {
        "as argo sends it": client.ask(call="generate", root=str(stage.repo.folder), path="clusters/prod",
                                       env=[*stage.asked_env(), "NO_EQUALS_SIGN", "=", "EMPTY="]),
        "one message": generate(archive),
        "one message of 24 MiB": generate(noise, name="noise"),
        "empty chunks": generate(archive, lambda head, body: [head, {"chunk": ""}, body, {"chunk": ""}], "empty"),
        "messages of one byte": generate(archive, lambda head, body: [head, {**body, "size": 1}], "byte"),
        "empty values, names and a parameter list that is null": generate(
            archive, name="env", env=["=nameless", "ARGOCD_ENV_EMPTY=", "ARGOCD_APP_PARAMETERS=null", "KUBE_VERSION=",
                                            "KUBE_API_VERSIONS=" + "apps/v1/Deployment," * 5000]),
        "a wrong size, which is advice": generate(archive, name="size", size=1),
        "gzip in two members": generate(gzip.compress(gzip.decompress(archive)[:1000]) +
                                        gzip.compress(gzip.decompress(archive)[1000:]), name="members"),
        "GNU headers": generate(packed(files, format=tarfile.GNU_FORMAT), name="gnu"),
        "an old tar without folders": generate(packed(files, format=tarfile.USTAR_FORMAT), name="ustar"),
        "names with ./": generate(packed([(f"./{path}", content) for path, content in files]), name="dot"),
        "a path with a trailing slash": generate(archive, name="slash", appRelPath="clusters/prod/"),
    }
    for name, call in sound.items():
        answer = call.result(60)
        assert "error" not in answer, f"{name}: {answer['error']}"
        manifests = answer["response"]["manifests"]
        # Compact JSON, an object an entry.
        assert all(text == json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False) for text in manifests)
        got = [comparable(json.loads(text)) for text in manifests]
        assert len(got) == 2 and all(one in got for one in good), f"{name}: {got}"
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        answer = generate(packed([*files, (LONG, MAP.replace("my-map", "long").encode())], format=form), name=form).result(60)
        assert "error" not in answer, answer["error"]
        assert len(answer["response"]["manifests"]) == 3, "a file with a long name went missing"

    special = lambda kind, target="": packed(files, special=(kind, target))
    broken = {
        "a path out of bounds": generate(archive, name="out", appRelPath="../out-of-bounds"),
        "an absolute path": generate(archive, name="absolute", appRelPath="/clusters/prod"),
        "no such path": generate(archive, name="none", appRelPath="clusters/prod/none"),
        "a checksum that does not match": generate(archive, name="sum", checksum="0" * 64),
        "no checksum": generate(archive, name="no-sum", checksum=""),
        "no metadata": generate(archive, lambda head, body: [body], "headless"),
        "metadata twice": generate(archive, lambda head, body: [head, head, body], "twice"),
        "metadata in the middle": generate(archive, lambda head, body: [head, body, head], "middle"),
        "metadata alone": generate(archive, lambda head, body: [head], "alone"),
        "an upload that ends too early": generate(archive[:half], name="half"),
        "a file twice": generate(packed([*files, files[1]]), name="double"),
        "a file out of bounds": generate(packed([*files, ("../map.yaml", MAP.encode())]), name="escape"),
        "an absolute file": generate(packed([*files, ("/etc/map.yaml", MAP.encode())]), name="etc"),
        "a link out of bounds": generate(special(tarfile.SYMTYPE, "../../../etc/passwd"), name="link"),
        "an absolute link": generate(special(tarfile.SYMTYPE, "/etc/passwd"), name="absolute-link"),
        "a link to itself": generate(special(tarfile.SYMTYPE, "special.yaml"), name="loop"),
        "a hard link": generate(special(tarfile.LNKTYPE, "clusters/prod/map.yaml"), name="hard"),
        "a device": generate(special(tarfile.CHRTYPE), name="device"),
        "a pipe": generate(special(tarfile.FIFOTYPE), name="pipe"),
        "an empty stream": client.ask(call="generate", messages=[]),
        "nothing in it": generate(packed([]), name="nothing"),
        "no request at all": client.ask(call="generate", messages=[{}]),
    }
    for name, call in broken.items():
        answer = call.result(60)
        assert "error" in answer, f"{name}: {answer['response']}"
        try:
            stage.check_error(answer["error"], None)
        except AssertionError as error:
            raise AssertionError(f"{name}: {error}") from error
    stage.render([full("db", VALUES), json.loads(ONE_LINE)])


ONE_LINE = '{"apiVersion":"v1","data":{"foo":"bar"},"kind":"ConfigMap","metadata":{"name":"my-map","namespace":"app"}}'


def packed(files, format=tarfile.PAX_FORMAT, special=None):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=format) as tar:
        for path, content in files:
            info = tarfile.TarInfo(path)
            info.size = len(content)
            try:
                tar.addfile(info, io.BytesIO(content))
            except ValueError as error:
                raise AssertionError(f"{path}: {error}") from error
        if special:
            info = tarfile.TarInfo("clusters/prod/special.yaml")
            info.type, info.linkname = special
            tar.addfile(info)
    return out.getvalue()
