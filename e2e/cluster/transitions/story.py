import copy

from installed import (HANDOVERS, authority, bound, flat, install, one_connection, path_of, people, refused_by, root, verdict,
                       without_rbac, witness)
from stage import until

# `prod-1` is the neighbour whose name is most like prod's: `regent-authority-prod-1` could be read as its witness.
NAME, OTHER = "prod", "prod-1"
HANDOVER = {f"handover {NAME}"}
OWN = HANDOVER | {f"verify {NAME}"}
BREAK_GLASS = {"break-glass"}
NOBODY = set()
EVERYBODY = {"admin", "break-glass", "installer", "reader", "somebody", *OWN, f"handover {OTHER}", f"verify {OTHER}"}

# What RBAC leaves to each on the Authority `prod`; `post` is a creation whose name the API server does not judge by.
RIGHTS = {
    "admin": {"post", "apply-new", "put", "patch", "status-put", "status-patch", "delete", "deletecollection"},
    "break-glass": {"post", "apply-new", "patch", "status-patch", "delete"},
    "installer": {"post", "apply-new", "patch", "status-patch"},
    **dict.fromkeys(OWN, {"apply-new", "patch", "status-patch"}),
}

# --- spec: from, to, and whom the policy lets; `rules` where the CRD refuses everybody ------------------------------
H1, H2 = HANDOVERS
CHANGES = [
    ("git1", authority(NAME, "git1"), EVERYBODY),                                  # the same again
    ("git1", authority(NAME, "git1", root="clusters/moved"), BREAK_GLASS),         # init --move
    ("git1", authority(NAME, "git1", prefix="elsewhere", mount="kv"), BREAK_GLASS),
    ("git1", authority(NAME, "git1", noVaultYet=True), BREAK_GLASS),
    ("git1", authority(NAME, "vault1"), OWN | BREAK_GLASS),                        # the handover
    ("git1", authority(NAME, "vault1", root="clusters/moved"), "rules"),           # ... moves nothing
    ("git1", authority(NAME, "vault1", prefix="elsewhere"), "rules"),
    ("git1", authority(NAME, "vault1", handoverId=None), "rules"),
    ("git1", authority(NAME, "vault1", handoverId=H1.upper()), "rules"),
    ("git1", authority(NAME, "vault1", vaultClusterId=None), "rules"),
    ("git1", authority(NAME, "vault1", treeDigest=None), "rules"),
    ("git1", authority(NAME, "git1", handoverId=H1), "rules"),                     # git has nothing of a handover
    ("git1", authority(NAME, "git2"), "rules"),
    ("git1", authority(NAME, "vault2"), "rules"),
    ("git1", authority(NAME, "git1", authorityId=OTHER), "rules"),
    ("git1", authority(NAME, "git1", witnessKubeUid="22222222-2222-4333-8444-555555555555"), "rules"),
    ("git1", authority(NAME, "git1", targetKubeUid="22222222-2222-4333-8444-555555555555"), "rules"),
    ("vault1", authority(NAME, "vault1"), EVERYBODY),
    ("vault1", authority(NAME, "git1"), "rules"),                                  # there is no way back
    ("vault1", authority(NAME, "vault1", handoverId=H2), "rules"),
    ("vault1", authority(NAME, "vault1", prefix="elsewhere"), "rules"),
    ("vault1", authority(NAME, "vault1", regentVersion="0.2.0"), "rules"),
    ("vault1", authority(NAME, "vault1", targetKubeUid="22222222-2222-4333-8444-555555555555"), "rules"),
    ("vault1", authority(NAME, "git2"), BREAK_GLASS),                              # rebootstrap
    ("vault1", authority(NAME, "git2", targetKubeUid="22222222-2222-4333-8444-555555555555"), BREAK_GLASS),  # ... in a new target
    ("vault1", authority(NAME, "git2", witnessKubeUid="22222222-2222-4333-8444-555555555555"), "rules"),
    ("vault1", authority(NAME, "git2", supersedes=None), "rules"),
    ("vault1", authority(NAME, "git2", supersedes=H2), "rules"),
    ("vault1", authority(NAME, "git2", epoch=3), "rules"),
    ("vault1", authority(NAME, "vault2"), "rules"),
    ("git2", authority(NAME, "vault2"), OWN | BREAK_GLASS),
    ("git2", authority(NAME, "vault2", handoverId=H1), "rules"),                   # a handover that was superseded
    ("git2", authority(NAME, "vault2", supersedes=H2, handoverId=H1), "rules"),
    ("git2", authority(NAME, "git2", supersedes=H2), "rules"),
    ("git2", authority(NAME, "git1"), "rules"),
    ("git2", authority(NAME, "vault1"), "rules"),
    ("vault2", authority(NAME, "git2"), "rules"),
    ("vault2", authority(NAME, "git1"), "rules"),
]

