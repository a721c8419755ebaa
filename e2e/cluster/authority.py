"""An authority in a cluster: made, locked, and handed over as `regent handover` will do it: with the account that may, by
a real token, the witness first and the Authority after it. Its root is clusters/NAME of the story's repository, its
namespace NAME, its Application NAME.
"""

import base64
import json
import signal
import uuid

import init
from applications import DOOR
from stage import CANARY, Sealed, bootstrap, config_map, full, leaks, pause, secret, until

SYSTEM = "regent-system"
LOCKED = "Vault is the authority for this Secret"


def begin(stage, cluster, names, folder="", **serve):
    """Commits a root with a Secret `db` and a ConfigMap (in `folder` of it, which ends with a slash) for each name, lets
    Git rule it, and starts regent for all."""
    authorities = [Authority(stage, cluster, name, folder) for name in names]
    stage.repo.commit({f"{each.root}/{path}": content for each in authorities for path, content in {
        "regent.yaml": each.bootstrap(), f"{folder}db.yaml": Sealed(secret("db", value(1), each.name)),
        f"{folder}settings.yaml": config_map("settings", each.name)}.items()})
    init.install(cluster)
    for each in authorities:
        cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": each.name}}).ok()
        init.init(stage, cluster, each.name)
    rules = [stage.rule(authority=each.name, bootstrap=f"{each.root}/regent.yaml", paths=[each.root, f"{each.root}/**"])
             for each in authorities]
    # Asked for once: a process can be started while the API server is away.
    token = init.reader_token(cluster)
    return Door(lambda: init.serve_with(stage, cluster, token, rules, **serve)), *authorities


class Door:
    """regent, started; and again after it was killed."""

    def __init__(self, serve):
        self.serve, self.regent = serve, serve()

    def kill(self):
        self.regent.child.kill()
        self.regent.child.wait()

    def again(self):
        self.regent = self.serve()

    def pause(self):
        pause(self.regent.child)

    def resume(self):
        self.regent.child.send_signal(signal.SIGCONT)

    def answered(self):
        """How often it gave an answer."""
        lines = [line for line in self.regent.get("/metrics")[1].splitlines() if line.startswith("regent_answers_total{")]
        assert lines, "no answers are counted"
        return sum(float(line.split()[-1]) for line in lines)


def value(number):
    """The value of `db`, the first, second ..."""
    return {"password": f"{CANARY}-{number}"}


