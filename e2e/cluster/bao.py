"""A real OpenBao on the loopback, asked over HTTP."""

import http.client
import json
import os
import ssl
import subprocess

from stage import PATIENCE, free_port, until

# What a person needs who asks for a record and for copies.
READER = "".join(f'path "secret/data/{path}/*" {{ capabilities = ["read"] }}\n' for path in ("regent/prod/authority", "bootstrap/prod"))


class Bao:
    """`bao server -dev`: unsealed, in memory, KV of version 2 at `secret`; `tls` is a folder for certificates. Stopped and started
    again it has forgotten everything: a lost Vault."""

    def __init__(self, stage, name="bao", tls=False):
        self.root, self.port, self.tls, self.child = f"root-{os.urandom(8).hex()}", free_port(), tls, None
        self.folder = stage.folder / name
        self.folder.mkdir()
        self.ca, self.address = self.folder / "vault-ca.pem", f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        self.words = ["-dev-no-store-token", f"-dev-root-token-id={self.root}", f"-dev-listen-address=127.0.0.1:{self.port}"]
        if tls:
            self.words += ["-dev-tls", f"-dev-tls-cert-dir={self.folder}"]
        self.start()

    def start(self):
        with (self.folder / "log").open("ab") as log:
            self.child = subprocess.Popen(["bao", "server", "-dev", *self.words], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                          cwd=self.folder, env={"HOME": str(self.folder), "PATH": os.environ["PATH"]})
        # A store of that kind is upgraded when it is made, which may end after the server serves.
        until("OpenBao is ready", lambda: self.health() == 200 and self.ask("GET", "secret/data/any")[0] == 404)
        self.done("PUT", "sys/policies/acl/reader", {"policy": READER})

    def stop(self):
        if self.child:
            self.child.kill()
            self.child.wait()
            self.child = None

    def health(self):
        try:
            return self.ask("GET", "sys/health", token=None)[0]
        except OSError:
            return 0

    def ask(self, method, path, body=None, token="", namespace=""):
        """Status and JSON; with the root token, unless another or none is named."""
        context = ssl.create_default_context(cafile=self.ca) if self.tls else None
        connection = (http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE, context=context) if self.tls
                      else http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE))
        token = self.root if token == "" else token
        try:
            connection.request(method, f"/v1/{path}", None if body is None else json.dumps(body), {
                **({"X-Vault-Token": token} if token else {}), **({"X-Vault-Namespace": namespace} if namespace else {})})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        return response.status, json.loads(text) if text else None

    def done(self, *words, **kwargs):
        status, body = self.ask(*words, **kwargs)
        assert status in (200, 204), (words, status, body)
        return body

    def put(self, path, fields):
        self.done("POST", f"secret/data/{path}", {"data": fields})

    def reader(self, path, namespace=""):
        """A token that may read this path and nothing else."""
        self.done("PUT", "sys/policies/acl/one", {"policy": f'path "{path}" {{ capabilities = ["read"] }}'}, namespace=namespace)
        return self.token("one", namespace)

    def token(self, policy, namespace=""):
        made = self.done("POST", "auth/token/create", {"policies": [policy], "no_default_policy": True, "ttl": "1h"}, namespace=namespace)
        return made["auth"]["client_token"]

    def token_file(self, policy="reader"):
        """A token that may read what regent asks for, in a file."""
        file = self.folder / f"token-{os.urandom(4).hex()}"
        file.write_text(self.token(policy) + "\n")
        file.chmod(0o600)
        return file