# --- status: before, after, and whom the policy lets ----------------------------------------------------------------
ENTRY = {"path": "late.yaml", "name": "app/late", "kind": "Secret", "class": "handover", "blob": "c" * 40}
SETTLED = {"epoch": 1, "handoverId": H1}
READY = [{"type": "Ready", "status": "True", "reason": "Settled", "message": "", "lastTransitionTime": "2026-01-02T03:04:05Z"}]


def beat(version, epoch=1):
    return {"heartbeat": {"epoch": epoch, "version": version, "time": 1_767_322_245}}


STATUSES = [
    ({}, beat(5), EVERYBODY),
    (beat(5), beat(6), EVERYBODY),
    (beat(5), beat(4), "rules"),
    (beat(5), beat(4, epoch=2), EVERYBODY),
    (beat(4, epoch=2), beat(5), "rules"),
    (beat(5), {}, "rules"),
    ({}, {"conditions": READY}, EVERYBODY),
    ({}, {"settled": SETTLED}, HANDOVER | BREAK_GLASS),
    ({"settled": SETTLED}, {"settled": SETTLED, **beat(7)}, EVERYBODY),
    ({"settled": SETTLED}, {}, "rules"),
    ({"settled": SETTLED}, {"settled": {"epoch": 1, "handoverId": H2}}, "rules"),
    ({}, {"imported": {"1-1": ENTRY}}, HANDOVER | BREAK_GLASS),
    ({"imported": {"1-1": ENTRY}}, {"imported": {"1-1": ENTRY, "1-2": {**ENTRY, "path": "later.yaml"}}}, HANDOVER | BREAK_GLASS),
    ({"imported": {"1-1": ENTRY}}, {"imported": {"1-1": ENTRY}, **beat(7)}, EVERYBODY),
    ({"imported": {"1-1": ENTRY}}, {"imported": {}}, "rules"),
    ({"imported": {"1-1": ENTRY}}, {"imported": {"1-2": ENTRY}}, "rules"),
    ({"imported": {"1-1": ENTRY}}, {"imported": {"1-1": {**ENTRY, "class": "permanent"}}}, "rules"),
]

# --- beginnings -----------------------------------------------------------------------------------------------------
BEGINNINGS = [
    (authority(NAME, "git1"), EVERYBODY),
    (authority(NAME, "git2"), BREAK_GLASS),
    (authority(NAME, "vault1"), OWN),
    (authority(NAME, "vault2"), OWN),
    (authority(NAME, "git1", authorityId=OTHER), "rules"),
    (authority(NAME, "git1", supersedes=H1), "rules"),
    (authority(NAME, "git2", supersedes=None), "rules"),
    (authority(NAME, "git1", epoch=0), "rules"),
    (authority(NAME, "git1", epoch=1000001, supersedes=H1), "rules"),
    (authority(NAME, "git1", schema=0), "rules"),
    (authority(NAME, "vault1", mountUuid=None), "rules"),
    (authority(NAME, "vault1", mount=None), "rules"),
    (authority(NAME, "git1", regentVersion="0.1.0"), "rules"),
    (authority(NAME, "git1", witnessKubeUid=None), "rules"),
]

