import base64
import json
import subprocess

from applications import DOOR
from bao import Bao
from stage import CANARY, Sealed, bootstrap, full, leaks, secret, until
from vaulted import Place, both, events, namespace

BYTES = bytes(range(128, 256)) + CANARY.encode()
VALUE = {"creds": {"password": f"{CANARY}-creds"}, "unseal": {"key": f"{CANARY}-unseal"}, "db": {"password": f"{CANARY}-db"}}
DOCUMENTS = [("creds.yaml", "app/creds", "Secret", "permanent"), ("unseal.yaml", "app/unseal", "Secret", "permanent"),
             ("store.yaml", "app/store", "Secret", "permanent"), ("dropped.yaml", "app/dropped", "Secret", "permanent"),
             ("db.yaml", "app/db", "Secret", "handover"), ("elsewhere.yaml", "app/elsewhere", "Secret", "permanent")]
PERMANENT = [{"name": f"app/{name}"} for name in ("creds", "store", "new", "db", "elsewhere")] + [{"name": "app/unseal", "vault": False}]


def story(stage):
    cluster = stage.cluster()
    bao = Bao(stage)
    try:
        place = Place(stage, cluster, bao)
        place.install()
        namespace(cluster, "app")
        begin(place)
        place.handover = place.hand_over(DOCUMENTS)
        place.bites("creds")
        place.token = bao.token_file()
        only_permanent(place)
        comes_back(place)
        not_copied(place)
        vault_answers(place)
        vault_is_silent(place)
        of_git(place)
        who(place)
        moved(place)
        hub(stage, bao)
    finally:
        bao.stop()


def restore(place, name, *words, **expected):
    return place.regent("restore", f"app/{name}", place.root, "-i", place.stage.key.file, *words, **expected)


def refuses(place, name, *words, **expected):
    """A refusal creates neither the Secret nor an Event."""
    live, told = place.live(name), len(events(place.target, name))
    said = restore(place, name, *words, **expected)
    assert place.live(name) == live and len(events(place.target, name)) == told
    return said


def asked(place, name, *words, **expected):
    return refuses(place, name, "--vault-token-file", place.token, *words, **expected)


def write(place, epoch=1, **more):
    text = json.loads(bootstrap("prod"))
    text.update(epoch=epoch, vault={"address": place.bao.address, "mount": "secret", "prefix": "bootstrap/prod"},
                secrets={"permanent": PERMANENT, "encoding": {"app/store": "base64"}}, **more)
    place.stage.repo.commit({"clusters/prod/regent.yaml": json.dumps(text)})


def begin(place):
    binary = json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "store", "namespace": "app"},
                         "data": {"keystore": base64.b64encode(BYTES).decode()}})
    files = {**{name: secret(name, value) for name, value in VALUE.items()}, "store": binary,
             "dropped": secret("dropped", {"a": CANARY}), "elsewhere": secret("elsewhere", {"a": CANARY}),
             "new": secret("new", {"a": CANARY})}
    place.stage.repo.commit({f"clusters/prod/{name}.yaml": Sealed(text) for name, text in files.items()})
    write(place)
    restore(place, "creds", ends=4, code="P5")
    place.regent("init", place.root, "--vault-token-file", place.bao.token_file(), "--yes")
    refuses(place, "creds", ends=1, code="not-permanent", says="Git rules")
    for thing in place.values():
        place.door(thing).ok()
    for name in ("creds", "store"):
        place.bao.put(f"bootstrap/prod/app/{name}", copy(name))


def copy(name, **changes):
    """Vault's copy, one field a key."""
    fields = {"creds": VALUE["creds"], "store": {"keystore": base64.b64encode(BYTES).decode()}}[name]
    return {**fields, **changes}


def only_permanent(place):
    for name in ("creds", "store", "unseal", "dropped", "db", "new", "elsewhere"):
        place.cluster.delete("Secret", name, "app").ok()
    asked(place, "db", ends=1, code="not-permanent", says="in the handover's list")
    asked(place, "dropped", ends=1, code="not-permanent", says="in regent.yaml")
    asked(place, "new", ends=1, code="not-permanent", says="does not list")
    asked(place, "missing", ends=1, code="not-permanent", says="does not list")
    refuses(place, "Creds", ends=2, code="usage")
    place.regent("restore", "creds", place.root, ends=2, code="usage")
    # Git's copy is gone; the commit that still has it brings it back.
    place.stage.repo.commit({"clusters/prod/elsewhere.yaml": None})
    asked(place, "elsewhere", ends=1, code="not-permanent", says="no document of the root holds")
    # No key opens it.
    other = place.stage.folder / "other.txt"
    subprocess.run(["age-keygen", "-o", other], check=True, capture_output=True)
    other.chmod(0o600)
    place.regent("restore", "app/creds", place.root, "-i", other, "--vault-token-file", place.token, ends=3, code="no-key")


