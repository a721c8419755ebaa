"""What an encrypted document may come to in kustomize-controller, and why regent checks the MAC itself, emits only kinds that it knows
and refuses values that are no strings.

Without decryption, or where an annotation turns it off, ciphertext under `stringData` becomes the live value. The MAC is never checked:
a Secret whose kind somebody changes is decrypted into a ConfigMap. And a number under `stringData` is printed."""

import base64
import json

from kustomizations import Flux
from stage import Sealed

# Without the canary: here they do come out.
WORD, NUMBER = "a-word-in-the-clear", 20931847


def story(stage):
    flux = Flux(stage, source=False)
    flux.namespace("app")
    decryption = flux.decryption("sops-age", "app", {"age.agekey": stage.key.file.read_text()})

    ciphertext(flux, flux.kustomization("undecrypted", "app"), "undecrypted", sealed(stage, "undecrypted", password=WORD))
    off = sealed(stage, "off", {"kustomize.toolkit.fluxcd.io/decrypt": "disabled"}, password=WORD)
    ciphertext(flux, flux.kustomization("off", "app", decryption=decryption), "off", off)

    tampered = sealed(stage, "tampered", password=WORD).replace(b"kind: Secret", b"kind: ConfigMap").replace(b"stringData:", b"data:")
    app = flux.kustomization("tampered", "app", decryption=decryption)
    flux.publish("tampered", "app", {"one.yaml": tampered})
    app.fails("BuildFailed", "message authentication failed")
    # The path inside of the document is bound to the value, and nothing else is.
    moved = sealed(stage, "tampered", under="data", password=base64.b64encode(WORD.encode()).decode())
    app.ready(flux.publish("tampered", "app", {"one.yaml": moved.replace(b"kind: Secret", b"kind: ConfigMap")}))
    found = flux.live("tampered", "app", "ConfigMap")["data"]
    assert base64.b64decode(found["password"]).decode() == WORD, found

    app = flux.kustomization("typed", "app", decryption=decryption)
    flux.publish("typed", "app", {"one.yaml": sealed(stage, "typed", pin=NUMBER)})
    assert str(NUMBER) in app.fails("ReconciliationFailed", "expected string")
    assert flux.live("typed", "app") is None


def ciphertext(flux, app, name, document):
    """It is applied as it is, and all is said to be well."""
    app.ready(flux.publish(name, "app", {"one.yaml": document}))
    value = base64.b64decode(flux.live(name, "app")["data"]["password"])
    assert value.startswith(b"ENC[AES256_GCM,"), name


def sealed(stage, name, annotations=None, under="stringData", **values):
    thing = {"apiVersion": "v1", "kind": "Secret", under: values,
             "metadata": {"name": name, "namespace": "app", **({"annotations": annotations} if annotations else {})}}
    return stage.seal("one.yaml", Sealed(json.dumps(thing)))
