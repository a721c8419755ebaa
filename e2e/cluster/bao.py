"""A real OpenBao on the loopback, asked over HTTP."""

import http.client
import json
import os
import ssl
import subprocess

from stage import free_port, until


class Bao:
    """`bao server -dev`: unsealed, in memory, KV of version 2 at `secret`; `tls` is a folder for certificates."""

    def __init__(self, stage, name="bao", tls=False, ha=False):
        self.root, self.port, self.tls = f"root-{os.urandom(8).hex()}", free_port(), tls
        folder = stage.folder / name
        folder.mkdir()
        words = ["-dev-no-store-token", f"-dev-root-token-id={self.root}", f"-dev-listen-address=127.0.0.1:{self.port}"]
        if tls:
            words += ["-dev-tls", f"-dev-tls-cert-dir={folder}"]
        if ha:
            words += ["-dev-ha"]
        self.ca = folder / "vault-ca.pem"
        with (folder / "log").open("wb") as log:
            self.child = subprocess.Popen(["bao", "server", "-dev", *words], stdin=subprocess.DEVNULL,
                                          stdout=log, stderr=log, cwd=folder, env={"HOME": str(folder), "PATH": os.environ["PATH"]})
        self.address = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        until("OpenBao is ready", lambda: self.health() == 200)
        self.unsealer = None

    def health(self):
        try:
            return self.ask("GET", "sys/health", token=None)[0]
        except OSError:
            return 0

    def ask(self, method, path, body=None, token="", namespace=""):
        """Status and JSON; with the root token, unless another or none is named."""
        context = ssl.create_default_context(cafile=self.ca) if self.tls else None
        connection = (http.client.HTTPSConnection("127.0.0.1", self.port, timeout=30, context=context) if self.tls
                      else http.client.HTTPConnection("127.0.0.1", self.port, timeout=30))
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

    def reader(self, path, namespace=""):
        """A token that may read this path and nothing else."""
        self.done("PUT", "sys/policies/acl/reader", {"policy": f'path "{path}" {{ capabilities = ["read"] }}'}, namespace=namespace)
        made = self.done("POST", "auth/token/create", {"policies": ["reader"], "no_default_policy": True, "ttl": "1h"}, namespace=namespace)
        return made["auth"]["client_token"]

    def stop(self):
        self.child.kill()
        self.child.wait()
