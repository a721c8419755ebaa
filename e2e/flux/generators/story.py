"""A `secretGenerator` with encrypted inputs: what regent makes of it is what Flux' own decryption makes of the same commit, to the byte, with
the hash in its name, and a Deployment refers to it by that name. A commit that changes an input gives another name. Then it is handed
over: Vault holds a copy under that very name, the live Secret stays to the last byte, and nobody notices at the Deployment either, also
not after another commit to the same input, nor when the Kustomization goes back to the plain repository."""

import base64
import hashlib
import json
import os
import subprocess

import let_go
from let_go import told
from stage import CANARY, config_map, leaks

LABEL = "regent.dev/authority"
# A kustomization of its own, which sets the namespace as in any base.
KUSTOMIZATION = {"namespace": "prod", "resources": ["db.yaml", "settings.yaml", "web.yaml"], "secretGenerator": [
    {"name": "gen", "envs": ["gen.env"], "files": ["token=token.txt"], "literals": ["mode=on"], "options": {"labels": {"team": "a"}}},
    {"name": "fixed", "type": "example.com/own", "files": ["values.json", "values.yaml"], "options": {"disableNameSuffixHash": True}},
    {"name": "clear", "literals": ["a=b"]}]}
YAML = f"""# who
user: "{CANARY}: user"
list:
- one: 10.0.0.1
  two: [2, true, null, "yes", '#none']
text: |
  {CANARY}-first
    second
empty: {{}}
"""
VALUES = json.dumps({"user": f"{CANARY}-<user>", "list": ["one", 2.5, {"a": [f"{CANARY}-two", True, None]}]})


def story(stage):
    handing = let_go.begin(stage, files={
        "kustomization.yaml": json.dumps(KUSTOMIZATION), "web.yaml": deployment(), "gen.env": env(stage, 1),
        "token.txt": sops(stage, f"{CANARY}-token", "binary"), "values.json": sops(stage, VALUES, "json"),
        "values.yaml": sops(stage, YAML, "yaml")})
    it = handing.it
    stock = Stock(it)
    first = stock.compared()
    assert {key: base64.b64decode(text).decode() for key, text in it.live(first)["data"].items()} == {
        "PASSWORD": f"{CANARY}-1", "QUOTED": '"as it stands"', "token": f"{CANARY}-token", "mode": "on"}

    # Another value is another name, and the Deployment goes with it. What is guarded is not pruned.
    web = it.flux.live("web", "prod", "Deployment")
    it.applied(it.commit({"gen.env": env(stage, 2)}))
    second = stock.compared()
    assert second != first and it.live(first) is not None
    rolled = it.flux.live("web", "prod", "Deployment")
    assert rolled["metadata"]["generation"] == web["metadata"]["generation"] + 1
    stock.delete()
    it.cluster.delete("Secret", first, "prod").ok()

    # What cannot be handed over is refused before it is published: the artifact stays, and so does the handover's right to begin.
    artifact = it.artifact()
    broken = {**KUSTOMIZATION, "secretGenerator": [{**KUSTOMIZATION["secretGenerator"][0], "behavior": "merge"}]}
    it.commit({"kustomization.yaml": json.dumps(broken), "settings.yaml": config_map("changed", "prod")})
    it.cluster.wait("it is refused", "ExternalArtifact", "prod", "prod", lambda thing: "behavior" in ready(thing)["message"])
    assert it.artifact() == artifact
    handing.handover("--plan", ends=1, says=["kustomization.yaml.*`behavior`"])
    it.applied(it.commit({"kustomization.yaml": json.dumps(KUSTOMIZATION), "settings.yaml": config_map("settings", "prod")}))

    may_look(it, second, "fixed")
    live = it.live(second), it.live("fixed"), it.flux.live("web", "prod", "Deployment")
    inventory = it.app.inventory()
    said = handing.handover("--plan")
    assert f"prod/{second}" in said, said
    handing.handover("--yes", says=[r"settled +.*1 Kustomization let go"])
    it.app.ready(handing.stubs())
    it.flux.unchanged(*live)
    assert it.app.inventory() == inventory and refers(it) == second
    for secret in live[:2]:
        name = secret["metadata"]["name"]
        copy = handing.bao.fields(f"bootstrap/prod/prod/{name}")
        assert copy == {key: base64.b64decode(text).decode() for key, text in secret["data"].items()}, name

    # Git changes the input, and nothing of it comes.
    it.applied(it.commit({"gen.env": env(stage, 3)}))
    it.app.reconcile()
    it.flux.unchanged(*live)
    assert it.app.inventory() == inventory
    comes_late(handing)
    goes_back(handing)
    it.flux.unchanged(*live)
    assert it.app.inventory() == inventory and refers(it) == second
    handing.bao.stop()