def comes_back(place):
    said = asked(place, "creds", "--dry-run", says=["holds the same values", "nothing was written"])
    assert place.handover in said
    restore(place, "creds", "--vault-token-file", place.token, says="restored Secret app/creds")
    live = place.cluster.get("Secret", "creds", "app").ok()
    expected = full("creds", VALUE["creds"])
    assert live["data"] == expected["data"]
    assert live["metadata"]["labels"] == expected["metadata"]["labels"]
    assert live["metadata"]["annotations"] == expected["metadata"]["annotations"]
    told, = events(place.cluster, "creds")
    assert told["reason"] == "Restored" and told["involvedObject"]["uid"] == live["metadata"]["uid"], told
    assert place.handover in told["message"] and "same values" in told["message"]
    assert [each["manager"] for each in live["metadata"]["managedFields"]] == ["regent"]
    # Once: what exists is left alone, whatever it holds.
    asked(place, "creds", ends=1, code="present", says="kubectl -n app delete secret creds")
    asked(place, "creds", "--stale-ok", ends=1, code="present")
    assert place.cluster.get("Secret", "creds", "app").ok()["metadata"]["resourceVersion"] == live["metadata"]["resourceVersion"]
    place.bites("creds")
    # Bytes, as regent.yaml has them encoded.
    restore(place, "store", "--vault-token-file", place.token)
    data = place.cluster.get("Secret", "store", "app").ok()["data"]
    assert base64.b64decode(data["keystore"]) == BYTES
    forget(place, "creds", "store")


def forget(place, *names):
    for name in names:
        place.cluster.delete("Secret", name, "app").ok()


def not_copied(place):
    """`vault: false`: nobody is asked."""
    place.bao.stop()
    restore(place, "unseal", says="vault: false")
    assert place.live("unseal") == VALUE["unseal"]
    forget(place, "unseal")
    place.bao.start()
    place.token = place.bao.token_file()


def vault_answers(place):
    path = "bootstrap/prod/app/creds"
    # Nothing is held, so nothing is left behind.
    asked(place, "creds", "--dry-run", says="holds no copy")
    for fields in ({"password": f"{CANARY}-newer"}, copy("creds", more="x"), {}, {"password": 1}, {"passwort": VALUE["creds"]["password"]}):
        place.bao.put(path, fields)
        asked(place, "creds", ends=1, code="stale", says=["Vault holds others", "--stale-ok"])
    place.bao.put(path, copy("creds"))
    asked(place, "creds", "--dry-run", says="holds the same values")
    place.bao.ask("DELETE", f"secret/data/{path}")
    asked(place, "creds", ends=1, code="stale", says="deleted")
    restore(place, "creds", "--vault-token-file", place.token, "--stale-ok", says="--stale-ok")
    assert any("deleted" in event["message"] for event in events(place.cluster, "creds"))
    forget(place, "creds")


def vault_is_silent(place):
    refuses(place, "creds", ends=1, code="stale", says="no token was given")
    nobody = place.bao.token_file("default")
    refuses(place, "creds", "--vault-token-file", nobody, ends=1, code="stale", says="(403)")
    place.bao.ask("PUT", "sys/seal")
    until("OpenBao is sealed", lambda: place.bao.ask("GET", "sys/health")[0] == 503)
    asked(place, "creds", ends=1, code="stale", says="sealed")
    place.bao.stop()
    asked(place, "creds", ends=1, code="stale", says="does not say")
    restore(place, "creds", "--vault-token-file", place.token, "--stale-ok")
    assert place.live("creds") == VALUE["creds"]
    forget(place, "creds")
    place.bao.start()
    place.token = place.bao.token_file()


def of_git(place):
    """A document that somebody changed without the key, beside others that do not matter here."""
    file = place.root / "creds.yaml"
    whole = file.read_text()
    file.write_text(whole.replace("namespace: app", "namespace: app\n    labels:\n        moved: \"yes\""))
    assert file.read_text() != whole
    asked(place, "creds", ends=3, code="mac")
    file.write_text(whole)
    # Another file of the root may be broken: nobody asks for it.
    (place.root / "broken.yaml").write_text("a: [")
    asked(place, "creds", "--dry-run")
    (place.root / "broken.yaml").unlink()
    # Two files that both hold it: which one would it be?
    (place.root / "again.yaml").write_bytes(place.stage.seal("again.yaml", Sealed(secret("creds", {"a": "b"}))))
    asked(place, "creds", ends=1, code="twice")
    (place.root / "again.yaml").unlink()


