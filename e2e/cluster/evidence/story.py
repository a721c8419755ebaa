import contextlib
import json
import time
import uuid

import authority
import init
from stage import Sealed, bootstrap, config_map, full, plain, secret, stub, until

CRD = "authorities.regent.dev"
HELD = 30  # seconds that an answer may take while nobody can be asked; Argo CD itself waits for 60


def story(stage):
    cluster = stage.cluster()
    stage.house.serve()
    before_init(stage, cluster)
    door, prod = authority.begin(stage, cluster, ["prod"])
    place = Place(stage, cluster, door, prod)
    place.values()
    early = cluster.snapshot()
    outages(place)
    mirror(place)
    deletions(place)
    disagreement(place)
    not_served(place)
    rollback(place)
    restored(place, early)


class Place:
    """The story's Application, asked for through the repo-server."""

    def __init__(self, stage, cluster, door, prod):
        self.stage, self.cluster, self.door, self.prod = stage, cluster, door, prod

    def values(self):
        self.stage.render([full("db", authority.value(1), "prod"), plain(config_map("settings", "prod"))])

    def stubs(self):
        self.stage.render([stub("db", "prod"), plain(config_map("settings", "prod"))])

    def refused(self, code, *words):
        self.stage.refused(code, *words)

    def fresh(self):
        """A process that remembers nothing."""
        self.door.kill()
        self.door.again()

    def within(self, seconds, check, *words):
        start = time.monotonic()
        check(*words)
        took = time.monotonic() - start
        assert took < seconds, f"the answer took {took:.1f} s"


def before_init(stage, cluster):
    """Without CRD, rights or authority nothing is rendered; each time the answer says what is missing."""
    init.install(cluster)
    stage.repo.commit({"clusters/prod/regent.yaml": bootstrap("prod"),
                       "clusters/prod/db.yaml": Sealed(secret("db", authority.value(1), "prod"))})
    regent = init.serve(stage, cluster, [stage.rule()])
    # The account has no rights yet, so nobody knows whether there is one.
    stage.refused("P1", "Authority `prod`", "no right to read it (403)")
    regent.stop()


def outages(place):
    """What cannot be read is unknown, and unknown is an error while Git rules."""
    cluster = place.cluster
    cluster.pause("kube-apiserver")
    # Its own patience is 3 s, once for each of the two looks at most; the rest is for a machine that is busy.
    place.within(HELD, place.refused, "P1", "no answer")
    cluster.resume("kube-apiserver")
    cluster.ready()
    place.values()
    cluster.stop_apiserver()
    place.within(HELD, place.refused, "P1")
    place.fresh()
    place.within(HELD, place.refused, "P1")
    cluster.start_apiserver()
    place.values()
    # etcd alone: the API server itself would answer from its cache, or hold the request for a minute.
    cluster.stop_etcd()
    place.within(HELD, place.refused, "P1")
    cluster.start_etcd()
    cluster.ready()
    place.values()
    expired = init.serve_with(place.stage, cluster, cluster.expired(init.reader_token(cluster)), [rule(place)], name="late")
    place.stage.refused("P1", "401", plugin="late-v1")
    expired.stop()


def rule(place):
    return place.stage.rule(authority="prod", bootstrap="clusters/prod/regent.yaml")


def mirror(place):
    """The ConfigMap is written first: from then on Vault rules, whatever the Authority still says."""
    place.prod.witnessed()
    place.stubs()
    place.fresh()
    place.stubs()
    place.prod.moved()
    place.stubs()
    place.fresh()
    place.stubs()


