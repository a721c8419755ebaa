from bao import HANDOVER
from clustered import ACCOUNT, Clustered
from handed import CANARY, SECRETS, regent_yaml, sealed
from stage import until
from vaulted import BREAK_GLASS, rotate
from verified import VERIFY, Verifies

ROTATED = {"password": f"{CANARY}-rotated", "user": "app"}
OLDER = {"password": f"{CANARY}-older", "user": "app"}
# Who may begin with a later epoch than the first, as the program says it.
ANEW = "--as", "jane", "--as-group", "regent:break-glass", "--as-group", "system:masters"
TOKEN = {"token": f"{CANARY}-api-2"}


def story(stage):
    hand = Rebuilt(stage, stage.cluster())
    hand.reads()
    hand.handed()
    vault_lost(hand)
    lost_again(hand)
    both_lost(hand)
    with_vault_inside(hand)
    hand.bao.stop()


def vault_lost(hand):
    """After a rotation, and after a person committed `closed`. What is live is all that is left of the value."""
    first = hand.closed()
    rotate(hand.cluster, "db", ROTATED)
    hand.another_vault()
    hand.lost(first)
    hand.epoch, hand.supersedes = 2, first
    # `closed` names what is superseded, and may stay.
    hand.writes(f"closed: {first}\n")
    hand.raises("--yes", ends=1, code="live-differs", says="app/db")
    hand.writes(db=ROTATED)
    hand.raises("--yes", says=[f"vault(1, {first})", "raised: Authority prod says git(2", "Git rules epoch 2"])
    hand.git_rules()
    # Epoch 1's account may not write the witness of epoch 2; this one's may, and nobody typed anything for it.
    names = hand.cluster.get("Role", ACCOUNT, "kube-system").ok()["rules"][0]["resourceNames"]
    assert names == ["regent-authority-prod-2"], names
    second = hand.handed()
    assert second != first and hand.record()["supersedes"] == first and hand.record(1) is None
    # What the first one witnessed stays.
    assert hand.cluster.get("ConfigMap", "regent-authority-prod-1", "kube-system").ok()


def lost_again(hand):
    """Put in its place is a Vault that somebody put values into by hand, one of them an older one."""
    second = hand.closed()
    hand.another_vault()
    hand.lost(second)
    hand.bao.put("bootstrap/prod/app/api", SECRETS["api"])
    hand.bao.put("bootstrap/prod/app/db", ROTATED)
    hand.bao.put("bootstrap/prod/app/db", OLDER)
    hand.epoch, hand.supersedes = 3, second
    hand.writes()
    hand.raises("--yes", says="Git rules epoch 3")
    hand.git_rules()
    hand.applied()
    hand.refused("--yes", ends=6, code="conflict", says=["app/db", "bao kv metadata delete"])
    hand.git_rules()
    hand.bao.done("DELETE", "secret/metadata/bootstrap/prod/app/db")
    third = hand.handed()
    assert hand.record()["supersedes"] == second != third


def both_lost(hand):
    """Nothing is left but Git."""
    third = hand.closed()
    hand.cluster.restore()
    hand.another_vault()
    hand.installed()
    hand.begun("--vault-token-file", hand.token, ends=1, code="closed", says=third)
    # The commit that says that Git rules again, of the epoch that it was.
    hand.writes(api=TOKEN)
    hand.begun("--vault-token-file", hand.token, ends=1, code="denied",
               says=["epoch 3", "--as USER --as-group regent:break-glass --as-group system:masters"])
    hand.begun("--vault-token-file", hand.token, *ANEW, says="Git rules epoch 3")
    hand.git_rules()
    fourth = hand.handed()
    assert hand.record()["supersedes"] == hand.supersedes and fourth not in (third, hand.supersedes)
    assert hand.record()["targetKubeUid"] == hand.cluster.uid()


