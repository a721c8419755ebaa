"""Stands between the repo-server and a plugin's socket, and holds back an answer with values until it is let go: so a
generation that began before the handover ends after it, every time."""

import contextlib
import socket
import threading

from stage import PATIENCE, leaks


class Held:
    """A socket in front of a plugin's. Nothing is held before `arm`."""

    def __init__(self, front, back):
        self.front, self.back = front, back
        self.armed, self.caught, self.free = threading.Event(), threading.Event(), threading.Event()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(front))
        self.listener.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def arm(self):
        """The next answer with a value is held."""
        self.caught.clear()
        self.free.clear()
        self.armed.set()

    def wait(self):
        """Waits until one is held."""
        assert self.caught.wait(PATIENCE), "no answer with a value came"

    def let_go(self):
        self.free.set()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                plugin = socket.socket(socket.AF_UNIX)
                plugin.connect(str(self.back))
                for pair in ((client, plugin, False), (plugin, client, True)):
                    threading.Thread(target=self.pass_on, args=pair, daemon=True).start()

    def pass_on(self, source, target, answers):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if answers and self.armed.is_set() and leaks(data):
                    self.armed.clear()
                    self.caught.set()
                    self.free.wait(2 * PATIENCE)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def close(self):
        self.free.set()
        self.listener.close()
        self.front.unlink()
