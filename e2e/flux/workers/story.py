"""kustomize-controller has four workers. Where regent's address takes connections and does not answer, four of its Kustomizations hold
all four, and nothing else in the cluster is reconciled; the end of the process, which a liveness probe brings about, frees them. A
refused connection holds one for as long as `--http-retry` says; a 404 for no time at all. With `--concurrent` above the number of
regent's Kustomizations the others never wait."""

import time

import bootstrapped
from artifacts import Artifacts
from bootstrapped import DECRYPTION
from kustomizations import CONTROLLER, Kustomization, handled
from stage import config_map

NAMES = ["one", "two", "three", "four"]


def story(stage):
    # The artifact is the whole repository's: each of the four applies a folder of it that is outside the root.
    stage.repo.write({"plain/other/settings.yaml": config_map("other", "prod"),
                      **{f"four/{name}/settings.yaml": config_map(name, "prod") for name in NAMES}})
    # Two tries, five seconds apart, in place of ten in 214 s.
    it = bootstrapped.begin(stage, "--http-retry=1")
    artifact = it.applied(it.first)
    other = it.plain("other")
    other.ready()
    four = [it.flux.kustomization(name, "prod", "prod", path=f"four/{name}", decryption=DECRYPTION, retryInterval="1m")
            for name in NAMES]
    for each in four:
        each.ready(artifact["revision"])
    before = it.live()

    # It hangs: all workers are taken, and stay so.
    it.regent.pause()
    ask(four)
    word = other.ask()
    time.sleep(6)
    assert handled(other.get()) != word, "a fifth worker?"
    # The process ends; the addresses refuse from now on, and each worker has one more try.
    it.regent.kill()
    start = time.monotonic()
    took(other, word)
    # With the ten tries of the default it would be minutes.
    assert time.monotonic() - start < 30, "a worker was held for longer than --http-retry says"
    for each in four:
        each.fails("ArtifactFailed", "connection refused")

    # The same four, refused from the beginning: five seconds each, and nobody waits for longer.
    ask(four)
    time.sleep(1)
    start = time.monotonic()
    other.reconcile()
    assert 2 < time.monotonic() - start < 30, time.monotonic() - start

    # A 404 takes no time, and is asked again by itself.
    with NotFound(it):
        for each in four:
            each.ask()
            each.fails("ArtifactFailed", "artifact not found")
        assert min(waited(four, other) for _ in range(3)) < 4
    it.flux.unchanged(before)

    # More workers than regent has Kustomizations.
    it.serve()
    it.flux.cluster.kill(CONTROLLER)
    it.flux.flags.append("--concurrent=8")
    it.flux.start_kustomize_controller()
    for each in four:
        each.reconcile()
        each.ready(artifact["revision"])
    it.regent.pause()
    ask(four)
    time.sleep(1)
    for _ in range(3):
        other.reconcile(seconds=10)
        other.ready()
    it.regent.resume()
    for each in [it.app, *four]:
        each.reconcile()
        each.ready(artifact["revision"])
    it.flux.unchanged(before)


def ask(kustomizations):
    return [each.ask() for each in kustomizations]


def waited(kustomizations, other):
    """How long the other one takes that is asked after them."""
    start = time.monotonic()
    ask(kustomizations)
    other.reconcile()
    return time.monotonic() - start


def took(kustomization: Kustomization, word):
    kustomization.wait("reconciled", lambda thing: handled(thing) == word)


class NotFound:
    """Somebody at the artifacts' address who has none."""

    def __init__(self, it):
        self.port = it.flux.artifacts_port

    def __enter__(self):
        self.server = Artifacts(self.port)

    def __exit__(self, *_):
        self.server.close()
