"""A Kustomization that waits for the health of what it applied with the revision of before takes nothing newer up until that wait is over,
whatever it is asked for. The handover waits for it, says so, and is settled only after."""

import time

import let_go
from stage import until

CHECKED = {"apiVersion": "v1", "kind": "ConfigMap"}


def story(stage):
    handing = let_go.begin(stage)
    it = handing.it
    gate(it, "open")
    # Longer than anything takes here: only the gate ends the wait.
    it.app.spec(timeout="30m", healthChecks=[{**CHECKED, "name": "gate", "namespace": "prod"}],
                healthCheckExprs=[{**CHECKED, "current": "data.gate == 'open'", "inProgress": "data.gate != 'open'"}])
    it.app.reconcile()
    it.app.ready()
    before, old = it.live(), it.app.applied()

    def waits():
        """It has its data keys, has applied, and waits; nothing that began before the gate was shut is under way."""
        it.app.reconcile()
        gate(it, "shut")
        it.app.ask()
        until("it waits for health", lambda: "health" in it.app.conditions().get("Reconciling", {}).get("message", ""))

    handing.before_the_record(waits)
    child = handing.start("--yes", "--settle-timeout", "900", "--vault-patience", "600")
    stubs = handing.stubs()
    for _ in range(20):
        assert child.poll() is None and handing.settled() is None and it.app.applied() == old
        time.sleep(0.5)
    gate(it, "open")
    said = handing.over(child, says=[r'"waiting":"Kustomization prod/prod"', "it reconciles with bootstrap@", "1 Kustomization let go"])
    assert handing.settled(), said
    assert it.app.applied() == stubs
    it.flux.unchanged(before)
    handing.bao.stop()


def gate(it, word):
    thing = {**CHECKED, "metadata": {"name": "gate", "namespace": "prod"}, "data": {"gate": word}}
    it.cluster.apply_one(thing, "somebody", force=True).ok()
