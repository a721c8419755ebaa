"""The repo-server's Deployment as `manifests/argocd` leaves it, as an object: no kubelet runs it."""

import json
import os
import subprocess

from applications import NAMESPACE
from stage import CANARY

KEYS, FOLDER = "regent-keys-prod", "/var/run/regent/keys/prod"


def beside(stage, cluster, *more):
    """The sidecar, its file with the rule of `prod` and these, and its keys."""
    labels = {"app.kubernetes.io/name": "argocd-repo-server"}
    config = {"apiVersion": "regent.dev/v1alpha1", "kind": "RegentConfig", "store": {"kind": "kubernetes"},
              "rules": [stage.rule(identities=[FOLDER]), *more]}
    volumes = [{"name": "plugins", "emptyDir": {}}, {"name": "regent-config", "configMap": {"name": "regent", "optional": True}},
               {"name": KEYS, "secret": {"secretName": KEYS, "optional": True}}]
    plugins = {"name": "plugins", "mountPath": "/home/argocd/cmp-server/plugins"}
    containers = [
        {"name": "argocd-repo-server", "image": "none", "volumeMounts": [plugins]},
        {"name": "regent", "image": "none", "args": ["serve", "argocd", "--config", "/etc/regent/regent.yaml"], "volumeMounts": [
            plugins, {"name": "regent-config", "mountPath": "/etc/regent"}, {"name": KEYS, "mountPath": FOLDER}]}]
    cluster.apply([
        {"apiVersion": "v1", "kind": "ConfigMap", "data": {"regent.yaml": json.dumps(config)}, "metadata": {
            "name": "regent", "namespace": NAMESPACE, "labels": {"app.kubernetes.io/name": "regent"}}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": KEYS, "namespace": NAMESPACE}, "stringData": {"age.key": CANARY}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "argocd-repo-server", "namespace": NAMESPACE},
         "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
             "volumes": volumes, "containers": containers}}}}], force=True)


def mounted(cluster):
    return cluster.get("Secret", KEYS, NAMESPACE).status == 200


def typed(hand, command, **env):
    """What `regent retire` said, in the clone, by an administrator."""
    house, cluster = hand.stage.house, hand.cluster
    env = {**house.env, "USER": "jane", "KUBECONFIG": str(cluster.kubeconfig()),
           "PATH": f"{house.peers}:{house.regent.parent}:{os.environ['PATH']}", **env}
    done = subprocess.run(["sh", "-ec", command], cwd=hand.stage.repo.folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
