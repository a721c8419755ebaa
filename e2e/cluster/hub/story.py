import json
import re

import authority
import init
import said
from init_place import objects
from stage import Sealed, config_map, full, plain, secret, stub, until

ARGOCD_MANAGER = "system:serviceaccount:kube-system:argocd-manager"
GLASS = ("--as", "jane", "--as-group", "regent:break-glass")
# Name and target of each authority.
NAMES = {"eu": "eu", "us": "us", "eu-two": "eu"}


def story(stage):
    clusters = {name: stage.cluster(name) for name in ("hub", "eu", "us")}
    hub = clusters["hub"]
    stage.house.serve()
    place = Place(stage, clusters)
    for cluster in clusters.values():
        init.install(cluster)
    for name, target in NAMES.items():
        clusters[target].create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).ok()
    protected(place)
    for name in NAMES:
        created(place, name)
    again(place)
    completed(place)
    moved(place)
    door = init.serve(stage, hub, [stage.rule(authority=name, bootstrap=f"clusters/{name}/regent.yaml",
                                              paths=[f"clusters/{name}", f"clusters/{name}/**"]) for name in NAMES])
    for name in NAMES:
        place.values(name)
    handed_over(place, "eu")
    for name in NAMES:
        (place.stubs if name == "eu" else place.values)(name)
    door.stop()


class Place:
    def __init__(self, stage, clusters):
        self.stage, self.clusters = stage, clusters
        self.all = {name: authority.Authority(stage, clusters["hub"], name) for name in NAMES}
        stage.repo.commit({f"{each.root}/{path}": content for each in self.all.values() for path, content in {
            "regent.yaml": each.bootstrap(), "db.yaml": Sealed(secret("db", authority.value(1), each.name)),
            "settings.yaml": config_map("settings", each.name)}.items()})
        self.config = stage.folder / "kubeconfig"
        self.config.write_text(json.dumps({
            "apiVersion": "v1", "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": each.server, "certificate-authority": str(each.ca)}}
                         for name, each in clusters.items()],
            "users": [{"name": name, "user": {"token": each.tokens["admin"]}} for name, each in clusters.items()],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in clusters]}))

    def words(self, name, *more, target=None):
        context = () if target is False else ("--target-context", target or NAMES[name])
        if "--complete" not in more and "--move" not in more:
            more = ("--no-vault-yet", *more)
        return ("init", self.stage.repo.folder / self.all[name].root, "--kubeconfig", self.config, "--context", "hub", *context,
                "--yes", *more)

    def all_objects(self):
        return {name: objects(cluster) for name, cluster in self.clusters.items()}

    def done(self, *words, **kwargs):
        return said.done(self.stage, *self.words(*words, **kwargs)).out

    def refused(self, code, expected, *words, **kwargs):
        before = self.all_objects()
        said.refused(self.stage, code, 1, expected, *self.words(*words, **kwargs))
        assert self.all_objects() == before, "something was written"

    def asked(self, name):
        return {"path": f"clusters/{name}", "namespace": name}

    def values(self, name):
        self.stage.render([full("db", authority.value(1), name, name), plain(config_map("settings", name))], path=f"clusters/{name}")

    def stubs(self, name):
        self.stage.render([stub("db", name, name), plain(config_map("settings", name))], path=f"clusters/{name}")


def protected(place):
    """The target has to have the policies too: the copy there is what the lock asks."""
    eu = place.clusters["eu"]
    binding = eu.get("ValidatingAdmissionPolicyBinding", "regent-handover").ok()
    eu.delete("ValidatingAdmissionPolicyBinding", "regent-handover").ok()
    place.refused("not-ready", [eu.server, "regent-handover is missing"], "eu")
    eu.create({**binding, "metadata": {"name": "regent-handover"}}).ok()


