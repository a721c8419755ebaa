"""What has to be in a cluster before a door renders: the manifests, the authority by `regent init`, and a front door that
reads it with the account of Argo CD's repo-server, by a real token.
"""

import subprocess

from applications import NAMESPACE, REPO_SERVER
from stage import TOP


def install(cluster):
    """What is there once for all authorities."""
    cluster.apply(TOP / "manifests/cluster")
    cluster.established("authorities.regent.dev")


def init(stage, cluster, name, *words, user="admin", fails=False, target=None):
    """`regent init`; gives what it says. `target` is the cluster of the Secrets, where that is another one."""
    if "--no-vault-yet" not in words and "--vault-token-file" not in words:
        words = (*words, "--no-vault-yet")
    return regent(stage, "init", stage.repo.folder / f"clusters/{name}", "--kubeconfig", cluster.kubeconfig(user), "--yes",
                  *words, fails=fails)


def regent(stage, *words, fails=False, env=None):
    """A command of regent, with what it says on both outputs."""
    done = subprocess.run([stage.house.regent, *map(str, words)], env={**stage.house.env, **(env or {})}, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert (done.returncode != 0) == fails, f"regent {' '.join(map(str, words))} ended with {done.returncode}: {done.stdout}"
    return done.stdout


def reader_token(cluster):
    """A token of the account that the sidecar has in its pod."""
    return cluster.account(NAMESPACE, REPO_SERVER)


def serve(stage, cluster, rules, **kwargs):
    return serve_with(stage, cluster, reader_token(cluster), rules, **kwargs)


def serve_with(stage, cluster, token, rules, name=None, **kwargs):
    """regent with this token of the cluster, where kubelet would have put it."""
    config = cluster.kubeconfig_for(cluster.projected(token) / "token")
    if name:
        kwargs["argocd"] = {"name": name, "version": "v1"}
    return stage.serve(*rules, store={"kind": "kubernetes", "kubeconfig": str(config)}, flags=(), **kwargs)
