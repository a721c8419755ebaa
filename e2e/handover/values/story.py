"""What Vault holds is what Git held, to the byte; what Vault would change or refuse is found before the first write."""

import base64
import json

from handed import CANARY, Hand, sealed
from stage import Sealed

EVERY_BYTE = bytes(range(256))
TEXTS = {
    "empty": "", "nul": "a\0b", "crlf": "a\r\nb\n", "unicode": "ä€\U0001f511\u2028\u2029\ufeff", "html": "<&>\"'\\/",
    "long": CANARY * 20_000, "space": "  ", "json": '{"a": 1.10}', "number": "9007199254740993",
    **{f"control-{byte:02x}": chr(byte) for byte in range(32)},
}


def data(name, values):
    encoded = {key: base64.b64encode(value).decode() for key, value in values.items()}
    return Sealed(json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "app"}, "data": encoded}))


def refused(hand, stage, file, content, *says, code="plan"):
    commit = stage.repo.commit({f"clusters/prod/{file}.yaml": content})
    hand.handover("--plan", revision=commit, ends=6, code=code, says=[f"app/{file}", *says])
    stage.repo.commit({f"clusters/prod/{file}.yaml": None})


def story(stage):
    hand = Hand(stage, secrets={}, more="secrets: { encoding: { app/bytes: base64 } }\n")
    refused(hand, stage, "binary", data("binary", {"bytes": EVERY_BYTE}), "`bytes` is not UTF-8")
    refused(hand, stage, "many", sealed("many", {f"key-{n}": "x" for n in range(499)}), "499 keys")
    refused(hand, stage, "large", sealed("large", {"key": "x" * 1_000_000}), "bytes")
    hand.commit = stage.repo.commit({
        "clusters/prod/bytes.yaml": data("bytes", {"every": EVERY_BYTE}),
        "clusters/prod/texts.yaml": data("texts", {key: text.encode() for key, text in TEXTS.items()}),
        "clusters/prod/many.yaml": sealed("many", {f"key-{n}": f"{n}" for n in range(498)}),
        "clusters/prod/large.yaml": sealed("large", {"key": "y" * 900_000}),
    })
    hand.handover("--yes")
    hand.vault_rules()
    copies = hand.copies()
    assert copies["app/texts"] == TEXTS
    assert base64.b64decode(copies["app/bytes"]["every"]) == EVERY_BYTE
    assert copies["app/many"] == {f"key-{n}": f"{n}" for n in range(498)}
    assert copies["app/large"] == {"key": "y" * 900_000}
    hand.bao.stop()
