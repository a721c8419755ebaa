"""What users of Flux have today, and migrate from: a Secret that sops encrypted for an age key, in Git; source-controller fetches it and
kustomize-controller decrypts it with the key, which lies in a Secret of the cluster. Whoever reads that Secret reads Git.

A commit brings another value; without the key nothing is applied and nothing is lost."""

import base64

from kustomizations import DOOR, Flux
from stage import CANARY, Sealed, config_map, secret


def story(stage):
    flux = Flux(stage)
    flux.namespace("app")
    repository = flux.git()
    first = flux.commit({"clusters/prod/db.yaml": Sealed(secret("db", value(1))), "clusters/prod/settings.yaml": config_map("settings"),
                         # Not below the path: another root's.
                         "clusters/dev/db.yaml": Sealed(secret("dev", value(1)))})
    decryption = flux.decryption("sops-age", "app", {"age.agekey": stage.key.file.read_text()})
    app = flux.kustomization("app", "app", repository, path="clusters/prod", decryption=decryption, retryInterval="2s")
    app.ready(first)
    assert app.inventory() == {"app_db__Secret", "app_settings__ConfigMap"}, app.inventory()
    assert values(flux) == value(1) and flux.live("dev", "app") is None
    assert ("kustomize-controller", "Apply") in flux.fields_of("db", "app")
    # The account that the lock will name.
    assert flux.cluster.get("ConfigMap", "settings", "app", user=flux.tokens["kustomize-controller"]).status == 200
    assert who(flux) == DOOR

    second = flux.commit({"clusters/prod/db.yaml": Sealed(secret("db", value(2)))})
    app.ready(second)
    assert values(flux) == value(2)

    before = flux.live("db", "app")
    flux.decryption("sops-age", "app", {})
    third = flux.commit({"clusters/prod/db.yaml": Sealed(secret("db", value(3))), "clusters/prod/settings.yaml": None})
    app.fails("BuildFailed", "cannot get sops data key")
    assert (app.applied(), app.attempted()) == (second, third)
    flux.unchanged(before)
    assert flux.live("settings", "app", "ConfigMap")

    flux.decryption("sops-age", "app", {"age.agekey": stage.key.file.read_text()})
    app.ready(third)
    assert values(flux) == value(3) and flux.live("settings", "app", "ConfigMap") is None


def value(number):
    return {"password": f"{CANARY}-{number}", "user": "app"}


def values(flux):
    return {key: base64.b64decode(text).decode() for key, text in flux.live("db", "app")["data"].items()}


def who(flux):
    """Whose token kustomize-controller has."""
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
              "spec": {"token": flux.tokens["kustomize-controller"]}}
    answer = flux.cluster.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review).ok()
    return answer["status"]["user"]["username"]
