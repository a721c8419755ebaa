import json
import re
import subprocess
import time

import authority
import init
from applications import NAMESPACE
from stage import PATIENCE, TOP, Sealed, config_map, full, leaks, secret, until

ARGO_CD, OPERATOR = "argocd-controller", "vault-operator"
POLICIES = ["regent-keep", "regent-rules", "regent-first", "regent-handover", "regent-witness"]
CRD = "authorities.regent.dev"
COPY = "kubectl.kubernetes.io/last-applied-configuration"


def story(stage):
    cluster = stage.cluster()
    place = Place(stage, cluster)
    before(place)
    plugin = init.serve(stage, cluster, [rule(stage)])
    while_git_rules(place)
    watched(plugin, holder="git", epoch=1, mirror=1)
    half_a_mirror(place)
    vault_rules(place, plugin)
    what_protects_it(place)
    what_is_lost(place)
    who_may_not_see(place)
    the_account(place)
    metrics(place, plugin)
    plugin.stop()


class Place:
    """The root of the authority `prod`, and `regent status` asked for it."""

    def __init__(self, stage, cluster):
        self.stage, self.cluster = stage, cluster
        self.prod = authority.Authority(stage, cluster, "prod")
        self.root = stage.repo.folder / self.prod.root
        stage.repo.commit({f"{self.prod.root}/{path}": content for path, content in {
            "regent.yaml": self.prod.bootstrap(), "db.yaml": Sealed(secret("db", authority.value(1), "prod")),
            "settings.yaml": config_map("settings", "prod")}.items()})

    def run(self, *words, user="admin"):
        """Exit code and standard output. Nothing that it says holds a value."""
        done = subprocess.run([self.stage.house.regent, "status", self.root, "--kubeconfig", self.cluster.kubeconfig(user), *words],
                              env=self.stage.house.env, text=True, capture_output=True)
        assert not leaks((done.stdout + done.stderr).encode()), "a value in what status says"
        assert not done.stderr, done.stderr
        return done.returncode, done.stdout

    def told(self, code, first, warnings=(), words=(), user="admin", plainly=0):
        """Asks four times: text and JSON, as a check and not. Gives the JSON."""
        got, text = self.run("--exit-code", *words, user=user)
        assert (got, text.startswith(first)) == (code, True), f"{got} instead of {code}:\n{text}"
        assert all(len(line) <= 100 for line in text.splitlines()), text
        assert self.run(*words, user=user)[0] == plainly
        got, output = self.run("--exit-code", "--output", "json", *words, user=user)
        said = json.loads(output)
        assert got == said["exitCode"] == code, said
        codes = [warning["code"] for warning in said["warnings"]]
        assert codes == list(warnings), f"{codes} instead of {list(warnings)}: {said['warnings']}"
        for warning in said["warnings"] + said["notes"]:
            assert warning["text"] and warning["wayOut"] and f"- {warning['code']}: " in text, text
        return said

    def db(self, said):
        return next(each for each in said["secrets"] if each["name"] == "prod/db")

    def sync(self, manager=ARGO_CD, **changes):
        """The live Secret as Argo CD would write it."""
        thing = full("db", authority.value(1), "prod")
        thing["metadata"].update(changes)
        self.cluster.apply_one(thing, manager, force=True).ok()

    def anew(self, **kwargs):
        self.cluster.delete("Secret", "db", "prod").ok()
        self.sync(**kwargs)


def rule(stage):
    return stage.rule(authority="prod", bootstrap="clusters/prod/regent.yaml")


def before(place):
    """Nothing is installed; then nothing is initialized; then nothing is live."""
    cluster = place.cluster
    # A CRD that is not served may hide an Authority, so nobody knows.
    said = place.told(4, "prod: nothing is rendered, and nothing live changes. P1: ", ["policies"], plainly=4)
    assert said["policies"] == [{"name": name, "inForce": "missing", "why": None} for name in POLICIES], said["policies"]
    assert said["evidence"]["authority"]["reading"] == "unreadable" and said["phase"] is None
    init.install(cluster)
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prod"}}).ok()
    said = until("the policies are there", lambda: place.told(
        4, "prod: nothing is rendered, and nothing live changes. P5: authority `prod` does not exist"))
    assert said["phase"]["number"] == 0 and said["lock"]["policy"]["inForce"] == "missing"
    assert place.db(said)["next"]["code"] == "nothing"
    assert [(one["epoch"], one["reading"]) for one in said["evidence"]["handovers"]] == [(1, "absent"), (2, "absent")]
    init.init(place.stage, cluster, "prod")
    said = place.told(0, "prod: Git rules (phase 1, control plane).")
    assert said["lock"]["policy"]["inForce"] == "yes" and len(said["lock"]["doors"]) >= 4, said["lock"]
    assert (place.db(said)["live"]["reading"], place.db(said)["next"]["code"]) == ("absent", "created")
    uid = cluster.uid()
    assert said["evidence"]["clusters"]["secrets"] == {"recorded": uid, "now": uid, "real": uid, "why": None, "same": True}
    assert said["evidence"]["root"]["same"] and said["evidence"]["vault"]["same"]


