"""Who may guard a live Secret: kustomize-controller takes away whatever a manager named `kubectl` wrote, and leaves what `regent` wrote.
So a guard counts when it is still there one reconcile later.

A guard that kustomize-controller itself applied goes again with the next artifact that does not have it."""

import json

from kustomizations import Flux
from stage import CANARY

PRUNE = "kustomize.toolkit.fluxcd.io/prune"


def story(stage):
    flux = Flux(stage, source=False)
    flux.namespace("app")
    names = "by-regent", "by-update", "by-kubectl", "by-git"
    first = flux.publish("app", "app", {f"{name}.yaml": manifest(name, guarded=name == "by-git") for name in names})
    app = flux.kustomization("app", "app")
    app.ready(first)

    guard = {"metadata": {"annotations": {PRUNE: "disabled"}}}
    flux.cluster.apply_one({"apiVersion": "v1", "kind": "Secret", "metadata": {
        "name": "by-regent", "namespace": "app", **guard["metadata"]}}, "regent").ok()
    flux.cluster.patch("Secret", "by-update", "app", guard, query={"fieldManager": "regent"}).ok()
    flux.cluster.kubectl("annotate", "--namespace=app", "secret/by-kubectl", f"{PRUNE}=disabled")
    assert guards(flux, names) == set(names)

    # Unchanged, then as another revision that applies everything.
    app.reconcile()
    assert guards(flux, names) == {"by-regent", "by-update", "by-git"}
    app.ready(flux.publish("app", "app", {f"{name}.yaml": manifest(name, value="2") for name in names}))
    assert guards(flux, names) == {"by-regent", "by-update"}

    app.ready(flux.publish("app", "app", {}))
    assert {name for name in names if flux.live(name, "app")} == {"by-regent", "by-update"}


def guards(flux, names):
    return {name for name in names if flux.live(name, "app")["metadata"].get("annotations", {}).get(PRUNE) == "disabled"}


def manifest(name, guarded=False, value="1"):
    annotations = {"annotations": {PRUNE: "disabled"}} if guarded else {}
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "app", **annotations},
                       "stringData": {"password": f"{CANARY}-{value}"}})
