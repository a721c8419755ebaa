"""What Flux' own decryption is tested with, through regent: documents encrypted to age and to PGP, several in a file, as JSON, a whole file
by age, and a value that is a SOPS file itself. Each reaches the cluster with its value. A commit that changes no object says one thing:
`Reconciliation finished`. What an artifact cannot hold (a generator that nothing gives a namespace, a patch, a component) is refused before
anything moves, at the ExternalArtifact and with the file's name, and the Kustomization keeps what it has."""

import base64
import json
import subprocess

import bootstrapped
from authority import value
from stage import CANARY, Sealed, config_map, secret, until

INSIDE = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "inside", "namespace": "prod"}}


def story(stage):
    pgp, fingerprint = pgp_key(stage)
    of = {name: f"{CANARY}-{name}" for name in ("age", "pgp", "first", "second", "whole", "json")}
    document = {name: secret(name, {"key": text}, "prod") for name, text in of.items()}
    it = bootstrapped.begin(stage, serve={"rule": {"identities": [str(stage.key.file), str(pgp)]}}, files={
        "age.yaml": Sealed(document["age"]),
        "pgp.yaml": sops(stage, "pgp.yaml", document["pgp"], "--pgp", fingerprint),
        "several.yaml": Sealed(f"{document['first']}---\n{document['second']}"),
        "whole.yaml.age": run(stage, document["whole"], "age", "--encrypt", "--armor", "--recipient", stage.key.recipient)})
    it.applied(it.first)
    for name in set(of) - {"json"}:
        assert it.values(name) == {"key": of[name]}, name
    assert it.values() == value(1)
    names = {f"prod_{name}__Secret" for name in [*of, "db"]} | {"prod_settings__ConfigMap"}
    assert it.app.inventory() == names - {"prod_json__Secret"}, it.app.inventory()

    # Without a kustomization of its own Flux takes YAML files alone; one can list JSON. What is taken away meanwhile is guarded, and stays.
    listed = ["age.yaml", "db.yaml", "pgp.yaml", "secret.json", "several.yaml", "settings.yaml"]
    it.applied(it.commit({"kustomization.yaml": kustomization(listed), "whole.yaml.age": None,
                          "secret.json": sops(stage, "secret.json", document["json"], "--age", stage.key.recipient)}))
    for name, text in of.items():
        assert it.values(name) == {"key": text}, name
    expected = names - {"prod_whole__Secret"}
    assert it.app.inventory() == expected, it.app.inventory()

    # Nothing of it changes with the next commit, so nothing is said to be configured.
    live = [it.live(name) for name in of]
    revision = it.applied(it.flux.commit({"README.md": "about"}))["revision"]
    new = until("the commit is told", lambda: it.app.events(revision))
    assert [reason for _, reason, _ in new] == ["ReconciliationSucceeded"], new
    assert "Reconciliation finished" in new[0][2], new
    it.flux.unchanged(*live)

    # What cannot be in an artifact. Each commit also changes a ConfigMap, which must not get through alone.
    env = run(stage, f"key={CANARY}-env\n", "sops", "--encrypt", "--age", stage.key.recipient, "--input-type", "dotenv",
              "--output-type", "dotenv", "/dev/stdin")
    patch = sops(stage, "patch.yaml", secret("db", {"more": f"{CANARY}-patch"}, "prod"), "--age", stage.key.recipient)
    inner = sops(stage, "inner.json", f"{CANARY}-inside", "--age", stage.key.recipient, kind="binary")
    inside = json.dumps({**INSIDE, "data": {"key": base64.b64encode(inner).decode()}})
    refused(it, "kustomization.yaml/g", {
        "kustomization.yaml": kustomization(listed, secretGenerator=[{"name": "g", "envs": ["env.env"]}]), "env.env": env})
    refused(it, "patch.yaml", {"kustomization.yaml": kustomization(listed, patches=[{"path": "patch.yaml"}]),
                               "patch.yaml": patch})
    refused(it, "component", {"kustomization.yaml": kustomization(listed, components=["component"])})
    refused(it, "inside.yaml", {"kustomization.yaml": kustomization([*listed, "inside.yaml"]), "inside.yaml": inside})
    it.flux.unchanged(*live)
    last = it.flux.commit({"README.md": "about it"})
    it.applied(last)
    assert it.app.inventory() == expected, it.app.inventory()
    it.flux.unchanged(*live)


def refused(it, file, files):
    """Such a commit is no artifact, and what is published and applied stays. It is taken back."""
    artifact, inventory = it.artifact(), it.app.inventory()
    before = (it.stage.repo.folder / it.root / "kustomization.yaml").read_text()
    it.commit({**files, "settings.yaml": config_map("changed", "prod")})

    def told(thing):
        ready = thing and next(each for each in thing["status"]["conditions"] if each["type"] == "Ready")
        return ready and ready["status"] == "False" and file in ready["message"]
    it.cluster.wait(f"{file} is refused", "ExternalArtifact", "prod", "prod", told)
    it.app.reconcile()
    it.app.ready(artifact["revision"])
    assert it.artifact() == artifact and it.app.inventory() == inventory
    it.commit({**dict.fromkeys(files), "kustomization.yaml": before, "settings.yaml": config_map("settings", "prod")})
    it.cluster.wait("it is built again", "ExternalArtifact", "prod", "prod",
                    lambda thing: thing["status"]["conditions"][0]["status"] == "True")


def kustomization(files, **more):
    return json.dumps({"resources": files, **more})


def sops(stage, name, text, *to, kind=None):
    """Text as the real sops encrypts it."""
    kind = kind or name.rsplit(".")[-1]
    output = "json" if kind == "binary" else kind
    return run(stage, text, "sops", "--encrypt", *to, *(() if kind == "binary" else ("--encrypted-regex", "^(data|stringData)$")),
               "--filename-override", name, "--input-type", kind, "--output-type", output, "/dev/stdin")


def pgp_key(stage):
    """A key pair of a real gpg: its file and its fingerprint."""
    home = stage.folder / "gpg"
    home.mkdir(mode=0o700)
    env = {**stage.house.env, "GNUPGHOME": str(home)}
    stage.house.env["GNUPGHOME"] = str(home)
    gpg = ["gpg", "--batch", "--quiet", "--passphrase", ""]
    subprocess.run([*gpg, "--quick-generate-key", "regent <regent@example.invalid>", "default", "default", "never"], check=True,
                   env=env, capture_output=True)
    listed = subprocess.run([*gpg, "--list-secret-keys", "--with-colons"], check=True, env=env, capture_output=True, text=True)
    fingerprint = next(line.split(":")[9] for line in listed.stdout.splitlines() if line.startswith("fpr:"))
    exported = subprocess.run([*gpg, "--armor", "--export-secret-keys", fingerprint], check=True, env=env, capture_output=True)
    subprocess.run(["gpgconf", "--kill", "gpg-agent"], check=True, env=env)
    file = stage.folder / "keys/pgp.asc"
    file.write_bytes(exported.stdout)
    file.chmod(0o600)
    return file, fingerprint


def run(stage, text, *command):
    done = subprocess.run(command, input=text.encode(), capture_output=True, env=stage.house.env)
    assert done.returncode == 0, f"{command[0]}: {done.stderr.decode()}"
    return done.stdout
