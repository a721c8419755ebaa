"""kustomize-controller has four workers. Where regent's address takes connections and does not answer, four of its Kustomizations hold
all four, and nothing else in the cluster is reconciled; the end of the process, which a liveness probe brings about, frees them. A
refused connection holds one for as long as `--http-retry` says; a 404 for no time at all. With `--concurrent` above the number of
regent's Kustomizations the others never wait."""

import time

import bootstrapped
from artifacts import Artifacts
from bootstrapped import DECRYPTION
from kustomizations import CONTROLLER, Kustomization, handled
from regents import unread
from stage import PATIENCE, config_map, until

NAMES = ["one", "two", "three", "four"]
# Below the 214 s of ten tries.
MINUTES = 150


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
    all_wait(it)
    word = other.ask()
    time.sleep(6)
    assert handled(other.get()) != word, "a fifth worker?"
    # The process ends; the addresses refuse from now on, and each worker has one more try. With the ten tries of the default it would be
    # minutes.
    it.regent.kill()
    took(other, word, MINUTES)
    for each in four:
        each.fails("ArtifactFailed", "connection refused")

    # The same four, refused from the beginning: five seconds each, and nobody waits for longer.
    start = time.monotonic()
    ask(four)
    other.reconcile(MINUTES)
    assert time.monotonic() - start > 4, "no worker was held"

    # A 404 takes no time, and is asked again by itself.
    with NotFound(it):
        for each in four:
            each.ask()
            each.fails("ArtifactFailed", "artifact not found")
        # Less than one that is refused: as soon as the machine has a moment for it.
        until("nobody waits behind a 404", lambda: waited(four, other) < 4, 4 * PATIENCE)
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
    all_wait(it)
    for _ in range(3):
        other.reconcile()
        other.ready()
    assert unread(it.flux.artifacts_port) == len(four), "they did not wait all the while"
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


def took(kustomization: Kustomization, word, seconds):
    kustomization.wait("reconciled", lambda thing: handled(thing) == word, seconds)


def all_wait(it):
    """Until each of the four has asked for its artifact, and nobody has read that."""
    until("four requests wait", lambda: unread(it.flux.artifacts_port) == len(NAMES))


class NotFound:
    """Somebody at the artifacts' address who has none."""

    def __init__(self, it):
        self.port = it.flux.artifacts_port

    def __enter__(self):
        self.server = Artifacts(self.port)

    def __exit__(self, *_):
        self.server.close()
