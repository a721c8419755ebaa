"""regent's volume is full, and it is replaced in the middle of a build: what was published is served, the condition says what is wrong
and where, other Kustomizations go on, and when there is room again the newest commit is applied. On a volume that was mounted for
reading alone it starts, and serves what is there."""

import os
import subprocess

import bootstrapped
from authority import value
from regents import Busy
from stage import config_map

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
        third = it.change(3)
        it.flux.commit({f"large/{number}.txt": os.urandom(LARGE) for number in range(16)})
        it.regent.kill()
        assert it.artifact()["metadata"]["org.opencontainers.image.revision"] in (second, third), "it was built before it died"
        it.serve()
        fourth = it.commit({"settings.yaml": config_map("settings", "prod")})
        it.applied(fourth)
        assert it.values() == value(3)
        left = [file.name for file in it.data.rglob("*") if file.name.endswith(".tmp")]
        assert not left, left
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


def said(it, status):
    """Waits for this condition Ready at the artifact, and gives it."""
    def holds(thing):
        return thing and next((each for each in thing["status"].get("conditions", ())
                               if each["type"] == "Ready" and each["status"] == status), None)
    return holds(it.cluster.wait(f"Ready is {status}", "ExternalArtifact", "prod", "prod", holds, 60))


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