def comes_late(handing):
    """A generator that is committed after the handover has no name before it is imported, under the one with its hash. Then it keeps that."""
    it = handing.it
    values = {"PASSWORD": f"{CANARY}-late"}
    late = {**KUSTOMIZATION, "secretGenerator": [*KUSTOMIZATION["secretGenerator"], {"name": "late", "envs": ["late.env"]}]}
    it.commit({"kustomization.yaml": json.dumps(late), "late.env": sops(it.stage, f"PASSWORD={values['PASSWORD']}\n", "dotenv")})
    it.cluster.wait("it is refused", "ExternalArtifact", "prod", "prod",
                    lambda thing: "kustomization.yaml/late: it is encrypted, and the handover does not list it" in ready(thing)["message"])
    name = f"late-{hashed(values)}"
    imports(handing, "prod/late-2456789bcd", ends=1)
    imports(handing, f"prod/{name}")
    assert handing.bao.fields(f"bootstrap/prod/prod/{name}") == values
    it.cluster.wait("it is a stub", "Kustomization", "prod", "prod",
                    lambda thing: f"prod_{name}__Secret" in {each["id"] for each in thing["status"]["inventory"]["entries"]})
    assert it.live(name) is None

    # Another value has another hash, and no second name.
    values = {"PASSWORD": f"{CANARY}-later"}
    it.applied(it.commit({"late.env": sops(it.stage, f"PASSWORD={values['PASSWORD']}\n", "dotenv")}))
    imports(handing, f"prod/late-{hashed(values)}", ends=1)
    assert f"prod_{name}__Secret" in it.app.inventory()
    it.applied(it.commit({"kustomization.yaml": json.dumps(KUSTOMIZATION), "late.env": None}))


def imports(handing, name, ends=0):
    env = {"HOME": str(handing.work), "PATH": os.environ["PATH"], "TMPDIR": str(handing.work), "VAULT_CACERT": str(handing.bao.ca)}
    program, _, *words = handing.words("--yes")
    done = subprocess.run([*map(str, [program, "import", name, *words])], cwd=handing.work, env=env, capture_output=True)
    assert done.returncode == ends and not leaks(done.stdout + done.stderr), (done.stdout + done.stderr).decode()


def hashed(values):
    """What kustomize appends to the name of a Secret with these values."""
    data = {key: base64.b64encode(text.encode()).decode() for key, text in sorted(values.items())}
    told = json.dumps({"data": data, "kind": "Secret", "name": "", "type": "Opaque"}, separators=(",", ":"))
    return hashlib.sha256(told.encode()).hexdigest()[:10].translate(str.maketrans("013ae", "ghkmt"))


