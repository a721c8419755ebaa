"""The search for the canary, searched itself: in every form in which a value can lie somewhere it is found, and a clean folder is clean.
A search that finds nothing would let every story hold."""

import base64
import tempfile
from pathlib import Path

from artifacts import packed
from kustomizations import searched
from stage import CANARY

TOKEN = b"a-token-that-is-longer-than-24"


def finds(_house):
    value = f"{CANARY}-1"
    forms = {
        "clear": value, "log line": f'{{"message":"a value: {value}"}}\n', "key of a map": f"{value}: x",
        **{f"base64 at {shift}": base64.b64encode(b"x" * shift + value.encode()) for shift in range(3)},
        "base64 in JSON": f'{{"plaintext":"{base64.b64encode(value.encode()).decode()}"}}',
        "token": TOKEN, "token in base64": base64.b64encode(TOKEN)}
    for form, content in forms.items():
        content = content.encode() if isinstance(content, str) else content
        for name, data in {"a/b/file": content, "a/artifact.tar.gz": packed({"clusters/prod/db.yaml": content})}.items():
            assert found({"clean": b"nothing", name: data}), f"{form} in {name} is not found"
    assert not found({"clean": b"ENC[AES256_GCM,data:eA==]", "a/artifact.tar.gz": packed({"db.yaml": "a: b"})}), "found in clean files"


def found(files):
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            file = Path(folder) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        try:
            searched(Path(folder), [TOKEN])
        except AssertionError:
            return True
    return False
