"""What regent's handover stands on: kustomize-controller takes a stub for a Secret that it owns, and the live Secret stays the same to
the last byte, pruned or forced, with Ready=True.

The Secret that `spec.decryption` names may then be emptied, but not deleted. A stub without its annotations empties the live
Secret, and one that vanishes is pruned unless the live Secret says otherwise."""

import base64
import json

from kustomizations import Flux
from stage import CANARY, config_map, until

KEPT = {"kustomize.toolkit.fluxcd.io/prune": "disabled"}
IGNORED = {**KEPT, "kustomize.toolkit.fluxcd.io/ssa": "Ignore"}


def story(stage):
    flux = Flux(stage, source=False)
    flux.namespace("app")
    decryption = flux.decryption("regent-token", "app", {"sops.vault-token": f"{CANARY}-token"})
    full = {name: manifest(name, KEPT, stringData={"password": f"{CANARY}-{name}"}) for name in ("db", "api")}
    # One that nobody guarded: what becomes of it shows that the others are kept by their annotation.
    bare = manifest("bare", {}, stringData={"password": f"{CANARY}-bare"})
    first = flux.publish("app", "app", artifact(full, bare=bare))
    app = flux.kustomization("app", "app", decryption=decryption, retryInterval="2s")
    app.ready(first)
    live = {name: flux.live(name, "app") for name in (*full, "bare")}
    assert all(each["data"] for each in live.values())
    told = until("it is said of a Secret that it was made", lambda: about(app, "db"))

    stubs = {name: manifest(name, IGNORED) for name in full}
    handed = flux.publish("app", "app", artifact(stubs, bare=manifest("bare", {})), revision="handover")
    assert handed.startswith("handover@sha256:")
    app.ready(handed)
    flux.unchanged(live["db"], live["api"])
    assert "data" not in flux.live("bare", "app")
    assert app.history()[0]["metadata"]["revision"] == handed
    assert app.inventory() == {f"app_{name}__Secret" for name in live} | {"app_settings__ConfigMap"}
    assert about(app, "db") == told

    app.spec(force=True)
    app.ready(handed)
    flux.unchanged(live["db"], live["api"])
    app.spec(force=None)

    # A value that another writer rotates stays.
    rotated = {"data": {"password": base64.b64encode(f"{CANARY}-rotated".encode()).decode()}}
    live["db"] = flux.cluster.patch("Secret", "db", "app", rotated, query={"fieldManager": "operator"}).ok()
    app.reconcile()
    flux.unchanged(live["db"])

    # Only stubs are left, and the Secret has to be there all the same.
    flux.decryption("regent-token", "app", {})
    app.reconcile()
    app.ready(handed)
    flux.cluster.delete("Secret", "regent-token", "app").ok()
    app.ask()
    app.fails("BuildFailed", "regent-token", "not found")
    flux.unchanged(live["db"], live["api"])
    flux.decryption("regent-token", "app", {})
    app.reconcile()
    app.ready(handed)

    # Both Secrets and the bare one vanish from the artifact.
    gone = flux.publish("app", "app", artifact({}), revision="handover")
    app.ready(gone)
    flux.unchanged(live["db"], live["api"])
    assert flux.live("bare", "app") is None
    assert app.inventory() == {"app_settings__ConfigMap"}

    # An older artifact that is published again brings the old value back: what stops it is a refusal to decrypt it, or the API server.
    again = flux.publish("app", "app", artifact(full), revision="again")
    app.ready(again)
    assert base64.b64decode(flux.live("db", "app")["data"]["password"]).decode() == f"{CANARY}-db"
    app.delete()
    assert {name for name in live if flux.live(name, "app")} == {"db", "api"}


def about(app, name):
    """What was said of a Secret by a revision that applied it."""
    return [message for _, _, message in app.events() if f"Secret/app/{name} " in message]


def manifest(name, annotations, **more):
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", **more,
                       "metadata": {"name": name, "namespace": "app", "annotations": annotations}})


def artifact(secrets, **more):
    return {"settings.yaml": config_map("settings"), **{f"{name}.yaml": text for name, text in {**secrets, **more}.items()}}
