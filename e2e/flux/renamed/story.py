"""A base below an overlay, both with a `namePrefix`: regent has each document and each generated Secret under the name that the build gives
it, in the cluster, in Vault and in what it says, as Flux' own decryption of the same commit has them. After the handover nothing of them
changes, a permanent one comes back under its name, a build that names them otherwise is refused, and what `regent retire` prints leads back
to the plain repository."""

import json
import re
import subprocess

import let_go
from authority import value
from let_go import admin, deployment, env, plain, refers, secrets, stock, told, types
from stage import Sealed, leaks, secret

BASE = {"namePrefix": "base-", "resources": ["api.yaml", "web.yaml"], "secretGenerator": [{"name": "gen", "envs": ["gen.env"]}]}


def overlay(prefix):
    return json.dumps({"namespace": "prod", "namePrefix": prefix, "resources": ["db.yaml", "settings.yaml", "base"]})


def story(stage):
    handing = let_go.begin(stage, says="secrets: {permanent: [{name: prod/blue-base-api}]}\n", files={
        "kustomization.yaml": overlay("blue-"), "base/kustomization.yaml": json.dumps(BASE), "base/gen.env": env(stage, 1),
        "base/api.yaml": Sealed(secret("api", value(2), "elsewhere")), "base/web.yaml": deployment("gen", "api")})
    it = handing.it
    ours = secrets(it, "prod", it.app)
    assert stock(it) == ours and len(ours) == 3, f"Flux makes others than {sorted(ours)}"
    generated, = (name for name in ours if name.startswith("blue-base-gen-"))
    names = ["blue-db", "blue-base-api", generated]
    live = [*map(it.live, names), it.flux.live("blue-base-web", "prod", "Deployment")]
    assert refers(live[-1]) == [generated, "blue-base-api"], refers(live[-1])
    inventory = it.app.inventory()

    # Rights are by the names of the cluster, as far as they show; a hash shows once the inputs are opened.
    policy = handing.handover("--print-policy", says=["kustomization.yaml/gen"])
    assert "resourceNames:\n  - blue-base-api\n  - blue-db\n" in policy, policy
    handing.hands_over(live, inventory)

    reads_the_folder(handing, names)
    live[1] = comes_back(handing, live[1])

    # Other values of Git do not come, and neither does another name: what it would stand for was never handed over.
    it.applied(it.commit({"base/gen.env": env(stage, 3), "base/api.yaml": Sealed(secret("api", value(4), "elsewhere"))}))
    stubs = it.artifact()
    it.commit({"kustomization.yaml": overlay("green-")})
    it.cluster.wait("it is refused", "ExternalArtifact", "prod", "prod", lambda thing: "does not list it" in ready(thing)["message"])
    assert it.artifact() == stubs
    it.applied(it.commit({"kustomization.yaml": overlay("blue-")}))
    it.flux.unchanged(*live)
    delivers(handing, generated)
    goes_back(handing, generated)
    it.flux.unchanged(*live)
    assert it.app.inventory() == inventory and refers(it.flux.live("blue-base-web", "prod", "Deployment")) == refers(live[-1])
    handing.bao.stop()


def delivers(handing, generated):
    """What an operator would deliver it by is printed as it has to stand beside its document: the build gives it the rest of its name."""
    repository = handing.stage.repo
    repository.git("checkout", "-q", "-b", "delivered")
    file = repository.folder / "clusters/prod/regent.yaml"
    after = "after: {emit: externalSecret, store: {name: vault, kind: SecretStore}}"
    file.write_text(file.read_text().replace("after: { emit: stub }", after))
    repository.git("commit", "-qam", "an operator delivers")
    words = ["retire", "--repo", repository.folder, "--path", "clusters/prod", "--config", admin(handing), "--revision"]
    run = lambda *more: subprocess.run(  # noqa: E731
        [handing.stage.house.regent, *map(str, [*words, *more])], capture_output=True, text=True, env=handing.stage.house.env)
    done = run("delivered", "--manifests")
    repository.git("checkout", "-q", "main")
    assert done.returncode == 0 and not leaks((done.stdout + done.stderr).encode()), done
    of = [re.findall(r'^ +name: "(\S+)"$', part, re.M) for part in done.stdout.split("---\n") if part]
    # Its own, the store's, the Secret's.
    named = sorted((name, becomes) for name, _, becomes in of)
    own = generated.removeprefix("blue-base-")
    assert named == [("db", "blue-db"), (own, generated)], (named, done.stdout)
    assert "clusters/prod/db.yaml" in done.stderr and "below the stub" in done.stderr, done.stderr


