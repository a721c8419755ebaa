"""An authority in a real API server, with the real OpenBao beside it, and `regent handover` by the account that may."""

import json

import init
from applications import NAMESPACE
from handed import Hand
from init_place import objects
from stage import until
from vaulted import Place, namespace

ACCOUNT = "regent-handover-prod"
USER = f"system:serviceaccount:regent-system:{ACCOUNT}"
# The account by impersonation, as an administrator has it.
AS = "--as", USER


class Clustered(Hand):
    """`cluster` holds the witnesses. `target` holds the Secrets where the cluster is a hub. `repo` is the clone that is handed
    over. Who is not named in `by` is the handover's own account, with a real token."""

    def __init__(self, stage, cluster, target=None, **kwargs):
        self.cluster, self.target, self.repo = cluster, target or cluster, stage.repo.folder
        super().__init__(stage, **kwargs)

    def clusters(self):
        return list({id(each): each for each in (self.cluster, self.target)}.values())

    def init(self, *words):
        self.installed()
        self.begun("--vault-token-file", self.token, *words)

    def installed(self):
        for cluster in self.clusters():
            cluster.waits_for_rights = True
        self.where = ["--kubeconfig", self.cluster.kubeconfig()]
        self.place = Place(self.stage, self.cluster, self.bao, self.target)
        self.place.install()
        namespace(self.target, "app")
        self.may_look()

    def may_look(self):
        """At the Secrets that are handed over, each by its name, as `--print-policy` has it."""
        rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "listed", "namespace": "app"}}
        names = [name.removeprefix("app/") for name in self.expected]
        self.target.apply([
            {**rbac, "kind": "Role", "rules": [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["get"]}]},
            {**rbac, "kind": "RoleBinding", "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "listed"},
             "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": "regent-system"}]}])

    def may_refresh(self, *names):
        """The handover's account may, by a role with names."""
        rbac = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "refresh", "namespace": NAMESPACE}}
        self.cluster.apply([
            {**rbac, "kind": "Role", "rules": [{"apiGroups": ["argoproj.io"], "resources": ["applications"],
                                                "resourceNames": names, "verbs": ["get", "patch"]}]},
            {**rbac, "kind": "RoleBinding", "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "refresh"},
             "subjects": [{"kind": "ServiceAccount", "name": "regent-handover-prod", "namespace": "regent-system"}]}])

    def connected(self):
        """Asks this cluster from now on."""
        self.where = ["--kubeconfig", self.cluster.kubeconfig()]
        self.place = Place(self.stage, self.cluster, self.bao, self.target)
        self.account = ["--kubeconfig", self.cluster.kubeconfig(self.cluster.token("regent-system", ACCOUNT))]

    def begun(self, *words, **kwargs):
        """`regent init` by an administrator."""
        said = self.regent("init", self.place.root, *self.where, "--yes", *words, **kwargs)
        if not kwargs.get("ends"):
            self.connected()
        return said

    # --- the handover

    def handover(self, *words, by=None, **kwargs):
        there, self.where = self.where, by or self.account
        try:
            return super().handover(*words, **kwargs)
        finally:
            self.where = there

    def handover_words(self, *words, **kwargs):
        said = super().handover_words(*words, **kwargs)
        said[said.index("--repo") + 1] = self.repo
        return said

    def mirrored(self, *words, **kwargs):
        """It is settled too: there is no Argo CD that could bring an old value back."""
        return self.handover(*words, says="closed: ", **kwargs)

    def everything(self):
        """Whatever a handover could write: every object with its resourceVersion, and every key of Vault. Applications and
        Events are left out: Argo CD itself writes them every few seconds."""
        found = [objects(each) for each in self.clusters()]
        return [{thing: version for thing, version in each.items() if thing[0] not in ("Application", "Event")} for each in found], self.versions()

    def refused(self, *words, **kwargs):
        """Told, and nothing was written."""
        before = self.everything()
        said = self.handover(*words, **kwargs)
        after = self.everything()
        assert after == before, [set(now.items()) ^ set(then.items()) for now, then in zip([*after[0], after[1]], [*before[0], before[1]])]
        return said

    def settled(self):
        """What is noted of it; None where it is not."""
        status = self.cluster.get("Authority", "prod").ok().get("status", {})
        if "settled" not in status:
            return None
        assert status["settled"] == {"epoch": self.epoch, "handoverId": self.authority()["handoverId"]}, status
        said = condition({"status": status}, "Settled")
        assert said["status"] == "True" and condition({"status": status}, "Ready")["status"] == "True", status
        return said["message"]

    # --- witnesses

    def authority(self, cluster=None):
        return (cluster or self.cluster).get("Authority", "prod").ok()["spec"]

    def config_map(self):
        answer = self.cluster.get("ConfigMap", f"regent-authority-prod-{self.epoch}", "kube-system")
        return None if answer.status == 404 else answer.ok()

    def git_rules(self):
        assert self.config_map() is None
        super().git_rules()

    def git_still_rules(self):
        """In this cluster, whatever Vault knows."""
        assert self.authority()["authority"] == "git" and self.config_map() is None and all(self.rendered().values())

    def vault_rules(self):
        """Record, ConfigMap and Authority say the same, in all clusters; no value is rendered, and the lock bites."""
        record, config_map = self.record(), self.config_map()
        # Of the clusters the record says where it was made, the witnesses where they are.
        here = {"witnessKubeUid": self.cluster.uid(), "targetKubeUid": self.target.uid()}
        documents, copies = json.loads(record.pop("documents")), json.loads(record.pop("records"))
        marked = self.bao.ask("GET", f"secret/data/{self.key_of_record()}")[1]["data"]["metadata"]
        marker = {"markerVersion": marked["version"], "markerCreatedTime": marked["created_time"]}
        expected = told({**record, **here, **marker})
        for cluster in self.clusters():
            assert told(self.authority(cluster)) == expected, (self.authority(cluster), expected)
        assert config_map["immutable"] is True and list(config_map["data"]) == ["witness.json"], config_map
        witness = json.loads(config_map["data"]["witness.json"])
        assert witness.pop("documents") == documents and told(witness) == expected, (witness, expected)
        assert {name for name, *_ in copies} == {each["name"] for each in documents} == set(self.names())
        assert not any(self.rendered().values()), self.rendered()
        return record["handoverId"]

    def bites(self):
        """Once Vault rules the lock keeps Argo CD off a live Secret of this authority."""
        thing = {"apiVersion": "v1", "kind": "Secret", "metadata": {
            "name": "db", "namespace": "app", "labels": {"regent.dev/authority": "prod"}}}
        # An API server that has just started does not know its Authorities yet, and refuses labelled Secrets meanwhile.
        until("the Secret is there", lambda: self.target.create(thing).status in (201, 409))
        self.place.bites("db")

    def foreign(self, handover):
        """The witness of another handover of this epoch, as if its record had been in another Vault."""
        spec = self.authority()
        witness = {**spec, "authority": "vault", "handoverId": handover, "vaultClusterId": "another", "mountUuid": "another",
                   "markerVersion": 1, "markerCreatedTime": "2026-01-01T00:00:00Z", "treeDigest": "0" * 64,
                   "gitCommit": "a" * 40, "regentVersion": "0.1.0", "documents": []}
        thing = {"apiVersion": "v1", "kind": "ConfigMap", "immutable": True, "data": {"witness.json": json.dumps(witness)},
                 "metadata": {"name": "regent-authority-prod-1", "namespace": "kube-system"}}
        self.cluster.apply_one(thing, "regent", user=self.cluster.token("regent-system", ACCOUNT)).ok()

    def forgotten(self):
        """The ConfigMap is deleted by those who may."""
        self.cluster.delete("ConfigMap", "regent-authority-prod-1", "kube-system", user="breakglass").ok()


def condition(authority, kind):
    """A condition; None where nobody noted one."""
    conditions = (authority or {}).get("status", {}).get("conditions", ())
    return next((each for each in conditions if each["type"] == kind), None)


def told(witness):
    """Fields as Vault has them: text, and none that is empty."""
    return {key: str(value) for key, value in witness.items() if value != ""}


def serve(hand):
    """Argo CD's repo-server with regent beside it, by the account of its pod."""
    hand.stage.house.serve()
    return init.serve(hand.stage, hand.cluster, [hand.stage.rule()])
