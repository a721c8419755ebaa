"""A cluster whose kustomize-controller takes no ExternalArtifact: its gate is off. The documents in Git are encrypted to regent by the
real `sops`, beside the age key, and the Kustomization takes the GitRepository itself, with regent's token and no key.

While Git rules they are decrypted. What would apply ciphertext, or lose a Secret, is refused before anything moves. Once Vault rules the
build fails and nothing is touched, until the entry of `spec.patches` is committed that `regent handover` and `regent status` tell: then it
is Ready, asks for nothing and applies nothing, and the handover is settled. The live Secret stays to the last byte, also when its file goes
and when the Kustomization is deleted."""

import base64
import json
import os
import re
import subprocess

import init
import let_go
from authority import value
from bao import Bao
from bootstrapped import DECRYPTION, TOKEN, Bootstrapped
from handed import regent_yaml
from kustomizations import REGENT, TOKEN_KEY, Flux
from proxy import Proxy
from stage import GUARDS, TOP, config_map, until

POLICY = "regent-flux-source"


def story(stage):
    bao = Bao(stage)
    proxy = Proxy(bao)
    flux = Flux(stage, gates=())
    it = Bootstrapped(stage, flux, "prod", {"delivery": "patches"})
    begin(stage, it, proxy)
    handing = let_go.Handing(it, bao, proxy)

    # Delivered, and no key is in the cluster but regent's.
    first = it.commit({"db.yaml": encrypted(it, value(1))})
    it.app = flux.kustomization("prod", "prod", it.repository, path=it.root, decryption=DECRYPTION, retryInterval="2s", timeout="30s")
    it.app.ready(first)
    assert it.values() == value(1)
    it.app.ready(it.commit({"db.yaml": encrypted(it, value(2))}))
    assert it.values() == value(2)
    assert flux.live("prod", "prod", "ExternalArtifact") is None

    refused(it, handing)
    handed_over(it, handing, flux)
    bao.stop()


def begin(stage, it, proxy):
    """Git rules a root without documents yet, and regent puts its token. An administrator allowed the Kustomization its repository."""
    cluster = it.cluster
    it.commit({"regent.yaml": regent_yaml(proxy.address), "settings.yaml": config_map("settings", "prod"),
               # Flux would take regent.yaml for an object.
               "kustomization.yaml": listing("settings.yaml")})
    init.install(cluster)
    it.flux.namespace("prod")
    cluster.account(*REGENT)
    init.init(stage, cluster, "prod", "--reader", f"system:serviceaccount:{REGENT[0]}:{REGENT[1]}")
    it.allow()
    allowed(stage, cluster)
    it.serve()
    cluster.wait("the token", "Secret", TOKEN, "prod", lambda secret: secret and secret.get("data", {}).get(TOKEN_KEY))


def allowed(stage, cluster):
    """The policy of manifests/flux with the component over it, for the story's names."""
    folder = stage.folder / "policies"
    folder.mkdir()
    flux = os.path.relpath(TOP / "manifests/flux", folder)
    mine = [{"op": "test", "path": "/spec/variables/3/expression", "value": "{'app/app': 'flux-system/flux-system'}"},
            {"op": "replace", "path": "/spec/variables/3/expression", "value": "{'prod/prod': 'flux-system/infra'}"}]
    (folder / "kustomization.yaml").write_text(json.dumps({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": [f"{flux}/example"],
        "components": [f"{flux}/without-artifacts"],
        "patches": [{"target": {"kind": "ValidatingAdmissionPolicy", "name": POLICY}, "patch": json.dumps(mine)}]}))
    built = cluster.kubectl("kustomize", folder).split("\n---\n")
    policy = [each for each in built if re.search(rf"^  name: {POLICY}$", each, re.M)]
    assert len(policy) == 2, policy
    cluster.apply("\n---\n".join(policy))
    probe = kustomization("probe")
    until("the policy is in force", lambda: cluster.create(probe, query={"dryRun": "All"}).status == 403)


def listing(*names):
    return json.dumps({"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": sorted(names)}) + "\n"


