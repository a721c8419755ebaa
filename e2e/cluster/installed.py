"""A cluster with regent's manifests in it, and everybody who may come to it.

What is applied is what is shipped: manifests/cluster as it is, and its example for each authority's name.
"""

import contextlib
import json
import re
import time
from typing import NamedTuple

from stage import TOP, at, until

MANIFESTS = TOP / "manifests/cluster"
HANDOVERS = ["5d1f8c3a-2b7e-4a90-8c11-0f2e3d4c5b6a", "9a7b6c5d-4e3f-4211-a0b9-c8d7e6f50413"]


class Who(NamedTuple):
    """Somebody: a token, and whom it acts as."""

    name: str
    token: str
    headers: dict = {}

    def __repr__(self):
        return self.name

    def asks(self):
        return {"user": self.token, "headers": self.headers}


def authority(name, says, cluster_uid="11111111-2222-4333-8444-555555555555", **more):
    """An Authority that says `git1`, `vault1`, `git2`, ...: every epoch supersedes the one before it."""
    holder, epoch = re.fullmatch(r"(git|vault)(\d+)", says).groups()
    epoch = int(epoch)
    spec = {"schema": 1, "authorityId": name, "authority": holder, "epoch": epoch, "root": "clusters/prod",
            "vaultAddress": "https://vault.example:8200", "mount": "secret", "prefix": "bootstrap/prod",
            "witnessKubeUid": cluster_uid, "targetKubeUid": cluster_uid}
    if epoch > 1:
        spec["supersedes"] = HANDOVERS[epoch - 2]
    if holder == "vault":
        spec |= {"handoverId": HANDOVERS[epoch - 1], "vaultClusterId": "7c0d4c1e-8f5b-4a57-9d0f-1b2c3d4e5f60",
                 "mountUuid": "2f1e0d9c-8b7a-4655-8443-3221100ffeed", "markerVersion": 1,
                 "markerCreatedTime": "2026-01-02T03:04:05.678901234Z", "gitCommit": "a" * 40, "treeDigest": "b" * 64,
                 "regentVersion": "0.1.0"}
    spec |= more
    return {"apiVersion": "regent.dev/v1alpha1", "kind": "Authority", "metadata": {"name": name},
            "spec": {key: value for key, value in spec.items() if value is not None}}


def witness(name, **more):
    thing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "kube-system"},
             "immutable": True, "data": {"witness.json": "{}"}}
    return {key: value for key, value in (thing | more).items() if value is not None}


def install(cluster, *words):
    """The one apply."""
    cluster.kubectl("apply", "--server-side", "--field-manager=regent", "--kustomize", str(MANIFESTS), *words)
    cluster.established("authorities.regent.dev")


def bound(cluster):
    """Waits until each policy has refused something that was only tried, and gives the seconds that it took."""
    start, took = time.monotonic(), {}
    dry = {"dryRun": "All"}
    root = {"user": "admin"}
    crd = cluster.get("CustomResourceDefinition", "authorities.regent.dev").ok()
    crd["spec"]["names"]["categories"] = []
    crd["spec"]["versions"][0]["served"] = False
    tries = {
        "regent-keep": lambda: cluster.delete("Namespace", "regent-system", query=dry, **root),
        "regent-rules": lambda: cluster.patch("CustomResourceDefinition", "authorities.regent.dev", None,
                                              {"spec": {"versions": crd["spec"]["versions"]}}, query=dry, **root),
        "regent-first": lambda: cluster.create(authority("probe", "vault1"), query=dry, **root),
        "regent-witness": lambda: cluster.create(witness("regent-authority-probe-1"), query=dry, **root),
    }
    for policy, attempt in tries.items():
        until(f"{policy} is in force", lambda attempt=attempt, policy=policy: refused_by(attempt(), policy))
        took[policy] = time.monotonic() - start
    return took


def refused_by(answer, policy):
    """Whether this very policy said no; RBAC's no has no causes."""
    return answer.status == 403 and f"'{policy}'" in answer.message and bool(answer.causes)


def of_authority(name):
    """What `init` makes for an authority of that name: the shipped example, renamed."""
    return re.sub(r"\bprod\b", name, (MANIFESTS / "example/prod.yaml").read_text())