# --- witnesses: name, and whom the policy lets create it ------------------------------------------------------------
WITNESSES = [
    (witness(f"regent-authority-{NAME}-1"), OWN),
    (witness(f"regent-authority-{NAME}-1000000"), OWN),
    (witness(f"regent-authority-{OTHER}-1"), {f"handover {OTHER}", f"verify {OTHER}"}),
    (witness(f"regent-authority-{NAME}"), NOBODY),
    (witness(f"regent-authority-{NAME}-01"), NOBODY),
    (witness(f"regent-authority-{NAME}-"), "rules"),
    (witness(f"regent-authority-{NAME}.x-1"), NOBODY),
    (witness(f"regent-authority-{NAME}-1x"), NOBODY),
    (witness("regent-authority-1"), NOBODY),
    (witness(f"regent-authority-{NAME}-1", immutable=None), NOBODY),
    (witness(f"regent-authority-{NAME}-1", immutable=False), NOBODY),
    (witness(f"regent-authority-{NAME}-1", data={"witness.json": "{}", "more": "x"}), NOBODY),
    (witness(f"regent-authority-{NAME}-1", data={}), NOBODY),
    (witness(f"regent-authority-{NAME}-1", binaryData={"more": "eA=="}), NOBODY),
    (witness("regent-authorities"), EVERYBODY),                                    # none of ours
    (witness(f"a-regent-authority-{NAME}-1"), EVERYBODY),
]


def story(stage):
    cluster = stage.cluster()
    install(cluster)
    took = bound(cluster)
    print("  after the apply, in force: " + ", ".join(f"{policy} {seconds:.2f} s" for policy, seconds in took.items()), flush=True)
    them = people(cluster, NAME, OTHER)
    assert set(them) == EVERYBODY
    played = Played(cluster, them)
    with one_connection(cluster):
        played.all(lambda who: RIGHTS.get(who, set()))
        without_rbac(cluster, them)
        played.all(lambda who: RIGHTS["admin"])
        forms(cluster)
        witnesses(cluster, them)
    collected(cluster)
    print(f"  {played.asked} attempts, {played.refused} refused", flush=True)


