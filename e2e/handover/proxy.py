"""What stands between regent and OpenBao, or an API server, and is not always kind: it speaks TLS with the server's own
certificate, so nobody can tell, passes each request on, and does to its answer what the story says.
"""

import contextlib
import http.client
import signal
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from stage import PATIENCE, free_port, until

# The answer is heard by the proxy, and by nobody else.
DROP = "drop"


def end(when, how=signal.SIGKILL):
    """Whoever asks (`Proxy.client`) gets a signal: `before` Vault is asked, which then is not, or `after` it answered. No answer
    is given."""
    return "end", when, how


def delay(seconds):
    """The answer comes later."""
    return "delay", seconds


def redirect(to=None, status=307):
    """Nobody is asked. `to` is another address; without one the answer names none."""
    return "redirect", to, status


class Once:
    """Done by whoever comes first, while all others wait for it: a request that is held for long is sent again by its client."""

    def __init__(self, acts):
        self.acts, self.lock, self.is_done = acts, threading.Lock(), False

    def __call__(self):
        with self.lock:
            if not self.is_done:
                self.acts()
                self.is_done = True


class Proxy:
    """`does` says what happens to a request, by its number (from 0), method and path: nothing (None), or one of the above.
    It may be replaced while requests come, and finds what was sent in `here.body`. `to` says which OpenBao node is asked, or None; `seen`
    are the requests; `client` is the process that asks."""

    def __init__(self, bao, does=lambda number, method, path: None, to=None):
        self.bao, self.does, self.to = bao, does, to or (lambda: bao.nodes[0])
        self.seen, self.lock, self.port = [], threading.Lock(), free_port()
        self.client, self.under_way, self.trust, self.here = None, 0, bao.trust(), threading.local()
        self.address = f"https://127.0.0.1:{self.port}"
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body are two writes; the second would wait for the first one's acknowledgement, some 40 ms.
            disable_nagle_algorithm = True

            def handle_one(self):
                with proxy.lock:
                    proxy.under_way += 1
                try:
                    proxy.pass_on(self)
                finally:
                    with proxy.lock:
                        proxy.under_way -= 1

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_LIST = do_HEAD = handle_one

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_):
                """Whoever hangs up is no error of the story."""

        self.server = Server(("127.0.0.1", self.port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(bao.certificate, bao.certificate_key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def pass_on(self, handler):
        with self.lock:
            number = len(self.seen)
            self.seen.append((handler.command, handler.path, dict(handler.headers)))
        body = self.here.body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        does = self.does(number, handler.command, handler.path)
        if does and does[0] == "redirect":
            _, to, status = does
            return self.answer(handler, status, [("Location", f"{to}{handler.path}")] if to else [], b"")
        if does and does[0] == "end" and does[1] == "before":
            return self.end(handler, does[2])
        node = self.to()
        if node is None:
            return self.answer(handler, 502, [], b"")
        connection = http.client.HTTPSConnection("127.0.0.1", node.port, timeout=PATIENCE, context=self.trust)
        try:
            kept = {name: value for name, value in handler.headers.items() if name.lower() not in ("host", "connection")}
            connection.request(handler.command, handler.path, body, kept)
            response = connection.getresponse()
            status, headers, content = response.status, response.getheaders(), response.read()
        except (OSError, http.client.HTTPException):
            status, headers, content = 502, [], b""
        finally:
            connection.close()
        if does == DROP:
            handler.close_connection = True
            return None
        if does and does[0] == "end":
            return self.end(handler, does[2])
        if does and does[0] == "delay":
            time.sleep(does[1])
        return self.answer(handler, status, headers, content)

    def end(self, handler, how):
        self.client.send_signal(how)
        self.client.wait(PATIENCE)
        handler.close_connection = True

    def again(self, does=lambda number, method, path: None, client=None):
        """From the first request on, when nothing of what came before is under way."""
        self.idle()
        self.seen.clear()
        self.does, self.client = does, client

    def idle(self):
        """What an ended client sent is passed on, too; a server that does not answer is waited for by `pass_on`."""
        until("nothing is under way", lambda: self.under_way == 0, 3 * PATIENCE)

    @staticmethod
    def answer(handler, status, headers, content):
        with contextlib.suppress(OSError):
            handler.send_response_only(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                    handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
