import uuid

from clustered import AS, Clustered, serve
from handed import SECRETS
from stage import full, stub

LOCK = "regent-lock-prod"
VERBS = "/rules/0/verbs"


def story(stage):
    hand = Clustered(stage, stage.cluster())
    door = serve(hand)
    values(stage)
    planned(hand)
    lock(hand)
    rights(hand)
    identities(hand)
    witnessed(hand)
    gone(hand)
    hand.git_rules()
    values(stage)
    hand.mirrored("--approve", hand.plan()["digest"])
    handover = hand.vault_rules()
    hand.bites()
    # The same revision, asked again.
    stage.render([stub(name) for name in SECRETS])
    assert hand.copies() == {f"app/{name}": values for name, values in SECRETS.items()}
    again(hand, handover)
    disagreeing(hand)
    door.stop()
    hand.bao.stop()


def values(stage):
    stage.render([full(name, values) for name, values in SECRETS.items()])


def planned(hand):
    """By the account itself, and by an administrator as the account: the same plan, and nothing is written."""
    before = hand.everything()
    digests = {hand.plan(by=by)["digest"] for by in (hand.account, [*hand.where, *AS])}
    assert len(digests) == 1, digests
    hand.handover("--approve", "0" * 64, ends=6, code="approval")
    assert hand.everything() == before, "a plan wrote something"
    hand.git_rules()


def stopped(hand, *says, by=None):
    """Each word of it stops the plan and the handover."""
    for word in ("--plan", "--yes"):
        hand.refused(word, ends=6, code="preflight", says=says, by=by)


def complete(hand):
    hand.begun("--complete")
    hand.plan()


def lock(hand):
    cluster = hand.cluster
    policy, binding = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"
    for kinds in ([binding], [binding, policy]):
        for kind in kinds:
            cluster.delete(kind, LOCK).ok()
        stopped(hand, f"the lock {LOCK} is not there")
        complete(hand)
    # An exception, another sentence in the rule, and a binding that only warns.
    exception = {"excludeResourceRules": [{"apiGroups": [""], "apiVersions": ["*"], "resources": ["secrets"], "operations": ["*"]}]}
    for change in ({"matchConstraints": exception}, {"validations": [{"expression": "true"}]}):
        cluster.patch(policy, LOCK, None, {"spec": change}).ok()
        stopped(hand, f"the lock {LOCK} is not the one that regent makes")
        cluster.delete(binding, LOCK).ok()
        cluster.delete(policy, LOCK).ok()
        complete(hand)
    cluster.patch(binding, LOCK, None, {"spec": {"validationActions": ["Warn"]}}).ok()
    stopped(hand, f"the lock {LOCK} denies nothing")
    cluster.delete(binding, LOCK).ok()
    complete(hand)


def rights(hand):
    """Each right that the mirror needs and does not have; together with whatever else is wrong."""
    cluster = hand.cluster
    role, cluster_role = ("Role", "regent-handover-prod", "kube-system"), ("ClusterRole", "regent-handover-prod", None)
    only_get = [{"op": "replace", "path": VERBS, "value": ["get"]}]
    cluster.patch(*role, only_get, "json").ok()
    stopped(hand, "configmaps", "regent-authority-prod-1")
    cluster.patch(*cluster_role, only_get, "json").ok()
    cluster.delete("ValidatingAdmissionPolicyBinding", LOCK).ok()
    stopped(hand, "regent-authority-prod-1", "authorities", "is not there")
    complete(hand)
    # Whether it is locked is not known.
    cluster.patch(*cluster_role, [{"op": "remove", "path": "/rules/3"}], "json").ok()
    stopped(hand, f"the lock {LOCK} cannot be looked at")
    complete(hand)
    # Who may not even look does not know who rules.
    cluster.delete("Role", "regent-handover-prod", "kube-system").ok()
    for word in ("--plan", "--yes"):
        hand.refused(word, ends=4, code="P1", says="regent-authority-prod-1")
    complete(hand)


def identities(hand):
    """Who may everything is not who hands over."""
    stopped(hand, "regent-witness", "regent-handover-prod", "git to vault", by=hand.where)
    # Another authority's account has no right at all here.
    hand.refused("--plan", ends=1, code="forbidden", by=[*hand.where, "--as", "system:serviceaccount:regent-system:regent-handover-prod-1"])


def witnessed(hand):
    """A witness of a handover whose record is not in this Vault."""
    hand.foreign(str(uuid.uuid4()))
    hand.refused("--yes", ends=5, code="lost")
    hand.forgotten()
    hand.plan()


def gone(hand):
    cluster = hand.cluster
    cluster.stop_apiserver()
    for word in ("--plan", "--yes"):
        hand.handover(word, ends=4, code="cluster")
    cluster.start_apiserver()
    assert hand.names() == [] and hand.record() is None


def again(hand, handover):
    """Whoever runs it again, as whom: nothing is written."""
    before = hand.everything()
    hand.mirrored("--yes")
    hand.mirrored("--yes", by=[*hand.where, *AS])
    # Nothing is left to write, so rights do not matter.
    hand.mirrored("--yes", by=hand.where)
    assert hand.everything() == before
    assert hand.vault_rules() == handover


def disagreeing(hand):
    """Two witnesses of one epoch that name two handovers."""
    hand.forgotten()
    hand.foreign(str(uuid.uuid4()))
    hand.refused("--yes", ends=5, code="P1")
    hand.forgotten()
    # One that is missing is written from the record.
    hand.mirrored("--yes")
    hand.vault_rules()
