"""What Argo CD cached of older revisions: the tests of plugin/regent/src/caches/real.rs, with entries that the real repo-server
wrote, in the real Redis as people run it, and through the real argocd-server."""

import gzip
import json
import socket
import subprocess

import stories
from applications import AUTOMATED, ArgoCD
from authority import begin, value, values_in
from bao import run
from stage import PATIENCE, TOP, free_port, leaks, until

from argocd.stage import answers_on, resp

PASSWORD, PREFIX = "of-the-story", "team-a:[*]"


def story(stage):
    cluster = stage.cluster()
    # Argo CD caches by the kinds that it knows: another one later would leave entries that nobody overwrites.
    cluster.apply(TOP / "manifests/crd")
    cluster.established("authorities.regent.dev")
    argocd = ArgoCD(stage, cluster)
    argocd.serve()
    # Through argocd-server the plugin is asked for a commit, as if the Application named it.
    narrow, stage.rule = stage.rule, lambda **changes: narrow(**{**changes, "revisions": ["*"]})
    _, shop, other = begin(stage, cluster, ["shop", "other"])
    apps = [argocd.application(each.name, each.root, policy=AUTOMATED, namespace=each.name) for each in (shop, other)]
    # One that is gone when Vault takes over: its entries are not.
    gone = argocd.application("gone", shop.root, namespace="shop")
    revisions = []
    for number in (1, 2, 3):
        shop.change(number)
        revisions.append(other.change(number))
        for each, app in zip((shop, other), apps):
            app.refresh()
            app.synced()
            each.holds(value(number))
    gone.refresh()
    gone.delete()
    facts = {"application": "shop", "namespace": "shop", "identities": ["shop/db"], "revisions": revisions[:-1]}
    server = {"server": {"address": f"127.0.0.1:{argocd.api}", "plaintext": True}}
    tests(stage, "through", {**facts, "cases": [case(server, says="still renders values")]})
    shop.hand_over()
    apps[0].refresh("hard")
    apps[0].synced()
    # As it is now, for every Redis.
    keys = stage.house.redis("KEYS", "*")
    held = {key: stage.house.redis("GET", key) for key in keys}
    old = {key for key in held if key.startswith(b"mfst|") and b"|shop|" in key and full(held[key])}
    assert {key.split(b"|")[2] for key in old} == {b"shop", b"gone"} and len(old) >= 3, old
    in_redis(stage, facts, held, old)
    for revision in revisions[:-1]:
        assert values_in(argocd.cached("shop"), revision), "there is nothing to overwrite: this story cannot fail"
    tests(stage, "through", {**facts, "cases": [case(server, 2),
                                                case({"server": {**server["server"], "rootPath": "/argo"}}, says="argocd-server")]})
    for revision in revisions[:-1]:
        assert not values_in(argocd.cached("shop"), revision), "an entry was not overwritten"
        assert values_in(argocd.cached("other"), revision), "another's entry is gone"