class Played:
    def __init__(self, cluster, them):
        self.cluster, self.them, self.asked, self.refused = cluster, them, 0, 0

    def all(self, rights):
        self.rights = rights
        self.beginnings()
        self.changes()
        self.statuses()
        self.metadata()
        self.ends()

    def expected(self, who, right, let, policy):
        """RBAC is asked first, then the CRD's rules, then the policies."""
        if right not in self.rights(who):
            return "rbac"
        if let == "rules":
            return "rules"
        return "done" if who in let else policy

    def beginnings(self):
        for thing, let in BEGINNINGS:
            for who in self.them:
                for way, right in (("POST", "post"), ("apply", "apply-new")):
                    ask = self.cluster.create if way == "POST" else self.cluster.apply_one
                    answer = ask(thing, **self.them[who].asks())
                    self.judge((way, thing["spec"], who), answer, self.expected(who, right, let, "regent-first"))
                    if verdict(answer) == "done":
                        assert self.cluster.delete("Authority", NAME, user="breakglass").status == 200
                    assert self.cluster.get("Authority", NAME).status == 404, (way, thing, who)

    def changes(self):
        for start, target, let in CHANGES:
            before = root(self.cluster, authority(NAME, start))
            for who in self.them:
                for way in ("put", "merge", "json", "apply", "force", "other manager"):
                    right = "put" if way == "put" else "patch"
                    expected = self.expected(who, right, let, "regent-handover")
                    # The spec has one owner as a whole; another one is stopped before any rule is looked at.
                    if way == "other manager" and right in self.rights(who) and target["spec"] != before["spec"]:
                        expected = "conflict"
                    answer = change(self.cluster, self.them[who], way, before, target)
                    self.judge((start, way, target["spec"], who), answer, expected)
                    now = self.cluster.get("Authority", NAME).ok()
                    if expected != "done":
                        assert flat(now) == flat(before), (start, way, target["spec"], who)
                    elif now["spec"] != before["spec"] or way in ("apply", "force", "other manager"):
                        assert now["spec"] == target["spec"], (start, way, target["spec"], who)
                        before = root(self.cluster, authority(NAME, start))

    def statuses(self):
        for start, target, let in STATUSES:
            before = self.with_status(start)
            for who in self.them:
                for way in ("put", "merge", "json", *(["apply"] if keeps(start, target) else [])):
                    expected = self.expected(who, "status-put" if way == "put" else "status-patch", let, "regent-handover")
                    answer = change_status(self.cluster, self.them[who], way, before, target)
                    self.judge(("status", start, way, target, who), answer, expected)
                    now = self.cluster.get("Authority", NAME).ok()
                    assert now["spec"] == before["spec"]
                    if expected != "done":
                        assert flat(now) == flat(before), (start, way, target, who)
                    else:
                        assert now.get("status", {}) == target, (start, way, target, who)
                        if now.get("status") != before.get("status"):
                            before = self.with_status(start)
        # A status that is sent to the object's own path, and a spec to the status's: neither is written.
        before = self.with_status(beat(5))
        self.cluster.patch("Authority", NAME, None, {"status": {"settled": SETTLED}}, user="admin").ok()
        self.cluster.patch("Authority", NAME, None, {"spec": authority(NAME, "git2")["spec"]}, subresource="status", user="admin").ok()
        assert flat(self.cluster.get("Authority", NAME).ok()) == flat(before)

    def with_status(self, status):
        thing = root(self.cluster, authority(NAME, "vault1"))
        return self.cluster.status({**thing, "status": status}, user="breakglass").ok() if status else thing

    def metadata(self):
        """Labels and the like say nothing about who rules."""
        root(self.cluster, authority(NAME, "vault1"))
        for who in self.them:
            answer = self.cluster.patch("Authority", NAME, None, {"metadata": {"labels": {"a": who.replace(" ", "-")}}},
                                        **self.them[who].asks())
            self.judge(("label", who), answer, "done" if "patch" in self.rights(who) else "rbac")

    def ends(self):
        before = root(self.cluster, authority(NAME, "vault1"))
        label = {"metadata": {"labels": {"a": "b"}}}
        before = self.cluster.patch("Authority", NAME, None, label).ok()
        everything, one, labelled = {}, {"fieldSelector": f"metadata.name={NAME}"}, {"labelSelector": "a=b"}
        for who in self.them:
            asks = self.them[who].asks()
            ways = [("delete", self.cluster.delete("Authority", NAME, query={**query, "dryRun": "All"} if who == "break-glass" else query, **asks))
                    for query in ({}, {"dryRun": "All"}, {"propagationPolicy": "Foreground"}, {"gracePeriodSeconds": 0})]
            ways += [("deletecollection", self.cluster.delete_all("Authority", query={**query, "dryRun": "All"} if who == "break-glass" else query, **asks))
                     for query in (everything, one, labelled)]
            for right, answer in ways:
                self.judge((right, who), answer, self.expected(who, right, BREAK_GLASS, "regent-keep"))
                assert flat(self.cluster.get("Authority", NAME).ok()) == flat(before), (right, who)
        # Only tried above; now for good.
        assert self.cluster.delete("Authority", NAME, **self.them["break-glass"].asks()).status == 200
        assert self.cluster.get("Authority", NAME).status == 404

    def judge(self, what, answer, expected):
        self.asked += 1
        self.refused += expected != "done"
        assert verdict(answer) == expected, f"{what}: expected {expected}, got {answer.status}: {answer.message}"


def change(cluster, who, way, before, target):
    """Asks for another spec, on one of the ways."""
    asks, spec = who.asks(), target["spec"]
    if way == "put":
        # Nothing else than the spec differs.
        return cluster.request("PUT", path_of(before), {**before, "spec": spec}, **asks)
    if way == "merge":
        gone = {key: None for key in before["spec"] if key not in spec}
        return cluster.patch("Authority", NAME, None, {"spec": {**spec, **gone}}, "merge", **asks)
    if way == "json":
        return cluster.patch("Authority", NAME, None, [{"op": "replace", "path": "/spec", "value": spec}], "json", **asks)
    return cluster.apply_one(target, manager="mallory" if way != "apply" else "regent", force=way == "force", **asks)


