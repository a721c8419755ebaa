"""No token in a Secret: kustomize-controller logs in as the account that the Kustomization names, and regent asks the API server whose
the JWT is. Its documents open. An account of another namespace is refused, and so is the controller's own account, which stands for
every namespace, each with the sentence that says why."""

import urllib.request

import bootstrapped
from artifacts import unpacked
from authority import value
from kustomizations import CONTROLLER, NAMESPACE
from stage import PATIENCE, config_map

GATES = ("ExternalArtifact", "ObjectLevelWorkloadIdentity")
CONFIG = "sops-vault-config"


def story(stage):
    it = bootstrapped.begin(stage, f"--sops-vault-configmap={CONFIG}", gates=GATES, more={"serviceAccount": True},
                            decryption={"provider": "sops", "serviceAccountName": "app"}, before=prepared)
    artifact = it.applied(it.first)
    assert it.values() == value(1)
    assert it.flux.live(bootstrapped.TOKEN, "prod") is None, "a token was put where nobody wants one"
    second = it.change(2)
    artifact = it.applied(second)
    assert it.values() == value(2)
    before = it.live()

    # The same documents, and an account of another namespace.
    files = fetched(artifact["url"])
    it.flux.publish("copied", "tenant", {"db.yaml": files[f"{it.root}/db.yaml"], "more.yaml": config_map("more", "tenant")})
    tenant = it.flux.kustomization("copied", "tenant", decryption={"provider": "sops", "serviceAccountName": "app"}, retryInterval="2s")
    refused(tenant, "no Kustomization of namespace tenant has `serviceAccount: true`")
    assert it.flux.live("more", "tenant", "ConfigMap") is None

    # The controller's own account, which it logs in with where no other one is named.
    it.flux.publish("own", NAMESPACE, {"db.yaml": files[f"{it.root}/db.yaml"]})
    own = it.flux.kustomization("own", NAMESPACE, decryption={"provider": "sops", "serviceAccountName": CONTROLLER}, retryInterval="2s")
    refused(own, "stands for every namespace: set `decryption.serviceAccountName`")
    it.flux.unchanged(before)

    # Once Vault rules nobody needs to log in.
    it.handed_over()
    it.app.reconcile()
    it.app.ready()
    it.flux.unchanged(before)


def prepared(flux):
    """The ConfigMap that says where to log in, and the accounts."""
    flux.namespace("tenant")
    flux.cluster.apply([
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CONFIG, "namespace": NAMESPACE}, "data": {
            "config.yaml": f'instances: [{{ address: "{flux.endpoint}", loginPath: auth/regent/login }}]\n'}},
        *({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app", "namespace": namespace}}
          for namespace in ("prod", "tenant"))])


def refused(kustomization, sentence):
    """The controller wraps what it was told at 60 columns."""
    said = kustomization.fails("BuildFailed", "403")
    assert sentence in " ".join(said.replace("|", " ").split()), said


def fetched(url):
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return {path: content.decode() for path, content in unpacked(answer.read()).items()}
