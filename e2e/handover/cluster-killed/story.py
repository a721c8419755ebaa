import contextlib
import re

from bao import Bao
from clustered import Clustered
from handed import CANARY, SECRETS, sealed
from hubs import Hub
from killed import WAYS, Killing

AUTHORITY = "/apis/regent.dev/v1alpha1/authorities/prod"


def story(stage):
    bao = Bao(stage)
    hub, target = stage.cluster("hub"), stage.cluster("target")
    hand = Hub(stage, hub, target, bao=bao)
    hand.trusted()
    may_guard(hand)
    with Killing(hub, target) as killing:
        handovers(hand, killing)
        at_once(hand)
    for cluster in hand.clusters():
        cluster.close()
    rebuilt(stage, bao, hand.commit)
    bao.stop()


def may_guard(hand):
    hand.target.patch("Role", "listed", "app", [{"op": "replace", "path": "/rules/0/verbs", "value": ["get", "patch"]}], "json").ok()


# --- the handover

def handovers(hand, killing):
    def words():
        return killing.handing(hand, "--apply-guards")

    begin(hand)
    ended, said = killing.run(hand, words())
    assert ended == 0, said
    over(hand)
    writes = killing.writes
    secrets = [("PATCH", f"/api/v1/namespaces/app/secrets/{name}") for name in sorted(SECRETS)]
    assert writes == [*secrets, ("PATCH", "/api/v1/namespaces/kube-system/configmaps/regent-authority-prod-1"),
                      ("PATCH", AUTHORITY), ("PATCH", AUTHORITY), ("PATCH", f"{AUTHORITY}/status")], writes
    for at in range(len(writes)):
        for way in WAYS:
            begin(hand)
            ended, said = killing.run(hand, words(), number(at), way)
            assert ended == -9 and len(killing.writes) == at + 1, (at, way, ended, said)
            one_authority(hand)
            # Only the guards come before the record.
            assert bool(hand.record()) == (at >= len(secrets)), (at, way)
            ended, said = killing.run(hand, words())
            assert ended == 0 and "closed: " in said, (at, way, said)
            over(hand)


def number(at):
    return lambda paths, body: len(paths) - 1 == at


def begin(hand):
    """Nobody knows of an earlier one: neither Vault nor the clusters. What is live has no guards."""
    for path in (hand.key_of_record(), *(f"bootstrap/prod/{name}" for name in hand.names())):
        hand.bao.done("DELETE", f"secret/metadata/{path}")
    for cluster in hand.clusters():
        cluster.delete("Authority", "prod", user="breakglass")
    with contextlib.suppress(AssertionError):
        hand.forgotten()
    hand.begun("--vault-token-file", hand.token)
    for name, values in SECRETS.items():
        hand.target.delete("Secret", name, "app")
        hand.live(name, values)
    hand.git_rules()


def one_authority(hand):
    """Whoever is cut off, wherever: what is rendered is what the witnesses say, and nothing was written a second time."""
    ruled = hand.config_map() is not None or hand.authority()["authority"] == "vault"
    assert ruled <= bool(hand.record())
    assert all(bool(data) != ruled for data in hand.rendered().values()), hand.rendered()
    assert set(hand.versions().values()) <= {0, 1}, hand.versions()


def over(hand):
    """The one right state: Vault rules and that is settled, each copy is Git's and written once, and each live Secret is what
    it was, and guarded."""
    handover = hand.handed_over()
    settled(hand, handover)
    hand.bites()
    for name, values in SECRETS.items():
        metadata = hand.target.get("Secret", name, "app").ok()["metadata"]
        assert hand.place.live(name) == values
        assert metadata["labels"] == {"regent.dev/authority": "prod"} and len(metadata["annotations"]) == 3, metadata


def settled(hand, handover):
    status = hand.cluster.get("Authority", "prod").ok()["status"]
    assert status["settled"] == {"epoch": 1, "handoverId": handover}, status


def at_once(hand):
    """Two at a time, at real API servers: one record, and both end well."""
    for _ in range(4):
        begin(hand)
        there, hand.where = hand.where, hand.account
        children = [hand.begin("--yes", "--apply-guards") for _ in range(2)]
        hand.where = there
        for ended, said in map(hand.over, children):
            assert ended == 0 and "closed: " in said, said
        over(hand)


# --- a cluster that takes the handover over, and what is imported there

def rebuilt(stage, bao, commit):
    cluster = stage.cluster("rebuilt")
    hand = Clustered(stage, cluster, bao=bao, init=False)
    # The very tree that was handed over.
    stage.repo.git("checkout", "--quiet", commit, "--", "clusters")
    hand.commit = stage.repo.commit()
    hand.installed()
    record = hand.record()
    with Killing(cluster) as killing:
        adopts(hand, killing, record)
        imports(hand, killing)


def adopts(hand, killing, record):
    def anew():
        """A cluster that was begun with Git, and Vault as it was handed over elsewhere."""
        cluster = hand.cluster
        cluster.delete("Authority", "prod", user="breakglass")
        with contextlib.suppress(AssertionError):
            hand.forgotten()
        hand.bao.ask("DELETE", f"secret/metadata/{hand.key_of_record()}/adopted/{cluster.uid()}")
        hand.begun("--no-vault-yet")
        hand.git_still_rules()

    def words():
        return killing.handing(hand, "--adopt", record["handoverId"])

    anew()
    ended, said = killing.run(hand, words())
    assert ended == 0, said
    writes = killing.writes
    assert [path.rpartition("/")[2] for _, path in writes] == ["regent-authority-prod-1", "prod", "status"], writes
    for at in range(len(writes)):
        for way in WAYS:
            anew()
            ended, said = killing.run(hand, words(), number(at), way)
            assert ended == -9, (at, way, ended, said)
            one_authority(hand)
            # It was adopted before; nobody has to say so again.
            ended, said = killing.run(hand, killing.handing(hand))
            assert ended == 0 and "closed: " in said, (at, way, said)
            assert hand.handed_over() == record["handoverId"] and hand.record() == record
            settled(hand, record["handoverId"])


def imports(hand, killing):
    """Its one write here is the status; in Vault it is listed before that."""
    for way in WAYS:
        name = f"new-{way}"
        values = {"password": f"{CANARY}-{name}"}
        hand.commit = hand.stage.repo.commit({f"clusters/prod/{name}.yaml": sealed(name, values)})

        def words(name=name):
            return ["import", f"app/{name}", *killing.handing(hand)[1:]]
        ended, said = killing.run(hand, words(), number(0), way)
        assert ended == -9 and killing.writes == [("PATCH", f"{AUTHORITY}/status")], (ended, said, killing.writes)
        assert (name in listed(hand)) == (way == "after")
        ended, said = killing.run(hand, words())
        assert ended == 0 and re.search(r"imported/\d", said), said
        assert name in listed(hand) and not any(hand.rendered().values())
        assert hand.versioned(f"bootstrap/prod/app/{name}") == (1, values)
    assert len(listed(hand)) == len(WAYS)
    status, body = hand.bao.ask("LIST", f"secret/metadata/{hand.key_of_record()}/imported")
    assert status == 200 and body["data"]["keys"] == ["1", "2"], body


def listed(hand):
    imported = hand.cluster.get("Authority", "prod").ok()["status"].get("imported", {})
    return {document["name"].removeprefix("app/") for document in imported.values()}