def in_redis(stage, facts, held, old):
    folder = stage.folder / "redis"
    folder.mkdir()
    ca, certificate, key = certificates(folder)
    secret = folder / "password"
    secret.write_text(PASSWORD + "\n")
    tls = ["--tls-cert-file", certificate, "--tls-key-file", key, "--tls-ca-cert-file", ca, "--tls-auth-clients", "no"]
    may = ["~*", "-@all", "+select", "+scan", "+getrange", "+unlink"]
    plain, locked, users = Redis(folder), Redis(folder, "--requirepass", PASSWORD, password=PASSWORD), Redis(
        folder, "--user", "regent", "on", f">{PASSWORD}", *may, "--user", "reader", "on", f">{PASSWORD}", *may[:-1])
    encrypted = Redis(folder, *tls, tls=True)
    second = Redis(folder, database=1, prefix=PREFIX)
    copy = Redis(folder, "--replicaof", "127.0.0.1", plain.port)
    part = Redis(folder, "--cluster-enabled", "yes", "--cluster-port", free_port())
    servers = [plain, locked, users, encrypted, second]
    try:
        for each in servers:
            each.load(held)
        manifests = sum(key.startswith(b"mfst|") for key in held)
        counts = manifests - len(old), len(old)
        word = {"passwordFile": str(secret)}
        cases = [
            # First what is refused: nothing is unlinked.
            case(locked.config(), says="expects a password"),
            case(plain.config(**word), says="does not take the user or the password"),
            case(users.config(username="nobody", **word), says="does not take the user or the password"),
            case(users.config(username="reader", **word), says="may not do what is needed"),
            case(copy.config(), says="is a replica"),
            case(part.config(), says="runs as `cluster`"),
            case(second.config(database=0), says="holds nothing of the Application `shop`"),
            case(second.config(prefix="team-b:"), says="holds nothing of the Application `shop`"),
            case(plain.config(database=99), says="DB index is out of range"),
            case(encrypted.config(), says="cannot be reached"),
            case(encrypted.config(tls=True), says="certificate"),
            # What looks like a line of the greeting, by chance, gets an answer; else Redis waits for the end of one.
            case(plain.config(tls=True, caFile=str(ca)), says=("cannot be reached", "did not answer within")),
            case({"redis": f"127.0.0.1:{free_port()}"}, says="cannot be reached"),
            # Then what is done, and done again.
            case(plain.config(), *counts),
            case(plain.config(), counts[0], 0),
            case(locked.config(**word), *counts),
            case(users.config(username="regent", **word), *counts),
            case(encrypted.config(tls=True, caFile=str(ca)), *counts),
            case(second.config(), *counts),
        ]
        tests(stage, "in_redis", {**facts, "cases": cases})
        for each in servers:
            left = each.held()
            assert left == {key: content for key, content in held.items() if key not in old}, sorted(held.keys() - left.keys())
            assert any(map(full, left.values())), "another's values are gone: nothing tells them apart"
    finally:
        for each in [*servers, copy, part]:
            each.close()


def full(content):
    return content[:2] == b"\x1f\x8b" and leaks(gzip.decompress(content))


def case(argocd, *counts, says=None):
    return {"argocd": argocd, "counts": counts, "says": [says] if isinstance(says, str) else says}


class Redis:
    """A redis-server with these flags, asked without TLS by the story."""

    def __init__(self, folder, *flags, password=None, tls=False, database=0, prefix=""):
        self.port, self.tls = free_port(), free_port() if tls else None
        self.database, self.prefix = database, prefix
        if tls:
            flags = *flags, "--tls-port", self.tls
        with (folder / f"{self.port}.log").open("wb") as log:
            self.child = subprocess.Popen(
                ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no",
                 "--dir", str(folder), *map(str, flags)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until("Redis answers", lambda: answers_on(self.port))
        self.connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        self.reader = self.connection.makefile("rb")
        if password:
            self.ask("AUTH", password)
        if database:
            self.ask("SELECT", database)

    def ask(self, *words):
        encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        self.connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in encoded))
        return resp(self.reader)

    def config(self, **more):
        kept = {"database": self.database, "prefix": self.prefix} if self.prefix else {}
        port = self.tls or self.port
        return {"redis": {"address": f"localhost:{port}" if self.tls else f"127.0.0.1:{port}", **kept, **more}}

    def load(self, held):
        for key, content in held.items():
            self.ask("SET", self.prefix.encode() + key, content)

    def held(self):
        return {key.removeprefix(self.prefix.encode()): self.ask("GET", key) for key in self.ask("KEYS", "*")}

    def close(self):
        self.connection.close()
        self.child.kill()
        self.child.wait()


def certificates(folder):
    ca, ca_key, certificate, key = (folder / name for name in ("ca.pem", "ca.key", "tls.pem", "tls.key"))
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    run(*new, "-subj", "/CN=the CA of the story", "-addext", "keyUsage=critical,keyCertSign", "-keyout", ca_key, "-out", ca)
    run(*new, "-subj", "/CN=redis", "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE",
        "-CA", ca, "-CAkey", ca_key, "-keyout", key, "-out", certificate)
    return ca, certificate, key


def tests(stage, which, facts):
    file = stage.folder / f"{which}.json"
    file.write_text(json.dumps(facts))
    assert not leaks(stories.real_tests(f"caches::real::{which}", REGENT_TEST_CACHES=str(file)).encode()), "the canary in what a test said"
