"""The whole Argo CD on a cluster: its application controller beside the repo-server and Redis that the house has, and
Applications in it, driven as its own client drives them: by patches of the Application, until the controller took them up.
"""

import contextlib
import gzip
import http.client
import json
import time

from stage import PATIENCE, free_port, until

NAMESPACE = "argocd"
# The accounts of a stock install: who writes to the cluster, and whose pod the plugin runs in.
CONTROLLER, REPO_SERVER = "argocd-application-controller", "argocd-repo-server"
DOOR = f"system:serviceaccount:{NAMESPACE}:{CONTROLLER}"
REFRESH = "argocd.argoproj.io/refresh"
IN_CLUSTER = "https://kubernetes.default.svc"


class ArgoCD:
    """The application controller. Redis starts empty: what an earlier one cached is none of this cluster's."""

    def __init__(self, stage, cluster, *flags, repo_server=False):
        """`flags` are for the application controller, behind our own. With `repo_server` it has its own, to be restarted."""
        self.stage, self.house, self.cluster = stage, stage.house, cluster
        self.house.serve()
        self.house.redis("FLUSHALL")
        cluster.controllers()
        self.install()
        self.flags, self.port, self.repo_port = flags, free_port(), self.house.repo_port
        if repo_server:
            self.repo_port = free_port()
            self.start_repo_server()
        self.start()

    def install(self):
        crds = self.house.peers / "crds"
        self.cluster.apply(crds)
        self.cluster.established("applications.argoproj.io", "appprojects.argoproj.io")
        self.cluster.account(NAMESPACE, REPO_SERVER)
        token = self.cluster.account(NAMESPACE, CONTROLLER)
        self.config = self.cluster.kubeconfig_of(CONTROLLER, {"token": token}, namespace=NAMESPACE)
        rules = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}, {"nonResourceURLs": ["*"], "verbs": ["*"]}]
        rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": CONTROLLER}}
        self.cluster.apply([
            # Empty is enough, but it and its label have to be there.
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
                "name": "argocd-cm", "namespace": NAMESPACE, "labels": {"app.kubernetes.io/part-of": "argocd"}}},
            {"apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject",
             "metadata": {"name": "platform", "namespace": NAMESPACE},
             "spec": {"sourceRepos": ["*"], "destinations": [{"namespace": "*", "server": "*"}],
                      "clusterResourceWhitelist": [{"group": "*", "kind": "*"}]}},
            # As the stock install: the controller may do everything.
            {**rbac, "kind": "ClusterRole", "rules": rules},
            {**rbac, "kind": "ClusterRoleBinding",
             "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": CONTROLLER},
             "subjects": [{"kind": "ServiceAccount", "name": CONTROLLER, "namespace": NAMESPACE}]}])

    def start_repo_server(self):
        tmp = self.stage.folder / "repo-server"
        tmp.mkdir(exist_ok=True)
        self.repo_server = self.house.start_repo_server(self.repo_port, tmp)

    def restart_repo_server(self):
        self.house.started.remove(self.repo_server)
        self.repo_server.kill()
        self.repo_server.wait()
        self.start_repo_server()

    def start(self):
        # Its metrics listen on every address of the machine; there is no flag against it.
        self.cluster.run("application-controller", self.house.peers / "argocd", "--repo-server",
                         f"127.0.0.1:{self.repo_port}", "--repo-server-plaintext",
                         "--redis", f"127.0.0.1:{self.house.redis_port}", "--metrics-port", self.port,
                         "--repo-server-timeout-seconds", 2 * PATIENCE, *self.flags,
                         env={**self.house.env, "KUBECONFIG": str(self.config), "ARGOCD_FAKE_IN_CLUSTER": "true",
                              "ARGOCD_GPG_ENABLED": "false", "ARGOCD_BINARY_NAME": "argocd-application-controller"})
        until("the application controller is healthy", lambda: fetch(self.port, "/healthz")[0] == 200)

    def serve(self):
        """Argo CD's API server too, without a password: a second one who asks the repo-server, for `manifests`."""
        self.api = free_port()
        self.cluster.apply([{"apiVersion": "v1", "kind": "Secret", "stringData": {"server.secretkey": "0" * 32},
                             "metadata": {"name": "argocd-secret", "namespace": NAMESPACE,
                                          "labels": {"app.kubernetes.io/part-of": "argocd"}}}])
        self.start_server()

    def start_server(self):
        self.cluster.run("argocd-server", self.house.peers / "argocd", "--insecure", "--disable-auth",
                         "--address", "127.0.0.1", "--port", self.api, "--metrics-address", "127.0.0.1",
                         "--metrics-port", free_port(), "--repo-server", f"127.0.0.1:{self.repo_port}",
                         "--repo-server-plaintext", "--redis", f"127.0.0.1:{self.house.redis_port}",
                         "--repo-server-timeout-seconds", 2 * PATIENCE,
                         env={**self.house.env, "KUBECONFIG": str(self.config), "ARGOCD_FAKE_IN_CLUSTER": "true",
                              "ARGOCD_GPG_ENABLED": "false", "ARGOCD_BINARY_NAME": "argocd-server"})
        until("argocd-server is healthy", lambda: fetch(self.api, "/healthz")[0] == 200)

    def manifests(self, name):
        """Has an Application rendered again through argocd-server, past the cache."""
        status, text = fetch(self.api, f"/api/v1/applications/{name}/manifests?noCache=true")
        assert status == 200, text
        return text

    def restart_server(self):
        self.cluster.kill("argocd-server")
        self.start_server()

    def restart(self):
        self.stop()
        self.start()

    def stop(self):
        self.cluster.kill("application-controller")

    def application(self, name, path, plugin="", policy=None, cascade=False, namespace="app", **more):
        """Creates an Application of the story's repository. `plugin` is the name of another plugin than the story's own,
        or None; `policy` its syncPolicy: AUTOMATED is the usual one."""
        source = {"repoURL": f"file://{self.stage.repo.folder}", "path": path, "targetRevision": "main"}
        if plugin is not None:
            source["plugin"] = {"name": plugin or f"{self.stage.name}-v1"}
        finalizers = {"finalizers": ["resources-finalizer.argocd.argoproj.io"]} if cascade else {}
        self.cluster.create({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": {"name": name, "namespace": NAMESPACE, **finalizers},
            "spec": {"project": "platform", "source": source, "destination": {"server": IN_CLUSTER, "namespace": namespace},
                     **({"syncPolicy": policy} if policy else {}), **more}}).ok()
        return Application(self, name)

    def cached(self, name):
        """What Redis holds of an Application's manifests: the unpacked text by key."""
        keys = [key.decode() for key in self.house.redis("KEYS", f"mfst|*|{name}|*")]
        # A namespace may have the same name, and stands further behind.
        return {key: gzip.decompress(self.house.redis("GET", key)) for key in keys if key.split("|")[2] == name}

    def sees(self, app, kind, name, text):
        """Whether a text stands in what Argo CD last saw of a live object."""
        key, = self.house.redis("KEYS", f"app|managed-resources|{app.name}|*")
        seen = json.loads(gzip.decompress(self.house.redis("GET", key)))
        live, = (each["liveState"] for each in seen if (each["kind"], each["name"]) == (kind, name))
        return text in live