def change_status(cluster, who, way, before, target):
    asks = who.asks()
    if way == "put":
        return cluster.request("PUT", path_of(before, "status"), {**before, "status": target}, **asks)
    if way == "merge":
        gone = {key: None for key in before.get("status", {}) if key not in target}
        if "imported" in target:
            gone["imported"] = {**{key: None for key in before.get("status", {}).get("imported", {})}, **target["imported"]}
        return cluster.patch("Authority", NAME, None, {"status": {**target, **gone}}, "merge", subresource="status", **asks)
    if way == "apply":
        thing = {"apiVersion": before["apiVersion"], "kind": "Authority", "metadata": {"name": NAME}, "status": target}
        return cluster.apply_one(thing, manager="mallory", force=True, subresource="status", **asks)
    return cluster.patch("Authority", NAME, None, [{"op": "add", "path": "/status", "value": target}], "json",
                         subresource="status", **asks)


def keeps(start, target):
    """Whether all that was there is still named: what a server-side apply leaves out, others keep."""
    return start.keys() <= target.keys() and start.get("imported", {}).keys() <= target.get("imported", {}).keys()


def forms(cluster):
    """Requests that are no transition at all."""
    before = root(cluster, authority(NAME, "vault1"))
    back = authority(NAME, "git1")
    nameless = {**back, "metadata": {"name": NAME}}
    stale = {**back, "metadata": {"name": NAME, "resourceVersion": str(int(before["metadata"]["resourceVersion"]) - 1)}}
    pruned = {"spec": {"nobody": "knows"}, "neither": "this"}
    for user in ("admin", "breakglass"):
        for answer, status in (
                (cluster.request("PUT", path_of(back), nameless, user), 422),
                (cluster.request("PUT", path_of(back), stale, user), 409),
                (cluster.patch("Authority", NAME, None, {"spec": back["spec"]}, "strategic", user=user), 415),
                (cluster.patch("Authority", NAME, None, {"spec": None}, user=user), 422),
                (cluster.patch("Authority", NAME, None, [{"op": "remove", "path": "/spec"}], "json", user=user), 422),
                (cluster.patch("Authority", NAME, None, [{"op": "remove", "path": "/spec/handoverId"}], "json", user=user), 422),
                (cluster.patch("Authority", NAME, None, [{"op": "test", "path": "/spec/authority", "value": "git"},
                                                         {"op": "replace", "path": "/spec", "value": back["spec"]}], "json", user=user), 422),
                (cluster.create(back, user=user), 409),
                (cluster.patch("Authority", NAME, None, pruned, query={"fieldValidation": "Strict"}, user=user), 422),
                (cluster.patch("Authority", NAME, None, pruned, user=user), 200)):
            assert answer.status == status, (user, status, answer)
            assert flat(cluster.get("Authority", NAME).ok()) == flat(before)


def collected(cluster):
    """The garbage collector deletes what lost its owner, and the namespace controller what is in a namespace. Not these."""
    name = f"regent-authority-{NAME}-1"
    root(cluster, authority(NAME, "vault1"))
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner", "namespace": "kube-system"}}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "owner"}, "rules": []}
    cluster.create(witness("bystander") | {"immutable": False})
    before = []
    for owned, thing in (("ConfigMap", owner), ("Authority", role)):
        uid = cluster.create(thing).ok()["metadata"]["uid"]
        reference = {key: thing[key] for key in ("apiVersion", "kind")} | {"name": "owner", "uid": uid}
        for each in ((name, "bystander") if owned == "ConfigMap" else (NAME,)):
            answer = cluster.patch(owned, each, "kube-system" if owned == "ConfigMap" else None,
                                   {"metadata": {"ownerReferences": [reference]}})
            before.append(answer.ok()["metadata"]["uid"])
    cluster.controllers()
    cluster.delete("ConfigMap", "owner", "kube-system").ok()
    cluster.delete("ClusterRole", "owner").ok()
    cluster.wait("the bystander is collected", "ConfigMap", "bystander", "kube-system", lambda thing: thing is None)
    for collected in (name, NAME):
        until(f"the collector was refused {collected}", lambda collected=collected: any(
            f'Name:\\"{collected}\\"' in line and "'regent-keep'" in line
            for line in cluster.tail("kube-controller-manager", 200000).splitlines()))
    assert cluster.get("ConfigMap", name, "kube-system").ok()["metadata"]["uid"] == before[0]
    assert cluster.get("Authority", NAME).ok()["metadata"]["uid"] == before[2]


