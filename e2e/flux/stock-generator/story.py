"""A generated Secret with a hash in its name can be handed over: its stub comes from a kustomization of its own with the hash as
`nameSuffix`, so the name stays, and so does the Deployment's reference to it.

An emptied generator would give another hash: the Deployment rolls, to a Secret without values."""

import json

from kustomizations import Flux
from stage import CANARY

KEPT = {"kustomize.toolkit.fluxcd.io/prune": "disabled"}
IGNORED = {**KEPT, "kustomize.toolkit.fluxcd.io/ssa": "Ignore"}


def story(stage):
    flux = Flux(stage, source=False)
    flux.namespace("app")
    first = flux.publish("app", "app", {
        "kustomization.yaml": kustomization(["deployment.yaml"], secretGenerator=[
            {"name": "gen", "envs": ["gen.env"], "options": {"annotations": KEPT}}]),
        "gen.env": f"password={CANARY}-generated\n", "deployment.yaml": deployment()})
    app = flux.kustomization("app", "app", targetNamespace="app")
    app.ready(first)
    name = generated(app)
    secret, user = flux.live(name, "app"), flux.live("web", "app", "Deployment")
    assert secret["data"] and refers(user) == name and name.startswith("gen-"), name

    handed = flux.publish("app", "app", {
        "kustomization.yaml": kustomization(["deployment.yaml", "regent"]), "deployment.yaml": deployment(),
        "regent/kustomization.yaml": kustomization(["stub.yaml"], nameSuffix=name.removeprefix("gen")),
        "regent/stub.yaml": json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "gen", "annotations": IGNORED}})},
        revision="handover")
    app.ready(handed)
    flux.unchanged(secret, user)
    assert generated(app) == name

    emptied = flux.publish("app", "app", {
        "kustomization.yaml": kustomization(["deployment.yaml"], secretGenerator=[{"name": "gen", "options": {"annotations": IGNORED}}]),
        "deployment.yaml": deployment()})
    app.ready(emptied)
    rolled = flux.live("web", "app", "Deployment")
    assert rolled["metadata"]["generation"] == user["metadata"]["generation"] + 1 and refers(rolled) != name
    assert flux.live(refers(rolled), "app") is None
    # It stays for its guard alone.
    flux.unchanged(secret)


def generated(app):
    name, = (each.split("_")[1] for each in app.inventory() if each.endswith("__Secret"))
    return name


def refers(user):
    return user["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"]


def kustomization(resources, **more):
    return json.dumps({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources, **more})


def deployment():
    labels = {"app": "web"}
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [
            {"name": "web", "image": "none", "envFrom": [{"secretRef": {"name": "gen"}}]}]}}}})