def goes_back(handing):
    """The plain repository again, without a key: `regent retire` says what has to be in the commit first."""
    it = handing.it
    says = " ".join(told(handing, "flux")["left"])
    assert "kustomization.yaml/gen of this commit" in says and "kustomization.yaml/fixed of this commit" in says, says
    gen, fixed = (next(name for name in of(it, "prod", it.app) if name.startswith(own)) for own in ("gen", "fixed"))
    files = {"db.yaml": stub("db"), "kustomization.yaml": json.dumps({
        **KUSTOMIZATION, "resources": [*KUSTOMIZATION["resources"], "regent-generated/gen", "regent-generated/fixed"],
        "secretGenerator": KUSTOMIZATION["secretGenerator"][2:]})}
    for own, name in (("gen", gen), ("fixed", fixed)):
        files[f"regent-generated/{own}/secret.yaml"] = stub(own)
        files[f"regent-generated/{own}/kustomization.yaml"] = json.dumps(
            {"resources": ["secret.yaml"], "nameSuffix": name.removeprefix(own)})
    files.update(dict.fromkeys(["gen.env", "token.txt", "values.json", "values.yaml"]))
    revision = it.commit(files)
    assert all("of this commit" not in one for one in told(handing, "flux")["left"])
    it.app.spec(sourceRef=it.repository.ref, decryption=None)
    it.app.ready(revision)


def stub(name):
    return json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "annotations": {
        "kustomize.toolkit.fluxcd.io/ssa": "Ignore", "kustomize.toolkit.fluxcd.io/prune": "disabled"}}})


class Stock:
    """The same tree, decrypted by Flux itself into another namespace."""

    def __init__(self, it):
        self.it = it
        it.flux.namespace("stock")
        decryption = it.flux.decryption("sops-age", "stock", {"key.agekey": it.stage.key.file.read_text()})
        self.app = it.flux.kustomization("stock", "stock", it.repository, path=it.root, targetNamespace="stock", decryption=decryption)

    def compared(self):
        """What both have live is the same, but for what regent adds; gives the name with the hash."""
        self.app.reconcile()
        self.app.ready(f"main@sha1:{self.it.stage.repo.git('rev-parse', 'HEAD')}")
        theirs, ours = of(self.it, "stock", self.app), of(self.it, "prod", self.it.app)
        assert theirs == ours, f"{sorted(theirs)} is not {sorted(ours)}, or not in all"
        name, = (name for name in ours if name.startswith("gen-"))
        assert refers(self.it) == refers(self.it, "stock") == name
        return name

    def delete(self):
        self.app.delete()


def of(it, namespace, app):
    """What is applied of generated Secrets, by name: data, type and labels."""
    found = {}
    for entry in app.inventory():
        name = entry.split("_")[1]
        if entry.endswith("__Secret") and name != "db":
            secret = it.flux.live(name, namespace)
            labels = {key: text for key, text in secret["metadata"].get("labels", {}).items()
                      if key != LABEL and not key.startswith("kustomize.toolkit.fluxcd.io/")}
            found[name] = secret["data"], secret["type"], labels
    assert len(found) == 3, sorted(found)
    return found


def refers(it, namespace="prod"):
    return it.flux.live("web", namespace, "Deployment")["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"]


def deployment():
    labels = {"app": "web"}
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {
        "replicas": 1, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [
            {"name": "web", "image": "none", "envFrom": [{"secretRef": {"name": each}} for each in ("gen", "fixed", "clear")]}]}}}})


def may_look(it, *names):
    """The account of the handover, at the Secrets of the list."""
    rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "generated", "namespace": "prod"}}
    account, = it.cluster.get("RoleBinding", "listed", "prod").ok()["subjects"]
    it.cluster.apply([
        {**rbac, "kind": "Role", "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": list(names), "verbs": ["get"]}]},
        {**rbac, "kind": "RoleBinding", "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "generated"},
         "subjects": [account]}])


def ready(thing):
    return next(each for each in thing["status"]["conditions"] if each["type"] == "Ready")


def env(stage, number):
    return sops(stage, f'# who\nPASSWORD={CANARY}-{number}\nQUOTED="as it stands"\n', "dotenv")


def sops(stage, text, kind):
    """Text as the real sops encrypts it."""
    output = "json" if kind == "binary" else kind
    command = ["sops", "--encrypt", "--age", stage.key.recipient, "--input-type", kind, "--output-type", output, "/dev/stdin"]
    done = subprocess.run(command, input=text.encode(), capture_output=True, env=stage.house.env)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
