"""What the stories of the cluster need: the real etcd and the real API server, asked as any identity, and on top of
them the real Argo CD.

A Cluster is one of them, on free ports of the loopback, with all its data in one folder; several run at once. Nothing
of it outlives the story: every process is ended by its id. Whatever a program logged is searched for the canary.
"""

import base64
import contextlib
import http.client
import json
import math
import os
import re
import shutil
import signal
import ssl
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path
from typing import NamedTuple

from argocd import stage as door
from argocd.stage import (CANARY, GUARDS, PATIENCE, STUB, Key, Link, Repo, Sealed, bootstrap, config_map,  # noqa: F401
                          free_port, full, leaks, pause, plain, secret, stub, until)

TOP = Path(__file__).resolve().parent.parent.parent
# Where the objects of a kind are: the API, their name in it, and whether they live in namespaces.
KINDS = {
    "Namespace": ("api/v1", "namespaces", False),
    "ConfigMap": ("api/v1", "configmaps", True),
    "Secret": ("api/v1", "secrets", True),
    "Deployment": ("apis/apps/v1", "deployments", True),
    "StatefulSet": ("apis/apps/v1", "statefulsets", True),
    "ServiceAccount": ("api/v1", "serviceaccounts", True),
    "Pod": ("api/v1", "pods", True),
    "Node": ("api/v1", "nodes", False),
    "Event": ("api/v1", "events", True),
    "Lease": ("apis/coordination.k8s.io/v1", "leases", True),
    "Job": ("apis/batch/v1", "jobs", True),
    "Role": ("apis/rbac.authorization.k8s.io/v1", "roles", True),
    "RoleBinding": ("apis/rbac.authorization.k8s.io/v1", "rolebindings", True),
    "ClusterRole": ("apis/rbac.authorization.k8s.io/v1", "clusterroles", False),
    "ClusterRoleBinding": ("apis/rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
    "CustomResourceDefinition": ("apis/apiextensions.k8s.io/v1", "customresourcedefinitions", False),
    "ValidatingAdmissionPolicy": ("apis/admissionregistration.k8s.io/v1", "validatingadmissionpolicies", False),
    "ValidatingAdmissionPolicyBinding":
        ("apis/admissionregistration.k8s.io/v1", "validatingadmissionpolicybindings", False),
    "Authority": ("apis/regent.dev/v1alpha1", "authorities", False),
    "Application": ("apis/argoproj.io/v1alpha1", "applications", True),
    "AppProject": ("apis/argoproj.io/v1alpha1", "appprojects", True),
    "GitRepository": ("apis/source.toolkit.fluxcd.io/v1", "gitrepositories", True),
    "ExternalArtifact": ("apis/source.toolkit.fluxcd.io/v1", "externalartifacts", True),
    "Kustomization": ("apis/kustomize.toolkit.fluxcd.io/v1", "kustomizations", True),
    "ExternalSecret": ("apis/external-secrets.io/v1", "externalsecrets", True),
    "VaultStaticSecret": ("apis/secrets.hashicorp.com/v1beta1", "vaultstaticsecrets", True),
}
PATCHES = {
    "merge": "application/merge-patch+json", "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json", "apply": "application/apply-patch+yaml",
}
# What pods need of kube-controller-manager.
OF_PODS = ("job-controller", "pod-garbage-collector-controller", "root-ca-certificate-publisher-controller", "serviceaccount-controller",
           "serviceaccount-token-controller", "ttl-after-finished-controller")
# Where rights are, and how kubectl tells that it wrote some.
RIGHTS = "rbac.authorization.k8s.io"
WROTE_RIGHTS = re.compile(rf"^\w+\.{re.escape(RIGHTS)}\S* .*(created|configured|applied|patched|deleted)$", re.M)
# Who may ask by a token of the API server's own file: name and groups.
USERS = {"admin": ["system:masters"], "breakglass": ["regent:break-glass", "system:masters"], "installer": []}


def at(kind, name=None, namespace=None, subresource=None):
    """The path of an object, or of all objects of a kind."""
    api, plural, namespaced = KINDS[kind]
    # Without a namespace all namespaces are meant, which only a list can.
    words = [api, *(["namespaces", namespace] if namespaced and namespace else []), plural]
    return "/" + "/".join(words + [word for word in (name, subresource) if word])


class Answer(NamedTuple):
    """What the API server said: its status, and the JSON (or the text, where it is none)."""

    status: int
    body: object

    @property
    def message(self):
        return self.body.get("message", "") if isinstance(self.body, dict) else self.body

    @property
    def causes(self):
        """The texts of the rules that refused; a refusal by RBAC has none."""
        details = self.body.get("details") if isinstance(self.body, dict) else None
        return [cause.get("message", "") for cause in (details or {}).get("causes") or []]

    def ok(self):
        assert 200 <= self.status < 300, f"{self.status}: {self.message}"
        return self.body


class Cluster:
    """etcd and kube-apiserver. `with Cluster(folder, peers) as cluster:` starts it and ends it."""

    def __init__(self, folder, peers, *flags, pods=False):
        """`flags` are for kube-apiserver, behind our own; `pods` for a story that has some."""
        self.folder, self.peers, self.pods = Path(folder), Path(peers), pods
        # Elsewhere no pod and no node ever runs.
        self.flags = flags if pods else ("--disable-admission-plugins=ServiceAccount", *flags)
        self.data, self.logs, certs = self.folder / "etcd", self.folder / "log", self.folder / "certs"
        for made in (self.logs, certs):
            made.mkdir(parents=True)
        self.ca, self.key = certs / "apiserver.crt", self.folder / "sa.key"
        self.etcd_port, self.etcd_peer_port, self.port = free_port(), free_port(), free_port()
        self.server = f"https://127.0.0.1:{self.port}"
        self.tokens = {user: f"{user}-{os.urandom(8).hex()}" for user in USERS}
        (self.folder / "users.csv").write_text("".join(
            f'{self.tokens[user]},{user},{user},"{",".join(groups)}"\n' for user, groups in USERS.items()))
        subprocess.run(["openssl", "genrsa", "-out", self.key, "2048"], check=True, capture_output=True)
        self.running, self.trusted, self.snapshots = {}, None, 0
        # Whether whoever writes roles and bindings waits until they are in force.
        self.waits_for_rights = False

    # --- the processes

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind, *_):
        self.close()
        if kind is None:
            self.check()

    def start(self):
        self.begin()
        self.ready()

    def begin(self):
        """Starts both without waiting, for those who start more than one cluster."""
        self.start_etcd()
        self.start_apiserver(wait=False)

    def run(self, name, *command, env=None):
        """Starts a program under a name. Its log goes on where an earlier one of that name ended."""
        assert name not in self.running, f"{name} is running"
        with (self.logs / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [str(word) for word in command], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": str(self.folder), **(env or {})})

    def kill(self, name):
        """Ends a program at once: kube-apiserver takes four seconds to end in peace, and keeps its port meanwhile."""
        child = self.running.pop(name)
        child.kill()
        child.wait()

    def pause(self, name):
        """A program that hangs: its port is open and nothing answers."""
        pause(self.running[name])

    def resume(self, name):
        self.running[name].send_signal(signal.SIGCONT)

    def start_etcd(self):
        here, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.etcd_peer_port}"
        self.run("etcd", self.peers / "etcd", "--name", "one", "--data-dir", self.data, "--unsafe-no-fsync",
                 "--log-level", "warn", "--listen-client-urls", here, "--advertise-client-urls", here,
                 "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"one={peer}")

    def start_apiserver(self, wait=True):
        issuer = "https://kubernetes.default.svc.cluster.local"
        self.run("kube-apiserver", self.peers / "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
                 "--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", f"--secure-port={self.port}",
                 f"--cert-dir={self.ca.parent}", f"--service-account-key-file={self.key}",
                 f"--service-account-signing-key-file={self.key}", f"--service-account-issuer={issuer}",
                 f"--api-audiences={issuer}", "--authorization-mode=RBAC",
                 f"--token-auth-file={self.folder / 'users.csv'}", "--service-cluster-ip-range=10.96.0.0/16",
                 "--endpoint-reconciler-type=none", "--profiling=false", *self.flags)
        if wait:
            self.ready()

    def stop_apiserver(self):
        self.kill("kube-apiserver")

    def stop_etcd(self):
        self.kill("etcd")

    def restart_apiserver(self):
        self.stop_apiserver()
        self.start_apiserver()

    def ready(self, seconds=2 * PATIENCE):
        """Waits until the API server serves, with what it makes itself: a story that counts objects finds nothing new later."""
        made = [("Namespace", name) for name in ("default", "kube-node-lease", "kube-public", "kube-system")]
        made += [("ConfigMap", "kube-apiserver-legacy-service-account-token-tracking", "kube-system")]

        def serves():
            for name, child in self.running.items():
                assert child.poll() is None, f"{name} ended with {child.returncode}:\n{self.tail(name)}"
            with contextlib.suppress(OSError, http.client.HTTPException):
                return self.request("GET", "/readyz").status == 200 and all(self.get(*each).status == 200 for each in made)
        until(f"{self.server} is ready", serves, seconds)

    def controllers(self):
        """kube-controller-manager as far as deletion needs it, garbage collection and the content of namespaces; and as pods do."""
        names = ",".join(("garbage-collector-controller", "namespace-controller", *(OF_PODS if self.pods else ())))
        self.run("kube-controller-manager", self.peers / "kube-controller-manager", "--bind-address=127.0.0.1",
                 f"--secure-port={free_port()}", f"--cert-dir={self.folder / 'controllers'}", "--leader-elect=false",
                 f"--controllers={names}", f"--root-ca-file={self.ca}", f"--service-account-private-key-file={self.key}",
                 *(f"--{flag}kubeconfig={self.kubeconfig()}" for flag in ("", "authentication-", "authorization-")))

    # --- its data

    def snapshot(self):
        """What etcd holds now, for `restore`. It stands still meanwhile, so the copy is one that a crash leaves."""
        self.snapshots += 1
        copy = self.folder / f"snapshot-{self.snapshots}"
        self.pause("etcd")
        try:
            shutil.copytree(self.data, copy)
        finally:
            self.resume("etcd")
        return copy

    def restore(self, snapshot=None):
        """Starts again from a snapshot, or from nothing: the same address, certificate and keys."""
        for name in ("kube-apiserver", "etcd"):
            if name in self.running:
                self.kill(name)
        shutil.rmtree(self.data)
        if snapshot:
            shutil.copytree(snapshot, self.data)
        self.start()

    # --- asking it

    def request(self, method, path, body=None, user="admin", content="application/json", timeout=PATIENCE, headers=None):
        """One request, on a connection of its own. `user` is one of USERS, or a token. An API server that is not ready for a kind yet, one
        that was just made, says so and does nothing: as every client does, it is asked again."""
        end = time.monotonic() + timeout
        while True:
            connection = self.connection(timeout)
            try:
                response = self.send(connection, method, path, body, user, content, headers)
                text = response.read().decode()
            finally:
                connection.close()
            if response.status != 429 or time.monotonic() > end:
                break
            time.sleep(0.1)
        if self.waits_for_rights and method != "GET" and RIGHTS in path and "dryRun" not in path and response.status < 300:
            self.rights_in_force()
        try:
            return Answer(response.status, json.loads(text))
        except ValueError:
            return Answer(response.status, text)

    def connection(self, timeout):
        if not self.trusted:
            self.trusted = ssl.create_default_context(cafile=self.ca)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=self.trusted)

    def send(self, connection, method, path, body, user, content, headers):
        token = self.tokens.get(user, user)
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        connection.request(method, path, body, {
            "Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {}),
            **({"Content-Type": content} if body is not None else {}), **(headers or {})})
        return connection.getresponse()

    def get(self, kind, name=None, namespace=None, subresource=None, query=None, **kwargs):
        return self.request("GET", asked(at(kind, name, namespace, subresource), query), **kwargs)

    def create(self, thing, query=None, **kwargs):
        metadata = thing["metadata"]
        return self.request("POST", asked(at(thing["kind"], None, metadata.get("namespace")), query), thing, **kwargs)

    def update(self, thing, subresource=None, query=None, **kwargs):
        """Replaces it; with the resourceVersion it has now, where it names none. Then whoever else writes it meanwhile does not
        count, as the API server itself does with the status of a CRD."""
        where = thing["kind"], thing["metadata"]["name"], thing["metadata"].get("namespace")
        path = asked(at(*where, subresource), query)
        if "resourceVersion" in thing["metadata"]:
            return self.request("PUT", path, thing, **kwargs)
        for _ in range(100):
            version = self.get(*where).ok()["metadata"]["resourceVersion"]
            answer = self.request("PUT", path, {**thing, "metadata": {**thing["metadata"], "resourceVersion": version}}, **kwargs)
            if answer.status != 409:
                break
        return answer

    def patch(self, kind, name, namespace=None, body=None, how="merge", subresource=None, query=None, **kwargs):
        """`how` is one of PATCHES; `apply` wants a fieldManager in `query`."""
        path = asked(at(kind, name, namespace, subresource), query)
        return self.request("PATCH", path, body, content=PATCHES[how], **kwargs)

    def apply_one(self, thing, manager="e2e", force=False, subresource=None, query=None, **kwargs):
        """Server-side apply of one object, with the plain answer."""
        query = {"fieldManager": manager, "force": str(force).lower(), **(query or {})}
        metadata = thing["metadata"]
        return self.patch(thing["kind"], metadata["name"], metadata.get("namespace"), thing, "apply", subresource, query,
                          **kwargs)

    def delete(self, kind, name, namespace=None, query=None, body=None, **kwargs):
        return self.request("DELETE", asked(at(kind, name, namespace), query), body, **kwargs)

    def delete_all(self, kind, namespace=None, query=None, **kwargs):
        """deletecollection."""
        return self.request("DELETE", asked(at(kind, None, namespace), query), **kwargs)

    def status(self, thing, **kwargs):
        """Replaces its status."""
        return self.update(thing, subresource="status", **kwargs)

    def apply(self, things, user="admin", manager="e2e", force=False):
        """kubectl's server-side apply of objects, of YAML text, or of a file, folder or kustomization; gives its lines."""
        text = None
        if isinstance(things, Path):
            source = ["--kustomize" if (things / "kustomization.yaml").exists() else "--filename", things]
        else:
            source = ["--filename", "-"]
            listed = {"apiVersion": "v1", "kind": "List", "items": things}
            text = things if isinstance(things, str) else json.dumps(listed)
        return self.kubectl("apply", "--server-side", f"--field-manager={manager}",
                            f"--force-conflicts={str(force).lower()}", *source, user=user, stdin=text).splitlines()

    def kubectl(self, *words, user="admin", stdin=None, fails=False):
        """kubectl's standard output; with `fails` what it says when it does fail."""
        done = subprocess.run([self.peers / "kubectl", "--kubeconfig", self.kubeconfig(user), *words], text=True,
                              input=stdin, capture_output=True,
                              env={"HOME": str(self.folder), "PATH": os.environ["PATH"]})
        assert (done.returncode != 0) == fails, \
            f"kubectl {' '.join(map(str, words))} ended with {done.returncode}: {done.stderr}"
        if self.waits_for_rights and WROTE_RIGHTS.search(done.stdout):
            self.rights_in_force()
        return done.stderr if fails else done.stdout

    # --- identities

    def account(self, namespace, name):
        """A ServiceAccount, with its namespace, if it is not there yet; gives a token of it."""
        for thing in ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
                      {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}}):
            answer = self.create(thing)
            assert answer.status in (201, 409), answer
        return self.token(namespace, name)

    def rights_in_force(self):
        """Waits until the API server judges by every role and binding that was written so far. It reads each of the four kinds in the
        order of its writes, a moment later; so some of each are written here, and waited for."""
        self.waits_for_rights, name = False, f"barrier-{os.urandom(4).hex()}"
        metadata, role = {"name": name, "namespace": "default"}, {"apiVersion": f"{RIGHTS}/v1"}
        subjects = [{"kind": "User", "name": name, "apiGroup": RIGHTS}]
        try:
            for kind, verb in (("Role", "get"), ("ClusterRole", "list")):
                here = metadata if kind == "Role" else {"name": name}
                self.create({**role, "kind": kind, "metadata": here,
                             "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": [verb]}]}).ok()
                self.create({**role, "kind": f"{kind}Binding", "metadata": here, "subjects": subjects,
                             "roleRef": {"apiGroup": RIGHTS, "kind": kind, "name": name}}).ok()
            for verb in ("get", "list"):
                review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": name, "resourceAttributes": {
                    "resource": "secrets", "verb": verb, "namespace": "default"}}}
                until("rights are in force", lambda review=review: self.request(
                    "POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review).ok()["status"]["allowed"])
            for kind in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"):
                self.delete(kind, name, "default").ok()
        finally:
            self.waits_for_rights = True

    def token(self, namespace, name, seconds=3600, audiences=None):
        """A real token of a ServiceAccount. Below 600 seconds the API server gives none."""
        spec = {"expirationSeconds": seconds, **({"audiences": audiences} if audiences else {})}
        answer = self.request("POST", at("ServiceAccount", name, namespace, "token"),
                              {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})
        return answer.ok()["status"]["token"]

    def expired(self, token):
        """The same token with its hour behind it, signed again with the API server's key: nothing else is wrong with it."""
        now, claims = int(time.time()), json.loads(unpadded(token.split(".")[1]))
        claims.update(exp=now - 60, iat=now - 3660, nbf=now - 3660)
        signed = ".".join(padless(json.dumps(part).encode()) for part in ({"alg": "RS256"}, claims))
        done = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=signed.encode(), check=True,
                              capture_output=True)
        return f"{signed}.{padless(done.stdout)}"

    def projected(self, token, folder=None):
        """A folder as a pod has it mounted: `token` and `ca.crt`. Written as kubelet does, so that it may change."""
        folder = folder or self.folder / f"projected-{os.urandom(4).hex()}"
        folder.mkdir(exist_ok=True)
        for name, content in (("token", token.encode()), ("ca.crt", self.ca.read_bytes())):
            part = folder / f".{name}.part"
            part.write_bytes(content)
            part.rename(folder / name)
        return folder

    def in_cluster(self):
        """The environment that a pod has for the API server's address."""
        return {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(self.port)}

    def kubeconfig(self, user="admin", **kwargs):
        """A kubeconfig with a context for each of USERS; the current one is `user`'s."""
        users = {name: {"token": token} for name, token in self.tokens.items()}
        if user not in users:
            return self.kubeconfig_of("token", {"token": user}, **kwargs)
        return self.written(f"{user}.kubeconfig", users, user, **kwargs)

    def kubeconfig_for(self, token_file, **kwargs):
        """A kubeconfig whose only user has this token file."""
        return self.kubeconfig_of("file", {"tokenFile": str(token_file)}, **kwargs)

    def kubeconfig_of(self, name, user, **kwargs):
        return self.written(f"{name}-{os.urandom(4).hex()}.kubeconfig", {name: user}, name, **kwargs)

    def written(self, file, users, current, server=None, ca=None, namespace="default"):
        path = self.folder / file
        # Exchanged as a whole: somebody who was started with it may be reading it.
        part = self.folder / f".{os.urandom(4).hex()}.part"
        part.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config", "current-context": current,
            "clusters": [{"name": "cluster", "cluster": {"server": server or self.server,
                                                         "certificate-authority": str(ca or self.ca)}}],
            "users": [{"name": name, "user": user} for name, user in users.items()],
            "contexts": [{"name": name, "context": {"cluster": "cluster", "user": name, "namespace": namespace}}
                         for name in users]}))
        part.chmod(0o600)
        part.rename(path)
        return path

    def uid(self):
        """The uid of kube-system, which stands for the cluster."""
        return self.get("Namespace", "kube-system").ok()["metadata"]["uid"]

    # --- waiting

    def wait(self, what, kind, name, namespace, holds, seconds=PATIENCE):
        """Waits until `holds` says yes to the object (or to None, where there is none) and gives the object. It follows
        the object's changes, so none is missed and nothing is asked twice."""
        end, seen = time.monotonic() + seconds, None
        only = {"fieldSelector": f"metadata.name={name}"}
        while (left := end - time.monotonic()) > 0:
            listed = self.get(kind, None, namespace, query=only).ok()
            seen = next(iter(listed["items"]), None)
            if holds(seen):
                return seen
            query = {**only, "watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"],
                     "timeoutSeconds": math.ceil(left)}
            for event in self.events(asked(at(kind, None, namespace), query), left):
                if event["type"] not in ("ADDED", "MODIFIED", "DELETED"):
                    break
                seen = None if event["type"] == "DELETED" else event["object"]
                if holds(seen):
                    return seen
        if seen:
            seen["metadata"].pop("managedFields", None)
        raise AssertionError(f"not within {seconds} s: {what}; it is {json.dumps(seen)}")

    def events(self, path, seconds):
        """What a watch says, until it ends or the time is over."""
        connection = self.connection(seconds)
        with contextlib.closing(connection), contextlib.suppress(TimeoutError):
            response = self.send(connection, "GET", path, None, "admin", None, None)
            # Of a kind that is new to it, or right after its start, the API server says that it is not ready yet.
            if response.status == 429:
                time.sleep(0.1)
                return
            assert response.status == 200, response.read().decode()
            for line in response:
                yield json.loads(line)

    def established(self, *names):
        """Waits until the API server serves these CRDs: about two seconds after the first write of a CRD."""
        for name in names:
            crd = self.wait(f"{name} is established", "CustomResourceDefinition", name, None, lambda crd: crd and any(
                each["type"] == "Established" and each["status"] == "True"
                for each in crd.get("status", {}).get("conditions") or ()))
            version = next(each["name"] for each in crd["spec"]["versions"] if each["served"])
            path = f"/apis/{crd['spec']['group']}/{version}/{crd['spec']['names']['plural']}"
            until(f"{name} is served", lambda path=path: self.request("GET", path).status == 200)

    # --- the end

    def tail(self, name, length=3000):
        return (self.logs / f"{name}.log").read_text(errors="replace")[-length:]

    def check(self):
        """Nothing that a program logged holds a secret value."""
        for log in self.logs.iterdir():
            assert not leaks(log.read_bytes()), f"the canary in {log}"

    def close(self):
        for child in self.running.values():
            child.kill()
        for child in self.running.values():
            child.wait()
        self.running.clear()


def asked(path, query):
    return f"{path}?{urllib.parse.urlencode(query)}" if query else path


def padless(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def unpadded(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class House(door.House):
    """Redis and the repo-server too, for the stories that need them."""

    # Stories may be played at once.
    serving = threading.Lock()

    def serve(self):
        with self.serving:
            if not self.started:
                subprocess.run([TOP / "hack/peers", "argocd", "argocd-driver"], check=True)
                super().serve()


class Stage(door.Stage):
    """One story's place, with its clusters."""

    def __init__(self, house, name):
        super().__init__(house, name)
        self.clusters = []

    def cluster(self, name="cluster", *flags, **kwargs):
        """A running cluster."""
        cluster = Cluster(self.folder / name, self.house.peers, *flags, **kwargs)
        self.clusters.append(cluster)
        cluster.start()
        return cluster

    def close(self):
        super().close()
        for cluster in self.clusters:
            cluster.close()
            cluster.check()

    def abandon(self):
        super().abandon()
        for cluster in self.clusters:
            cluster.close()