def while_git_rules(place):
    cluster = place.cluster
    place.sync()
    said = place.told(0, "prod: Git rules (phase 2, bootstrap). Its values are rendered; 1 of 1 Secrets live\n")
    db = place.db(said)
    assert db["guards"] == {"complete": True, "missing": []} and db["next"]["code"] == "rendered", db
    assert db["managers"] == [{"name": ARGO_CD, "operation": "Apply", "writesValues": True}] and db["class"] == "handover"

    # Somebody takes a guard off, and what the API server knows of it is the label alone.
    place.cluster.patch("Secret", "db", "prod", {"metadata": {"annotations": {
        "argocd.argoproj.io/sync-options": "Prune=true,Prune=false,Delete=false"}}}).ok()
    db = place.db(place.told(1, "prod: Git rules (phase 2", ["unguarded"]))
    assert db["guards"] == {"complete": False, "missing": ["Prune=false"]} and db["next"]["code"] == "renderedUnguarded", db

    # Two managers, an owner, and a copy of the values that client-side apply left.
    place.anew()
    more = {**full("db", {"extra": "REGENT-CANARY-extra"}, "prod"), "metadata": {"name": "db", "namespace": "prod"}}
    cluster.apply_one(more, OPERATOR).ok()
    db = place.db(place.told(1, "prod: Git rules", ["contended"]))
    assert db["contenders"] == [f"`{OPERATOR}` writes its values"], db
    place.anew(ownerReferences=[{"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "name": "db", "uid": "1"}])
    db = place.db(place.told(1, "prod: Git rules", ["contended"]))
    assert db["contenders"] == ["ExternalSecret `db` owns it"] and db["owners"][0]["name"] == "db", db
    place.anew()
    cluster.patch("Secret", "db", "prod", {"metadata": {"annotations": {
        COPY: json.dumps(full("db", authority.value(1), "prod"))}}}).ok()
    assert place.db(place.told(1, "prod: Git rules", ["clear-copy"]))["clearCopy"]
    place.anew()

    # One that no document lists, and an Authority that a GitOps tool thinks is its own.
    cluster.apply_one(full("old", authority.value(1), "prod"), ARGO_CD).ok()
    said = place.told(1, "prod: Git rules", ["unlisted"])
    assert said["warnings"][0]["about"] == ["prod/old"] and said["secrets"][1]["next"]["code"] == "kept", said["secrets"]
    cluster.delete("Secret", "old", "prod").ok()
    tracking = {"metadata": {"annotations": {"argocd.argoproj.io/tracking-id": "infra:regent.dev/Authority:/prod"}}}
    cluster.patch("Authority", "prod", None, tracking).ok()
    said = place.told(1, "prod: Git rules", ["tracked"])
    assert said["evidence"]["tracking"]["argocd"] == "infra" and "Application infra" in said["warnings"][0]["text"]
    tracking["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"] = None
    cluster.patch("Authority", "prod", None, tracking).ok()
    place.told(0, "prod: Git rules")


def half_a_mirror(place):
    """The witness is there and the Authority still says git."""
    place.prod.witnessed()
    first = f"recorded, not mirrored: handover {place.prod.id[:8]}; the Authority still says git; run the handover again\n"
    said = place.told(7, f"{first}prod: Vault rules (phase 3, activation).")
    assert said["recordedNotMirrored"] + "\n" == first and said["witnesses"]["mirrorComplete"] is False
    assert place.db(said)["next"]["code"] == "stub", place.db(said)


def vault_rules(place, plugin):
    cluster, prod = place.cluster, place.prod
    watched(plugin, holder="git", epoch=1, mirror=1)
    prod.moved()
    # The metrics follow the Authority by themselves.
    watched(plugin, holder="vault", epoch=1, mirror=1)
    said = place.told(7, "prod: Vault rules (phase 3, activation). No value comes from Git; caches may still")
    assert said["recordedNotMirrored"] is None and said["witnesses"]["mirrorComplete"] is True
    assert said["evidence"]["handovers"][0]["documents"] == 1
    beat = int(time.time()) - 600
    settled = {"heartbeat": {"epoch": 1, "version": 7, "time": beat}, "settled": {"epoch": 1, "handoverId": prod.id}}
    cluster.patch("Authority", "prod", None, {"apiVersion": "regent.dev/v1alpha1", "kind": "Authority",
                                              "metadata": {"name": "prod"}, "status": settled},
                  "merge", subresource="status", user=prod.token()).ok()
    watched(plugin, settled=1)
    said = place.told(0, "prod: Vault rules (phase 4, steady state). No value comes from Git; no old value can come back")
    assert 600 <= said["evidence"]["heartbeat"]["ageSeconds"] <= time.time() - beat, said["evidence"]["heartbeat"]

    # Keys are still mounted: the rule's, as the operator's file names them, and the pod's.
    assert said["keys"] == {"files": [], "mounted": [], "why": None}
    said = place.told(1, "prod: Vault rules", ["keys"], ["--config", plugin.config])
    assert said["keys"]["files"] == [str(place.stage.key.file)]
    cluster.create(deployment()).ok()
    place.told(0, "prod: Vault rules")
    cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "regent-keys-prod", "namespace": NAMESPACE}}).ok()
    assert place.told(1, "prod: Vault rules", ["keys"])["keys"]["mounted"] == ["argocd/regent-keys-prod"]
    cluster.delete("Secret", "regent-keys-prod", NAMESPACE).ok()

    # The Secret goes, which Git does not bring back.
    live = prod.live()
    cluster.delete("Secret", "db", "prod").ok()
    db = place.db(place.told(1, "prod: Vault rules", ["absent"]))
    assert db["next"]["code"] == "delivered", db
    # Vault's operator writes it, guards and label and all: one writer, no fight.
    kept = {key: live["metadata"][key] for key in ("name", "namespace", "labels", "annotations")}
    cluster.apply_one({**live, "metadata": kept}, OPERATOR).ok()
    assert place.db(place.told(0, "prod: Vault rules"))["next"]["code"] == "stub"
    # Without a guard a stub does not keep it.
    cluster.patch("Secret", "db", "prod", {"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/prune": None}}}).ok()
    assert place.db(place.told(1, "prod: Vault rules", ["unguarded"]))["next"]["code"] == "stubUnguarded"
    cluster.patch("Secret", "db", "prod", {"metadata": {"annotations": kept["annotations"]}}).ok()
    # Committed after the handover.
    place.stage.repo.commit({"clusters/prod/late.yaml": Sealed(secret("late", authority.value(1), "prod"))})
    assert place.told(1, "prod: Vault rules", ["not-listed"])["secrets"][1]["next"]["code"] == "notListed"
    place.stage.repo.commit({"clusters/prod/late.yaml": None})
    place.told(0, "prod: Vault rules")


