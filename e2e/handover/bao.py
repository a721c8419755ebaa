"""The real OpenBao as it runs in production: Raft storage, TLS, one node or three, initialised and unsealed, with a KV store
of version 2 at `secret`. What the development mode hides is all here: limits of entries, standbys, elections, snapshots.
"""

import atexit
import base64
import contextlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
import time

from stage import PATIENCE, free_port, until

# What a handover needs in Vault, and no more: nothing can be overwritten, whatever is sent.
HANDOVER = "".join(f'path "secret/{of}/{path}/*" {{ capabilities = [{may}] }}\n'
                   for path in ("bootstrap/prod", "regent/prod/authority")
                   for of, may in (("data", '"create", "read"'), ("metadata", '"read"')))


class Bao:
    def __init__(self, stage, name="bao", nodes=1):
        self.folder = stage.folder / name
        self.folder.mkdir()
        self.root = self.key = None
        self.certificates()
        self.nodes = [Node(self, f"node-{number}") for number in range(nodes)]
        # A story that fails may not come to it.
        atexit.register(self.stop)
        try:
            self.initialised()
            for node in self.nodes[1:]:
                node.start()
            for node in self.nodes[1:]:
                until("the node joined", node.joined)
        except BaseException:
            self.stop()
            raise

    def initialised(self):
        """The first node, with nothing in it."""
        self.nodes[0].start()
        made = self.done("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1}, token=None, node=self.nodes[0])
        self.root, self.key = made["root_token"], made["keys"][0]
        self.nodes[0].unseal()
        until("the first node is active", lambda: self.nodes[0].health() == 200)
        self.mount("secret")

    def rebuilt(self):
        """All that it held is gone. One node, at the same address, is another Vault."""
        self.stop()
        self.root = self.key = None
        for file in (self.nodes[0].folder / "data").iterdir():
            shutil.rmtree(file) if file.is_dir() else file.unlink()
        self.initialised()

    # --- nodes

    @property
    def address(self):
        return self.nodes[0].address

    def active(self):
        """The active node, as soon as there is one."""
        return until("a node is active", lambda: next((node for node in self.nodes if node.health() == 200), None))

    def standbys(self):
        active = self.active()
        return [node for node in self.nodes if node is not active]

    def stop(self):
        for node in self.nodes:
            node.kill()

    def seal(self):
        self.done("PUT", "sys/seal", node=self.active())

    # --- requests

    def ask(self, method, path, body=None, token="", namespace="", node=None, headers=(), raw=False):
        """Status and JSON; with the root token, unless another or none is named; of the active node, unless of another."""
        node = node or (self.active() if len(self.nodes) > 1 else self.nodes[0])
        connection = http.client.HTTPSConnection("127.0.0.1", node.port, timeout=PATIENCE, context=self.trust())
        token = self.root if token == "" else token
        try:
            connection.request(method, f"/v1/{path}", body if isinstance(body, bytes) else None if body is None else json.dumps(body), {
                **({"X-Vault-Token": token} if token else {}), **({"X-Vault-Namespace": namespace} if namespace else {}), **dict(headers)})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        return response.status, text if raw else json.loads(text) if text else None

    def done(self, *words, **kwargs):
        status, body = self.ask(*words, **kwargs)
        assert status in (200, 204), (words, status, body)
        return body

    def trust(self):
        return ssl.create_default_context(cafile=self.ca)

    # --- contents

    def mount(self, path, kind="kv", version="2", namespace=""):
        options = {"options": {"version": version}} if kind == "kv" else {}
        self.done("POST", f"sys/mounts/{path}", {"type": kind, **options}, namespace=namespace)
        if kind == "kv":
            # A store of version 2 is upgraded when it is made.
            until("the store is ready", lambda: self.ask("GET", f"{path}/data/any", namespace=namespace)[0] == 404)

    def put(self, path, fields, mount="secret"):
        return self.done("POST", f"{mount}/data/{path}", {"data": fields})["data"]

    def fields(self, path, mount="secret"):
        """What is there, or None."""
        status, body = self.ask("GET", f"{mount}/data/{path}")
        assert status in (200, 404), status
        return body["data"]["data"] if status == 200 else None

    def policy(self, name, text):
        self.done("PUT", f"sys/policies/acl/{name}", {"policy": text})

    def token(self, *policies, ttl="1h", **more):
        return self.done("POST", "auth/token/create", {"policies": list(policies), "ttl": ttl, **more})["auth"]["client_token"]

    def token_file(self, *policies, **more):
        file = self.folder / f"token-{os.urandom(4).hex()}"
        file.write_text(self.token(*policies, **more) + "\n")
        file.chmod(0o600)
        return file

    def snapshot(self):
        status, content = self.ask("GET", "sys/storage/raft/snapshot", raw=True, node=self.active())
        assert status == 200, status
        return content

    def restore(self, snapshot, key=None):
        """`key` is the unseal key of another server, whose snapshot it is."""
        forced = "-force" if key else ""
        # Its answer may come before it is restored: what is not in the snapshot is there until then.
        marker = f"secret/data/marker/{os.urandom(4).hex()}"
        if not key:
            self.done("POST", marker, {"data": {"before": "yes"}})
        self.done("POST", f"sys/storage/raft/snapshot{forced}", snapshot, node=self.active())
        if key:
            self.key = key
            # Only the other key opens it now; it seals itself a moment later.
            until("it is sealed", lambda: all(node.health() in (0, 503) for node in self.nodes))
        def again():
            for node in self.nodes:
                node.unseal()
            return any(node.health() == 200 for node in self.nodes)
        until("it is active again", again)
        if not key:
            until("it is restored", lambda: self.status(marker) == 404)

    def status(self, path):
        """Of an answer; 0 for none."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.ask("GET", path)[0]
        return 0

    # --- certificates

    def certificates(self):
        """A CA of its own, and one certificate for all nodes."""
        self.ca, self.certificate, self.certificate_key = (self.folder / name for name in ("ca.pem", "tls.pem", "tls.key"))
        config = self.folder / "openssl.cnf"
        config.write_text("""
            [req]
            distinguished_name = name
            prompt = no
            [name]
            CN = the CA of the story
            [ca]
            basicConstraints = critical, CA:TRUE
            keyUsage = critical, keyCertSign
            subjectKeyIdentifier = hash
            [server]
            basicConstraints = critical, CA:FALSE
            subjectAltName = IP:127.0.0.1, DNS:localhost, DNS:vault.test
            extendedKeyUsage = serverAuth, clientAuth
            subjectKeyIdentifier = hash
            authorityKeyIdentifier = keyid
        """)
        key = self.folder / "ca.key"
        new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
               "-config", config]
        run(*new, "-extensions", "ca", "-keyout", key, "-out", self.ca)
        run(*new, "-extensions", "server", "-subj", "/CN=vault.test", "-CA", self.ca, "-CAkey", key, "-keyout", self.certificate_key,
            "-out", self.certificate)


class Node:
    """A process, and the folder of its data."""

    def __init__(self, bao, name):
        self.bao, self.name, self.port, self.peer = bao, name, free_port(), free_port()
        self.folder, self.child, self.starts = bao.folder / name, None, 0
        self.address = f"https://127.0.0.1:{self.port}"
        (self.folder / "data").mkdir(parents=True)

    def start(self):
        first = self.bao.nodes[0]
        join = "" if self is first else f"""
            retry_join {{
              leader_api_addr = "{first.address}"
              leader_ca_cert_file = "{self.bao.ca}"
            }}"""
        config = self.folder / "config.hcl"
        config.write_text(f"""
            storage "raft" {{
              path = "{self.folder / 'data'}"
              node_id = "{self.name}"{join}
            }}
            listener "tcp" {{
              address = "127.0.0.1:{self.port}"
              cluster_address = "127.0.0.1:{self.peer}"
              tls_cert_file = "{self.bao.certificate}"
              tls_key_file = "{self.bao.certificate_key}"
            }}
            api_addr = "{self.address}"
            cluster_addr = "https://127.0.0.1:{self.peer}"
            disable_mlock = true
        """)
        self.starts += 1
        with (self.folder / f"log-{self.starts}").open("wb") as log:
            self.child = subprocess.Popen(["bao", "server", f"-config={config}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          cwd=self.folder, env={"HOME": str(self.folder), "PATH": os.environ["PATH"]})
        until("it listens", lambda: self.health() > 0)
        if self.bao.key:
            until("it can be unsealed", self.unseal)

    def health(self):
        """The status of `sys/health`; 0 for no answer."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.bao.ask("GET", "sys/health", token=None, node=self)[0]
        return 0

    def unseal(self):
        if self.health() in (200, 429):
            return True
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.bao.ask("PUT", "sys/unseal", {"key": self.bao.key}, token=None, node=self)[0] == 200
        return False

    def joined(self):
        """A voter: it may become the active node."""
        time.sleep(0.1)
        if not self.unseal() or self.health() != 429:
            return False
        # Another node may become the active one meanwhile.
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, body = self.bao.ask("GET", "sys/storage/raft/configuration")
            servers = body["data"]["config"]["servers"] if status == 200 else []
            return any(server["node_id"] == self.name and server["voter"] for server in servers)
        return False

    def kill(self):
        if self.child:
            self.child.kill()
            self.child.wait()
            self.child = None

    def stop(self):
        """As an orchestrator ends it: a leader steps down first."""
        self.child.terminate()
        self.child.wait(PATIENCE)
        self.child = None


class Issuer:
    """Signs the JWTs of a platform."""

    def __init__(self, folder):
        self.key, self.public = folder / "issuer.key", folder / "issuer.pem"
        run("openssl", "genrsa", "-out", self.key, "2048")
        run("openssl", "rsa", "-in", self.key, "-pubout", "-out", self.public)

    def sign(self, **claims):
        now = int(time.time())
        whole = {"iat": now, "nbf": now, "exp": now + 3600, **claims}
        signed = ".".join(padless(json.dumps(part).encode()) for part in ({"alg": "RS256", "typ": "JWT"}, whole))
        done = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=signed.encode(), check=True, capture_output=True)
        return f"{signed}.{padless(done.stdout)}"


def padless(content):
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def run(*command):
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
