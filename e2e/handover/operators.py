"""A root whose `after:` names an operator: the whole Argo CD applies it, and the real operator takes the live Secrets over."""

import base64
import json
import subprocess

import init
from applications import AUTOMATED, CONTROLLER, ArgoCD, state
from delivered import LIMITS, Delivered
from stage import CANARY, TOP, Sealed, leaks, until

DELIVER = "regent-deliver-prod"
ISSUER = "https://kubernetes.default.svc.cluster.local"
NOTE = "{{ .password }} {{- fail \"never\" -}}"
BINARY = bytes(range(256)) + CANARY.encode()

def written(name, namespace="app", **more):
    metadata = {"name": name, "namespace": namespace, **more.pop("metadata", {})}
    return Sealed(json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **more}))


FILES = {
    "db": written("db", type="example.com/login", stringData={"password": f"{CANARY}-db", "user": "app"}, metadata={
        "labels": {"tier": "1"}, "annotations": {"example.com/note": NOTE}}),
    "pinned": written("pinned", immutable=True, stringData={"token": f"{CANARY}-pinned"}),
    "keystore": written("keystore", data={"store": base64.b64encode(BINARY).decode()}),
    "repo-creds": written("repo-creds", stringData={"password": f"{CANARY}-repo"}),
}


class Operated(Delivered):
    """`after` is the line of regent.yaml; `kind` is what comes of it; `program` is the operator."""

    def __init__(self, stage, after, kind, program, *flags, env=None):
        subprocess.run([TOP / "hack/peers", program], check=True)
        self.after, self.kind, self.program = after, kind, program
        # Not as other stories with Argo CD: what is in Git has to be there before the authority is.
        super(Delivered, self).__init__(stage, stage.cluster(), secrets={}, init=False)
        self.expected = {f"app/{name}": None for name in FILES}
        self.commit = self.committed(after, {f"clusters/prod/{name}.yaml": file for name, file in FILES.items()})
        self.init()
        self.door = init.serve(stage, self.cluster, [self.rule()], limits=LIMITS)
        self.operator(*flags, env=env)
        # Argo CD's own manifests have it.
        self.cluster.delete("ClusterRoleBinding", CONTROLLER).ok()
        self.argocd = ArgoCD(stage, self.cluster)
        # Beside what the story of Argo CD has; an empty ConfigMap it does not mind.
        self.cluster.apply(TOP / "manifests/after/argocd-cm.yaml", manager="health")
        self.app = self.argocd.application(stage.name, "clusters/prod", policy=AUTOMATED, cascade=True)
        self.app.synced()

    def committed(self, after, files=None):
        place = {"address": self.address, "mount": "secret", "prefix": "bootstrap/prod"}
        return self.stage.repo.commit({
            "clusters/prod/regent.yaml": "apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: 1\n"
            f"secrets: {{ permanent: [{{ name: app/repo-creds }}], encoding: {{ app/keystore: base64 }} }}\n"
            f"vault: {json.dumps(place)}\nafter: {after}\n", **(files or {})})

    def operator(self, *flags, env=None):
        """The operator as it is installed, and how it logs in: with what manifests/ has, and this Vault's address and CA."""
        cluster, crds = self.cluster, self.stage.house.peers / f"{self.program}-crds"
        cluster.apply(crds)
        cluster.established(*(file.stem.split("_")[1] + "." + file.stem.split("_")[0] for file in crds.glob("*.yaml")))
        self.bao.policy(DELIVER, (TOP / f"manifests/vault/policies/{DELIVER}.hcl").read_text())
        public = subprocess.run(["openssl", "rsa", "-in", cluster.key, "-pubout"], check=True, capture_output=True, text=True).stdout
        self.bao.done("POST", "sys/auth/jwt", {"type": "jwt"})
        self.bao.done("POST", "auth/jwt/config", {"jwt_validation_pubkeys": [public], "bound_issuer": ISSUER})
        token = cluster.account(self.program, self.program)
        cluster.kubectl("create", "clusterrolebinding", self.program, "--clusterrole=cluster-admin",
                        f"--serviceaccount={self.program}:{self.program}")
        self.words = flags, {"KUBECONFIG": str(cluster.kubeconfig_of(self.program, {"token": token})), **(env or {})}
        self.start()

    def logs_in(self, file, account):
        """`file` of manifests/after; `account` is who may read."""
        self.bao.done("POST", f"auth/jwt/role/{DELIVER}", {
            "role_type": "jwt", "user_claim": "sub", "bound_audiences": [self.address], "token_policies": [DELIVER],
            "bound_claims": {"sub": [f"system:serviceaccount:{account}"]}})
        ca = self.bao.ca.read_text()
        text = (TOP / "manifests/after" / file).read_text().replace("https://vault.vault.svc:8200", self.address)
        text = text.replace('caBundle: ""', f"caBundle: {base64.b64encode(ca.encode()).decode()}")
        self.cluster.apply(text.replace('ca.crt: ""', f"ca.crt: {json.dumps(ca)}"))

    def start(self):
        flags, env = self.words
        self.cluster.run(self.program, self.stage.house.peers / self.program, *flags, env=env)

    # --- the handover

    def handed_over(self):
        """Vault rules, and an old value could still come back: nothing takes the Secrets over."""
        self.may_refresh(self.stage.name)
        self.handover("--yes", "--config", self.config(version="v1"), "--caches-expired", ends=7, code="unmirrored",
                      says="`--caches-expired` holds from")
        self.app.refresh("hard")
        self.app.synced()
        assert self.objects() == {}, self.objects()

    def settles(self):
        redis = f"127.0.0.1:{self.stage.house.redis_port}"
        self.handover("--yes", "--config", self.config(version="v1", redis=redis), says="closed: ")
        assert self.settled()

    # --- what is there

    def live(self):
        return {name: self.secret(name) for name in FILES}

    def secret(self, name):
        return self.cluster.get("Secret", name, "app").ok()

    def objects(self):
        return {each["metadata"]["name"]: each for each in self.cluster.get(self.kind, None, "app").ok()["items"]}

    def health(self):
        """Argo CD's word on all of it."""
        self.app.refresh()
        return state(self.app.get())[1]

    def rotate(self, name, **fields):
        """By a second writer, in Vault."""
        self.bao.put(f"bootstrap/prod/app/{name}", fields)

    def holds(self, name, **fields):
        """Within a while the live Secret has these values, and is the same as ever otherwise."""
        expected = {key: base64.b64encode(value if isinstance(value, bytes) else value.encode()).decode() for key, value in fields.items()}
        until(f"{name} holds what is in Vault", lambda: self.cluster.get("Secret", name, "app").body.get("data") == expected)

    def same(self, before, name):
        """Nothing of it was lost: what an operator adds are labels and annotations of its own."""
        now, was = self.secret(name), before[name]
        for key in ("type", "immutable"):
            assert now.get(key) == was.get(key), (name, key, now.get(key))
        for key in ("labels", "annotations"):
            missing = was["metadata"].get(key, {}).items() - now["metadata"].get(key, {}).items()
            assert not missing, (name, missing)
        assert now["metadata"]["uid"] == was["metadata"]["uid"] and "ownerReferences" not in now["metadata"], now["metadata"]

    def close(self):
        self.door.stop()
        self.bao.stop()


