"""An authority whose Secrets Flux delivers: made by `regent init`, its root clusters/NAME of the story's repository, a Kustomization NAME
in the namespace NAME whose tree and data keys come from `regent serve flux`, with the account that its manifests give it.
"""

import base64

import init
from authority import Authority, value
from kustomizations import REGENT, Flux
from regents import Service
from stage import PATIENCE, Sealed, config_map, free_port, secret

TOKEN = "regent-token"
DECRYPTION = {"provider": "sops", "secretRef": {"name": TOKEN}}
PRUNE = "kustomize.toolkit.fluxcd.io/prune"


def begin(stage, *flags, name="prod", files=None, more=None, gates=("ExternalArtifact",), serve=None, replicas=None,
          watched=False, decryption=DECRYPTION, before=lambda flux: None, **kwargs):
    """The authority, Flux and regent, with a Secret `db` and a ConfigMap `settings` (and `files`) committed and applied. So many
    `replicas` are behind one address; otherwise there is one without anything before it. `watched`: it follows the repository by
    itself. `before` is done before anything is asked of Flux."""
    flux = Flux(stage, *flags, gates=gates, **kwargs)
    bootstrapped = Bootstrapped(stage, flux, name, more or {}, watched)
    bootstrapped.first = flux.commit({f"{bootstrapped.root}/{path}": content for path, content in {
        "regent.yaml": bootstrapped.authority.bootstrap(), "db.yaml": Sealed(secret("db", value(1), name)),
        "settings.yaml": config_map("settings", name), **(files or {})}.items()})
    init.install(flux.cluster)
    flux.namespace(name)
    before(flux)
    flux.cluster.account(*REGENT)
    init.init(stage, flux.cluster, name, "--reader", f"system:serviceaccount:{REGENT[0]}:{REGENT[1]}")
    bootstrapped.allow()
    if replicas:
        bootstrapped.service = flux.service = Service(flux.endpoint_port, flux.artifacts_port)
        bootstrapped.replicas = [bootstrapped.replica(**(serve or {})) for _ in range(replicas)]
    else:
        bootstrapped.serve(**(serve or {}))
    bootstrapped.app = flux.kustomization(name, name, path=bootstrapped.root, decryption=decryption, retryInterval="2s", timeout="30s")
    return bootstrapped


class Bootstrapped:
    def __init__(self, stage, flux, name, more, watched=False):
        self.stage, self.flux, self.cluster, self.name, self.more = stage, flux, flux.cluster, name, more
        self.authority = Authority(stage, flux.cluster, name)
        self.root = self.authority.root
        self.repository, self.watched = None if watched else flux.git(), watched
        self.data = None

    def allow(self):
        """What regent's pod may do, as its manifests say it."""
        rbac, (namespace, account) = {"apiVersion": "rbac.authorization.k8s.io/v1"}, REGENT
        subjects = [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]
        self.cluster.apply([
            {**rbac, "kind": "ClusterRole", "metadata": {"name": "regent-flux"}, "rules": [
                {"apiGroups": ["source.toolkit.fluxcd.io"], "resources": ["gitrepositories"], "verbs": ["get", "watch"]},
                {"apiGroups": ["source.toolkit.fluxcd.io"], "resources": ["externalartifacts", "externalartifacts/status"],
                 "verbs": ["get", "create", "patch"]},
                {"apiGroups": ["kustomize.toolkit.fluxcd.io"], "resources": ["kustomizations"], "verbs": ["get", "watch"]},
                {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [TOKEN], "verbs": ["create", "patch"]},
                {"apiGroups": [""], "resources": ["events"], "verbs": ["create"]},
                {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "patch"]},
                {"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}]},
            {**rbac, "kind": "ClusterRoleBinding", "metadata": {"name": "regent-flux"}, "subjects": subjects,
             "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "regent-flux"}}])

    def serve(self, **kwargs):
        """Starts regent, or starts it again on the volume that it had."""
        self.regent = self.started(**{"data": self.data, **kwargs})
        self.data = self.regent.data

    def replica(self, data=None, **kwargs):
        """Starts one more, which the one address sends its share to."""
        ports = free_port(), free_port()
        replica = self.started(ports=ports, data=data, **kwargs)
        self.service.join(replica, *ports)
        return replica

    def started(self, rule=None, **kwargs):
        source = {"watch": True} if self.watched else self.repository
        application = self.flux.application(f"{self.name}/{self.name}", source, self.name, **self.more)
        if self.watched:
            kwargs["watch"] = [{"repo": str(self.stage.repo.folder), "revision": "main", "authority": self.name}]
        rules = [self.flux.rule(authority=self.name, bootstrap=f"{self.root}/regent.yaml",
                                paths=[self.root, f"{self.root}/**"], **(rule or {}))]
        return self.flux.regent(application, rules=rules, **kwargs)

    def plain(self, name, **spec):
        """A Kustomization of the same repository that has nothing to do with regent."""
        return self.flux.kustomization(name, self.name, self.repository, path=f"plain/{name}", **spec)

    def commit(self, files):
        """Commits files of the root."""
        return self.flux.commit({f"{self.root}/{path}": content for path, content in files.items()})

    def change(self, number):
        """Git's value of `db` becomes another; gives the repository's revision."""
        return self.commit({"db.yaml": Sealed(secret("db", value(number), self.name))})

    def artifact(self):
        return self.cluster.get("ExternalArtifact", self.name, self.name).ok()["status"]["artifact"]

    def published(self, holds, seconds=PATIENCE):
        """Waits for an artifact, and gives it."""
        told = self.cluster.wait("an artifact", "ExternalArtifact", self.name, self.name,
                                 lambda thing: thing and holds(thing.get("status", {}).get("artifact") or {}), seconds)
        return told["status"]["artifact"]

    def applied(self, revision):
        """Waits until the artifact of a revision of the repository is applied."""
        artifact = self.published(lambda artifact: artifact.get("metadata", {}).get("org.opencontainers.image.revision") == revision)
        self.app.ready(artifact["revision"])
        return artifact

    def handed_over(self):
        """Vault rules from here on; waits until the stubs are applied."""
        self.authority.hand_over()
        artifact = self.published(lambda artifact: artifact.get("revision", "").startswith("handover@"))
        self.app.ready(artifact["revision"])
        return artifact

    def live(self, name="db"):
        return self.flux.live(name, self.name)

    def values(self, name="db"):
        return {key: base64.b64decode(text).decode() for key, text in (self.live(name) or {}).get("data", {}).items()}
