"""`spec.postBuild` replaces variables in what kustomize-controller decrypted, too. A value that it would change is refused at every door,
because Vault would get another one than the cluster has; one that is marked, encoded or merely has a dollar is the same in Git, in the cluster
and in Vault."""

import base64
import json
import subprocess

import let_go
from let_go import stock
from stage import CANARY, Sealed, secret

RESOURCES = ["db.yaml", "settings.yaml", "single.yaml", "marked.yaml", "encoded.yaml"]
VARIABLES = {"substitute": {"cluster": "blue"}}
CHANGED = f"{CANARY}-${{cluster}}-$$"
MARK = {"kustomize.toolkit.fluxcd.io/substitute": "disabled"}


def story(stage):
    values = {"single": f"$1 {CANARY} $cluster $}} {{$", "marked": CHANGED, "encoded": CHANGED}
    encoded = json.loads(secret("encoded", {}, "prod"))
    encoded["data"] = {"password": base64.b64encode(CHANGED.encode()).decode()}
    handing = let_go.begin(stage, files={
        "kustomization.yaml": listing(), "single.yaml": Sealed(secret("single", {"password": values["single"]}, "prod")),
        "marked.yaml": marked(values["marked"]), "encoded.yaml": Sealed(json.dumps(encoded))})
    it = handing.it
    it.app.spec(postBuild=VARIABLES)
    it.app.reconcile()
    before = {name: it.live(name) for name in ["db", *values]}
    assert {name: it.values(name)["password"] for name in values} == values
    inventory = it.app.inventory()

    # What Flux by itself makes of such a value, and of the others.
    it.commit({"changed.yaml": Sealed(secret("changed", {"password": CHANGED}, "prod")), "kustomization.yaml": listing("changed.yaml")})
    passwords = {name: found["password"] for name, found in stock(it, postBuild=VARIABLES).items() if name != "db"}
    assert passwords == {**values, "changed": f"{CANARY}-blue-$"}, sorted(passwords)
    # Nothing is published of it, nothing is handed over, and it is found before it is committed.
    words = ["changed.yaml", "stringData.password", "`spec.postBuild`"]
    message = refused(it, *words)
    assert CANARY not in message and it.app.inventory() == inventory
    handing.may_look_at(list(values))
    handing.handover("--plan", ends=1, says=[*words, "substitute: disabled"])
    assert lint(it, VARIABLES) == ["substituted"] and lint(it, None) == []

    # Without variables it is a value as any other, and with them where it is marked.
    it.app.spec(postBuild=None)
    it.applied(revision(it))
    assert it.values("changed")["password"] == CHANGED
    it.app.spec(postBuild={"substituteStrategy": "Always"})
    refused(it, *words)
    it.app.spec(postBuild=VARIABLES)
    it.applied(it.commit({"changed.yaml": marked(CHANGED, "changed")}))
    values["changed"], before["changed"] = CHANGED, it.live("changed")
    handing.may_look_at(list(values))
    handing.handover("--yes", says=[r"settled +.*1 Kustomization let go"])
    it.app.ready(handing.stubs())
    for name, value in values.items():
        assert handing.bao.fields(f"bootstrap/prod/prod/{name}") == {"password": value} == it.values(name), name
    it.flux.unchanged(*before.values())
    # What stands in Git from here on is no value.
    it.applied(it.commit({"single.yaml": Sealed(secret("single", {"password": CHANGED}, "prod"))}))
    it.flux.unchanged(*before.values())
    handing.bao.stop()


def listing(*more):
    return json.dumps({"resources": [*RESOURCES, *more]})


def marked(value, name="marked"):
    thing = json.loads(secret(name, {"password": value}, "prod"))
    thing["metadata"]["annotations"] = MARK
    return Sealed(json.dumps(thing))


def revision(it):
    return f"main@sha1:{it.stage.repo.git('rev-parse', 'HEAD')}"


def refused(it, *words):
    """Waits until the artifact says why it is not the newest; gives that."""
    ready = lambda thing: next(each for each in thing["status"]["conditions"] if each["type"] == "Ready")  # noqa: E731
    told = it.cluster.wait(f"refused: {words}", "ExternalArtifact", "prod", "prod",
                           lambda thing: ready(thing)["status"] == "False" and all(word in ready(thing)["message"] for word in words))
    return ready(told)["message"]


def lint(it, variables):
    """The rules that the folder breaks, built by this Kustomization."""
    file = it.stage.folder / "kustomization-of-flux.yaml"
    file.write_text(json.dumps({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": {
        "name": "prod", "namespace": "prod"}, "spec": {"path": it.root, "postBuild": variables}}))
    words = ["lint", it.stage.repo.folder / it.root, "--kustomization-file", file, "-i", it.stage.key.file, "-o", "json"]
    done = subprocess.run(list(map(str, [it.stage.house.regent, *words])), capture_output=True, text=True, env=it.stage.house.env)
    assert CANARY not in done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == (1 if found else 0), done
    assert all(each["file"].endswith("changed.yaml") for each in found), found
    return [each["rule"] for each in found]
