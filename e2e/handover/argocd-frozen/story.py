import json

from applications import ArgoCD
from bao import Bao
from clustered import Clustered, serve
from handed import SECRETS, regent_yaml, sealed
from proxy import Once, Proxy
from stage import CANARY, until

DB = "clusters/prod/db.yaml"


def story(stage):
    bao = Bao(stage)
    cluster = stage.cluster()
    argocd = ArgoCD(stage, cluster)
    with Proxy(bao) as proxy:
        hand = Clustered(stage, cluster, bao=bao, address=proxy.address)
        operators(hand)
        serve(hand)
        app = argocd.application("prod", "clusters/prod")
        app.synced_at = lambda: app.sync()["phase"] == "Succeeded" or None
        app.wait("compared", lambda it: "reconciledAt" in it.get("status", {}))
        until("synced", app.synced_at)
        hand.plan()
        behind(hand, app)
        ahead(hand, app)
        slipped_in(hand, app, proxy)
        accepted(hand)
        slipped_in_later(hand, app)
    bao.stop()


def operators(hand):
    """The operator's file, which names the plugin and the repository."""
    stage = hand.stage
    file = stage.folder / "operator.yaml"
    file.write_text(json.dumps({
        "apiVersion": "regent.dev/v1alpha1", "kind": "RegentConfig", "store": {"kind": "kubernetes"},
        "rules": [stage.rule()], "limits": {"request": "3s"},
        "argocd": {"name": stage.name, "version": "v1"}}))
    hand.account += ["--config", file, "--caches-locked"]


def stopped(hand, *says, words=("--plan",), **kwargs):
    """Nothing moved."""
    hand.refused(*words, ends=6, code="changed", says=["argocd/prod uses commit ", *says], **kwargs)
    assert hand.record() is None and hand.config_map() is None and hand.authority()["authority"] == "git"


def behind(hand, app):
    """A commit that is handed over and was not synced yet."""
    first = hand.commit
    hand.commit = hand.stage.repo.commit({DB: sealed("db", {"password": f"{CANARY}-2", "user": "app"})})
    stopped(hand, first, "db.yaml (app/db) is another there")
    stopped(hand, first, words=("--yes",))
    app.refresh("hard")
    # It is compared with the new commit, and what it synced last is still the old one.
    stopped(hand, first)
    until("synced", app.synced_at)
    hand.plan()


def ahead(hand, app):
    """A commit that is synced already, and the one before it is handed over."""
    before = hand.commit
    now = hand.stage.repo.commit({"clusters/prod/new.yaml": sealed("new", {"token": CANARY})})
    app.refresh("hard")
    until("synced", app.synced_at)
    stopped(hand, now, "new.yaml (app/new) is new there")
    hand.stage.repo.git("rm", "-q", "clusters/prod/api.yaml", "clusters/prod/new.yaml")
    now = hand.stage.repo.commit()
    app.refresh("hard")
    until("synced", app.synced_at)
    stopped(hand, now, "api.yaml (app/api) is not there")
    hand.commit = hand.stage.repo.commit({"clusters/prod/api.yaml": sealed("api", SECRETS["api"])})
    assert hand.commit != before
    app.refresh("hard")
    until("synced", app.synced_at)
    hand.plan()


def slipped_in(hand, app, proxy):
    """Somebody's commit is synced while the copies are made."""
    def commits():
        hand.stage.repo.commit({"clusters/prod/late.yaml": sealed("late", {"token": CANARY})})
        app.refresh("hard")
        until("synced", app.synced_at)
    once = Once(commits)

    def slips(number, method, path):
        if method == "POST" and "/data/bootstrap/" in path:
            once()

    proxy.again(slips)
    hand.handover("--yes", "--vault-patience", "600", ends=6, code="changed", says=["late.yaml (app/late) is new there", "handover.acceptChanged"])
    assert once.is_done and hand.names(), "the copies were not begun"
    assert hand.record() is None and hand.config_map() is None
    proxy.again()


def accepted(hand):
    """A person says that what slipped in may stay out of Vault: the commit that says so is the one that is handed over."""
    hand.commit = hand.stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(
        hand.address, "handover: { acceptChanged: [app/late] }\n")})
    hand.stage.repo.git("rm", "-q", "clusters/prod/late.yaml")
    hand.commit = hand.stage.repo.commit()
    hand.handover("--yes", "--settle-timeout", "1", ends=7, code="unmirrored", says="mirrored, not settled")
    assert set(hand.names()) == {"app/api", "app/db"}, hand.names()
    hand.vault_rules()


def slipped_in_later(hand, app):
    """Vault rules, and before that is settled somebody's commit is synced: what is newer in it, Vault never got."""
    hand.may_refresh("prod")
    now = hand.stage.repo.commit({DB: sealed("db", {"password": f"{CANARY}-3", "user": "app"})})
    app.refresh("hard")
    until("synced", app.synced_at)
    versions = hand.versions()
    hand.handover("--yes", ends=7, code="changed", says=[
        f"argocd/prod uses commit {now}", "db.yaml (app/db) is another there", "bring what is newer to Vault", "handover.acceptChanged"])
    assert hand.settled() is None and hand.versions() == versions
    hand.vault_rules()
    # Only for those that a person names.
    for names, ends, code in (("app/late, app/api", 7, "changed"), ("app/late, app/db", 0, None)):
        hand.commit = hand.stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(
            hand.address, f"handover: {{ acceptChanged: [{names}] }}\n")})
        said = hand.handover("--yes", ends=ends, code=code)
    assert "closed: " in said and hand.settled() and hand.versions() == versions