def story(hand, delivers, poke, refuses, absent):
    """`delivers` says whether an object is through; `poke` has the operator ask Vault again; `refuses` says whether it told of an
    object that it does not deliver it; `absent` is what becomes of a Secret that somebody deletes."""
    before = hand.live()
    assert before["db"]["type"] == "example.com/login" and before["db"]["metadata"]["annotations"]["example.com/note"] == NOTE
    hand.handed_over()
    hand.settles()
    taken = {"db", "pinned", "keystore"}
    until("the objects are there", lambda: set(hand.objects()) == taken)
    for name in taken:
        until(f"{name} is delivered", lambda name=name: delivers(name))
    hand.app.synced()
    assert set(hand.objects()) == taken
    for name in FILES:
        hand.same(before, name)
        assert hand.secret(name)["data"] == before[name]["data"], name

    hand.rotate("db", password=f"{CANARY}-rotated", more="new")
    poke("db")
    hand.holds("db", password=f"{CANARY}-rotated", more="new")
    other = bytes(reversed(BINARY))
    hand.rotate("keystore", store=base64.b64encode(other).decode())
    poke("keystore")
    hand.holds("keystore", store=other)
    # What is no base64 is no value, and an immutable Secret stays what it is.
    hand.rotate("keystore", store=f"{CANARY}-no-base64")
    hand.rotate("pinned", token=f"{CANARY}-never")
    for name in ("keystore", "pinned"):
        poke(name)
        until(f"{name} is told of", lambda name=name: refuses(name))
    assert not leaks(hand.cluster.kubectl("get", "events", "-A", "-o", "json").encode()), "the canary in an event"
    hand.app.refresh("hard")
    hand.app.sync(prune=True, force=True)
    for name in FILES:
        hand.same(before, name)
    hand.holds("db", password=f"{CANARY}-rotated", more="new")
    hand.holds("keystore", store=other)
    hand.holds("pinned", token=f"{CANARY}-pinned")

    absent(before)

    # Another `after:`, and pruned: the objects stay until somebody deletes them, and the Secrets even then.
    before = hand.live()
    hand.committed("{ emit: stub }")
    hand.app.refresh("hard")
    hand.app.sync(prune=True)
    assert set(hand.objects()) == taken
    for name in taken:
        hand.cluster.delete(hand.kind, name, "app").ok()
    until("the objects are gone", lambda: hand.objects() == {})
    for name in FILES:
        assert hand.secret(name)["metadata"]["uid"] == before[name]["metadata"]["uid"]
        assert hand.secret(name)["data"] == before[name]["data"]
    hand.close()