def what_protects_it(place):
    """Policies and the lock are looked at as they are, not as they were installed."""
    cluster, prod = place.cluster, place.prod
    binding = "ValidatingAdmissionPolicyBinding"
    cluster.delete(binding, "regent-keep").ok()
    said = place.told(1, "prod: Vault rules", ["policies"])
    assert said["warnings"][0]["about"] == ["regent-keep"] and said["policies"][0]["inForce"] == "missing"
    init.install(cluster)
    cluster.patch(binding, "regent-rules", None, {"spec": {"validationActions": ["Audit"]}}).ok()
    assert place.told(1, "prod: Vault rules", ["policies"])["policies"][1]["inForce"] == "toothless"
    cluster.apply(TOP / "manifests/cluster", force=True)
    prod.unlock()
    assert place.told(1, "prod: Vault rules", ["lock"])["lock"] == {
        "policy": {"name": "regent-lock-prod", "inForce": "missing", "why": None}, "doors": None}
    init.init(place.stage, cluster, "prod", "--complete")
    place.told(0, "prod: Vault rules")


def what_is_lost(place):
    """One witness says it all the same, and the first line says that the other is not there."""
    cluster, prod = place.cluster, place.prod
    name = "regent-authority-prod-1"
    witness = cluster.get("ConfigMap", name, "kube-system").ok()
    cluster.delete("ConfigMap", name, "kube-system", user="breakglass").ok()
    said = place.told(7, f"recorded, not mirrored: handover {prod.id[:8]}; ConfigMap {name} is missing;", ["list"])
    assert said["evidence"]["handovers"][0]["reading"] == "absent" and place.db(said)["listed"] is None
    prod.again(witness)
    place.told(0, "prod: Vault rules (phase 4")
    # A CRD that is not served hides the Authority; the ConfigMap speaks alone, and nobody knows whether it is settled.
    served(cluster, False)
    said = place.told(7, f"recorded, not mirrored: handover {prod.id[:8]}; the Authority cannot be read")
    assert said["phase"]["number"] == 3 and "does not serve" in said["evidence"]["authority"]["why"]
    served(cluster, True)
    place.told(0, "prod: Vault rules (phase 4")


