"""regent follows a repository of its own machine: no GitRepository, no source-controller. A commit is an artifact within two seconds, as
the file system tells of it, and so is the handover."""

import time

import bootstrapped
from authority import value


def story(stage):
    it = bootstrapped.begin(stage, source=False, watched=True)
    it.applied(it.first)
    assert it.values() == value(1)
    # Each comes right behind a look: a pause between looks would show in one of three. A machine that has something else to do for a
    # moment shows in one, too, and three others follow.
    quick, took = 0, []
    while quick < 3:
        number = len(took) + 2
        revision = it.change(number)
        start = time.monotonic()
        artifact = it.published(lambda artifact, revision=revision: of(artifact) == revision)
        took.append(time.monotonic() - start)
        it.app.ready(artifact["revision"])
        assert it.values() == value(number)
        quick = quick + 1 if took[-1] < 2 else 0
        assert len(took) < 50, f"{took} s from the commit to its artifact"
    before = it.live()
    it.handed_over()
    it.flux.unchanged(before)


def of(artifact):
    return artifact.get("metadata", {}).get("org.opencontainers.image.revision")
