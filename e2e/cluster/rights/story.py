import copy
import json

from installed import (HANDOVERS, Who, authority, bound, granted, install, of_authority, one_connection, people, refused_by, root,
                       verdict, witness)
from stage import KINDS, at

NAME, OTHER = "prod", "prod-1"
HANDOVER, VERIFY = f"handover {NAME}", f"verify {NAME}"
READ = {"get", "list", "watch"}
VERBS = ("get", "list", "watch", "list one", "watch one", "post", "put", "patch", "apply", "delete", "deletecollection")

# Every object that is tried: kind, name, namespace, subresource. Nothing else counts as something of that kind.
TRIED = [
    *(("Authority", name, None, sub) for name in (NAME, OTHER, "new") for sub in (None, "status")),
    *(("ConfigMap", f"regent-authority-{name}-{epoch}", "kube-system", None)
      for name in (NAME, OTHER) for epoch in (1, 2, 3)),
    ("ConfigMap", "coredns", "kube-system", None), ("ConfigMap", f"regent-authority-{NAME}-1", "app", None),
    *(("Secret", "db", namespace, None) for namespace in ("app", "kube-system", "regent-system", "argocd")),
    *(("ServiceAccount", name, namespace, None) for name, namespace in (
        (f"regent-handover-{NAME}", "regent-system"), ("new", "regent-system"), ("default", "kube-system"), ("default", "app"))),
    *(("ServiceAccount", f"regent-handover-{name}", "regent-system", "token") for name in (NAME, OTHER)),
    *((kind, f"regent-{part}-{NAME}", "kube-system", None) for kind in ("Role", "RoleBinding") for part in ("reader", "handover")),
    *((kind, "new", namespace, None) for kind in ("Role", "RoleBinding") for namespace in ("regent-system", "app")),
    *((kind, name, None, None) for kind in ("ClusterRole", "ClusterRoleBinding")
      for name in (f"regent-reader-{NAME}", "regent-break-glass", "cluster-admin")),
    *((kind, name, None, None) for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
      for name in (f"regent-lock-{NAME}", f"regent-lock-{OTHER}", "regent-keep")),
    ("CustomResourceDefinition", "authorities.regent.dev", None, None),
    ("CustomResourceDefinition", "applications.argoproj.io", None, None),
    *(("Namespace", name, None, None) for name in ("kube-system", "regent-system", "app")),
    *((kind, "infra", "argocd", None) for kind in ("Application", "AppProject")),
]


def may(kind, verbs, names=None, namespace=None, sub=None):
    """A right: on these names, or on all."""
    return lambda verb, tried: (
        tried[0] == kind and verb in verbs and tried[3] == sub and (namespace is None or tried[2] == namespace)
        and (names is None or (tried[1] in names and verb not in ("list", "watch", "post", "deletecollection"))))


def all_of(verbs):
    """With the right to list or watch comes that of one; `apply` needs create and patch; a POST needs create."""
    verbs = set(verbs)
    more = {f"{verb} one" for verb in verbs & {"list", "watch"}}
    return (verbs | more | ({"apply"} if verbs >= {"create", "patch"} else set()) | ({"post"} if "create" in verbs else set())) - {"create"}