def served(cluster, yes):
    cluster.patch("CustomResourceDefinition", CRD, None,
                  [{"op": "replace", "path": "/spec/versions/0/served", "value": yes}], "json", user="breakglass").ok()
    path = "/apis/regent.dev/v1alpha1/authorities/prod"
    until("the API server took it up", lambda: (cluster.request("GET", path).status == 200) == yes)


def who_may_not_see(place):
    """What somebody may not see is not as it should be: it is said, with who does not see what."""
    said = place.told(4, "prod: nothing is rendered, and nothing live changes. P1: ",
                      ["not-seen"] * 4, user="installer", plainly=4)
    assert "no right to read it" in said["evidence"]["authority"]["why"], said["evidence"]
    # The front door's own account knows who rules, and little else.
    said = place.told(1, "prod: Vault rules (phase 4", ["not-seen"] * 6, user=init.reader_token(place.cluster))
    # The same reason of several things is told once.
    seen = [each["about"] for each in said["warnings"]]
    assert [f"policy {name}" for name in (*POLICIES, "regent-lock-prod")] in seen, seen
    assert place.db(said)["live"]["reading"] == "unreadable" and place.db(said)["next"]["code"] == "unknown"
    assert {policy["inForce"] for policy in said["policies"]} == {"unknown"}


def metrics(place, plugin):
    """The watch begins anew when the API server does."""
    place.cluster.restart_apiserver()
    served(place.cluster, False)
    served(place.cluster, True)
    until("reads are counted, and timed, and take requests", lambda: counted(plugin.metrics()))
    # Deleted and made again, it is seen again.
    then = place.cluster.get("Authority", "prod").ok()
    until("the watch is back", lambda: changed(place, plugin))
    place.cluster.delete("Authority", "prod", user="breakglass").ok()
    watched(plugin, holder="vault", mirror=0)
    place.prod.again(then)
    watched(plugin, holder="vault", mirror=1)


def the_account(place):
    """The account that handed over is named until it and what binds it are gone: by the commands that are printed."""
    cluster, name = place.cluster, "regent-handover-prod"
    named = [f"ServiceAccount regent-system/{name}", f"ClusterRoleBinding {name}", f"RoleBinding kube-system/{name}"]
    [note] = place.told(0, "prod: Vault rules (phase 4")["notes"]
    assert (note["code"], note["about"]) == ("handover-account", named), note
    commands = re.findall("`kubectl ([^`]+)`", note["wayOut"])
    assert len(commands) == 3, note
    for command, left in zip(commands, (named[1:], named[2:], [])):
        cluster.kubectl(*command.split())
        notes = place.told(0, "prod: Vault rules (phase 4")["notes"]
        assert [about for note in notes for about in note["about"]] == left, notes
    for kind, namespace in (("ClusterRole", None), ("Role", "kube-system")):
        assert cluster.get(kind, name, namespace).status == 404, kind
    init.init(place.stage, cluster, "prod", "--complete")
    assert place.told(0, "prod: Vault rules (phase 4")["notes"][0]["about"] == named


def counted(told):
    """The plugin reads all the while, and may count one while it is asked."""
    reads = told["regent_witness_reads_total"]
    return reads >= 3 and told["regent_witness_read_seconds_count"] == reads <= told['regent_api_requests_total{code="200"}']


def changed(place, plugin):
    """Whether a change of the Authority leads to a read."""
    before = plugin.metric("regent_witness_reads_total")
    place.cluster.patch("Authority", "prod", None, {"metadata": {"annotations": {"touched": str(time.time())}}}).ok()
    time.sleep(1)
    return plugin.metric("regent_witness_reads_total") > before


def watched(plugin, holder=None, seconds=2 * PATIENCE, **gauges):
    """Waits until the plugin's metrics say so."""
    names = {"epoch": "epoch", "mirror": "mirror_complete", "settled": "settled"}
    want = {f'regent_authority_{names[name]}{{authority="prod"}}': value for name, value in gauges.items()}
    if holder:
        want |= {f'regent_authority_holder{{authority="prod",holder="{each}"}}': float(each == holder)
                 for each in ("git", "vault", "none", "disagree", "unreadable")}

    def says():
        told = plugin.metrics()
        return all(told.get(name) == value for name, value in want.items())
    until(f"the metrics say {want}", says, seconds)


def deployment():
    """The repo-server as far as it matters: its plugin's keys."""
    labels = {"app": "argocd-repo-server"}
    volume = {"name": "keys", "secret": {"secretName": "regent-keys-prod", "optional": True}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "argocd-repo-server", "namespace": NAMESPACE},
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {
                "volumes": [volume], "containers": [{"name": "regent", "image": "none"}]}}}}
