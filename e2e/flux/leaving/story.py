"""Once the handover is settled nobody needs the keys of `serve flux`: `regent handover --retire-keys` removes the Secret that its StatefulSet
mounts, and `regent retire` does not call it gone before nothing runs it. What Flux applies goes by Git; what a person applied, by the command
that is told."""

import json
import subprocess

import let_go
from let_go import admin, told, types
from stage import CANARY, config_map

KEYS, FOLDER, NAMESPACE = "regent-keys-prod", "/var/run/regent/keys/prod", "flux-system"
APPLIED = {"kustomize.toolkit.fluxcd.io/name": "regent", "kustomize.toolkit.fluxcd.io/namespace": NAMESPACE}


def story(stage):
    handing = let_go.begin(stage)
    it, cluster = handing.it, handing.cluster
    beside(handing, handing.config, labels=APPLIED)
    before = it.live()
    # Whoever may not look does not remove them either, and says what is missing.
    handing.handover("--plan", "--retire-keys", ends=1, says=["cannot list resource"])
    printed = json.loads(handing.handover("--print-policy", "--retire-keys", "-o", "json"))["kubernetes"]["toCreate"]
    rights = [each for each in printed if each["metadata"]["name"] == "regent-retire-keys-prod"]
    # A cluster with Flux alone has no other namespace for them.
    assert {each["metadata"]["namespace"] for each in printed} == {"regent-system", "prod", NAMESPACE}, printed
    cluster.apply(rights)
    handing.handover("--plan", "--retire-keys", says=[f"Secret {NAMESPACE}/{KEYS} would be removed"])
    handing.handover("--yes", says=[r"settled +.*1 Kustomization let go"])
    it.app.ready(handing.stubs())

    # They are still there: nobody was asked to remove them, and who looks is told.
    assert f"{NAMESPACE}/{KEYS}" in status(handing)
    types(stage.repo.folder, told(handing, "closed")["commands"])
    step = told(handing, "keys")
    assert step["left"] == [f"Secret {NAMESPACE}/{KEYS}"] and f"-n {NAMESPACE} delete secret/{KEYS}" in step["commands"][0], step
    handing.handover("--yes", "--retire-keys", says=[f"Secret {NAMESPACE}/{KEYS} was removed"])
    assert cluster.get("Secret", KEYS, NAMESPACE).status == 404 and told(handing, "keys")["state"] == "done"
    assert f"{NAMESPACE}/{KEYS}" not in status(handing)

    # Flux' step is not done, and with it neither is this one; what is there is seen all the same.
    step = told(handing, "sidecar")
    assert step["state"] != "done" and step["commands"] == [], step
    # A folder without a kustomization: the plain repository has a file in it that is no object.
    step = told(handing, "flux")
    assert "db.yaml of this commit is encrypted" in step["left"][0], step
    types(stage.repo.folder, step["commands"])
    step = told(handing, "flux")
    assert "clusters/prod/kustomization.yaml is not in this commit" in step["left"][0] and len(step["commands"]) == 1, step
    types(stage.repo.folder, step["commands"])
    assert told(handing, "flux")["left"] == ["Kustomization prod/prod takes ExternalArtifact prod/prod"]
    revision = it.commit({"settings.yaml": config_map("settings", "prod").replace("8080", "9090")})
    it.app.spec(sourceRef=it.repository.ref, decryption=None)
    it.app.ready(revision)
    it.regent.stop()
    cluster.delete("ExternalArtifact", "prod", "prod").ok()
    cluster.delete("Secret", "regent-token", "prod").ok()
    assert told(handing, "flux")["state"] == "done"
    step = told(handing, "sidecar")
    assert step["state"] == "to do" and "Kustomization flux-system/regent applies that" in " ".join(step["left"]), step
    assert step["commands"] == [] and told(handing, "lock")["state"] not in ("to do", "done")
    # The same by hand.
    cluster.delete("StatefulSet", "regent", NAMESPACE).ok()
    beside(handing, handing.config, labels={})
    step = told(handing, "sidecar")
    assert step["left"] == [f"StatefulSet {NAMESPACE}/regent runs it"], step
    assert [command.split(" -n ")[1] for command in step["commands"]] == [f"{NAMESPACE} delete statefulset/regent"], step
    cluster.delete("StatefulSet", "regent", NAMESPACE).ok()
    assert told(handing, "sidecar")["state"] == "done" and told(handing, "lock")["state"] == "to do"
    it.flux.unchanged(before)
    handing.bao.stop()


def beside(handing, config, labels):
    """The StatefulSet of manifests/flux, its file and its keys, as objects: no kubelet runs it."""
    file = json.loads(config.read_text())
    file["store"] = {"kind": "kubernetes"}
    for rule in file["rules"]:
        rule["identities"] = [FOLDER]
    its = {"app.kubernetes.io/name": "regent"}
    volumes = [{"name": "config", "configMap": {"name": "regent"}}, {"name": "keys", "secret": {"secretName": KEYS, "optional": True}}]
    container = {"name": "regent", "image": "none", "args": ["serve", "flux", "--config=/etc/regent/regent.yaml"], "volumeMounts": [
        {"name": "config", "mountPath": "/etc/regent"}, {"name": "keys", "mountPath": FOLDER}]}
    things = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "regent", "namespace": NAMESPACE, "labels": its},
         "data": {"regent.yaml": json.dumps(file)}},
        {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "regent", "namespace": NAMESPACE, "labels": {**its, **labels}},
         "spec": {"replicas": 0, "serviceName": "regent", "selector": {"matchLabels": its}, "template": {"metadata": {"labels": its}, "spec": {
             "containers": [container], "volumes": volumes}}}}]
    if labels:
        things.append({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": KEYS, "namespace": NAMESPACE}, "stringData": {"age.key": CANARY}})
    handing.cluster.apply(things, force=True)


def status(handing):
    words = ["status", handing.stage.repo.folder / "clusters/prod", "--config", admin(handing), "-o", "json"]
    done = subprocess.run([handing.stage.house.regent, *map(str, words)], capture_output=True, text=True, env=handing.stage.house.env)
    assert done.returncode == 0, done
    return json.loads(done.stdout)["keys"]["mounted"]
