"""Once the handover is settled nobody needs the keys of `serve flux`: `regent handover --retire-keys` removes the Secret that its StatefulSet
mounts, and `regent retire` does not call it gone before nothing runs it. What Flux applies goes by Git; what a person applied, by the command
that is told."""

import json
import os
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
    # kustomize-controller mounts nothing, and reads them all the same where a Kustomization says so.
    other = it.flux.kustomization("other", NAMESPACE, it.repository, path="none", suspend=True,
                                  decryption={"provider": "sops", "secretRef": {"name": KEYS}})
    handing.handover("--yes", "--retire-keys", ends=1, says=[KEYS, f"Kustomization {NAMESPACE}/other"])
    assert cluster.get("Secret", KEYS, NAMESPACE).status == 200 and told(handing, "keys")["state"] == "stays"
    other.delete()
    handing.handover("--yes", "--retire-keys", says=[f"Secret {NAMESPACE}/{KEYS} was removed"])
    assert cluster.get("Secret", KEYS, NAMESPACE).status == 404 and told(handing, "keys")["state"] == "done"
    assert f"{NAMESPACE}/{KEYS}" not in status(handing)

    # Flux' step is not done, and with it neither is this one; what is there is seen all the same.
    step = told(handing, "sidecar")
    assert step["state"] == "not yet" and step["left"], step
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
    assert step["state"] == "to do" and "Kustomization flux-system/regent applied that: first take it out of Git" in step["left"][0], step
    assert told(handing, "lock")["state"] not in ("to do", "done")
    # Git alone does not take it away: it is never pruned.
    typed(handing, step["commands"], f"-n {NAMESPACE} delete statefulset/regent")
    step = told(handing, "sidecar")
    left = {f"ConfigMap {NAMESPACE}/regent", f"Service {NAMESPACE}/regent", "ClusterRole regent-flux", "ClusterRoleBinding regent-flux"}
    assert left == set(step["left"]) and told(handing, "lock")["state"] == "not yet", step
    typed(handing, step["commands"], "delete clusterrolebinding/regent-flux")
    assert told(handing, "sidecar")["state"] == "done" and told(handing, "lock")["state"] == "to do"
    it.flux.unchanged(before)
    handing.bao.stop()


def typed(handing, commands, says):
    """What an administrator was told, as it was told."""
    assert any(command.endswith(says) for command in commands), commands
    env = {**handing.stage.house.env, "KUBECONFIG": str(handing.cluster.kubeconfig()),
           "PATH": f"{handing.stage.house.peers}:{os.environ['PATH']}"}
    for command in commands:
        done = subprocess.run(["sh", "-ec", command], env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


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
             "containers": [container], "volumes": volumes}}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "regent", "namespace": NAMESPACE, "labels": its},
         "spec": {"ports": [{"port": 8200}]}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": KEYS, "namespace": NAMESPACE}, "stringData": {"age.key": CANARY}}]
    handing.cluster.apply(things, force=True)
    # Those of manifests/flux have this label.
    for kind in ("ClusterRole", "ClusterRoleBinding"):
        handing.cluster.patch(kind, "regent-flux", None, {"metadata": {"labels": its}}).ok()


def status(handing):
    words = ["status", handing.stage.repo.folder / "clusters/prod", "--config", admin(handing), "-o", "json"]
    done = subprocess.run([handing.stage.house.regent, *map(str, words)], capture_output=True, text=True, env=handing.stage.house.env)
    assert done.returncode == 0, done
    return json.loads(done.stdout)["keys"]["mounted"]
