import operators
from operators import Operated
from stage import CANARY


def story(stage):
    hand = Operated(stage, "{ emit: vaultStaticSecret, auth: regent-system/vault }", "VaultStaticSecret", "vault-secrets-operator",
                    "--leader-elect=false", "--metrics-bind-address=0", "--health-probe-bind-address=0",
                    env={"OPERATOR_NAMESPACE": "vault-secrets-operator"})
    hand.logs_in("vault-secrets-operator.yaml", "app:regent-deliver-prod")

    def through(name):
        thing = hand.objects()[name]
        return thing.get("status", {}).get("lastGeneration") == thing["metadata"]["generation"]

    def poke(name):
        """It asks Vault when the time comes, and when it is started."""
        hand.cluster.kill(hand.program)
        hand.start()

    def absent(before):
        """A Secret that is gone stays away; an empty one is filled."""
        hand.cluster.delete("Secret", "db", "app").ok()
        thing = {"apiVersion": "v1", "kind": "Secret", "type": "example.com/login",
                 "metadata": {"name": "db", "namespace": "app", "labels": {"regent.dev/authority": "prod"}}}
        # It is looked at when the operator is started.
        hand.cluster.kill(hand.program)
        hand.cluster.create(thing).ok()
        hand.start()
        hand.holds("db", password=f"{CANARY}-rotated", more="new")

    def refuses(name):
        """In events alone."""
        events = hand.cluster.request("GET", "/api/v1/namespaces/app/events").ok()["items"]
        mine = [each for each in events if each["type"] == "Warning" and each["involvedObject"].get("name") == name]
        return any("expects base64" in each["message"] or "is immutable" in each["message"] for each in mine)

    operators.story(hand, through, poke, refuses, absent)
