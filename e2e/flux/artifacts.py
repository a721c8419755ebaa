"""Artifacts that a story publishes by hand: the server that kustomize-controller fetches them from, and the ExternalArtifact
that names them. The server is as unkind as the story says.
"""

import contextlib
import gzip
import hashlib
import io
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from stage import free_port

# The connection is taken, and nothing is ever answered.
HANG = "hang"


def packed(files):
    """A tar.gz as Flux's own are: files of mode 0600, no folders. A function of the files alone."""
    tarred = io.BytesIO()
    with tarfile.open(fileobj=tarred, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content in sorted(files.items()):
            content = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o600
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(tarred.getvalue(), mtime=0)


def unpacked(data):
    """The content of its files by path."""
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isfile()}


class Artifacts:
    """`does` is what a request gets by its path: its artifact (None), a status, or HANG. `seen` are the paths that were asked for."""

    def __init__(self, port=None):
        self.files, self.seen, self.does, self.port = {}, [], lambda path: None, port or free_port()
        self.address, self.freed = f"http://127.0.0.1:{self.port}", threading.Event()
        artifacts = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                artifacts.answer(self)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                """Whoever hangs up is no error of the story."""

        self.server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, handler):
        self.seen.append(handler.path)
        does = self.does(handler.path)
        if does == HANG:
            self.freed.wait()
            return
        content = self.files.get(handler.path)
        status = does or (200 if content is not None else 404)
        content = content if status == 200 else b""
        with contextlib.suppress(OSError):
            handler.send_response(status)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)

    def publish(self, cluster, name, namespace, files, revision=None, origin="main@sha1:" + "0" * 40, digest=None):
        """Makes the files the artifact of an ExternalArtifact and gives its revision. A `revision` that is only a word stands before
        the digest; `digest` is the one that the object claims."""
        content = packed(files)
        true = f"sha256:{hashlib.sha256(content).hexdigest()}"
        revision = revision or "e2e"
        if "@" not in revision:
            revision = f"{revision}@{true}"
        path = f"externalartifact/{namespace}/{name}/{true.removeprefix('sha256:')}.tar.gz"
        self.files[f"/{path}"] = content
        thing = {"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "ExternalArtifact",
                 "metadata": {"name": name, "namespace": namespace}}
        cluster.apply_one(thing, "e2e").ok()
        thing["status"] = {"artifact": {
            "url": f"{self.address}/{path}", "path": path, "revision": revision, "digest": digest or true, "size": len(content),
            "lastUpdateTime": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "metadata": {"org.opencontainers.image.revision": origin}}}
        cluster.apply_one(thing, "e2e", force=True, subresource="status").ok()
        return revision

    def let_go(self):
        """All requests that hang are dropped, and the later ones answered."""
        self.does = lambda path: None
        self.freed.set()

    def close(self):
        self.let_go()
        self.server.shutdown()
        self.server.server_close()
