"""What a Kustomization builds beside Secrets passes through regent as it is: labels, a base outside the root, a generated ConfigMap. What
would use an encrypted document in a way that cannot be handed over is refused before anything is published: the artifact says why, and the
cluster keeps what it has."""

import bootstrapped
from authority import value
from stage import Sealed, config_map, secret

KUSTOMIZATION = """resources: [db.yaml, settings.yaml, ../../base]
labels: [{pairs: {team: a}, includeTemplates: true}]
configMapGenerator: [{name: generated, envs: [settings.env]}]
namespace: prod
"""


def story(stage):
    stage.repo.write({"base/kustomization.yaml": "resources: [shared.yaml]\n", "base/shared.yaml": config_map("shared", "prod")})
    it = bootstrapped.begin(stage, files={"kustomization.yaml": KUSTOMIZATION, "settings.env": "mode=on\n"})
    first = it.applied(it.first)
    assert it.values() == value(1)
    assert it.live()["metadata"]["labels"]["team"] == "a" and it.live()["metadata"]["labels"]["regent.dev/authority"] == "prod"
    names = {entry.split("_")[1].rsplit("-", 1)[0] for entry in it.app.inventory()}
    assert names == {"db", "settings", "shared", "generated"}, it.app.inventory()
    before = it.live()

    for line, words in {
        "secretGenerator: [{name: made, files: [db.yaml]}]\n": ["db.yaml"],
        "transformers: [settings.yaml]\n": ["transformers"],
    }.items():
        it.commit({"kustomization.yaml": KUSTOMIZATION + line})
        refused(it, *words)
        assert it.artifact()["revision"] == first["revision"]

    # An encrypted document that lies outside the root.
    it.flux.commit({f"{it.root}/kustomization.yaml": KUSTOMIZATION, "base/kustomization.yaml": "resources: [shared.yaml, secret.yaml]\n",
                    "base/secret.yaml": Sealed(secret("shared", value(1), "prod"))})
    refused(it, "base/secret.yaml", "outside the root")

    # The same by the Kustomization itself.
    it.flux.commit({"base/kustomization.yaml": "resources: [shared.yaml]\n", "base/secret.yaml": None})
    again(it)
    # The same tree is the same revision.
    assert it.artifact()["revision"] == first["revision"]
    it.app.spec(patches=[{"patch": "$patch: delete\napiVersion: v1\nkind: Secret\nmetadata: {name: db}\n"}])
    refused(it, "spec.patches", "db")
    it.app.spec(patches=None)
    again(it)
    it.app.ready()
    it.flux.unchanged(before)


def refused(it, *words):
    """Waits until the artifact says that it is not the newest, and why."""
    told = it.cluster.wait(f"refused: {words}", "ExternalArtifact", "prod", "prod", lambda thing: condition(thing)["status"] == "False"
                           and all(word in condition(thing)["message"] for word in words))
    return condition(told)["message"]


def again(it):
    it.cluster.wait("Ready again", "ExternalArtifact", "prod", "prod", lambda thing: condition(thing)["status"] == "True")


def condition(thing):
    return next(each for each in thing["status"]["conditions"] if each["type"] == "Ready")