class Authority:
    def __init__(self, stage, cluster, name, folder=""):
        self.stage, self.cluster, self.name, self.id = stage, cluster, name, str(uuid.uuid4())
        self.root, self.file = f"clusters/{name}", f"{folder}db.yaml"

    def bootstrap(self, **more):
        """Its regent.yaml."""
        return bootstrap(self.name, vault={"address": "https://vault.example:8200", "mount": "secret",
                                           "prefix": f"bootstrap/{self.name}"}, **more)

    def change(self, number):
        """Git's value of `db` becomes another."""
        return self.stage.repo.commit({f"{self.root}/{self.file}": Sealed(secret("db", value(number), self.name))})

    def witness(self):
        """The witness of the handover: the whole record, and the list of documents."""
        blob = self.stage.repo.git("rev-parse", f"HEAD:{self.root}/{self.file}")
        return {**self.record(), "documents": [
            {"path": self.file, "name": f"{self.name}/db", "kind": "Secret", "class": "handover", "blob": blob}]}

    def record(self):
        """The Authority as the handover leaves it."""
        spec = self.cluster.get("Authority", self.name).ok()["spec"]
        return {**spec, "authority": "vault", "handoverId": self.id, "vaultClusterId": str(uuid.UUID(int=1)),
                "mountUuid": str(uuid.UUID(int=2)), "markerVersion": 1, "markerCreatedTime": "2026-01-01T00:00:00Z",
                "treeDigest": "0" * 64, "gitCommit": self.stage.repo.git("rev-parse", "HEAD"), "regentVersion": "e2e"}

    def token(self):
        return self.cluster.token(SYSTEM, f"regent-handover-{self.name}")

    def hand_over(self):
        """From here on Vault rules."""
        self.witnessed()
        self.moved()

    def witnessed(self):
        """The first half of the mirror: the immutable witness."""
        written = {"apiVersion": "v1", "kind": "ConfigMap", "immutable": True,
                   "data": {"witness.json": json.dumps(self.witness())},
                   "metadata": {"name": f"regent-authority-{self.name}-1", "namespace": "kube-system"}}
        self.cluster.apply_one(written, "regent", user=self.token()).ok()

    def moved(self):
        """The second half: the Authority. Compare and set: nobody moved it in between."""
        self.cluster.patch("Authority", self.name, None, [
            {"op": "test", "path": "/spec/authority", "value": "git"}, {"op": "test", "path": "/spec/epoch", "value": 1},
            {"op": "replace", "path": "/spec", "value": self.record()}], "json", query={"fieldManager": "regent"},
            user=self.token()).ok()

    def again(self, thing):
        """Makes a witness that was deleted, as the one account that may."""
        metadata = {"name": thing["metadata"]["name"], **({"namespace": thing["metadata"]["namespace"]}
                                                          if "namespace" in thing["metadata"] else {})}
        thing = {key: value for key, value in thing.items() if key not in ("metadata", "status")}
        self.cluster.apply_one({**thing, "metadata": metadata}, "regent", user=self.token()).ok()

    def lock(self, stays):
        """Waits until the lock refuses Argo CD's account, a moment after the Authority moved. Unless it stays it is then
        taken away, to see what happens without it; and that too is waited for."""
        refused = until("the lock is in force", lambda: (answer := self.tried()).status == 403 and answer)
        assert LOCKED in refused.message, refused
        if not stays:
            self.unlock()
            until("the lock is gone", lambda: self.tried().status == 200)

    def unlock(self):
        """Takes the lock away; it bites for up to a second more."""
        for kind in ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"):
            self.cluster.delete(kind, f"regent-lock-{self.name}", user="breakglass").ok()

    def tried(self):
        """What Argo CD's account is told when it deletes the Secret; nothing is deleted."""
        return self.cluster.delete("Secret", "db", self.name, {"dryRun": "All"}, headers={"Impersonate-User": DOOR})

    # --- its Secret

    def live(self):
        return self.cluster.get("Secret", "db", self.name).ok()

    def holds(self, expected):
        """Waits until the live Secret has this value."""
        self.cluster.wait(f"the live value is {expected}", "Secret", "db", self.name,
                          lambda live: live and data(live) == expected)

    def rotate(self, number):
        """Another value, written as Vault's operator does. Gives what has to stay."""
        live = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": self.name},
                "data": full("db", rotated(number))["data"]}
        self.cluster.apply_one(live, "vault-operator", force=True).ok()
        return self.same()

    def same(self):
        """What has to be equal after whatever must not touch it."""
        live = self.live()
        return live["metadata"]["uid"], live["metadata"]["resourceVersion"], live.get("data")


def rotated(number):
    return {"password": f"{CANARY}-of-vault-{number}"}


def data(live):
    return {key: base64.b64decode(text).decode() for key, text in live.get("data", {}).items()}


def refused_by_lock(app):
    """Whether an Application's last operation failed, and failed by the lock."""
    operation = app["status"].get("operationState", {})
    messages = [operation.get("message", ""), *(each.get("message", "") for each in
                                               operation.get("syncResult", {}).get("resources", ()))]
    return operation.get("phase") in ("Failed", "Error") and any(LOCKED in message for message in messages)


def values_in(cached, revision):
    """Whether what Argo CD caches of this revision holds a value."""
    found = [text for key, text in cached.items() if f"|{revision}|" in key]
    assert found, f"nothing is cached of {revision}: {list(cached)}"
    return any(map(leaks, found))
