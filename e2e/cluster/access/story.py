import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import init
import said
from authority import Authority
from stage import Sealed, free_port, secret

SECRET = "tell-nobody-0123456789"
HANGS = 30  # seconds that one answer may take


def story(stage):
    cluster = stage.cluster()
    prod = Authority(stage, cluster, "prod")
    stage.repo.commit({f"{prod.root}/regent.yaml": prod.bootstrap(),
                       f"{prod.root}/db.yaml": Sealed(secret("db", {"password": "REGENT-CANARY-1"}, "prod"))})
    init.install(cluster)
    place = Place(stage, cluster, prod)
    contexts(place)
    files(place)
    plugins(place)
    identities(place)
    in_pod(place)
    refused(place)
    hangs(place)


class Place:
    """Dry runs of `init`, which ask a cluster for nearly everything."""

    def __init__(self, stage, cluster, prod):
        self.stage, self.cluster = stage, cluster
        self.words = ("init", stage.repo.folder / prod.root, "--no-vault-yet", "--dry-run")
        # A process reads its own environment alone: nothing of ours leads to a cluster.
        self.home = stage.folder / "home"
        self.home.mkdir()

    def env(self, env):
        return {"HOME": str(self.home), **env}

    def reaches(self, *words, env=None, cluster=None):
        done = said.done(self.stage, *self.words, *words, env=self.env(env or {}), secrets=[SECRET])
        assert f"witnesses in  {(cluster or self.cluster).server}" in done.out, done.out

    def refused(self, code, exit, expected, *words, env=None, **kwargs):
        return said.refused(self.stage, code, exit, expected, *self.words, *words, env=self.env(env or {}), secrets=[SECRET], **kwargs)

    def kubeconfig(self, name, contexts, current=None, folder=None):
        """A kubeconfig of these contexts: name to (server, CA, user)."""
        path = (folder or self.stage.folder) / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", **({"current-context": current} if current is not None else {}),
            "clusters": [{"name": each, "cluster": {"server": server, "certificate-authority": str(ca)}}
                         for each, (server, ca, _) in contexts.items()],
            "users": [{"name": each, "user": user} for each, (*_, user) in contexts.items()],
            "contexts": [{"name": each, "context": {"cluster": each, "user": each}} for each in contexts]}))
        return path

    def admin(self, **more):
        return self.cluster.server, self.cluster.ca, {"token": self.cluster.tokens["admin"], **more}

    def as_(self, user):
        return self.cluster.server, self.cluster.ca, user

    def dead(self):
        return f"https://127.0.0.1:{free_port()}", self.cluster.ca, {"token": SECRET}


def contexts(place):
    config = place.kubeconfig("two", {"dead": place.dead(), "live": place.admin()}, "live")
    place.reaches("--kubeconfig", config, "--context", "live")
    place.reaches("--kubeconfig", config)
    place.refused("cluster", 4, ["127.0.0.1", "onnection refused"], "--kubeconfig", config, "--context", "dead")
    place.refused("cluster", 4, [str(config), "no context `other`"], "--kubeconfig", config, "--context", "other")
    place.refused("usage", 2, ["--context"])
    for current in (None, ""):
        config = place.kubeconfig("none", {"live": place.admin()}, current)
        place.refused("cluster", 4, [str(config), "no current context", "--context"], "--kubeconfig", config)
        place.reaches("--kubeconfig", config, "--context", "live")


def files(place):
    """KUBECONFIG is a list: the first that says something counts, and one that is missing says nothing."""
    stage = place.stage
    one = place.kubeconfig("one", {"first": place.dead(), "live": place.admin()}, "live")
    # A user of a name that the first file has too is not the second's.
    other = place.kubeconfig("other", {"second": place.admin(), "live": place.as_({"token": SECRET})}, "second")
    missing = stage.folder / "missing"
    for value, context in ((f"{one}:{other}", "live"), (f"{one}:{other}", "second"), (f"{missing}:{one}", "live"),
                           (f":{one}:", "live")):
        place.reaches("--context", context, env={"KUBECONFIG": value})
    place.refused("cluster", 4, ["401"], "--context", "live", env={"KUBECONFIG": f"{other}:{one}"})
    unusable = stage.folder / "broken"
    unusable.write_text(f"users:\n- user: {{token: {SECRET}\n  name: [\n")
    place.refused("cluster", 4, [str(unusable), "it is no kubeconfig"], "--context", "live", env={"KUBECONFIG": f"{one}:{unusable}"})
    for text in ("", "not a map", f"users: [{{user: {{token: [{SECRET}]}}, name: a}}]\n", f"apiVersion: v1\nclusters: {SECRET}\n"):
        unusable.write_text(text)
        place.refused("cluster", 4, [str(unusable)], "--kubeconfig", unusable)
    place.refused("cluster", 4, [str(missing), "no such file"], "--kubeconfig", missing)
    # ~/.kube/config, and paths in it from its own folder.
    folder = place.home / ".kube"
    folder.mkdir()
    (folder / "token").write_text(place.cluster.tokens["admin"])
    shutil.copy(place.cluster.ca, folder / "ca.crt")
    place.kubeconfig("config", {"live": (place.cluster.server, "ca.crt", {"tokenFile": "token"})}, "live", folder)
    place.reaches("--context", "live")
    (folder / "config").unlink()
    place.refused("cluster", 4, ["no context `live`"], "--context", "live")


