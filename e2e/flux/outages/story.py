"""regent is away, while Git rules and once Vault does: killed, stopped so that its addresses hang, or without an answer for data keys
alone. The Kustomizations that have nothing to do with it go on, nothing is pruned, live Secrets stay to the last byte; and when it is
back all is Ready again, with what was committed meanwhile. Once Vault rules an endpoint that hangs disturbs nobody at all."""

import socket

import bootstrapped
from authority import value
from bootstrapped import free_port
from regents import Busy, unread
from stage import config_map, until

# A download is tried ten times in 214 s and a data key waited for 60 s, by default. What happens is the same after two tries and 3 s.
FLAGS, ENV = ["--http-retry=1"], {"VAULT_CLIENT_TIMEOUT": "3"}


def story(stage):
    stage.repo.write({"plain/other/settings.yaml": config_map("other", "prod")})
    it = bootstrapped.begin(stage, *FLAGS, env=ENV)
    it.applied(it.first)
    other = it.plain("other")
    other.ready(it.first)
    with Busy(other) as busy:
        busy.more(1)
        second = killed(it, busy, 2)
        assert it.values() == value(2)
        hangs(it, busy, second)

        # Its artifacts are served, and nobody answers for data keys.
        before = it.live()
        with endpoint_hangs(it):
            it.app.ask()
            it.app.fails("BuildFailed", "data key")
            busy.more()
            it.flux.unchanged(before)
        it.app.reconcile()
        it.app.ready()
        it.flux.unchanged(before)

        it.handed_over()
        before = it.live()
        third = killed(it, busy, 3)
        hangs(it, busy, third)
        with endpoint_hangs(it):
            it.app.reconcile()
            it.app.ready()
        it.flux.unchanged(before)


def killed(it, busy, number):
    """Nobody listens any more. A commit that comes meanwhile is applied afterwards; gives its revision."""
    before, inventory = it.live(), it.app.inventory()
    it.regent.kill()
    it.app.ask()
    it.app.fails("ArtifactFailed", "connection refused")
    busy.more()
    it.flux.unchanged(before)
    assert it.app.inventory() == inventory, it.app.inventory()
    revision = it.change(number)
    it.serve()
    it.applied(revision)
    assert it.app.inventory() == inventory, it.app.inventory()
    return revision


def hangs(it, busy, revision):
    """Connections are taken and never answered: one Kustomization waits, and goes on as soon as it is answered."""
    before = it.live()
    it.regent.pause()
    word = it.app.ask()
    until("it is asked", lambda: unread(it.flux.artifacts_port))
    busy.more(3)
    assert it.app.status().get("lastHandledReconcileAt") != word, "who was not answered went on"
    it.regent.resume()
    it.app.wait("reconciled", lambda thing: thing["status"].get("lastHandledReconcileAt") == word)
    it.applied(revision)
    it.flux.unchanged(before)


class endpoint_hangs:
    """A regent whose endpoint is elsewhere; where it is expected connections are taken, and that is all."""

    def __init__(self, it):
        self.it = it

    def __enter__(self):
        self.it.regent.stop()
        self.listener = socket.create_server(("127.0.0.1", self.it.flux.endpoint_port), backlog=128)
        self.it.serve(ports=(free_port(), self.it.flux.artifacts_port))

    def __exit__(self, *_):
        self.listener.close()
        self.it.regent.stop()
        self.it.serve()