MIRROR = [
    may("Authority", all_of({"get", "create", "patch"}), {NAME}),
    may("Authority", {"patch", "apply"}, {NAME}, sub="status"),
    may("ConfigMap", all_of({"get", "create", "patch"}), {f"regent-authority-{NAME}-1"}, "kube-system"),
    # The evidence around the epoch, which cluster this is, and whether the lock will hold.
    may("ConfigMap", {"get"}, {f"regent-authority-{NAME}-2"}, "kube-system"),
    may("Namespace", {"get"}, {"kube-system"}),
    *(may(kind, {"get"}, {f"regent-lock-{NAME}"}) for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")),
]
RIGHTS = {
    "somebody": [],
    "reader": [
        may("Authority", {"get", "watch one"}, {NAME, OTHER}),
        may("ConfigMap", {"get"}, {f"regent-authority-{name}-{epoch}" for name in (NAME, OTHER) for epoch in (1, 2)}, "kube-system"),
    ],
    # ... and what Argo CD makes of it.
    HANDOVER: [*MIRROR, may("Application", all_of({"get", "list"}))],
    VERIFY: MIRROR,
    "installer": [
        may("Authority", all_of({"get", "list", "watch", "create", "patch"})),
        may("Authority", {"patch", "apply"}, sub="status"),
        may("ConfigMap", all_of({"get", "list", "create", "patch"}), namespace="kube-system"),
        may("CustomResourceDefinition", {"get"}, {"authorities.regent.dev"}),
        may("Namespace", {"get"}, {"kube-system", "regent-system"}),
        *(may(kind, all_of({"get", "create"}), namespace="kube-system") for kind in ("Role", "RoleBinding")),
        *(may(kind, all_of({"get", "create"})) for kind in ("ClusterRole", "ClusterRoleBinding")),
        *(may(kind, all_of({"get", "list", "create"})) for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")),
        may("ServiceAccount", all_of({"get", "create"}), namespace="regent-system"),
        *(may(kind, all_of({"get", "list"})) for kind in ("Application", "AppProject")),
    ],
    "break-glass": [
        may("Authority", all_of({"get", "list", "create", "patch", "delete"})),
        may("Authority", {"patch", "apply"}, sub="status"),
        may("ConfigMap", all_of({"get", "list", "create", "patch", "delete"}), namespace="kube-system"),
        may("Role", all_of({"get", "create", "patch"}), namespace="kube-system"),
        may("Namespace", {"get"}, {"kube-system"}),
        may("Secret", {"get"}),
    ],
}


def story(stage):
    cluster = stage.cluster()
    install(cluster)
    bound(cluster)
    them = people(cluster, NAME, OTHER)
    for name in (NAME, OTHER):
        root(cluster, authority(name, "git1"))
    tries = refused = 0
    for who, rights in RIGHTS.items():
        with one_connection(cluster):
            for tried in TRIED:
                for verb in VERBS:
                    if (answer := asked(cluster, them[who], verb, tried)) is None:
                        continue
                    tries += 1
                    allowed = any(right(verb, tried) for right in rights)
                    refused += not allowed
                    assert by_rbac(answer) != allowed, f"{who}, {verb} {tried}: expected {'a right' if allowed else 'none'}, got {answer}"
        nothing_else(cluster, them[who], who)
    print(f"  {tries} attempts with dry runs, {refused} refused by RBAC", flush=True)
    for name in (NAME, OTHER):
        remove(cluster, name)
    installs(cluster, them["installer"])
    hands_over(cluster, cluster.token("regent-system", f"regent-handover-{NAME}"))
    verifies(cluster, cluster.token("regent-system", f"regent-verify-{NAME}"))
    breaks_glass(cluster, them["break-glass"])
    grows(cluster, them)


def by_rbac(answer):
    """A refusal by RBAC; a policy's has a cause. A role that would grant more than its giver has is refused later, and says so."""
    return answer.status == 403 and not answer.causes and "attempting to grant RBAC permissions not currently held" not in answer.message


def asked(cluster, who, verb, tried):
    """One question, with nothing changed by it. None where there is no such question."""
    kind, name, namespace, sub = tried
    thing = {"apiVersion": KINDS[kind][0].removeprefix("apis/").removeprefix("api/"), "kind": kind,
             "metadata": {"name": name, **({"namespace": namespace} if namespace else {})}}
    dry, asks = {"dryRun": "All"}, who.asks()
    one = {"fieldSelector": f"metadata.name={name}"}
    watch = {"watch": "true", "timeoutSeconds": "1", "resourceVersion": "0"}
    if sub == "token":
        if verb == "post":
            return cluster.request("POST", at(*tried), {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}, **asks)
        return None
    if verb == "put":
        return cluster.request("PUT", f"{at(*tried)}?dryRun=All", thing, **asks)
    if verb == "patch":
        return cluster.patch(kind, name, namespace, {"metadata": {"labels": {"a": "b"}}}, subresource=sub, query=dry, **asks)
    if verb == "apply":
        return cluster.apply_one(thing, subresource=sub, query=dry, **asks)
    if verb == "get":
        return cluster.get(kind, name, namespace, sub, **asks)
    if sub:
        return None
    if verb == "post":
        return cluster.create(thing, query=dry, **asks)
    if verb == "delete":
        return cluster.delete(kind, name, namespace, query=dry, **asks)
    if verb == "deletecollection":
        return None if kind == "Namespace" else cluster.delete_all(kind, namespace, query=dry, **asks)
    query = {**(one if verb.endswith("one") else {}), **(watch if verb.startswith("watch") else {})}
    return cluster.get(kind, None, namespace, query=query, **asks)


def nothing_else(cluster, who, name):
    """What is no object: judging tokens, impersonation, other paths; and, for RBAC's own, escalation."""
    asks = who.asks()
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "x"}}
    assert by_rbac(cluster.request("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review, **asks)), name
    if not who.headers:
        for header in ({"Impersonate-User": "jane", "Impersonate-Group": "regent:break-glass"},
                       {"Impersonate-User": f"system:serviceaccount:regent-system:regent-handover-{NAME}"}):
            answer = cluster.get("Authority", NAME, user=who.token, headers=header)
            assert answer.status == 403 and "impersonate" in answer.message, (name, answer)
    for path in ("/metrics", "/logs/", "/debug/pprof/", "/api/v1/nodes", "/api/v1/pods", "/api/v1/namespaces/regent-system/pods"):
        assert cluster.request("GET", path, **asks).status in (403, 404), (name, path)


def remove(cluster, name):
    """Everything that `of_authority` made, and the Authority."""
    cluster.kubectl("delete", "--filename=-", "--wait=false", stdin=of_authority(name), user="breakglass")
    cluster.delete("Authority", name, user="breakglass").ok()


def objects(cluster, name):
    text = cluster.kubectl("create", "--dry-run=client", "--output=json", "--filename=-", stdin=of_authority(name))
    # One document each, without a list around them.
    decoder, found = json.JSONDecoder(), []
    while text.strip():
        thing, end = decoder.raw_decode(text.lstrip())
        found += thing["items"] if thing["kind"] == "List" else [thing]
        text = text.lstrip()[end:]
    return found


def installs(cluster, installer):
    """`regent init` without cluster-admin: everything by creation, the lock last."""
    asks = installer.asks()
    made = objects(cluster, NAME)
    assert len(made) == 16, len(made)
    is_lock = [thing for thing in made if thing["kind"].startswith("Validating")]
    for thing in [thing for thing in made if thing not in is_lock] + [authority(NAME, "git1")] + is_lock:
        answer = cluster.create(thing, query={"fieldManager": "regent"}, **asks)
        assert answer.status == 201, (thing["kind"], answer)
        assert cluster.create(thing, **asks).status == 409
    # Its probes: what would be refused, is.
    dry = {"dryRun": "All"}
    assert refused_by(cluster.create(authority("probe", "vault1"), query=dry, **asks), "regent-first")
    assert refused_by(cluster.create(witness("regent-authority-probe-1"), query=dry, **asks), "regent-witness")


def hands_over(cluster, token):
    asks = {"user": token}
    applied = {"manager": "regent", "force": True, **asks}
    granted(cluster, Who(HANDOVER, token), ("Authority", NAME), ("ConfigMap", f"regent-authority-{NAME}-1", "kube-system"))
    # A POST has no name that RBAC could look at.
    assert by_rbac(cluster.create(witness(f"regent-authority-{NAME}-1"), **asks))
    cluster.apply_one(witness(f"regent-authority-{NAME}-1"), **applied).ok()
    moved = authority(NAME, "vault1")
    cluster.patch("Authority", NAME, None, [
        {"op": "test", "path": "/spec/authority", "value": "git"}, {"op": "test", "path": "/spec/epoch", "value": 1},
        {"op": "replace", "path": "/spec", "value": moved["spec"]}], "json", **asks).ok()
    settled = {"settled": {"epoch": 1, "handoverId": moved["spec"]["handoverId"]}, "heartbeat": {"epoch": 1, "version": 1, "time": 0}}
    cluster.patch("Authority", NAME, None, {"status": settled}, "merge", subresource="status", **asks).ok()
    again = cluster.apply_one(witness(f"regent-authority-{NAME}-1"), **applied)
    assert again.status == 200, again
    for name in (f"regent-authority-{NAME}-2", f"regent-authority-{OTHER}-1", "coredns"):
        assert by_rbac(cluster.apply_one(witness(name), **applied)), name


def verifies(cluster, token):
    """After a restore that lost both witnesses: the same mirror again, from Vault's record."""
    cluster.delete("ConfigMap", f"regent-authority-{NAME}-1", "kube-system", user="breakglass").ok()
    cluster.delete("Authority", NAME, user="breakglass").ok()
    applied = {"manager": "regent", "force": True, "user": token}
    granted(cluster, Who(VERIFY, token), ("Authority", NAME), ("ConfigMap", f"regent-authority-{NAME}-1", "kube-system"))
    assert cluster.apply_one(witness(f"regent-authority-{NAME}-1"), **applied).status == 201
    assert cluster.apply_one(authority(NAME, "vault1"), **applied).status == 201
    asks = {"subresource": "status", "user": token}
    beat, settled = {"heartbeat": {"epoch": 1, "version": 2, "time": 0}}, {"settled": {"epoch": 1, "handoverId": HANDOVERS[0]}}
    cluster.patch("Authority", NAME, None, {"status": beat}, "merge", **asks).ok()
    assert refused_by(cluster.patch("Authority", NAME, None, {"status": settled}, "merge", **asks), "regent-handover")


def breaks_glass(cluster, group):
    """A new epoch: the Authority, and the names of its witnesses in the roles."""
    asks = group.asks()
    assert verdict(cluster.apply_one(authority(NAME, "git2"), manager="regent", force=True, **asks)) == "done"
    for part in ("reader", "handover", "verify"):
        role = cluster.get("Role", f"regent-{part}-{NAME}", "kube-system", **asks).ok()
        # What it reads; or what it writes, and what it reads beside it.
        epochs = [(1, 2, 3)] if part == "reader" else [(2,), (1, 3)]
        rules = [{**rule, "resourceNames": [f"regent-authority-{NAME}-{epoch}" for epoch in around]}
                 for rule, around in zip(role["rules"], epochs, strict=True)]
        answer = cluster.apply_one({"apiVersion": role["apiVersion"], "kind": "Role", "rules": rules,
                                    "metadata": {"name": role["metadata"]["name"], "namespace": "kube-system"}},
                                   manager="regent", force=True, **asks)
        assert answer.status == 200, answer
    assert verdict(cluster.delete("ConfigMap", f"regent-authority-{NAME}-1", "kube-system", **asks)) == "done"
    # Not even this group writes a witness.
    assert refused_by(cluster.apply_one(witness(f"regent-authority-{NAME}-2"), **asks), "regent-witness")
    # `init --move`, while git(2).
    assert verdict(cluster.patch("Authority", NAME, None, {"spec": {"prefix": "elsewhere"}}, **asks)) == "done"
    # The handover of epoch 2 has its witness's name now, and reads those of the epochs beside it.
    token = cluster.token("regent-system", f"regent-handover-{NAME}")
    granted(cluster, Who(HANDOVER, token), ("ConfigMap", f"regent-authority-{NAME}-3", "kube-system"))
    for epoch in (1, 3):
        assert by_rbac(cluster.apply_one(witness(f"regent-authority-{NAME}-{epoch}"), user=token)), epoch
        assert cluster.get("ConfigMap", f"regent-authority-{NAME}-{epoch}", "kube-system", user=token).status == 404, epoch
    assert cluster.apply_one(witness(f"regent-authority-{NAME}-2"), user=token).status == 201


def grows(cluster, them):
    """Nobody gives away, or to itself, what it does not have."""
    secrets = [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"]}]
    rbac = "rbac.authorization.k8s.io"
    admin = {"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-admin"}
    tried = [
        {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": {"name": "more", "namespace": "kube-system"}, "rules": secrets},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": "more"}, "rules": secrets},
        {"apiVersion": f"{rbac}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "more"}, "roleRef": admin, "subjects": []},
        {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": {"name": "more", "namespace": "kube-system"}, "roleRef": admin},
    ]
    for who in RIGHTS:
        for thing in tried:
            for ask in (cluster.create, cluster.apply_one):
                answer = ask(copy.deepcopy(thing), **them[who].asks() if "prod" not in who else {
                    "user": cluster.token("regent-system", f"regent-{who.replace(' ', '-')}")})
                assert answer.status == 403 and not answer.causes, (who, thing, answer)
    for who in ("installer", "break-glass"):
        asks = them[who].asks()
        for name in ("regent-reader-prod", "regent-init"):
            answer = cluster.patch("Role", name, "kube-system", {"rules": secrets}, **asks)
            assert answer.status == 403 and not answer.causes, (who, answer)
        for kind, name in (("ValidatingAdmissionPolicyBinding", "regent-keep"), ("ValidatingAdmissionPolicy", "regent-keep"),
                           ("ValidatingAdmissionPolicyBinding", f"regent-lock-{NAME}")):
            assert by_rbac(cluster.patch(kind, name, None, {"metadata": {"labels": {"a": "b"}}}, **asks)), (who, kind)
            assert by_rbac(cluster.delete(kind, name, **asks)), (who, kind)
