"""A proxy in front of each API server, and a handover's client that is killed at one of its writes: right before the API server
hears of it, or right after it was done. Dry runs are no writes.
"""

import json
import ssl
import threading
import time
from pathlib import Path

from proxy import Proxy, end

WAYS = "before", "after"


class Front:
    """An API server, as a proxy takes it."""

    def __init__(self, cluster):
        self.nodes, self.certificate, self.certificate_key = [cluster], cluster.ca, cluster.ca.with_suffix(".key")

    def trust(self):
        return ssl.create_default_context(cafile=self.certificate)


class Killing:
    def __init__(self, *clusters):
        self.proxies = {cluster.server: Proxy(Front(cluster)) for cluster in clusters}
        self.lock, self.writes, self.times = threading.Lock(), [], []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for proxy in self.proxies.values():
            proxy.close()

    def account(self, words):
        """The same account, by way of the proxies."""
        option, file, *more = words
        config = json.loads(Path(file).read_text())
        for each in config["clusters"]:
            each["cluster"]["server"] = self.proxies[each["cluster"]["server"]].address
        through = Path(file).with_suffix(".through")
        through.write_text(json.dumps(config))
        through.chmod(0o600)
        return [option, through, *more]

    def handing(self, hand, *more):
        """The words of a handover by its account."""
        there, hand.where = hand.where, self.account(hand.account)
        try:
            return hand.handover_words("--yes", *more)
        finally:
            hand.where = there

    def run(self, hand, words, is_it=lambda paths, body: False, way="before"):
        """What a command of `hand` came to: how it ended, and what it said. It is killed at the write that `is_it`, by the paths of
        all up to it and what it sends. `writes` are those that it came to, `times` when each was asked for."""
        self.writes, self.times = [], []

        def does(proxy, method, path):
            if method == "GET" or "dryRun=All" in path:
                return None
            with self.lock:
                self.writes.append((method, path.partition("?")[0]))
                self.times.append(time.monotonic())
                return end(way) if is_it([path for _, path in self.writes], proxy.here.body) else None
        for proxy in self.proxies.values():
            proxy.again(lambda _, method, path, proxy=proxy: does(proxy, method, path))
        child = hand.started(words)
        for proxy in self.proxies.values():
            proxy.client = child
        ended = hand.over(child)
        for proxy in self.proxies.values():
            proxy.idle()
        return ended
