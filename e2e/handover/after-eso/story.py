import time

import operators
from operators import NOTE, Operated
from stage import CANARY, until


def story(stage):
    hand = Operated(stage, "{ emit: externalSecret, store: { name: vault, kind: ClusterSecretStore } }", "ExternalSecret",
                    "external-secrets", "--metrics-addr=0", *(f"--enable-{kind}-reconciler=false" for kind in (
                        "push-secret", "cluster-push-secret", "cluster-external-secret")))
    hand.logs_in("external-secrets.yaml", "regent-system:regent-deliver-prod")

    def ready(name):
        conditions = hand.objects()[name].get("status", {}).get("conditions", [])
        return {each["type"]: each["status"] for each in conditions}.get("Ready")

    def poke(name):
        """As its documentation has it: any annotation that changes."""
        hand.cluster.patch(hand.kind, name, "app", {"metadata": {"annotations": {"force-sync": str(time.time())}}}).ok()

    def absent(before):
        until("Argo CD tells it", lambda: hand.health() == "Degraded")
        # A Secret that is gone is made anew, as it was in Git; one that was immutable with the new value.
        for name in ("db", "pinned"):
            hand.cluster.delete("Secret", name, "app").ok()
        hand.holds("db", password=f"{CANARY}-rotated", more="new")
        hand.holds("pinned", token=f"{CANARY}-never")
        made = hand.secret("db")
        assert made["type"] == "example.com/login" and made["metadata"]["labels"]["regent.dev/authority"] == "prod"
        assert made["metadata"]["labels"]["tier"] == "1" and made["metadata"]["annotations"]["example.com/note"] == NOTE
        guards = "argocd.argoproj.io/sync-options", "argocd.argoproj.io/compare-options", "kustomize.toolkit.fluxcd.io/prune"
        for guard in guards:
            assert made["metadata"]["annotations"][guard] == before["db"]["metadata"]["annotations"][guard], guard
        assert hand.secret("pinned")["immutable"] is True

    operators.story(hand, lambda name: ready(name) == "True", poke, lambda name: ready(name) == "False", absent)