def witnesses(cluster, them):
    """Everybody is cluster-admin here, so only the policies are left."""
    for thing, let in WITNESSES:
        name = thing["metadata"]["name"]
        for who in them:
            for ask in (cluster.create, cluster.apply_one):
                answer = ask(thing, **them[who].asks())
                expected = "rules" if let == "rules" else "done" if who in let else "regent-witness"
                assert verdict(answer) == expected, (thing, who, answer)
                if expected == "done":
                    assert cluster.delete("ConfigMap", name, "kube-system", user="breakglass").status == 200
                assert cluster.get("ConfigMap", name, "kube-system").status == 404, (thing, who)
    # A name that the API server ends itself, and another namespace.
    made = witness("x")
    for start in ("regent-authority-", f"regent-authority-{NAME}-"):
        made["metadata"] = {"namespace": "kube-system", "generateName": start}
        assert verdict(cluster.create(made)) == "regent-witness"
    elsewhere = witness(f"regent-authority-{NAME}-1")
    elsewhere["metadata"]["namespace"] = "default"
    assert verdict(cluster.create(elsewhere)) == "done"

    stays = witness(f"regent-authority-{NAME}-1")
    cluster.create(stays, **them[f"handover {NAME}"].asks()).ok()
    bystander = witness("bystander")
    before = cluster.get("ConfigMap", stays["metadata"]["name"], "kube-system").ok()
    other = copy.deepcopy(stays) | {"data": {"witness.json": "[]"}}
    for who in them:
        asks = them[who].asks()
        for answer in (
                cluster.request("PUT", path_of(stays), {**before, "data": other["data"]}, **asks),
                cluster.request("PUT", path_of(stays), {**before, "immutable": False}, **asks),
                cluster.patch("ConfigMap", stays["metadata"]["name"], "kube-system", {"data": other["data"]}, "merge", **asks),
                cluster.patch("ConfigMap", stays["metadata"]["name"], "kube-system", {"immutable": None}, "merge", **asks),
                cluster.patch("ConfigMap", stays["metadata"]["name"], "kube-system", {"data": other["data"]}, "strategic", **asks),
                cluster.patch("ConfigMap", stays["metadata"]["name"], "kube-system",
                              [{"op": "replace", "path": "/data", "value": {}}], "json", **asks),
                cluster.apply_one(other, force=True, **asks)):
            assert verdict(answer) == "rules", (who, answer)
        dry = {"dryRun": "All"} if who == "break-glass" else {}
        expected = "done" if who == "break-glass" else "regent-keep"
        for query in ({}, {"dryRun": "All"}, {"propagationPolicy": "Background"}):
            assert verdict(cluster.delete("ConfigMap", stays["metadata"]["name"], "kube-system", query={**query, **dry}, **asks)) == expected, who
        # A deletion of many stops at the witness; what lies beside it may be gone by then.
        for query in ({"fieldSelector": f"metadata.name={stays['metadata']['name']}"}, {}):
            cluster.create(bystander)
            assert verdict(cluster.delete_all("ConfigMap", "kube-system", query={**query, **dry}, **asks)) == expected, who
        assert flat(cluster.get("ConfigMap", stays["metadata"]["name"], "kube-system").ok()) == flat(before), who
    # Without its label, with an owner that is gone: selected by neither.
    for kind, name, namespace in (("Namespace", "regent-system", None),
                                  ("CustomResourceDefinition", "authorities.regent.dev", None)):
        for who in set(them) - BREAK_GLASS:
            assert refused_by(cluster.delete(kind, name, namespace, **them[who].asks()), "regent-keep"), (kind, who)
        selected = {"fieldSelector": f"metadata.name={name}"}
        if kind == "CustomResourceDefinition":  # namespaces have no deletecollection
            assert refused_by(cluster.delete_all(kind, query=selected), "regent-keep")
        assert verdict(cluster.delete(kind, name, namespace, query={"dryRun": "All"}, user="breakglass")) == "done"
    # Namespaces and CRDs of others go as ever.
    cluster.account("passing", "by")
    assert verdict(cluster.delete("Namespace", "passing")) == "done"
