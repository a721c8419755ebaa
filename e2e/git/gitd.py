#!/usr/bin/env python3
"""Serves the Git repositories below ROOT over smart HTTP, read only, through the real `git http-backend`.

usage: gitd.py ROOT PORT LOG [CERTIFICATE KEY]

With CERTIFICATE and KEY over TLS. The first part of a path says what the server wants:

  /open/NAME      nothing
  /token/NAME     `Authorization: Bearer` with the token in ROOT/token
  /basic/NAME     `Authorization: Basic` with the pair in ROOT/basic
  /moved/NAME     redirects to /token/NAME
  /away/URL       redirects to http://URL

LOG gets a line a request: method, path, and whether credentials came along.
"""

import base64
import os
import ssl
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT, PORT, LOG = Path(sys.argv[1]).resolve(), int(sys.argv[2]), Path(sys.argv[3])


def wanted(kind):
    if kind == "token":
        return "Bearer " + (ROOT / "token").read_text().strip()
    if kind == "basic":
        return "Basic " + base64.b64encode((ROOT / "basic").read_text().strip().encode()).decode()
    return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, headers=(), body=b""):
        self.send_response(status)
        for header in headers:
            self.send_header(*header)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def serve(self):
        given = self.headers.get("Authorization")
        with LOG.open("a") as log:
            log.write(f"{self.command} {self.path} {'with' if given else 'without'} credentials\n")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, _, query = self.path.partition("?")
        _, kind, rest = path.split("/", 2)
        if kind == "moved":
            return self.answer(301, [("Location", f"/token/{rest}?{query}")])
        if kind == "away":
            return self.answer(302, [("Location", f"http://{rest}?{query}")])
        if (want := wanted(kind)) and given != want:
            # What came is repeated, as careless servers do.
            return self.answer(401, [("WWW-Authenticate", "Basic")], f"no: {given}".encode())
        env = {
            "PATH": os.environ["PATH"], "GIT_PROJECT_ROOT": str(ROOT / "repositories"), "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"/{rest}", "QUERY_STRING": query, "REQUEST_METHOD": self.command, "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""), "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
        }  # fmt: skip
        done = subprocess.run(["git", "http-backend"], input=body, env=env, stdout=subprocess.PIPE)
        head, _, rest = done.stdout.partition(b"\r\n\r\n")
        status, headers = 200, []
        for line in filter(None, head.decode().split("\r\n")):
            name, _, value = line.partition(": ")
            if name == "Status":
                status = int(value.split()[0])
            else:
                headers.append((name, value))
        self.answer(status, headers, rest)

    do_GET = do_POST = serve

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
if len(sys.argv) > 4:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[4], sys.argv[5])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
