"""A Kustomization that is suspended while the authority moves: Vault rules, and the handover is not settled, because what it applies when
it goes on cannot be seen. It is named, with what to type. That it acknowledges a request says nothing. Once it goes on it takes the stubs,
and the next run settles."""

import let_go
from stage import until

NAMED = r"Kustomization prod/prod: it is suspended \(`flux resume kustomization prod -n prod`\)"


def story(stage):
    handing = let_go.begin(stage)
    it = handing.it
    before, old = it.live(), it.app.applied()
    handing.before_the_record(lambda: suspended(it))
    handing.handover("--yes", ends=7, says=["mirrored, not settled", NAMED, "--skip-kustomization"])
    assert handing.cluster.get("Authority", "prod").ok()["spec"]["authority"] == "vault"
    handing.stubs()

    acknowledged(it)
    assert it.app.applied() == old
    handing.handover("--yes", ends=7, says=[NAMED])
    handing.handover("--plan", ends=7, says=[NAMED])
    assert handing.settled() is None

    it.app.spec(suspend=None)
    handing.handover("--yes", says=["1 Kustomization let go"])
    assert handing.settled() == "there is no Argo CD here; 1 Kustomization let go", handing.settled()
    assert it.app.applied() == handing.stubs()
    it.flux.unchanged(before)
    handing.bao.stop()


def suspended(it):
    """The controller knows it, before there is anything else to take."""
    it.app.spec(suspend=True)
    acknowledged(it)


def acknowledged(it):
    word = it.app.ask()
    until("it is acknowledged", lambda: it.app.status().get("lastHandledReconcileAt") == word)