def people(cluster, *authorities):
    """Everybody, by name: an admin whom no RBAC stops, and those who have what the manifests give them."""
    for name in authorities:
        # What it grants to accounts of other namespaces does not need them to be there.
        cluster.apply(of_authority(name), manager="regent")
    admin = cluster.tokens["admin"]
    found = {
        "admin": Who("admin", admin),
        "break-glass": Who("break-glass", admin, {"Impersonate-User": "jane", "Impersonate-Group": "regent:break-glass"}),
        "installer": Who("installer", cluster.account("platform", "installer")),
        "reader": Who("reader", cluster.account("argocd", "argocd-repo-server")),
        "somebody": Who("somebody", cluster.account("app", "somebody")),
    }
    for name in authorities:
        for part in ("handover", "verify"):
            found[f"{part} {name}"] = Who(f"{part} {name}", cluster.token("regent-system", f"regent-{part}-{name}"))
    bind = ["--serviceaccount=platform:installer"]
    cluster.kubectl("create", "clusterrolebinding", "regent-init", "--clusterrole=regent-init", *bind)
    for namespace in ("kube-system", "regent-system"):
        cluster.kubectl("create", "rolebinding", "regent-init", "--role=regent-init", f"--namespace={namespace}", *bind)
    granted(cluster, found["installer"], *INSTALLER)
    granted(cluster, found["break-glass"], ("Authority",), ("ConfigMap", None, "kube-system"))
    for name in authorities:
        for who in ("reader", f"handover {name}", f"verify {name}"):
            granted(cluster, found[who], ("Authority", name), ("ConfigMap", f"regent-authority-{name}-1", "kube-system"))
    return found


# What each of the three roles of an installer lets it read.
INSTALLER = ("CustomResourceDefinition", "authorities.regent.dev"), ("ConfigMap", None, "kube-system"), ("ServiceAccount", "any", "regent-system")


def granted(cluster, who, *things):
    """Waits until somebody may read these, which are there or not: a role and what binds it are in force a moment later."""
    for thing in things:
        until(f"{who} may read {thing}", lambda thing=thing: cluster.get(*thing, **who.asks()).status in (200, 404))


def without_rbac(cluster, found):
    """Lets RBAC allow everybody everything, so that only rules and policies are left; gives who is asked then."""
    cluster.kubectl("create", "clusterrolebinding", "everybody", "--clusterrole=cluster-admin", "--group=system:authenticated")
    until("everybody may", lambda: cluster.get("Secret", user=found["somebody"].token).status == 200)


@contextlib.contextmanager
def one_connection(cluster, timeout=60):
    """For thousands of questions: one connection for all of them, so no watch may be among them."""
    class Kept:
        connection = cluster.connection(timeout)
        request, getresponse = connection.request, connection.getresponse

        def close(self):
            pass

    each, cluster.connection = cluster.connection, lambda timeout: Kept()
    try:
        yield
    finally:
        cluster.connection = each
        Kept.connection.close()


def verdict(answer):
    """An answer in a word: done, conflict, rules (of the CRD or of Kubernetes), rbac, or the policy that refused.
    The exact status and reason belong to each."""
    if answer.status in (200, 201):
        return "done"
    reason = answer.body["reason"]
    if answer.status == 409 and reason == "Conflict":
        return "conflict"
    if answer.status == 422 and reason == "Invalid":
        return "rules"
    assert answer.status == 403 and reason == "Forbidden", answer
    if not answer.causes:
        assert "cannot" in answer.message, answer
        return "rbac"
    return re.search(r"ValidatingAdmissionPolicy '([^']+)' with binding '\1' denied request: regent: ", answer.message)[1]


def root(cluster, thing):
    """Puts an object there as it is, past every rule: by deletion and, step by step, those who may."""
    name, says = thing["metadata"]["name"], f"{thing['spec']['authority']}{thing['spec']['epoch']}"
    cluster.delete("Authority", name, user="breakglass")
    steps = {"git1": ["git1"], "vault1": ["git1", "vault1"], "git2": ["git2"], "vault2": ["git2", "vault2"]}[says]
    for step in steps:
        cluster.apply_one(authority(name, step) if step != says else thing, manager="regent", force=True, user="breakglass").ok()
    return cluster.get("Authority", name).ok()


def flat(thing):
    return json.dumps(thing, sort_keys=True)


def path_of(thing, subresource=None):
    return at(thing["kind"], thing["metadata"]["name"], thing["metadata"].get("namespace"), subresource)