def encrypted(it, values, **metadata):
    """What stands in Git: guards and label in clear, encrypted by the real `sops` to the age key and, through its endpoint, to regent."""
    thing = {"apiVersion": "v1", "kind": "Secret", "stringData": values, "metadata": {
        "name": "db", "namespace": "prod", "labels": {"regent.dev/authority": "prod"}, "annotations": GUARDS, **metadata}}
    token = base64.b64decode(it.flux.live(TOKEN, "prod")["data"][TOKEN_KEY]).decode()
    done = subprocess.run(
        ["sops", "encrypt", "--age", it.stage.key.recipient, "--hc-vault-transit", f"{it.flux.endpoint}/v1/regent/prod/keys/prod",
         "--encrypted-regex", "^(data|stringData)$", "--filename-override", "db.yaml", "--input-type", "yaml", "--output-type", "yaml",
         "/dev/stdin"], input=json.dumps(thing).encode(), capture_output=True,
        env={**it.stage.house.env, "VAULT_TOKEN": token, "VAULT_CACERT": str(it.flux.ca)})
    assert done.returncode == 0, done.stderr.decode()
    if "kustomization.yaml" in it.stage.repo.git("ls-files", it.root):
        it.stage.repo.write({f"{it.root}/kustomization.yaml": listing("settings.yaml", "db.yaml")})
    return done.stdout.decode()


def kustomization(name, source=None, decryption=DECRYPTION, **spec):
    return {"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": {"name": name, "namespace": "prod"},
            "spec": {"interval": "60m", "path": "./", "prune": True, "decryption": decryption,
                     "sourceRef": source or {"kind": "GitRepository", "name": "infra", "namespace": "flux-system"}, **spec}}


def patch(*annotations, kind="Secret"):
    """An entry of `spec.patches` that puts these on the authority's documents."""
    thing = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "any", "annotations": {
        f"kustomize.toolkit.fluxcd.io/{key}": "Ignore" if key == "ssa" else "disabled" for key in annotations}}}
    return {"target": {"kind": kind, "labelSelector": "regent.dev/authority=prod"}, "patch": json.dumps(thing)}


def refused(it, handing):
    """Nothing of this moves the authority, and none of it becomes a value."""
    cluster, app = it.cluster, it.app
    for spec, word in (
            # What stock-traps shows: Ready, and ciphertext is the value.
            ({"patches": [patch("decrypt")]}, "ciphertext would become the live value"),
            ({"patches": [patch("decrypt", "prune")]}, "all three belong into one patch"),
            # A later one would not help: each stands alone.
            ({"patches": [patch("decrypt"), patch("ssa", "prune")]}, "all three belong into one patch"),
            ({"decryption": None}, "would be applied as it is"),
            ({"sourceRef": {"kind": "GitRepository", "name": "else"}}, "GitRepository flux-system/infra")):
        answer = cluster.patch("Kustomization", "prod", "prod", {"spec": spec})
        assert answer.status == 403 and word in answer.message, (spec, answer)
    answer = cluster.create(kustomization("probe"), query={"dryRun": "All"})
    assert answer.status == 403 and "ExternalArtifact probe" in answer.message, answer

    def stops(*says):
        handing.handover("--yes", ends=6, says=says)
        assert cluster.get("Authority", "prod").ok()["spec"]["authority"] == "git"

    # Documents that no patch would reach, or that would not survive it.
    good = encrypted(it, value(2))
    for bad, word in ((encrypted(it, value(2), labels={}), r"db\.yaml: it lacks the label `regent\.dev/authority: prod`"),
                      (encrypted(it, value(2), annotations={}), r"db\.yaml: it lacks the annotation `kustomize.*/prune: disabled`"),
                      (good.replace("regent:v1:prod:1:", "regent:v1:prod:2:"), r"db\.yaml: it is not encrypted to regent in epoch 1")):
        it.commit({"db.yaml": bad})
        stops(word)
    app.ready(it.commit({"db.yaml": good}))

    # An encrypted input of a generator is reached by no annotation.
    it.commit({"kustomization.yaml": json.dumps({**json.loads(listing("settings.yaml", "db.yaml")), "secretGenerator": [
        {"name": "more", "files": ["more.yaml"]}]}), "more.yaml": good})
    handing.handover("--yes", ends=1, says=["more.yaml", "secretGenerator", "delivery: patches"])
    it.commit({"kustomization.yaml": listing("settings.yaml", "db.yaml"), "more.yaml": None})

    # The whole patch, and too early: what Git has would not be applied any more.
    app.spec(patches=[patch("decrypt", "ssa", "prune")])
    app.ready()
    stops(r"Kustomization prod/prod: its `spec\.patches` let go already")
    app.spec(patches=None, suspend=True)
    stops("Kustomization prod/prod: it is suspended")
    app.spec(suspend=None)
    app.ready(f"main@sha1:{it.stage.repo.git('rev-parse', 'HEAD')}")
    assert it.values() == value(2) and it.live()["metadata"]["annotations"] == GUARDS, it.live()["metadata"]