def plugin(place, text):
    script = place.stage.folder / "plugin"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    return place.kubeconfig("exec", {"live": place.as_({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": str(script), "interactiveMode": "Never",
        "env": [{"name": "GIVEN", "value": place.cluster.tokens["admin"]}]}})}, "live")


def plugins(place):
    """A credential plugin, as clouds have them. What it prints is a credential, whatever becomes of it."""
    credential = json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "@"}})
    config = plugin(place, f"echo '{credential}' | sed \"s/@/$GIVEN/\"")
    place.reaches("--kubeconfig", config)
    for text, words in (
            (f"echo '{credential}' | sed s/@/{SECRET}/; echo {SECRET} >&2; exit 3", ["credential plugin failed", "3"]),
            (f"echo 'status: [{SECRET}'", ["credential plugin printed no ExecCredential"]),
            (f"echo '{{\"kind\": \"ExecCredential\", \"spec\": \"{SECRET}\"}}'", ["credential plugin printed no ExecCredential"]),
            (f"echo '{credential}' | sed s/@/{SECRET}/", ["401"])):
        place.refused("cluster", 4, words, "--kubeconfig", plugin(place, text))
    (place.stage.folder / "plugin").unlink()
    place.refused("cluster", 4, ["credential plugin cannot be started", "no such file"], "--kubeconfig", config)


def identities(place):
    cluster, folder = place.cluster, place.stage.folder
    token = folder / "token-file"
    token.write_text(cluster.tokens["admin"] + "\n")
    config = place.kubeconfig("file", {"live": place.as_({"tokenFile": str(token)})}, "live")
    place.reaches("--kubeconfig", config)
    token.write_text(cluster.expired(cluster.account("app", "somebody")))
    place.refused("cluster", 4, ["401", "expired"], "--kubeconfig", config)
    token.unlink()
    place.refused("cluster", 4, [str(token), "no such file"], "--kubeconfig", config)
    certified(place)
    # Impersonation: RBAC looks at who is named, and the caller has to have the right to name them.
    live = place.kubeconfig("live", {"live": place.admin()}, "live")
    place.refused("forbidden", 1, ["jane", "regent-init"], "--kubeconfig", live, "--as", "jane")
    place.reaches("--kubeconfig", live, "--as", "jane", "--as-group", "system:masters")
    place.reaches("--kubeconfig", live, "--as", "jane", "--as-group", "nobody", "--as-group", "system:masters")
    place.refused("forbidden", 1, ["cannot impersonate"], "--kubeconfig",
                  place.kubeconfig("weak", {"live": place.as_({"token": cluster.account("app", "somebody")})}, "live"),
                  "--as", "jane", "--as-group", "system:masters")
    # The kubeconfig names somebody already; an option goes before it.
    config = place.kubeconfig("as", {"live": place.admin(**{"as": "jane"})}, "live")
    place.refused("forbidden", 1, ["jane"], "--kubeconfig", config)
    place.refused("forbidden", 1, ["joe"], "--kubeconfig", config, "--as", "joe")
    usage = said.run(place.stage, *place.words, "--kubeconfig", live, "--as-group", "system:masters", env=place.env({}))
    assert usage.code == 2 and "--as <USER>" in usage.err, usage


def certified(place):
    """A client certificate, of a CA that this API server trusts."""
    stage, cluster = place.stage, place.cluster
    folder = stage.folder / "ca"
    folder.mkdir()

    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], cwd=folder, check=True, capture_output=True)
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=clients", "-days", "1")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "jane.key", "-out", "jane.csr", "-subj", "/CN=jane/O=system:masters")
    (folder / "client").write_text("extendedKeyUsage = clientAuth\n")
    openssl("x509", "-req", "-in", "jane.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-out", "jane.crt", "-days", "1",
            "-extfile", "client")
    cluster.stop_apiserver()
    cluster.flags = (*cluster.flags, f"--client-ca-file={folder / 'ca.crt'}")
    cluster.start_apiserver()
    user = {"client-certificate": str(folder / "jane.crt"), "client-key": str(folder / "jane.key")}
    config = place.kubeconfig("certificate", {"live": place.as_(user)}, "live")
    place.reaches("--kubeconfig", config)
    (folder / "jane.key").unlink()
    place.refused("cluster", 4, ["jane.key", "no such file"], "--kubeconfig", config)


