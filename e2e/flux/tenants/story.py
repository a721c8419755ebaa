"""What a tenant may try. A stanza that was copied into another namespace, another Kustomization's name in the stanza, an old artifact, a
repository with regent's documents and the Kustomization pointed at it: each is refused, with a sentence that says why, at the
Kustomization and as an Event; nothing is applied. Inside one namespace there is no isolation: its token opens its documents."""

import urllib.request

import bootstrapped
from artifacts import unpacked
from authority import value
from bootstrapped import DECRYPTION
from stage import PATIENCE


def story(stage):
    # Flux would take regent.yaml for an object where no kustomization says what is one.
    it = bootstrapped.begin(stage, files={"kustomization.yaml": "resources: [db.yaml, settings.yaml]\n"})
    artifact = it.applied(it.first)
    assert it.values() == value(1)
    with urllib.request.urlopen(artifact["url"], timeout=PATIENCE) as answer:
        files = {path: content.decode() for path, content in unpacked(answer.read()).items()}
    document = files["clusters/prod/db.yaml"]
    assert "regent:v1:prod:1:prod:prod:" in document and "age" not in document, document
    assert "clusters/prod/regent.yaml" not in files, files.keys()

    # Another namespace, with no token at all and with a made up one.
    it.flux.namespace("tenant")
    copied = document.replace("namespace: \"prod\"", "namespace: \"tenant\"")
    it.flux.publish("copied", "tenant", {"db.yaml": copied})
    tenant = it.flux.kustomization("copied", "tenant", decryption=it.flux.decryption("mine", "tenant", {}), retryInterval="2s")
    tenant.fails("BuildFailed", "403", "regent[token]")
    it.flux.decryption("mine", "tenant", {"sops.vault-token": "a-guess"})
    tenant.reconcile()
    tenant.fails("BuildFailed", "regent[token]")
    assert it.flux.live("db", "tenant") is None

    # A stanza that names another key than the one it was made for.
    forged = document.replace('key_name: "prod"', 'key_name: "other"')
    assert forged != document
    it.flux.publish("forged", "prod", {"db.yaml": forged})
    other = it.flux.kustomization("forged", "prod", decryption=DECRYPTION, retryInterval="2s")
    said = other.fails("BuildFailed", "403")
    assert "its stanza was changed" in " ".join(said.replace("|", " ").split()), said
    before = it.live()

    # What names the document is part of what is authenticated: another epoch, authority, namespace or Kustomization opens nothing.
    for number, (old, new) in enumerate([("regent:v1:prod:1:", "regent:v1:prod:2:"), (":prod:prod:", ":prod:forged:")]):
        name = f"bound{number}"
        it.flux.publish(name, "prod", {"db.yaml": document.replace(old, new)})
        it.flux.kustomization(name, "prod", decryption=DECRYPTION, retryInterval="2s").fails("BuildFailed", "403")
    it.flux.unchanged(before)

    # The Kustomization itself, pointed back at the repository: its documents are encrypted to a key that the cluster does not have.
    it.app.spec(sourceRef=it.repository.ref)
    it.app.fails("BuildFailed", "cannot get sops data key")
    it.flux.unchanged(before)
    it.app.spec(sourceRef={"kind": "ExternalArtifact", "name": "prod", "namespace": None})
    it.app.ready(artifact["revision"])
    assert it.values() == value(1)
