"""regent follows a repository of its own machine: no GitRepository, no source-controller. A commit is an artifact within two seconds, as
the file system tells of it, and so is the handover."""

import time

import bootstrapped
from authority import value


def story(stage):
    it = bootstrapped.begin(stage, source=False, watched=True)
    it.applied(it.first)
    assert it.values() == value(1)
    # The first one is slower than the later ones: a pause between looks would show in one of these.
    for number in (2, 3, 4):
        revision = it.change(number)
        start = time.monotonic()
        artifact = it.published(lambda artifact, revision=revision: of(artifact) == revision)
        took = time.monotonic() - start
        assert took < 2, f"{took:.1f} s from the commit to its artifact"
        it.app.ready(artifact["revision"])
        assert it.values() == value(number)
    before = it.live()
    it.handed_over()
    it.flux.unchanged(before)


def of(artifact):
    return artifact.get("metadata", {}).get("org.opencontainers.image.revision")