def goes_back(handing, generated):
    """Every command that an administrator is told, as it is told; the entry of the generator is taken out by hand, as the text says."""
    it, repository = handing.it, handing.stage.repo.folder
    types(repository, told(handing, "closed")["commands"])
    step = told(handing, "flux")
    says = " ".join(step["left"])
    assert "base/kustomization.yaml/gen of this commit" in says and "regent-generated/gen" in says, says
    types(repository, step["commands"])
    without = {**BASE, "resources": [*BASE["resources"], "regent-generated/gen"], "secretGenerator": []}
    it.commit({"base/kustomization.yaml": json.dumps(without), "base/gen.env": None})
    step = told(handing, "flux")
    assert len(step["commands"]) == 2 and "base/api.yaml" in " ".join(step["left"]), step
    types(repository, step["commands"])
    step = told(handing, "flux")
    assert step["left"] == ["Kustomization prod/prod takes ExternalArtifact prod/prod"], step["left"]
    it.app.spec(sourceRef=it.repository.ref, decryption=None)
    it.app.ready(it.commit({"settings.yaml": json.dumps({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "prod"}, "data": {"back": "yes"}})}))


def reads_the_folder(handing, names):
    """What reads a folder follows the Kustomization too; without the operator's file it says that it cannot."""
    said = by_hand(handing, "status", "--config", admin(handing))
    assert all(name in said.stdout for name in names[:2]) and "not-listed" not in said.stdout, said
    settings = handing.stage.repo.folder / "clusters/prod/settings.yaml"
    committed = settings.read_text()
    settings.write_text(committed + "\n")
    said = by_hand(handing, "status", "--config", admin(handing))
    # Where a line ends depends on how long the folder's name is.
    assert "changes that are not committed" in " ".join(said.stdout.split()), said
    settings.write_text(committed)


def comes_back(handing, lost):
    """A permanent Secret that somebody deleted; gives the live one."""
    it, name = handing.it, lost["metadata"]["name"]
    it.cluster.delete("Secret", name, "prod").ok()
    key = ["-i", handing.stage.key.file, "--vault-token-file", handing.bao.token_file()]
    said = by_hand(handing, "restore", *key, "--kubeconfig", it.cluster.kubeconfig(), of=f"prod/{name}")
    assert said.returncode == 2 and "Kustomization prod/prod applies prod/blue-" in said.stderr and "`--config`" in said.stderr, said
    assert it.live(name) is None
    said = by_hand(handing, "restore", *key, "--config", admin(handing), of=f"prod/{name}")
    assert said.returncode == 0, said
    assert plain(it.live(name)) == plain(lost)
    it.app.reconcile()
    return it.live(name)


def by_hand(handing, command, *words, of=None):
    """A command for the folder of the root, as an administrator types it."""
    env = {**handing.stage.house.env, "VAULT_CACERT": str(handing.bao.ca)}
    words = [handing.stage.house.regent, command, *([of] if of else []), handing.stage.repo.folder / "clusters/prod", *words]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, env=env)
    assert not leaks((done.stdout + done.stderr).encode())
    return done


def ready(thing):
    return next(each for each in thing["status"]["conditions"] if each["type"] == "Ready")