def handed_over(it, handing, flux):
    cluster, app, before = it.cluster, it.app, it.live()
    said = handing.handover("--yes", "--settle-timeout=5", ends=7, says=["mirrored, not settled", "`spec.patches` do not end with what lets go"])
    assert cluster.get("Authority", "prod").ok()["spec"]["authority"] == "vault"
    entry = re.search(r"as their last entry `- ({.*})`", said)[1]
    app.reconcile()
    assert "403" in app.fails("BuildFailed", "Vault is the authority for prod")
    later = it.commit({"settings.yaml": config_map("settings", "prod").replace("8080", "9090")})
    app.wait("the commit was tried", lambda thing: thing["status"].get("lastAttemptedRevision") == later)
    assert flux.live("settings", "prod", "ConfigMap")["data"]["port"] == "8080"
    flux.unchanged(before)
    assert entry in status(it, handing), "the status does not tell what to commit"
    # Half of it is refused here too, and no other form counts.
    answer = cluster.patch("Kustomization", "prod", "prod", {"spec": {"patches": [patch("decrypt")]}})
    assert answer.status == 403, answer
    wider = {**patch("decrypt", "ssa", "prune"), "target": {"kind": "Secret"}}
    for patches in ([patch("decrypt", "ssa", "prune"), wider], [wider]):
        app.spec(patches=patches)
        app.ready(later)
        handing.handover("--yes", ends=1, says=["one of them turns decryption off", re.escape(entry)])
    assert handing.settled() is None
    flux.unchanged(before)

    # What was told, as a commit of the Kustomization has it.
    told = json.dumps(kustomization("prod")).removesuffix("}}") + f', "patches": [{entry}]}}}}'
    read = json.loads(cluster.kubectl("create", "--dry-run=client", "--output=json", "--filename=-", stdin=told))
    app.spec(patches=read["spec"]["patches"])
    app.ready(later)
    assert flux.live("settings", "prod", "ConfigMap")["data"]["port"] == "9090"
    flux.unchanged(before)
    asked = requests(it)
    app.reconcile()
    app.ready(later)
    assert requests(it) == asked, "the controller still asks for data keys"
    # Every build since the handover is compared: a value of it may have slipped in before Vault ruled. A person accepts it.
    kept = (it.stage.repo.folder / it.root / "db.yaml").read_text()
    app.ready(it.commit({"db.yaml": kept.replace("kind: Secret", "kind: Secret\ntype: Opaque")}))
    handing.handover("--yes", ends=7, says=[r"prod/prod uses commit", r"db\.yaml \(prod/db\) is another there"])
    assert handing.settled() is None
    accepted = regent_yaml(handing.proxy.address, "handover: { acceptChanged: [prod/db] }\n")
    later = it.commit({"db.yaml": kept, "regent.yaml": accepted})
    app.ready(later)
    flux.unchanged(before)
    handing.handover("--yes", says=[r"settled +.*1 Kustomization let go"])
    assert handing.settled() == "there is no Argo CD here; 1 Kustomization let go", handing.settled()
    until("the token is taken away", lambda: not it.live(TOKEN).get("data"))
    # When the token goes, the controller looks again.
    until("the status says that it let go", lambda: re.search(r"^ *prod/prod .* letGo$", status(it, handing), re.M))
    flux.unchanged(before)

    # From here on rotation is safe, and Git's document is nobody's.
    it.authority.rotate(3)
    rotated = it.live()
    app.reconcile()
    app.ready(later)
    flux.unchanged(rotated)
    gone = it.commit({"kustomization.yaml": listing("settings.yaml"), "db.yaml": None})
    app.ready(gone)
    assert app.inventory() == {"prod_settings__ConfigMap"}, app.inventory()
    flux.unchanged(rotated)
    app.delete()
    assert flux.live("settings", "prod", "ConfigMap") is None
    flux.unchanged(rotated)


def requests(it):
    """How often regent was asked for a data key."""
    return it.regent.log().count("a data key was asked for")


def status(it, handing):
    done = subprocess.run([it.stage.house.regent, "status", it.stage.repo.folder / it.root, "--config", handing.config],
                          env=it.stage.house.env, capture_output=True, text=True)
    assert "KUSTOMIZATION" in done.stdout, done
    return done.stdout
