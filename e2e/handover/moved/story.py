import base64
import contextlib
import json

from bao import HANDOVER, Bao
from clustered import ACCOUNT, Clustered
from handed import CANARY, SECRETS, Hand, regent_yaml, sealed
from proxy import Proxy, end
from verified import CREDS, PERMANENT, Verifies

RECORD = "regent/prod/authority/1"
ACCEPT = "--accept-vault-identity"
# Sent once: what does not answer here does not later.
ONCE = "--vault-patience", "0"
NEW = {"password": f"{CANARY}-new"}


def story(stage):
    in_a_cluster(stage)
    bao = Bao(stage, "folder")
    with contextlib.closing(Moved(stage, bao)) as hand:
        hand.handover("--yes")
        hand.leaves()
        nobody_said_so(hand)
        another_vault(hand, stage)
        accepted(hand)
        everybody_asks_there(hand)
        back(hand)
    bao.stop()


class Moving(Verifies):
    """OpenBao is asked at `old`, and `new` is another address of the same one. What comes to either is counted."""

    def addresses(self, bao):
        self.old, self.new = Proxy(bao), Proxy(bao)

    def close(self):
        self.old.close()
        self.new.close()

    def leaves(self):
        """It does not answer at the old address any more, and regent.yaml says where it does."""
        self.old.to = lambda: None
        self.listening()
        self.writes(self.new.address)

    def writes(self, address, **vault):
        self.address = address
        self.commit = self.stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(address, self.more, **vault)})

    def listening(self):
        self.old.again()
        self.new.again()

    def nothing_was_sent(self, *proxies):
        for proxy in proxies:
            proxy.idle()
            assert proxy.seen == [], proxy.seen

    def imports(self, name, *words, **kwargs):
        return self.regent("import", name, *self.handover_words(*words)[1:], **kwargs)

    def rebound(self):
        return [number for number in (1, 2, 3) if self.bao.fields(f"{RECORD}/rebind-{number}")]

    def moved_to(self, address):
        return {"handoverId": self.record()["handoverId"], "vaultAddress": address, "vaultNamespace": "", "mount": "secret"}


class Moved(Moving, Hand):
    more = PERMANENT

    def __init__(self, stage, bao):
        self.addresses(bao)
        super().__init__(stage, bao, address=self.old.address, more=self.more)
        self.reads()

    def fine(self, how=None):
        # A folder does not tell who renders from it.
        return self.finds("settlement-unseen", ends=0, how=how)

    def noted(self):
        file = self.stage.store / "prod/status.json"
        return json.loads(file.read_text()).get("rebound", {}) if file.exists() else {}


def nobody_said_so(hand):
    before = hand.versions()
    names = [hand.old.address, hand.new.address, "nothing was sent to either"]
    for word in ("--plan", "--yes"):
        hand.handover(word, ends=5, code="other-place", says=[*names, ACCEPT])
        hand.imports("app/db", word, ends=5, code="other-place", says=[*names, f"regent handover {ACCEPT}"])
    # Nobody moves the copies, whoever says so.
    hand.writes(hand.new.address, prefix="bootstrap/test")
    hand.handover("--yes", ACCEPT, ends=5, code="other-place", says="vault.prefix")
    hand.writes(hand.new.address)
    hand.nothing_was_sent(hand.old, hand.new)
    # `verify` asks where the witnesses say, whatever Git does.
    hand.verify(*ONCE, ends=4, code="vault", says=hand.old.address)
    hand.nothing_was_sent(hand.new)
    assert (hand.versions(), hand.rebound(), hand.noted()) == (before, [], {})


def another_vault(hand, stage):
    """One that does not hold the record is lost, and one that holds another's is not ours: a person was wrong, and nothing is noted."""
    other = Bao(stage, "other")
    other.policy("handover", HANDOVER)
    hand.writes(other.address)
    there = {"token": other.token_file("handover"), "env": {"VAULT_CACERT": str(other.ca)}}
    hand.handover("--yes", ACCEPT, ends=5, code="lost", **there)
    other.put(RECORD, {**hand.record(), "handoverId": "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f"})
    hand.handover("--yes", ACCEPT, ends=5, code="replaced", **there)
    assert hand.noted() == {}
    hand.writes(hand.new.address)
    other.stop()


def accepted(hand):
    """Killed between what is appended in Vault and what is noted: the same command goes on."""
    record, versions = hand.record(), hand.versions()
    hand.handover("--plan", ACCEPT, says="this Vault would be accepted as its own")
    assert (hand.rebound(), hand.noted()) == ([], {})
    hand.new.again(lambda _, method, path: end("after") if method == "POST" and path.endswith("/rebind-1") else None)
    hand.new.client = hand.begin("--yes", ACCEPT)
    ends, said = hand.over(hand.new.client)
    assert ends == -9, said
    hand.listening()
    assert (hand.rebound(), hand.noted()) == ([1], {})
    hand.handover("--yes", ends=5, code="other-place", says=ACCEPT)
    hand.nothing_was_sent(hand.old, hand.new)
    hand.handover("--yes", ACCEPT, says=["from now on", hand.new.address])
    rebind = hand.bao.fields(f"{RECORD}/rebind-1")
    assert (rebind["vaultAddress"], rebind["handoverId"]) == (hand.new.address, record["handoverId"]), rebind
    assert (hand.record(), hand.versions()) == (record, versions)
    assert hand.noted() == {"1-1": hand.moved_to(hand.new.address)}, hand.noted()