def fetch(port, path, method="GET"):
    """Status and text; 0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2 * PATIENCE)
    with contextlib.closing(connection):
        try:
            # argocd-server takes no other type, and no other request without one.
            connection.request(method, path, headers={"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read().decode()
        except OSError:
            return 0, ""


# Without what it does by default after a failure: up to five more tries, for minutes.
AUTOMATED = {"automated": {"prune": True, "selfHeal": True}, "retry": {"limit": 0}}


class Application:
    """One Application."""

    def __init__(self, argocd, name):
        self.argocd, self.name = argocd, name

    def get(self):
        return self.argocd.cluster.get("Application", self.name, NAMESPACE).ok()

    def wait(self, what, holds, seconds=PATIENCE):
        return self.argocd.cluster.wait(f"{self.name}: {what}", "Application", self.name, NAMESPACE,
                                        lambda app: app and holds(app), seconds)

    def patch(self, body):
        return self.argocd.cluster.patch("Application", self.name, NAMESPACE, body).ok()

    def synced(self, seconds=PATIENCE):
        """Waits until it is Synced and Healthy and nothing is under way."""
        return self.wait("Synced and Healthy", lambda app: idle(app) and state(app) == ("Synced", "Healthy"), seconds)

    def refresh(self, how="normal"):
        """Refreshes it, waits for what automation makes of it, and gives the Application."""
        end = time.monotonic() + 3 * PATIENCE
        self.patch({"metadata": {"annotations": {REFRESH: how}}})
        # Seen twice: the controller never took a request up that came right behind a sync, while it was idle.
        while True:
            try:
                return self.wait(f"refreshed ({how})", idle, 15)
            except AssertionError:
                if time.monotonic() > end:
                    raise
            asked = self.get()["metadata"].get("annotations", {}).get(REFRESH)
            print(f"  {self.name}: not refreshed ({how}) yet; " + ("asked again" if asked else "waiting on"), flush=True)
            if asked:
                self.patch({"metadata": {"annotations": {REFRESH: None}}})
                self.patch({"metadata": {"annotations": {REFRESH: how}}})

    def sync(self, prune=True, options=(), force=False, dry=False, **more):
        """Syncs it, to a `revision` or to `revisions` of its sources, and gives the state of that operation."""
        sync = {"prune": prune, "dryRun": dry, "syncOptions": list(options), "syncStrategy": {"hook": {"force": force}}, **more}
        self.operate({"sync": sync})
        return self.wait("the sync ended", idle)["status"]["operationState"]

    def rollback(self, revision):
        """Back to a revision of its history, as `argocd app rollback` does it: with the sources of that time."""
        deployed = [each for each in self.get()["status"]["history"] if revision in (each.get("revision"), *each.get("revisions", ()))]
        assert deployed, f"{revision} was never deployed"
        # Argo CD refuses it while automation is on.
        self.patch({"spec": {"syncPolicy": {"automated": None}}})
        then = {key: deployed[-1][key] for key in ("revision", "revisions", "source", "sources") if key in deployed[-1]}
        self.operate({"sync": {**then, "prune": True, "syncStrategy": {"apply": {}}}})
        return self.wait("the rollback ended", idle)["status"]["operationState"]

    def operate(self, operation):
        # Two operations are told apart by the second in which they began.
        began = self.get().get("status", {}).get("operationState", {}).get("startedAt")
        until("another second", lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) != began)
        self.patch({"operation": {"initiatedBy": {"username": "e2e"}, **operation}})

    def delete(self, seconds=PATIENCE):
        """Deletes it, with what it deployed where it was made so, and waits until it is gone."""
        cluster = self.argocd.cluster
        cluster.delete("Application", self.name, NAMESPACE).ok()
        cluster.wait(f"{self.name} is gone", "Application", self.name, NAMESPACE, lambda app: app is None, seconds)

    def rows(self):
        """What its status says of each object, by kind and name."""
        return {(row["kind"], row["name"]): row for row in self.get()["status"].get("resources", ())}

    def conditions(self):
        return {each["type"]: each["message"] for each in self.get()["status"].get("conditions", ())}


def idle(app):
    """No refresh is asked for, and no operation is under way."""
    annotations = app["metadata"].get("annotations", {})
    phase = app.get("status", {}).get("operationState", {}).get("phase")
    return REFRESH not in annotations and "operation" not in app and phase != "Running"


def state(app):
    status = app.get("status", {})
    return status.get("sync", {}).get("status"), status.get("health", {}).get("status")