POD = "/var/run/secrets/kubernetes.io/serviceaccount"


def in_pod(place):
    """The pod's own account: only where no kubeconfig says anything. It needs a folder at a fixed place, which this process
    makes in a mount namespace of its own."""
    cluster, stage = place.cluster, place.stage
    account = cluster.projected(cluster.tokens["admin"])
    (account / "namespace").write_text("default")
    unshare = ["unshare", "--mount", *([] if os.getuid() == 0 else ["--map-root-user"])]
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        print("  not run here: the account of a pod, which needs a mount namespace", flush=True)
        return
    # /var/run leads to /run; an empty file system there is this process's alone.
    script = (f"mount -t tmpfs none /run && mkdir -p {POD} && cp {account}/token {account}/ca.crt {account}/namespace {POD} "
              '&& exec "$@"')
    config = stage.folder / "in-pod.yaml"
    config.write_text('{"apiVersion": "regent.dev/v1alpha1", "kind": "RegentConfig", "store": {"kind": "kubernetes"}, "rules": []}')
    broken = stage.folder / "broken"
    broken.write_text("no kubeconfig")

    def pod(env):
        words = [stage.house.regent, *place.words, "--config", config]
        return subprocess.run([*unshare, "sh", "-c", script, "sh", *map(str, words)], text=True, stdin=subprocess.DEVNULL,
                              capture_output=True, env={**stage.house.env, **place.env({**cluster.in_cluster(), **env})})
    done = pod({})
    assert done.returncode == 0 and cluster.server in done.stdout, done
    done = pod({"KUBECONFIG": str(stage.folder / "missing")})
    assert done.returncode == 0, done
    # One that is there and does not do is not passed over for another identity.
    for file in (broken, place.kubeconfig("dead", {"live": place.dead()}, "live")):
        done = pod({"KUBECONFIG": str(file)})
        assert done.returncode == 4 and "error[cluster]" in done.stderr, done
    outside = said.run(stage, *place.words, "--config", config, env=place.env({}))
    assert outside.code == 4 and "this is no pod" in outside.err, outside


def refused(place):
    cluster = place.cluster
    server, ca, user = place.admin()
    other = place.stage.folder / "other-ca.crt"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null", "-out", other, "-subj",
                    "/CN=other", "-days", "1"], check=True, capture_output=True)

    def config(*live):
        return "--kubeconfig", place.kubeconfig("refused", {"live": live}, "live")
    place.refused("cluster", 4, ["certificate"], *config(server, other, user))
    place.refused("cluster", 4, ["missing.crt", "no such file"], *config(server, "/missing.crt", user))
    other.write_text("no certificate")
    place.refused("cluster", 4, [], *config(server, other, user))
    place.refused("cluster", 4, [], *config(server.replace("127.0.0.1", "[::1]"), ca, user))
    # .invalid never resolves.
    place.refused("cluster", 4, ["api.invalid"], *config("https://api.invalid:6443", ca, user))
    place.refused("cluster", 4, [], *config("https://", ca, user))
    place.refused("cluster", 4, ["401"], *config(server, ca, {"token": SECRET}))
    place.refused("cluster", 4, ["its token is none"], *config(server, ca, {"token": f"{SECRET}\nwith a line break"}))
    place.refused("forbidden", 1, ["system:anonymous"], *config(server, ca, {"username": "jane", "password": SECRET}))
    # A password is no credential to Kubernetes any more, and without one one is nobody: RBAC's word.
    place.refused("forbidden", 1, ["system:anonymous"], *config(server, ca, {}))
    assert cluster.get("Authority", "prod").status == 404


def hangs(place):
    """An API server that takes the connection and says nothing. The patience is regent's own."""
    cluster = place.cluster
    config = place.kubeconfig("live", {"live": place.admin()}, "live")
    cluster.pause("kube-apiserver")
    try:
        start = time.monotonic()
        place.refused("cluster", 4, [], "--kubeconfig", config)
        took = time.monotonic() - start
    finally:
        cluster.resume("kube-apiserver")
    # One patience, not one for each question; the rest is for a machine that is busy.
    assert took < 2 * HANGS, f"it took {took:.0f} s"
    cluster.ready()