def with_vault_inside(hand):
    """Vault lay in the cluster, and a snapshot of it did not."""
    fourth = hand.closed()
    hand.bao.put("bootstrap/prod/app/db", OLDER)
    record, snapshot = hand.record(), hand.bao.snapshot()
    key, root, beat, token, reader = hand.bao.key, hand.bao.root, hand.beat(), hand.token, hand.reader
    hand.cluster.restore()
    hand.bao.stop()
    hand.installed()
    hand.begun("--no-vault-yet", *ANEW, ends=1, code="closed", says=fourth)
    hand.writes()
    hand.begun("--no-vault-yet", *ANEW, says="Git rules epoch 3")
    # Git's values, for Vault to start with.
    hand.applied()
    assert hand.place.live("db") == ROTATED
    hand.bao.rebuilt()
    hand.bao.restore(snapshot, key)
    hand.bao.root, hand.token, hand.reader = root, token, reader
    hand.refused("--yes", ends=5, code="other-place", says=f"--adopt {fourth}")
    hand.handover("--yes", "--adopt", fourth, ends=7, code="unmirrored", says="app/db differs from Vault in password")
    assert hand.vault_rules() == fourth and hand.record() == record
    assert hand.copies() == {"app/api": TOKEN, "app/db": OLDER}
    hand.bites()
    rotate(hand.cluster, "db", OLDER)
    hand.mirrored("--yes")
    assert hand.vault_rules() == fourth and hand.record() == record
    hand.fine_after(beat)


class Rebuilt(Verifies, Clustered):
    supersedes = None

    def installed(self):
        super().installed()
        self.cluster.kubectl("create", "rolebinding", "verified", "--namespace=app", "--role=listed",
                             f"--serviceaccount=regent-system:{VERIFY}")

    def verifier(self):
        return ["--kubeconfig", self.cluster.kubeconfig(self.cluster.token("regent-system", VERIFY))]

    def writes(self, more="", **values):
        """What Git says of itself, and new values."""
        self.expected.update({f"app/{name}": (1, fields) for name, fields in values.items()})
        of_epoch = f"supersedes: {self.supersedes}\n" if self.supersedes else ""
        self.commit = self.stage.repo.commit({
            "clusters/prod/regent.yaml": regent_yaml(self.address, of_epoch + more, epoch=self.epoch),
            **{f"clusters/prod/{name}.yaml": sealed(name, fields) for name, fields in values.items()}})

    def closed(self):
        """What a person commits after a handover; gives which one."""
        handover = self.authority()["handoverId"]
        self.writes(f"closed: {handover}\n")
        self.renders(False)
        return handover

    def another_vault(self):
        """With nothing in it but what an administrator writes into a new one."""
        before = self.identity()
        self.bao.rebuilt()
        assert not set(before) & set(self.identity()), before
        self.bao.policy("handover", HANDOVER)
        self.token = self.bao.token_file("handover")
        self.reads()

    def identity(self):
        return self.bao.done("GET", "sys/health")["cluster_id"], self.bao.done("GET", "sys/mounts")["secret/"]["uuid"]

    def raises(self, *words, **kwargs):
        return self.regent("rebootstrap", self.place.root, "-i", self.stage.key.file, *self.where, *BREAK_GLASS,
                           "--vault-token-file", self.token, *words, **kwargs)

    def applied(self):
        """Argo CD brings what is rendered. The lock lets go a moment after the Authority says git."""
        for thing in self.place.values():
            until("it is applied", lambda thing=thing: self.place.door(thing).status in (200, 201))

    def handed(self):
        """The whole way of an epoch: rendered, applied, handed over, verified."""
        self.applied()
        said = self.mirrored("--yes")
        handover = self.handed_over()
        assert f"closed: {handover}" in said and self.record()["epoch"] == str(self.epoch), said
        assert self.copies() == {name: self.place.live(name.removeprefix("app/")) for name in self.names()}
        self.bites()
        self.fine_after(0)
        return handover

    def fine_after(self, beat):
        """Nothing is found; and the heartbeat goes on, in Vault and in what is noted of this epoch."""
        for count in (beat + 1, beat + 2):
            report = self.fine()
            assert (report["heartbeat"], report["copies"], report["secrets"]) == (count, 2, 2), report
        noted = self.cluster.get("Authority", "prod").ok()["status"]["heartbeat"]
        assert (noted["epoch"], noted["version"], self.beat()) == (self.epoch, beat + 2, beat + 2), noted

    def lost(self, handover):
        """Whoever asks is told, and nothing is written on either side."""
        self.refused("--yes", ends=5, code="lost", says=["authority is lost", "rebootstrap"])
        self.verify(ends=5, code="lost")
        self.regent("status", self.place.root, *self.where, says=handover)
        assert self.names() == [] and not any(self.rendered().values())