def everybody_asks_there(hand):
    for words in ([], [ACCEPT]):
        hand.handover("--yes", *words)
    assert (hand.rebound(), list(hand.noted())) == ([1], ["1-1"])
    hand.vault_rules()
    assert hand.authority()["vaultAddress"] == hand.old.address
    hand.fine()
    hand.stage.repo.commit({"clusters/prod/new.yaml": sealed("new", NEW)})
    hand.commit = hand.stage.repo.git("rev-parse", "HEAD")
    hand.imports("app/new", "--yes", says="Secret app/new is imported/1")
    assert hand.versioned("bootstrap/prod/app/new") == (1, NEW)
    hand.fine(how=hand.in_git)
    hand.nothing_was_sent(hand.old)


def back(hand):
    """A commit from before names the old address, and decides nothing; a person may move it back."""
    hand.listening()
    hand.old.to = hand.new.to
    hand.writes(hand.old.address)
    hand.handover("--yes", ends=5, code="other-place", says=ACCEPT)
    hand.nothing_was_sent(hand.old, hand.new)
    hand.handover("--yes", ACCEPT, says=["from now on", hand.old.address])
    assert list(hand.noted()) == ["1-1", "1-2"] and hand.noted()["1-2"] == hand.moved_to(hand.old.address), hand.noted()
    # It is where the record says, which nobody has to accept in Vault.
    assert hand.rebound() == [1]
    hand.listening()
    hand.fine()
    hand.nothing_was_sent(hand.new)


class InCluster(Moving, Clustered):
    more = PERMANENT

    def __init__(self, stage):
        bao = Bao(stage)
        self.addresses(bao)
        super().__init__(stage, stage.cluster(), bao=bao, address=self.old.address, secrets={**SECRETS, **CREDS}, more=self.more)
        self.reads()

    def noted(self):
        return self.cluster.get("Authority", "prod").ok().get("status", {}).get("rebound", {})

    def status(self):
        return json.loads(self.regent("status", self.place.root, *self.where, "-o", "json"))

    def delivered(self, name, values):
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.cluster.apply_one({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
                                "metadata": {"name": name, "namespace": "app"}}, "delivery", force=True).ok()


def in_a_cluster(stage):
    with contextlib.closing(InCluster(stage)) as hand:
        hand.mirrored("--yes")
        for name, (_, values) in hand.expected.items():
            hand.delivered(name.removeprefix("app/"), values)
        hand.leaves()
        assert [each["code"] for each in hand.status()["warnings"] if each["code"] == "vault-place"], "two places, and no word"
        # The witness is gone too, and Vault is where nobody asks: the mirror is made as the Authority says.
        hand.forgotten()
        hand.handover("--yes", ends=5, code="other-place", says=ACCEPT)
        # Whom the API server would refuse in the end sends nothing.
        hand.handover("--yes", ACCEPT, by=hand.where, ends=7, code="unmirrored", says="rebound are written by")
        hand.nothing_was_sent(hand.old, hand.new)
        hand.mirrored("--yes", ACCEPT)
        hand.vault_rules()
        assert hand.noted() == {"1-1": hand.moved_to(hand.new.address)}, hand.noted()
        only_the_handover(hand)
        said = hand.status()
        assert said["evidence"]["vault"]["same"] and said["evidence"]["vault"]["moved"]["address"] == hand.new.address, said["evidence"]
        assert not [each for each in said["warnings"] if each["code"] == "vault-place"]
        hand.fine()
        hand.cluster.delete("Secret", "creds", "app").ok()
        hand.regent("restore", "app/creds", hand.place.root, "-i", hand.stage.key.file, *hand.where, "--vault-token-file", hand.reader,
                    says="holds the same values")
        hand.nothing_was_sent(hand.old)
        # A mirror that is lost is made again, by those who ask where Vault is.
        hand.forgotten()
        hand.verify(by=hand.account)
        hand.vault_rules()
        hand.nothing_was_sent(hand.old)
    hand.bao.stop()


def only_the_handover(hand):
    """Whoever could say where Vault is would be sent the tokens of all who ask."""
    elsewhere = {"1-2": hand.moved_to("https://elsewhere.example")}
    for user in ("admin", hand.cluster.token("regent-system", "regent-verify-prod")):
        answer = hand.cluster.patch("Authority", "prod", None, {"status": {"rebound": elsewhere}}, "merge", subresource="status", user=user)
        assert answer.status in (403, 422), answer
    # It is never taken back, by anybody.
    gone = {"status": {"rebound": {"1-1": None}}}
    for user in (hand.cluster.token("regent-system", ACCOUNT), "breakglass"):
        answer = hand.cluster.patch("Authority", "prod", None, gone, "merge", subresource="status", user=user)
        assert answer.status == 422, answer
    assert list(hand.noted()) == ["1-1"]