def who(place):
    """Not a door, and nobody without rights; and nothing of the Secret is quoted."""
    cluster = place.cluster
    words = "--vault-token-file", place.token
    asked(place, "creds", "--as", DOOR, ends=1, code="not-ready",
          says=["the lock takes this identity for a front door", "as a person"])
    refuses(place, "creds", *words, "--as", "nobody", ends=1, code="forbidden")
    # Without the right to leave a trace nothing comes back.
    rules = [{"apiGroups": ["regent.dev"], "resources": ["authorities"], "verbs": ["get"]},
             {"apiGroups": [""], "resources": ["configmaps", "secrets", "namespaces"], "verbs": ["get", "create"]}]
    cluster.apply([{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "restorer"}, "rules": rules},
                   {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "restorer"},
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "restorer"},
                    "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}]}])
    until("jane may read", lambda: cluster.get("Authority", "prod", headers={"Impersonate-User": "jane"}).status == 200)
    refuses(place, "creds", *words, "--as", "jane", ends=1, code="forbidden", says="events")
    # A policy of somebody else that quotes what it refuses.
    talkative = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": "talkative"}}
    cluster.apply([
        {**talkative, "kind": "ValidatingAdmissionPolicy", "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"], "operations": ["CREATE"]}]},
            "validations": [{"expression": "object.metadata.name != 'creds'",
                             "messageExpression": "'it holds ' + string(object.data['password'])"}]}},
        {**talkative, "kind": "ValidatingAdmissionPolicyBinding", "spec": {"policyName": "talkative", "validationActions": ["Deny"]}}])
    thing = full("creds", VALUE["creds"])
    until("the policy is in force", lambda: cluster.create(thing, {"dryRun": "All"}).status == 422)
    assert leaks(cluster.create(thing, {"dryRun": "All"}).message.encode())
    refuses(place, "creds", *words, ends=4, code="cluster", says="not shown")
    for kind in ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"):
        cluster.delete(kind, "talkative").ok()
    until("the policy is gone", lambda: cluster.create(thing, {"dryRun": "All"}).status == 201)


def moved(place):
    """Another root, another epoch, a witness that is lost."""
    copied = place.stage.repo.folder / "clusters/copy"
    place.stage.repo.commit({"clusters/copy/regent.yaml": (place.root / "regent.yaml").read_text()})
    place.regent("restore", "app/creds", copied, "-i", place.stage.key.file, ends=1, code="P0")
    place.stage.repo.commit({"clusters/copy/regent.yaml": None})
    write(place, 2, supersedes=place.handover)
    asked(place, "creds", ends=1, code="P3")
    write(place)
    witness = place.cluster.get("ConfigMap", "regent-authority-prod-1", "kube-system").ok()
    place.cluster.delete("ConfigMap", "regent-authority-prod-1", "kube-system", user="breakglass").ok()
    asked(place, "creds", ends=4, code="not-permanent", says="is not readable")
    token = place.cluster.token("regent-system", "regent-handover-prod")
    place.cluster.apply_one({**witness, "metadata": {"name": witness["metadata"]["name"], "namespace": "kube-system"}}, "regent", user=token).ok()
    # One of the two witnesses is enough, where it holds the list.
    place.cluster.delete("Authority", "prod", user="breakglass").ok()
    asked(place, "creds", "--dry-run", says="holds no copy")


def hub(stage, bao):
    hub, target = stage.cluster("hub"), stage.cluster("target")
    place = Place(stage, hub, bao, target)
    place.install()
    namespace(target, "app")
    config = both(stage, hub, target)
    bao.stop()
    bao.start()
    here = "--context", "hub", "--target-context", "target"
    place.regent("init", place.root, *here, "--vault-token-file", bao.token_file(), "--yes", config=config)
    place.hand_over([document for document in DOCUMENTS if document[0] != "elsewhere.yaml"])
    words = "restore", "app/unseal", place.root, "-i", stage.key.file
    place.regent(*words, "--context", "hub", ends=1, code="other-cluster", config=config)
    place.regent(*words, *here, says=target.server, config=config)
    assert place.live("unseal") == VALUE["unseal"]
    assert hub.get("Secret", "unseal", "app").status == 404
    assert events(target, "unseal")
