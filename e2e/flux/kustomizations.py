"""Flux on a cluster: its stock kustomize-controller and source-controller, each with a real token of its own account, a Git
repository that they clone, and Kustomizations, driven as its own client drives them: by their objects and by the annotation that asks
for a reconcile, until the controller took them up.
"""

import base64
import itertools
import json
import signal
import sys
import time

from applications import fetch
from artifacts import Artifacts, unpacked
from regents import Regent
from stage import PATIENCE, TOP, answers_on, asked, at, free_port, leaks, run, until

NAMESPACE = "flux-system"
CONTROLLER, SOURCES = "kustomize-controller", "source-controller"
# Who writes to the cluster, unless a Kustomization names another account.
DOOR = f"system:serviceaccount:{NAMESPACE}:{CONTROLLER}"
REQUESTED = "reconcile.fluxcd.io/requestedAt"
# Which revision an event is about.
REVISION = "kustomize.toolkit.fluxcd.io/revision"
# Where kustomize-controller looks for a token of Vault.
TOKEN_KEY = "sops.vault-token"
# The account of regent's pod.
REGENT = "regent-system", "regent-flux"


class Flux:
    """Both controllers and a Git server. `flags` and `env` are kustomize-controller's, behind our own; `gates` are its feature gates
    that are on. The cluster is a new one, unless one is given. Without `source` there are neither source-controller nor Git server."""

    def __init__(self, stage, *flags, cluster=None, gates=("ExternalArtifact",), env=None, source=True):
        self.stage, self.cluster, self.peers = stage, cluster or stage.cluster(), stage.house.peers
        self.cluster.waits_for_rights = True
        stage.fluxes.append(self)
        self.flags = [f"--feature-gates={','.join(f'{gate}=true' for gate in gates)}", *flags]
        self.repositories, self.requests = [], itertools.count(1)
        self.artifacts, self.service = Artifacts(), None
        # Where regent will listen, also when it is started again.
        self.endpoint_port, self.artifacts_port = free_port(), free_port()
        self.endpoint = f"https://127.0.0.1:{self.endpoint_port}"
        self.url = f"file://{stage.repo.folder}"
        self.certificates()
        self.env = {"VAULT_CACERT": str(self.ca), **(env or {})}
        self.install()
        self.start_kustomize_controller()
        if source:
            self.git_port, self.storage_port = free_port(), free_port()
            self.start_git()
            self.start_source_controller()

    def certificates(self):
        """A CA, which kustomize-controller trusts, and a certificate of it for the decryption endpoint."""
        folder = self.stage.folder / f"tls-{self.endpoint_port}"
        folder.mkdir()
        self.ca, self.certificate, self.key = (folder / name for name in ("ca.pem", "tls.pem", "tls.key"))
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        run(*new, "-subj", "/CN=the CA of the story", "-keyout", folder / "ca.key", "-out", self.ca)
        run(*new, "-subj", "/CN=regent", "-CA", self.ca, "-CAkey", folder / "ca.key", "-addext", "basicConstraints=critical,CA:FALSE",
            "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", self.key, "-out", self.certificate)

    def install(self):
        """The CRDs, and the accounts with what `flux install` binds to them."""
        crds = [file for name in (CONTROLLER, SOURCES) for file in sorted((self.peers / f"{name}-crds").glob("*.yaml"))]
        self.cluster.apply("\n---\n".join(file.read_text() for file in crds))
        self.cluster.established(*(".".join(reversed(file.stem.split("_"))) for file in crds))
        self.tokens = {name: self.cluster.account(NAMESPACE, name) for name in (CONTROLLER, SOURCES)}
        rbac = {"apiVersion": "rbac.authorization.k8s.io/v1"}
        self.cluster.apply([
            {**rbac, "kind": "ClusterRoleBinding", "metadata": {"name": "cluster-reconciler"},
             "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
             "subjects": [{"kind": "ServiceAccount", "name": CONTROLLER, "namespace": NAMESPACE}]},
            {**rbac, "kind": "ClusterRole", "metadata": {"name": "crd-controller"}, "rules": [
                {"apiGroups": ["source.toolkit.fluxcd.io"], "resources": ["*"], "verbs": ["*"]},
                {"apiGroups": [""], "resources": ["namespaces", "secrets", "configmaps", "serviceaccounts"],
                 "verbs": ["get", "list", "watch"]},
                {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]}]},
            {**rbac, "kind": "ClusterRoleBinding", "metadata": {"name": "crd-controller"},
             "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "crd-controller"},
             "subjects": [{"kind": "ServiceAccount", "name": SOURCES, "namespace": NAMESPACE}]}])

    # --- the processes. `cluster.kill` and `cluster.pause` take them by the names CONTROLLER, SOURCES and "git".

    def start_kustomize_controller(self):
        self.start(CONTROLLER, "--requeue-dependency=2s", *self.flags, env=self.env)

    def start_source_controller(self):
        storage = self.cluster.folder / "storage"
        storage.mkdir(exist_ok=True)
        self.start(SOURCES, f"--storage-path={storage}", f"--storage-addr=127.0.0.1:{self.storage_port}",
                   f"--storage-adv-addr=127.0.0.1:{self.storage_port}")

    def start(self, name, *flags, env=None):
        tmp, health = self.cluster.folder / f"{name}-tmp", free_port()
        tmp.mkdir(exist_ok=True)
        config = self.cluster.kubeconfig_of(name, {"token": self.tokens[name]}, namespace=NAMESPACE)
        self.cluster.run(name, self.peers / name, "--metrics-addr=0", f"--health-addr=127.0.0.1:{health}", "--log-encoding=json",
                         "--log-level=debug", "--interval-jitter-percentage=0", *flags,
                         env={"KUBECONFIG": str(config), "RUNTIME_NAMESPACE": NAMESPACE, "TMPDIR": str(tmp), **(env or {})})
        until(f"{name} is ready", lambda: fetch(health, "/readyz")[0] == 200)

    def start_git(self):
        """Serves the story's repository as `infra`."""
        served = self.stage.folder / "served"
        link = served / "repositories/infra"
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(self.stage.repo.folder)
        self.url = f"http://127.0.0.1:{self.git_port}/open/infra"
        self.cluster.run("git", sys.executable, TOP / "e2e/git/gitd.py", served, self.git_port, self.cluster.folder / "git-requests")
        until("the Git server answers", lambda: answers_on(self.git_port))

    # --- sources

    def git(self, name="infra", namespace=NAMESPACE, **spec):
        """A GitRepository of the story's repository. `commit` has it fetched."""
        self.cluster.apply_one({
            "apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": {"name": name, "namespace": namespace},
            "spec": {"interval": "60m", "url": self.url, "ref": {"branch": "main"}, **spec}}).ok()
        self.repositories.append(GitRepository(self, name, namespace))
        return self.repositories[-1]

    def commit(self, files=(), fetched=True):
        """Commits files, waits until every GitRepository has fetched it, or only asks for that, and gives the revision."""
        commit = self.stage.repo.commit(files)
        for repository in self.repositories:
            repository.fetched(commit) if fetched else repository.ask()
        return f"main@sha1:{commit}"

    def publish(self, name, namespace, files, *args, **kwargs):
        """An ExternalArtifact by hand, from the story's own server (`artifacts`); gives its revision."""
        return self.artifacts.publish(self.cluster, name, namespace, files, *args, **kwargs)

    # --- Kustomizations, and what they apply

    def kustomization(self, name, namespace, source=None, **spec):
        """Creates or changes one. `source` is a GitRepository, or the name of an ExternalArtifact in its namespace (its own, by default);
        every other field of the spec goes by its own name."""
        ref = source.ref if isinstance(source, GitRepository) else {"kind": "ExternalArtifact", "name": source or name}
        self.cluster.apply_one({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": {"name": name, "namespace": namespace},
            "spec": {"interval": "60m", "path": "./", "prune": True, "sourceRef": ref, **spec}}, force=True).ok()
        return Kustomization(self, name, namespace)

    def namespace(self, *names):
        for name in names:
            self.cluster.apply_one({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).ok()

    def decryption(self, name, namespace, values):
        """The Secret that `spec.decryption` names; without values it is emptied and kept."""
        thing = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": values}
        if self.cluster.create(thing).status == 409:
            thing["data"] = {}
            self.cluster.update(thing).ok()
        return {"provider": "sops", "secretRef": {"name": name}}

    def live(self, name, namespace, kind="Secret"):
        """A live object, or None."""
        answer = self.cluster.get(kind, name, namespace)
        return None if answer.status == 404 else answer.ok()

    def unchanged(self, *before):
        """These live objects are the ones that they were, to the last byte: uid, resourceVersion, data and managedFields."""
        for was in before:
            now = self.live(was["metadata"]["name"], was["metadata"]["namespace"], was["kind"])
            assert now == was, f"{was['metadata']['name']} was changed: {shown(was)} to {shown(now)}"

    def fields_of(self, name, namespace):
        """Who wrote what into a live Secret: the managers, with the operation of each."""
        return {(each["manager"], each["operation"]) for each in self.live(name, namespace)["metadata"]["managedFields"]}

    # --- regent

    def regent(self, *applications, flags=(), ports=None, token=None, section=None, data=None, env=None, **config):
        """Starts `regent serve flux` for these applications (see `application`), with the account of its pod by a real token. `section`
        goes into the section `flux:` and `config` beside it. `ports`, of endpoint and artifacts, are for a second replica."""
        endpoint, artifacts = ports or (self.endpoint_port, self.artifacts_port)
        store = self.cluster.kubeconfig_for(self.cluster.projected(token or self.regent_token()) / "token")
        return Regent(self.stage, {
            "apiVersion": "regent.dev/v1alpha1", "kind": "RegentConfig", "store": {"kind": "kubernetes", "kubeconfig": str(store)},
            "rules": [self.rule()],
            "flux": {"endpoint": self.endpoint, "artifacts": f"http://127.0.0.1:{self.artifacts_port}", "applications": applications,
                     **(section or {})}, **config},
            f"--endpoint-listen=127.0.0.1:{endpoint}", f"--artifacts-listen=127.0.0.1:{artifacts}",
            f"--tls-cert={self.certificate}", f"--tls-key={self.key}", *flags, data=data, env=env)

    def rule(self, **changes):
        """The operator's rule for clusters/prod of the repository as Flux names it."""
        return self.stage.rule(repo=self.url, **changes)

    def application(self, kustomization, source, authority="prod", **more):
        """What regent publishes for a Kustomization, from a GitRepository or from `{"watch": True}`."""
        if isinstance(source, GitRepository):
            source = {"gitRepository": f"{source.namespace}/{source.name}"}
        return {"authority": authority, "kustomization": kustomization, "source": source, **more}

    def regent_token(self):
        """A token of the account of regent's pod, which the story, or manifests that it applied, gave its rights."""
        return self.cluster.account(*REGENT)

    # --- the end

    def check(self):
        """Ends the controllers in peace. No secret value is where one may look then: in what objects say, in what source-controller keeps,
        in what is left of a build. Nor is a token of regent's anywhere but in its Secret."""
        for name in (CONTROLLER, SOURCES):
            if child := self.cluster.running.pop(name, None):
                child.send_signal(signal.SIGTERM)
                child.send_signal(signal.SIGCONT)
                child.wait(PATIENCE)
        secrets = self.cluster.request("GET", at("Secret")).ok()["items"]
        tokens = [base64.b64decode(secret["data"][TOKEN_KEY]) for secret in secrets if secret.get("data", {}).get(TOKEN_KEY)]
        # A story's own made up ones are words.
        tokens = [token for token in tokens if len(token) > 24]
        for kind in ("Kustomization", "GitRepository", "ExternalArtifact", "Event", "ConfigMap", "Lease"):
            content = json.dumps(self.cluster.request("GET", at(kind)).ok()).encode()
            clean(f"objects of kind {kind}", content, tokens)
        for folder in ("storage", f"{CONTROLLER}-tmp", f"{SOURCES}-tmp"):
            searched(self.cluster.folder / folder, tokens)
        searched(self.cluster.logs, tokens)
        for regent in self.stage.regents:
            searched(regent.data, tokens)
            clean("regent's log", regent.log().encode(), tokens)

    def close(self):
        self.artifacts.close()
        if self.service:
            self.service.close()


def searched(folder, tokens=()):
    """Looks into every file below, and into every file of an artifact."""
    for file in folder.rglob("*"):
        if file.is_file():
            data = file.read_bytes()
            contents = unpacked(data) if file.name.endswith(".tar.gz") else {}
            for name, content in {"": data, **contents}.items():
                clean(f"{file} {name}", content, tokens)


def clean(where, content, tokens=()):
    assert not leaks(content), f"the canary in {where}"
    assert not any(token in content or base64.b64encode(token) in content for token in tokens), f"a token in {where}"


def shown(thing):
    """A live object without its values."""
    return thing and json.dumps({**thing, "data": sorted(thing.get("data", {}))})


class Asked:
    """An object that a controller reconciles when it is asked to."""

    kind = None

    def __init__(self, flux, name, namespace):
        self.flux, self.cluster, self.name, self.namespace = flux, flux.cluster, name, namespace

    def get(self):
        return self.cluster.get(self.kind, self.name, self.namespace).ok()

    def status(self):
        return self.get().get("status", {})

    def wait(self, what, holds, seconds=PATIENCE):
        return self.cluster.wait(f"{self.kind} {self.name}: {what}", self.kind, self.name, self.namespace,
                                 lambda thing: thing and holds(thing), seconds)

    def patch(self, body):
        return self.cluster.patch(self.kind, self.name, self.namespace, body).ok()

    def spec(self, **changes):
        """Changes fields of its spec; None takes one away."""
        return self.patch({"spec": changes})

    def ask(self):
        """Asks for a reconcile, and gives the word that its status will repeat once it is over."""
        word = f"{time.time()}-{next(self.flux.requests)}"
        self.patch({"metadata": {"annotations": {REQUESTED: word}}})
        return word

    def reconcile(self, seconds=PATIENCE):
        """Asks, waits until it is over, well or not, and gives the object. A suspended one is not reconciled and says that it was."""
        word = self.ask()
        return self.wait("reconciled", lambda thing: handled(thing) == word and ready(thing)["status"] != "Unknown", seconds)

    def conditions(self):
        return {each["type"]: each for each in self.status().get("conditions", ())}

    def events(self, revision=None):
        """Type, reason and message of each, oldest first; of one revision alone, where it is named. A controller records them beside its
        work: they may come behind its status."""
        query = {"fieldSelector": f"involvedObject.name={self.name},involvedObject.kind={self.kind}"}
        found = self.cluster.request("GET", asked(at("Event", None, self.namespace), query)).ok()["items"]
        found.sort(key=lambda event: int(event["metadata"]["resourceVersion"]))
        return [(event["type"], event["reason"], event["message"]) for event in found
                if revision in (None, event["metadata"].get("annotations", {}).get(REVISION))]

    def delete(self, seconds=PATIENCE):
        """Deletes it, with what it does then, and waits until it is gone."""
        self.cluster.delete(self.kind, self.name, self.namespace).ok()
        self.cluster.wait(f"{self.kind} {self.name} is gone", self.kind, self.name, self.namespace, lambda thing: thing is None, seconds)


class GitRepository(Asked):
    kind = "GitRepository"

    @property
    def ref(self):
        return {"kind": self.kind, "name": self.name, "namespace": self.namespace}

    def fetched(self, commit, seconds=PATIENCE):
        """Has this commit fetched, and gives the artifact."""
        self.ask()
        told = self.wait(f"fetched {commit}", lambda thing: artifact(thing).get("revision", "").endswith(f":{commit}"), seconds)
        return artifact(told)


class Kustomization(Asked):
    kind = "Kustomization"

    def ready(self, revision=None, seconds=PATIENCE):
        """Waits until it is Ready as its spec is now, with this revision applied; gives the object."""
        return self.wait(f"Ready with {revision}", lambda thing: ready(thing)["status"] == "True" and current(thing)
                         and revision in (None, thing["status"].get("lastAppliedRevision")), seconds)

    def fails(self, reason, *words, seconds=PATIENCE):
        """Waits until it is not Ready for this reason, with these words in the message; gives the message."""
        def holds(thing):
            said = ready(thing)
            return said["status"] == "False" and said["reason"] == reason and all(word in said["message"] for word in words)
        return ready(self.wait(f"{reason} {words}", holds, seconds))["message"]

    def applied(self):
        return self.status().get("lastAppliedRevision")

    def attempted(self):
        return self.status().get("lastAttemptedRevision")

    def inventory(self):
        """The ids of what it applied, `namespace_name_group_kind`."""
        return {each["id"] for each in self.status().get("inventory", {}).get("entries", ())}

    def history(self):
        """What it was reconciled with, the latest first."""
        return self.status().get("history", [])


def ready(thing):
    """The condition Ready; before there is one, it is Unknown."""
    conditions = thing.get("status", {}).get("conditions", ())
    return next((each for each in conditions if each["type"] == "Ready"), {"status": "Unknown", "reason": "", "message": ""})


def current(thing):
    """Whether its status is about the spec that it has."""
    return thing["status"].get("observedGeneration") == thing["metadata"]["generation"]


def handled(thing):
    return thing.get("status", {}).get("lastHandledReconcileAt")


def artifact(thing):
    return thing.get("status", {}).get("artifact", {})