def deletions(place):
    """One of two witnesses is enough, and whoever saw both needs none."""
    cluster = place.cluster
    assert cluster.delete("Authority", "prod").status == 403
    assert cluster.delete("ConfigMap", "regent-authority-prod-1", "kube-system").status == 403
    authority_then = cluster.get("Authority", "prod").ok()
    witness_then = cluster.get("ConfigMap", "regent-authority-prod-1", "kube-system").ok()
    cluster.delete("ConfigMap", "regent-authority-prod-1", "kube-system", user="breakglass").ok()
    place.stubs()
    place.fresh()
    place.stubs()
    cluster.delete("Authority", "prod", user="breakglass").ok()
    # Whoever saw Vault rule goes on; whoever did not knows of no authority at all.
    place.stubs()
    place.fresh()
    place.refused("P5")
    # The witness of the handover alone.
    place.prod.again(witness_then)
    place.fresh()
    place.stubs()
    place.prod.again(authority_then)
    place.fresh()
    place.stubs()


def disagreement(place):
    """Two handovers in one epoch: a person decides."""
    cluster = place.cluster
    witness_then = cluster.get("ConfigMap", "regent-authority-prod-1", "kube-system").ok()
    cluster.delete("ConfigMap", "regent-authority-prod-1", "kube-system", user="breakglass").ok()
    other = json.loads(witness_then["data"]["witness.json"])
    other["handoverId"] = str(uuid.uuid4())
    place.prod.again({**witness_then, "data": {"witness.json": json.dumps(other)}})
    place.refused("P1", "disagree")
    place.fresh()
    place.refused("P1", "disagree")
    for broken in ({**other, "schema": 2}, {**other, "epoch": 2}, {**other, "surprise": True}):
        cluster.delete("ConfigMap", "regent-authority-prod-1", "kube-system", user="breakglass").ok()
        place.prod.again({**witness_then, "data": {"witness.json": json.dumps(broken)}})
        # Unreadable beside an Authority that says vault is vault.
        place.fresh()
        place.stubs()
    cluster.delete("ConfigMap", "regent-authority-prod-1", "kube-system", user="breakglass").ok()
    place.prod.again(witness_then)
    place.fresh()
    place.stubs()


def not_served(place):
    """`served: false`: the API server says 404 in plain text, which is no word about the object."""
    cluster = place.cluster
    with served(cluster, False):
        place.stubs()
        place.fresh()
        # The ConfigMap still says who rules.
        place.stubs()


@contextlib.contextmanager
def served(cluster, serves):
    def put(value):
        crd = cluster.get("CustomResourceDefinition", CRD).ok()
        crd["spec"]["versions"][0]["served"] = value
        cluster.update(crd, user="breakglass").ok()
    put(serves)
    # Served or not is taken up after the last change of the CRD, so nothing can be followed here.
    until("it is not served", lambda: text_404(cluster))
    yield
    put(True)
    cluster.established(CRD)


def text_404(cluster):
    answer = cluster.get("Authority", "prod")
    return answer.status == 404 and isinstance(answer.body, str)


def rollback(place):
    """Git goes back and forth; who rules does not."""
    repo = place.stage.repo
    head = repo.git("rev-parse", "HEAD")
    repo.git("reset", "--quiet", "--hard", "HEAD~1")
    place.stage.render([stub("db", "prod")] + ([plain(config_map("settings", "prod"))] if "settings.yaml" in
                       repo.git("ls-tree", "-r", "--name-only", "HEAD") else []))
    repo.git("reset", "--quiet", "--hard", head)
    place.stubs()


def restored(place, early):
    """The cluster forgets the handover. A process that saw it does not; Git can remember too (`closed`)."""
    cluster, stage = place.cluster, place.stage
    cluster.restore(early)
    place.stubs()
    place.fresh()
    # The one exception, which `closed` is for: nobody here remembers.
    place.values()
    stage.repo.commit({"clusters/prod/regent.yaml": place.prod.bootstrap(closed=place.prod.id)})
    place.refused("P6")
    place.fresh()
    place.refused("P6")
    # An empty cluster on the old address: it does not even know the sidecar's account.
    cluster.restore()
    place.fresh()
    place.refused("P1", "401")
