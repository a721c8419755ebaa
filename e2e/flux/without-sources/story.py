"""Vault rules, and everything that regent was made from is gone: Git, source-controller, its keys. It is started again, on the volume
that it had and while the API server hangs, and serves what it published. With the API server back the Kustomization is Ready as
before, although nothing can be built; with the sources back the next commit is published."""

import hashlib
import shutil
import urllib.request

import bootstrapped
from kustomizations import SOURCES
from regents import Busy
from stage import PATIENCE, config_map


def story(stage):
    stage.repo.write({"plain/other/settings.yaml": config_map("other", "prod")})
    # A Secret with the key, mounted as a folder.
    keys = stage.folder / "mounted"
    keys.mkdir()
    shutil.copy(stage.key.file, keys)
    rule = {"identities": [str(keys)]}
    it = bootstrapped.begin(stage, serve={"rule": rule})
    it.applied(it.first)
    other = it.plain("other")
    other.ready()
    token = it.flux.regent_token()
    artifact, before = it.handed_over(), it.live()
    inventory = it.app.inventory()

    for name in (SOURCES, "git"):
        it.cluster.kill(name)
    it.regent.kill()
    (keys / stage.key.file.name).unlink()
    it.cluster.pause("kube-apiserver")
    try:
        it.serve(rule=rule, token=token)
        with urllib.request.urlopen(artifact["url"], timeout=PATIENCE) as answer:
            assert hashlib.sha256(answer.read()).hexdigest() == artifact["digest"].removeprefix("sha256:")
    finally:
        it.cluster.resume("kube-apiserver")
    it.app.reconcile()
    it.app.ready(artifact["revision"])
    assert it.app.inventory() == inventory
    it.flux.unchanged(before)
    # It leads again, says that it can build nothing, and leaves what is published.
    it.cluster.wait("it is told", "ExternalArtifact", "prod", "prod",
                    lambda thing: thing and thing["status"]["conditions"][0]["status"] == "False")
    assert it.artifact() == artifact, it.artifact()
    with Busy(it.app) as app:
        app.more()
    it.flux.unchanged(before)

    it.flux.start_git()
    it.flux.start_source_controller()
    second = it.commit({"settings.yaml": config_map("changed", "prod")})
    told = it.applied(second)
    assert told["revision"].startswith("handover@"), told
    assert it.app.inventory() == {"prod_db__Secret", "prod_changed__ConfigMap"}, it.app.inventory()
    other.ready(second)
    it.flux.unchanged(before)
