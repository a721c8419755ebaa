import contextlib
import http.client
import json
import os
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import init
from authority import Authority
from bao import Bao
from init_place import Place, objects
from said import refused, run
from stage import PATIENCE, Sealed, bootstrap, free_port, secret, until

RECORD = "regent/prod/authority/1"
ID = "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f"


def story(stage):
    cluster = stage.cluster()
    init.install(cluster)
    vault = Vault(stage, cluster)
    try:
        vault.answers()
        vault.places()
        vault.nobody()
        vault.signed()
        vault.standby()
    finally:
        for bao in vault.all:
            bao.stop()


class Vault:
    def __init__(self, stage, cluster):
        self.stage, self.cluster, self.all = stage, cluster, []
        self.prod = Authority(stage, cluster, "prod")
        self.place = Place(stage, cluster, self.prod)
        self.file, self.secrets = stage.folder / "token", []
        self.bao = self.another("bao")
        self.at(self.bao.address)

    def another(self, name, **kwargs):
        self.all.append(Bao(self.stage, name, **kwargs))
        self.secrets.append(self.all[-1].root)
        return self.all[-1]

    def at(self, address, **more):
        """regent.yaml names this place."""
        text = bootstrap("prod", vault={"address": address, "mount": "secret", "prefix": "bootstrap/prod", **more})
        self.stage.repo.write({f"{self.prod.root}/regent.yaml": text})
        if not (self.stage.repo.folder / self.prod.root / "db.yaml").exists():
            self.stage.repo.commit({f"{self.prod.root}/db.yaml": Sealed(secret("db", {"password": "REGENT-CANARY-1"}, "prod"))})

    def token(self, token):
        # As an editor leaves it.
        self.file.write_text(token + "\n")
        self.secrets.append(token)

    def refused(self, *expected, code="vault", exit=4, **kwargs):
        return self.place.refused(code, exit, list(expected), "--vault-token-file", self.file, **kwargs)

    def goes_on(self, env=None):
        said = run(self.stage, *self.place.words("--vault-token-file", self.file, "--dry-run"), env=env, secrets=self.secrets)
        assert said.code == 0 and "holds no record of epoch 1" in said.out, said
        return said

    def answers(self):
        """A clear no, and everything that is a yes."""
        bao = self.bao
        self.token(bao.reader(f"secret/data/{RECORD}"))
        self.goes_on()
        record = {"options": {"cas": 0}, "data": {"schema": 1, "authorityId": "prod", "epoch": 1, "handoverId": ID}}
        # Other records are none of its.
        for other in ("regent/prod-1/authority/1", "regent/prod/authority/10", "regent/prod/authority/2"):
            bao.done("POST", f"secret/data/{other}", record)
        self.goes_on()
        bao.done("POST", f"secret/data/{RECORD}", record)
        self.refused("handover record of epoch 1", ID, code="exists", exit=1)
        bao.done("DELETE", f"secret/data/{RECORD}")
        self.refused("handover record of epoch 1", code="exists", exit=1)
        bao.done("POST", f"secret/undelete/{RECORD}", {"versions": [1]})
        self.refused(ID, code="exists", exit=1)
        bao.done("POST", f"secret/destroy/{RECORD}", {"versions": [1]})
        self.refused("handover record of epoch 1", code="exists", exit=1)
        # What is there and cannot be read as a record is there.
        bao.done("POST", f"secret/data/{RECORD}", {"data": {"handoverId": "no id"}})
        self.refused("handover record of epoch 1", code="exists", exit=1)
        bao.done("DELETE", f"secret/metadata/{RECORD}")
        self.goes_on()
        self.token("not-a-token")
        self.refused("the token is not accepted", "403")
        self.token(bao.reader("secret/data/something/else"))
        self.refused("the token may not read it (403)")
        for text, word in (("", "no token"), ("two lines\nof it", "no token")):
            self.file.write_text(text)
            self.refused(word, code="io", exit=2)
        self.file.unlink()
        self.refused("no such file", code="io", exit=2)
        self.token(bao.reader(f"secret/data/{RECORD}"))

    def places(self):
        """Another mount, another kind of store, another namespace: each would say of every record that there is none."""
        bao = self.bao
        self.at(bao.address, mount="nowhere")
        self.refused("a mount `nowhere`", "403")
        for mount, body in (("old", {"type": "kv", "options": {"version": "1"}}), ("transit", {"type": "transit"})):
            bao.done("POST", f"sys/mounts/{mount}", body)
            self.token(bao.reader(f"{mount}/data/{RECORD}"))
            self.at(bao.address, mount=mount)
            self.refused(f"its mount `{mount}` is no KV store of version 2")
        bao.done("POST", "sys/mounts/team/kv", {"type": "kv", "options": {"version": "2"}})
        # A mount of that kind is upgraded when it is made.
        until("it is ready", lambda: bao.ask("GET", "team/kv/data/any")[0] == 404)
        self.token(bao.reader(f"team/kv/data/{RECORD}"))
        self.at(bao.address, mount="team/kv")
        self.goes_on()
        # A record in a namespace, asked for there and nowhere else.
        bao.done("POST", "sys/namespaces/eu")
        bao.done("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}}, namespace="eu")
        until("it is ready", lambda: bao.ask("GET", "secret/data/any", namespace="eu")[0] == 404)
        bao.done("POST", f"secret/data/{RECORD}", {"data": {"handoverId": ID}}, namespace="eu")
        self.token(bao.reader(f"secret/data/{RECORD}", namespace="eu"))
        self.at(bao.address, namespace="eu")
        self.refused(ID, code="exists", exit=1)
        self.at(bao.address, namespace="us")
        self.refused("(40")
        self.at(bao.address)
        self.refused("(403)")
        self.token(bao.reader(f"secret/data/{RECORD}"))
        self.goes_on()

    def nobody(self):
        self.at(f"http://127.0.0.1:{free_port()}")
        self.refused("onnection refused")
        with Fake(lambda path: (307, {"Location": f"{self.bao.address}{path}"}, "")) as fake:
            self.at(fake.address)
            self.refused("redirects")
            assert fake.tokens() == [], "the token went to who redirects before it was Vault"
            assert len(fake.seen) == 1
        with Fake(lambda path: (200, {}, "<html>welcome</html>")) as fake:
            self.at(fake.address)
            self.refused("does not answer as Vault does")
            assert fake.tokens() == []
        # Redirected only where the token is asked for.
        active = json.dumps({"initialized": True, "sealed": False, "standby": False})
        with Fake(lambda path: (200, {}, active) if path == "/v1/sys/health" else
                  (307, {"Location": f"{self.bao.address}{path}"}, "")) as fake:
            self.at(fake.address)
            self.refused("it redirects")
            assert len(fake.seen) == 2
        # It never answers: whatever ends before that is ended by regent's own patience.
        with Fake(lambda path: threading.Event().wait()) as fake:
            self.at(fake.address)
            before = objects(self.cluster)
            with looked(self.stage, *self.place.words("--vault-token-file", self.file)) as child:
                # While it waits, everybody can see how it was started, and root in which environment.
                until("it asks", lambda: fake.seen)
                for name in ("cmdline", "environ"):
                    seen = Path(f"/proc/{child.pid}/{name}").read_bytes()
                    assert not any(one.encode() in seen for one in self.secrets), f"a token in {name}"
                assert child.wait(PATIENCE) == 4
            assert objects(self.cluster) == before
        self.at(self.bao.address)
        self.bao.done("PUT", "sys/seal")
        self.refused("it is sealed")

    def signed(self):
        """TLS by a CA of one's own."""
        bao = self.another("tls", tls=True)
        self.at(bao.address)
        self.token(bao.reader(f"secret/data/{RECORD}"))
        self.refused("certificate")
        for variable in ("VAULT_CACERT", "BAO_CACERT"):
            self.goes_on(env={variable: str(bao.ca)})
        self.refused_with({"VAULT_CACERT": str(self.cluster.ca)}, "vault", 4, "certificate")
        self.refused_with({"VAULT_CACERT": "/nowhere"}, "io", 2, "/nowhere")
        self.refused_with({"VAULT_CACERT": str(self.file)}, "io", 2, "no certificate")
        # Plain HTTP where TLS is spoken.
        self.at(bao.address.replace("https", "http"))
        self.refused("")

    def refused_with(self, env, code, exit, word):
        refused(self.stage, code, exit, [word], *self.place.words("--vault-token-file", self.file), env=env,
                     secrets=self.secrets)

    def standby(self):
        """A standby answers reads from what it has seen so far, which may be less than there is."""
        raft = Raft(self.stage)
        self.all.append(raft)
        self.secrets.append(raft.root)
        self.token(raft.root)
        self.at(raft.addresses[0])
        self.goes_on()
        self.at(raft.addresses[1])
        self.refused("it is a standby (429)", "active node")


class Raft:
    """Two nodes of one OpenBao: the first is active, the second a standby."""

    def __init__(self, stage):
        self.children, self.addresses, self.root = [], [], None
        for name in ("raft-0", "raft-1"):
            folder = stage.folder / name
            (folder / "data").mkdir(parents=True)
            port, peer = free_port(), free_port()
            join = f'retry_join {{ leader_api_addr = "{self.addresses[0]}" }}' if self.addresses else ""
            (folder / "config.hcl").write_text(f'''
                storage "raft" {{ path = "{folder / 'data'}"
                  node_id = "{name}"
                  {join} }}
                listener "tcp" {{ address = "127.0.0.1:{port}"
                  cluster_address = "127.0.0.1:{peer}"
                  tls_disable = true }}
                api_addr = "http://127.0.0.1:{port}"
                cluster_addr = "https://127.0.0.1:{peer}"
                disable_mlock = true''')
            with (folder / "log").open("wb") as log:
                self.children.append(subprocess.Popen(["bao", "server", f"-config={folder / 'config.hcl'}"], stdout=log, stderr=log,
                                                      stdin=subprocess.DEVNULL, cwd=folder,
                                                      env={"HOME": str(folder), "PATH": os.environ["PATH"]}))
            self.addresses.append(f"http://127.0.0.1:{port}")
            until("it listens", lambda: self.health(len(self.addresses) - 1) > 0)
            if name == "raft-0":
                made = self.ask(0, "PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
                self.root, self.unseal = made["root_token"], made["keys"][0]
                self.ask(0, "PUT", "sys/unseal", {"key": self.unseal})
                until("the first is active", lambda: self.health(0) == 200)
                self.ask(0, "POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})

        def joined():
            self.ask(1, "PUT", "sys/unseal", {"key": self.unseal})
            return self.health(1) == 429
        until("the second is a standby", joined)

    def health(self, node):
        with contextlib.suppress(OSError):
            return self.answer(node, "GET", "sys/health", None)[0]
        return 0

    def answer(self, node, method, path, body):
        connection = http.client.HTTPConnection(self.addresses[node].removeprefix("http://"), timeout=30)
        try:
            connection.request(method, f"/v1/{path}", json.dumps(body) if body else None,
                               {"X-Vault-Token": self.root} if self.root else {})
            response = connection.getresponse()
            text = response.read()
            return response.status, json.loads(text) if text else None
        finally:
            connection.close()

    def ask(self, *words):
        return self.answer(*words)[1]

    def stop(self):
        for child in self.children:
            child.kill()
            child.wait()


class Fake:
    """Somebody at the address who is not Vault, or not the one that is meant. Keeps what it was asked with."""

    def __init__(self, answer):
        self.seen, self.port = [], free_port()
        self.address = f"http://127.0.0.1:{self.port}"

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler):
                self.seen.append(dict(handler.headers))
                status, headers, text = answer(handler.path) or (200, {}, "")
                with contextlib.suppress(OSError):
                    handler.send_response(status)
                    for name, value in {**headers, "Content-Length": str(len(text))}.items():
                        handler.send_header(name, value)
                    handler.end_headers()
                    handler.wfile.write(text.encode())

            def log_message(handler, *_):
                pass
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True

    def tokens(self):
        return [headers["X-Vault-Token"] for headers in self.seen if "X-Vault-Token" in headers]

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@contextlib.contextmanager
def looked(stage, *words):
    child = subprocess.Popen([stage.house.regent, *map(str, words)], env=stage.house.env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
