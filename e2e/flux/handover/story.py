"""A Secret of Git reaches the cluster through stock kustomize-controller, which never holds a key: its artifact comes from regent, and the
data key of each document from regent's endpoint. A commit brings another value. Then Vault rules: the endpoint refuses, the stubs are
published at that moment, the live Secret stays to the last byte and the Kustomization Ready. An old artifact that is put back is refused
with a sentence, and nothing happens to what is live."""

import bootstrapped
from authority import value
from bootstrapped import PRUNE
from regents import unread
from stage import until


def story(stage):
    it = bootstrapped.begin(stage)
    old = it.applied(it.first)
    assert old["revision"].startswith("bootstrap@sha256:") and old["digest"].startswith("sha256:"), old
    assert it.app.inventory() == {"prod_db__Secret", "prod_settings__ConfigMap"}, it.app.inventory()
    assert it.values() == value(1)
    metadata = it.live()["metadata"]
    assert metadata["annotations"][PRUNE] == "disabled" and metadata["labels"]["regent.dev/authority"] == "prod", metadata
    assert it.app.status()["lastAppliedOriginRevision"] == it.first

    second = it.change(2)
    it.applied(second)
    assert it.values() == value(2)

    before = it.live()
    it.handed_over()
    it.app.reconcile()
    it.flux.unchanged(before)
    assert it.app.inventory() == {"prod_db__Secret", "prod_settings__ConfigMap"}, it.app.inventory()
    assert it.app.status()["lastAppliedOriginRevision"] == second

    # Vault's operator rotates; Git changes; nothing of Git comes back.
    it.authority.rotate(3)
    rotated = it.live()
    third = it.change(4)
    it.applied(third)
    it.app.reconcile()
    it.flux.unchanged(rotated)

    # Somebody puts an artifact of before back. regent publishes the right one again within its interval, so it is stopped here, until
    # the controller asks for it.
    it.regent.pause()
    thing = {"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "ExternalArtifact", "metadata": {"name": "prod", "namespace": "prod"},
             "status": {"artifact": old}}
    it.cluster.apply_one(thing, "somebody", force=True, subresource="status").ok()
    until("it is asked for", lambda: unread(it.flux.artifacts_port))
    it.regent.resume()
    # Its condition may be another again by now.
    failed = until("it is refused", lambda: [said for _, reason, said in it.app.events(old["revision"]) if reason == "BuildFailed"])
    # In lines that are broken wherever the controller likes.
    assert "Vault is the authority for prod" in " ".join(failed[0].replace("|", "").split()) and "403" in failed[0], failed
    it.flux.unchanged(rotated)
