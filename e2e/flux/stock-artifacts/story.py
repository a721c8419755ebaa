"""Why artifacts are served at once or refused with 404: kustomize-controller has four workers and no patience of its own. What is not
found is asked for again, soon and by itself; a wrong digest is refused; but four fetches that hang stop every other Kustomization.

In all of it the live objects stay."""

import time

from artifacts import HANG
from kustomizations import Flux, handled
from stage import config_map, until


def story(stage):
    flux = Flux(stage, source=False)
    flux.namespace("app")
    first = flux.publish("app", "app", {"one.yaml": config_map("one")})
    app = flux.kustomization("app", "app", retryInterval="2s")
    app.ready(first)
    before = flux.live("one", "app", "ConfigMap")

    flux.artifacts.does = lambda path: 404
    second = flux.publish("app", "app", {"two.yaml": config_map("two")})
    app.fails("ArtifactFailed", "artifact not found, retrying in 2s")
    assert app.applied() == first
    flux.unchanged(before)
    flux.artifacts.does = lambda path: None
    # By itself: its interval is an hour.
    app.ready(second)
    assert flux.live("one", "app", "ConfigMap") is None

    before = flux.live("two", "app", "ConfigMap")
    third = flux.publish("app", "app", {}, revision="wrong@sha256:1", digest="sha256:" + "0" * 64)
    app.fails("ArtifactFailed", "computed digest doesn't match")
    assert app.applied() == second
    flux.unchanged(before)
    fourth = flux.publish("app", "app", {"two.yaml": config_map("two")}, revision="right")
    app.ready(fourth)
    assert third not in [each["metadata"]["revision"] for each in app.history()]

    names = [f"slow-{number}" for number in range(4)]
    flux.artifacts.does = lambda path: HANG if "/slow-" in path else None
    for name in names:
        flux.publish(name, "app", {f"{name}.yaml": config_map(name)})
        flux.kustomization(name, "app")
    until("four fetches hang", lambda: sum("/slow-" in path for path in flux.artifacts.seen) == len(names))
    word = app.ask()
    time.sleep(5)  # ten times what it takes otherwise
    assert handled(app.get()) != word, "it was reconciled beside four fetches that hang"
    flux.artifacts.let_go()
    app.wait("reconciled after all", lambda thing: handled(thing) == word)
