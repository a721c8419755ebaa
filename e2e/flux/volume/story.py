"""regent's volume is full, and it is replaced in the middle of a build: what was published is served, the condition says what is wrong
and where, other Kustomizations go on, and when there is room again the newest commit is applied. On a volume that was mounted for
reading alone it starts, and serves what is there."""

import os
import subprocess

import bootstrapped
from authority import value
from regents import Busy
from stage import PATIENCE, config_map, until

ORIGIN = "org.opencontainers.image.revision"
# More than a file may grow to while the volume is full, and less than that is all that regent's log has.
ROOM, LARGE = 256 << 10, 1 << 20


def story(stage):
    stage.repo.write({"plain/other/settings.yaml": config_map("other", "prod")})
    it = bootstrapped.begin(stage)
    it.applied(it.first)
    other = it.plain("other")
    other.ready()
    with Busy(other) as busy:
        busy.more(1)
        before = it.live()

        # No artifact of the new commit fits.
        it.regent.limit(ROOM)
        second = it.flux.commit({"large/0.txt": os.urandom(LARGE), f"{it.root}/settings.yaml": config_map("changed", "prod")})
        told = said(it, "False")
        assert "cannot write" in told["message"], told
        it.app.reconcile()
        it.app.ready()
        assert it.app.status()["lastAppliedOriginRevision"] == it.first
        assert it.app.inventory() == {"prod_db__Secret", "prod_settings__ConfigMap"}, it.app.inventory()
        busy.more()
        it.regent.limit()
        it.applied(second)
        assert it.app.inventory() == {"prod_db__Secret", "prod_changed__ConfigMap"}, it.app.inventory()
        said(it, "True")
        it.flux.unchanged(before)

        # It dies while it builds a large tree, and another one takes over its volume.
        it.applied(it.change(3))
        stopped_in_a_build(it)
        it.regent.kill()
        it.serve()
        fourth = it.commit({"settings.yaml": config_map("settings", "prod")})
        it.applied(fourth)
        assert it.values() == value(3)
        assert not unfinished(it), unfinished(it)
        busy.more()

        # Started where nothing can be written.
        it.regent.stop()
        before = it.live()
        with ReadOnly(it.data):
            it.serve()
            it.app.reconcile()
            it.app.ready(it.artifact()["revision"])
            fifth = it.change(5)
            told = said(it, "False")
            assert "cannot" in told["message"], told
            it.app.reconcile()
            it.app.ready()
            it.flux.unchanged(before)
            it.regent.stop()
        it.serve()
        it.applied(fifth)
        assert it.values() == value(5)


def stopped_in_a_build(it):
    """Its process stands still when it writes, before there is an artifact. If it was faster it gets the next large tree."""
    for _ in range(20):
        large = it.flux.commit({f"large/{number}.txt": os.urandom(LARGE) for number in range(16)}, fetched=False)
        until("it writes, or has written", lambda: unfinished(it) or origin(it) == large, 2 * PATIENCE)
        it.regent.pause()
        if unfinished(it) and origin(it) != large:
            return
        it.regent.resume()
        it.published(lambda artifact: artifact.get("metadata", {}).get(ORIGIN) == large)
    raise AssertionError("not once within a build")


def unfinished(it):
    return [file.name for file in it.data.rglob("*.tmp")]


def origin(it):
    return it.artifact()["metadata"][ORIGIN]


def said(it, status):
    """Waits for this condition Ready at the artifact, and gives it."""
    def holds(thing):
        return thing and next((each for each in thing["status"].get("conditions", ())
                               if each["type"] == "Ready" and each["status"] == status), None)
    return holds(it.cluster.wait(f"Ready is {status}", "ExternalArtifact", "prod", "prod", holds))


class ReadOnly:
    """A folder in which nothing can be written. Root writes wherever a mount lets it, so for root it is one."""

    def __init__(self, folder):
        self.folder, self.is_root = folder, os.getuid() == 0

    def __enter__(self):
        if self.is_root:
            mount("--bind", self.folder, self.folder)
            mount("-o", "remount,bind,ro", self.folder)
        else:
            subprocess.run(["chmod", "-R", "a-w", self.folder], check=True)

    def __exit__(self, *_):
        if self.is_root:
            subprocess.run(["umount", "--lazy", self.folder], check=True)
        else:
            subprocess.run(["chmod", "-R", "u+w", self.folder], check=True)


def mount(*words):
    subprocess.run(["mount", *words], check=True)
