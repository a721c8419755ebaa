"""A revision that comes while kustomize-controller waits for the health of the one before is taken up when that wait is over, and with
the gate CancelHealthCheckOnNewRevision at once. So a handover waits for `lastAppliedRevision` as long as the largest timeout says.

A suspended Kustomization answers a request without doing anything: `lastHandledReconcileAt` is no proof."""

import time

from kustomizations import CONTROLLER, Flux, handled
from stage import config_map


def story(stage):
    flux = Flux(stage, source=False)
    flux.namespace("app")
    # Nothing will ever say that it is healthy.
    app = flux.kustomization("app", "app", timeout="10m", healthChecks=[
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "absent", "namespace": "app"}])
    first = published(flux, app)
    second = flux.publish("app", "app", {"two.yaml": config_map("two")})
    time.sleep(5)  # fifty times what it takes otherwise
    assert app.attempted() == first and flux.live("two", "app", "ConfigMap") is None

    flux.cluster.kill(CONTROLLER)
    flux.flags = ["--feature-gates=ExternalArtifact=true,CancelHealthCheckOnNewRevision=true"]
    flux.start_kustomize_controller()
    waits(app, second)
    third = flux.publish("app", "app", {"three.yaml": config_map("three")})
    # Ten minutes before the wait of the second is over.
    waits(app, third)
    assert flux.live("three", "app", "ConfigMap")

    # What is asked for ends the wait, too. Sources and Kustomizations are watched apart: that it is suspended is known before there is a
    # fourth revision.
    app.spec(suspend=True, healthChecks=None)
    answered(app)
    fourth = flux.publish("app", "app", {"four.yaml": config_map("four")})
    answered(app)
    assert app.attempted() == third and flux.live("four", "app", "ConfigMap") is None
    app.spec(suspend=False)
    app.ready(fourth)


def answered(app):
    word = app.ask()
    app.wait("answered", lambda thing: handled(thing) == word)


def published(flux, app):
    revision = flux.publish("app", "app", {"one.yaml": config_map("one")})
    waits(app, revision)
    return revision


def waits(app, revision):
    """It has applied this revision, and waits for its health."""
    def holds(thing):
        said = {each["type"]: each for each in thing.get("status", {}).get("conditions", ())}
        return thing["status"].get("lastAttemptedRevision") == revision and "health checks" in said.get("Reconciling", {}).get("message", "")
    app.wait(f"waits with {revision}", holds)