def created(place, name):
    hub, target = place.clusters["hub"], place.clusters[NAMES[name]]
    before = place.all_objects()
    place.done(name, "--dry-run")
    assert place.all_objects() == before, "a dry run wrote something"
    out = place.done(name)
    assert f"secrets in    {target.server} (gets a copy" in out and ARGOCD_MANAGER in out, out
    after = place.all_objects()
    made = {cluster: set(after[cluster]) - set(before[cluster]) for cluster in after}
    lock = {(kind, None, f"regent-lock-{name}") for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")}
    assert made.pop(NAMES[name]) == {("Authority", None, name)} | lock
    in_hub = made.pop("hub")
    assert ("Authority", None, name) in in_hub and not in_hub & lock and len(in_hub) == 1 + 2 + 12, in_hub
    assert not any(made.values()), made
    spec, copy = (cluster.get("Authority", name).ok()["spec"] for cluster in (hub, target))
    assert spec == copy and spec["witnessKubeUid"] == hub.uid() and spec["targetKubeUid"] == target.uid(), spec


def again(place):
    eu = place.clusters["eu"]
    place.refused("exists", ["Authority eu", "git(1)"], "eu")
    place.refused("exists", ["Authority eu"], "eu", target="us")
    place.refused("exists", ["Authority eu"], "eu", target=False)
    # The hub forgot it; the target did not.
    hub = place.clusters["hub"]
    spec = hub.get("Authority", "eu").ok()
    hub.delete("Authority", "eu", user="breakglass").ok()
    place.refused("exists", [f"Authority eu in {eu.server}"], "eu")
    hub.create({**spec, "metadata": {key: spec["metadata"][key] for key in ("name", "labels", "annotations")}}).ok()


def completed(place):
    """Stopped between hub and target, and in the middle of the target."""
    eu = place.clusters["eu"]
    for kind in ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"):
        eu.delete(kind, "regent-lock-eu").ok()
    place.refused("exists", ["regent-lock-eu", "is missing: `regent init --complete`"], "eu")
    eu.delete("Authority", "eu", user="breakglass").ok()
    place.refused("exists", ["Authority eu and 2 more", "`regent init --complete`"], "eu")
    for target in (False, "us"):
        place.refused("not-ready", ["live in another cluster", eu.uid(), "--target-context"], "eu", "--complete", target=target)
    place.done("eu", "--complete")
    assert eu.get("Authority", "eu").ok()["spec"] == place.clusters["hub"].get("Authority", "eu").ok()["spec"]
    assert eu.get("ValidatingAdmissionPolicyBinding", "regent-lock-eu").status == 200
    before = place.all_objects()
    place.done("eu", "--complete")
    assert place.all_objects() == before


def moved(place):
    """The copy moves along."""
    hub, eu, each = place.clusters["hub"], place.clusters["eu"], place.all["eu"]
    old = each.bootstrap()
    place.stage.repo.commit({f"{each.root}/regent.yaml": re.sub("vault.example", "other.example", old)})
    place.refused("not-ready", ["--target-context"], "eu", "--move", *GLASS, target=False)
    place.refused("denied", ["break-glass"], "eu", "--move")
    place.done("eu", "--move", *GLASS)
    for cluster in (hub, eu):
        assert cluster.get("Authority", "eu").ok()["spec"]["vaultAddress"] == "https://other.example:8200"
    place.stage.repo.commit({f"{each.root}/regent.yaml": old})
    place.done("eu", "--move", *GLASS)


def handed_over(place, name):
    """In the hub first, then the copy, as the handover will do it."""
    each, eu = place.all[name], place.clusters["eu"]
    for cluster in ("eu", "us"):
        place.clusters[cluster].kubectl("create", "clusterrolebinding", "door", "--clusterrole=cluster-admin", f"--user={ARGOCD_MANAGER}")
    live = {(target, owner, secret_name): {
        "apiVersion": "v1", "kind": "Secret", "data": {"password": "b2xk"},
        "metadata": {"name": secret_name, "namespace": owner, **({"labels": {"regent.dev/authority": owner}} if secret_name == "db" else {})}}
        for owner, target in NAMES.items() for secret_name in ("db", "free")}
    for (target, *_), thing in live.items():
        place.clusters[target].create(thing).ok()

    def tried(target, owner, secret_name):
        return place.clusters[target].patch("Secret", secret_name, owner, {"data": {"password": "bmV3"}}, query={"dryRun": "All"},
                                            headers={"Impersonate-User": ARGOCD_MANAGER})

    def refused():
        found = set()
        for target, owner, secret_name in live:
            answer = tried(target, owner, secret_name)
            if answer.status == 403 and authority.LOCKED in answer.message:
                found.add((target, owner, secret_name))
            else:
                assert answer.status == 200, answer
        return found
    until("RBAC lets the door", lambda: all(tried(*each).status == 200 for each in live))
    each.hand_over()
    # The hub's word alone is none for the lock there.
    assert refused() == set()
    copy = place.clusters["hub"].get("Authority", name).ok()["spec"]
    assert eu.patch("Authority", name, None, {"spec": copy}).status == 403, "the copy is anybody's"
    eu.patch("Authority", name, None, {"spec": copy}, user="breakglass").ok()
    until("the lock is in force", lambda: refused() == {("eu", "eu", "db")})
