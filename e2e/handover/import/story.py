import contextlib
import json

from bao import Bao
from clustered import Clustered, serve
from handed import CANARY, SECRETS, Hand, regent_yaml, sealed
from proxy import DROP, Proxy, end
from stage import Sealed, stub

ENTRIES = "regent/prod/authority/1/imported"


def story(stage):
    in_a_cluster(stage)
    bao = Bao(stage, "folder")
    with contextlib.closing(Importing(stage, bao)) as hand:
        before_the_handover(hand)
        hand.handover("--yes")
        one(hand)
        classes(hand)
        conflicts(hand)
        at_every_write(hand)
        at_once(hand)
        lost(hand)
    bao.stop()


class Imports:
    """What `regent import` is told, and what it leaves."""

    def import_words(self, name, *words, revision=None):
        said = self.handover_words(*words, revision=revision)
        return ["import", name, *said[1:]]

    def imports(self, name, *words, by=None, revision=None, **kwargs):
        there, self.where = self.where, by or getattr(self, "account", self.where)
        try:
            return self.regent(*self.import_words(name, *words, revision=revision), **kwargs)
        finally:
            self.where = there

    def commits(self, *names, kind=sealed, more=""):
        files = {f"clusters/prod/{name}.yaml": kind(name, values(name)) for name in names}
        if more:
            files["clusters/prod/regent.yaml"] = regent_yaml(self.address, more)
        self.commit = self.stage.repo.commit(files)

    def refuses_the_revision(self):
        self.regent("render", self.stage.repo.folder / "clusters/prod", "-i", self.stage.key.file, "--reveal", *self.where,
                    ends=1, code="not-listed", says="regent import")

    def entries(self):
        """The names of the entries in Vault, in the order of their numbers, each written once; none is left out."""
        status, body = self.bao.ask("LIST", f"secret/metadata/{ENTRIES}")
        numbers = sorted(map(int, body["data"]["keys"])) if status == 200 else []
        assert numbers == list(range(1, len(numbers) + 1)), numbers
        found = [self.versioned(f"{ENTRIES}/{number}") for number in numbers]
        assert all(version == 1 for version, _ in found), found
        return [json.loads(fields["documents"])[0]["name"] for _, fields in found]

    def listed(self):
        """Vault and the status say the same."""
        status = self.imported()
        numbered = {f"1-{number}": name for number, name in enumerate(self.entries(), 1)}
        assert {key: document["name"] for key, document in status.items()} == numbered, (status, numbered)
        return list(numbered.values())

    def owned(self, *names):
        """Vault has each value, once; no door has any."""
        for name in names:
            assert self.versioned(f"bootstrap/prod/app/{name}") == (1, values(name)), name
        assert {f"app/{name}" for name in names} <= set(self.listed())
        assert not any(self.rendered().values())


def values(name):
    return {"password": f"{CANARY}-{name}"}


class Importing(Imports, Hand):
    def __init__(self, stage, bao):
        self.proxy = Proxy(bao)
        super().__init__(stage, bao, address=self.proxy.address)

    def close(self):
        self.proxy.close()

    def imported(self):
        file = self.stage.store / "prod/status.json"
        return json.loads(file.read_text()).get("imported", {}) if file.exists() else {}

    def everything(self):
        return self.versions(), self.entries(), self.imported()


def before_the_handover(hand):
    before = hand.everything()
    for word in ("--plan", "--yes"):
        hand.imports("app/db", word, ends=1, code="import", says=["Git rules", "regent handover"])
    assert hand.everything() == before
    hand.git_rules()


def one(hand):
    hand.imports("app/db", "--yes", says="nothing to do")
    hand.commits("new")
    hand.refuses_the_revision()
    before = hand.everything()
    hand.imports("app/other", "--yes", ends=1, code="import", says="no encrypted document of the root is Secret app/other")
    hand.imports("app/new", ends=2, code="usage")
    plan = json.loads(hand.imports("app/new", "--plan", "--output", "json").splitlines()[0])
    assert plan["document"] == {"name": "app/new", "kind": "Secret", "class": "handover", "file": "new.yaml", "keys": ["password"],
                                "path": "bootstrap/prod/app/new", "state": "new"}, plan
    hand.imports("app/new", "--approve", "0" * 64, ends=1, code="approval")
    assert hand.everything() == before
    hand.imports("app/new", "--approve", plan["digest"], says="Secret app/new is imported/1")
    hand.owned("new")
    fields, record = hand.bao.fields(f"{ENTRIES}/1"), hand.record()
    assert (fields["handoverId"], fields["gitCommit"]) == (record["handoverId"], hand.commit), fields
    assert [key[:2] for key in json.loads(fields["records"])] == [["app/new", 1]] and CANARY not in json.dumps(fields), fields
    before = hand.everything()
    hand.imports("app/new", "--yes", says="imported/1 already, and there is nothing to do")
    assert json.loads(hand.imports("app/new", "--yes", "--output", "json")) == {
        "name": "app/new", "kind": "Secret", "listed": "imported", "number": 1}
    assert hand.everything() == before
    # Git's new value of it goes nowhere, as that of every listed document.
    hand.bao.put("bootstrap/prod/app/new", values("rotated"))
    hand.commits("new")
    hand.imports("app/new", "--yes", says="nothing to do")
    assert hand.versioned("bootstrap/prod/app/new") == (2, values("rotated")) and not any(hand.rendered().values())


def classes(hand):
    """Permanent documents are listed as such; `vault: false` and another kind than Secret are in no other place of Vault."""
    more = "secrets: { kinds: [ConfigMap], permanent: [{ name: app/kept }, { name: app/here, vault: false }] }\n"
    hand.commits("kept", "here", more=more)
    hand.imports("app/kept", "--yes")
    hand.refuses_the_revision()
    hand.imports("app/here", "--plan", says="not copied")
    hand.imports("app/here", "--yes")
    hand.commits("map", kind=config_map)
    hand.imports("app/map", "--yes", ends=1, code="import", says="--kind")
    hand.imports("app/map", "--kind", "ConfigMap", "--yes")
    hand.owned("kept")
    assert [document["class"] for document in hand.imported().values()] == ["handover", *["permanent"] * 3]
    assert hand.names() == ["app/api", "app/db", "app/kept", "app/new"], hand.names()
    assert [hand.bao.fields(f"{ENTRIES}/{number}")["records"] for number in (3, 4)] == ["[]", "[]"]


def config_map(name, data):
    return Sealed(json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "app"}, "data": data}))


def conflicts(hand):
    """Another value in Vault stops it, until a person says whose stands; a deleted one always does."""
    hand.bao.put("bootstrap/prod/app/other", values("vault"))
    hand.commits("other")
    before = hand.everything()
    hand.imports("app/other", "--yes", ends=1, code="conflict", says=["app/other", "handover.acceptExisting"])
    hand.bao.done("POST", "secret/delete/bootstrap/prod/app/other", {"versions": [1]})
    hand.imports("app/other", "--yes", ends=1, code="conflict", says="deleted")
    assert hand.everything() == before
    hand.bao.done("POST", "secret/undelete/bootstrap/prod/app/other", {"versions": [1]})
    hand.commits(more="handover: { acceptExisting: [app/other] }\n"
                      "secrets: { kinds: [ConfigMap], permanent: [{ name: app/kept }, { name: app/here, vault: false }] }\n")
    hand.imports("app/other", "--yes", says="Vault's stands")
    assert hand.versioned("bootstrap/prod/app/other") == (1, values("vault"))
    hand.listed()


def at_every_write(hand):
    """The client is killed before Vault hears of a write and after Vault answered, or the answer is lost. After the last of them
    the entry is in Vault, and not in the status."""
    for write in ("bootstrap/prod/app", "imported"):
        for way, does in (("killed-before", end("before")), ("killed-after", end("after")), ("dropped", DROP)):
            name = f"{write[:4]}-{way}"
            hand.commits(name)
            hand.proxy.again(lambda _, method, path, to=write, do=does:
                             do if method == "POST" and "/data/" in path and to in path else None)
            words = hand.import_words(f"app/{name}", "--yes", "--vault-patience", "0")
            hand.proxy.client = hand.started(words)
            ends, said = hand.over(hand.proxy.client)
            assert ends == (7 if does == DROP else -9), (name, ends, said)
            hand.proxy.again()
            if name == "impo-killed-after":
                assert hand.entries()[-1] == f"app/{name}" and len(hand.imported()) < len(hand.entries())
                # Another document's import completes it first; a plan tells of it.
                hand.imports("app/db", "--plan", says=f"Secret app/{name}, would be mirrored")
                hand.imports("app/db", "--yes", says=[f"Secret app/{name}", "nothing to do"])
                hand.owned(name)
            else:
                hand.refuses_the_revision()
            hand.imports(f"app/{name}", "--yes")
            hand.owned(name)
    hand.proxy.again()


def at_once(hand):
    """Different documents get different numbers, one document one entry."""
    hand.commits("left", "right")
    for names in (["left", "right"], ["same", "same", "same"]):
        if "same" in names:
            hand.commits("same")
        for child in [hand.started(hand.import_words(f"app/{name}", "--yes")) for name in names]:
            ends, said = hand.over(child)
            assert ends == 0, said
    hand.owned("left", "right", "same")
    assert len(hand.entries()) == len(set(hand.entries())), hand.entries()


def lost(hand):
    """An older backup of Vault, from before an import: told, and nothing is written."""
    snapshot = hand.bao.snapshot()
    hand.commits("late")
    hand.imports("app/late", "--yes")
    hand.commits("later")
    hand.bao.restore(snapshot)
    before = hand.imported()
    hand.imports("app/later", "--yes", ends=5, code="lost", says="app/late")
    assert hand.imported() == before and "app/later" not in hand.names()


class InCluster(Imports, Clustered):
    def imported(self):
        return self.cluster.get("Authority", "prod").ok().get("status", {}).get("imported", {})


def in_a_cluster(stage):
    """By the handover's account, and by nobody else."""
    hand = InCluster(stage, stage.cluster())
    door = serve(hand)
    hand.mirrored("--yes")
    hand.commits("new")
    hand.refuses_the_revision()
    before = hand.everything(), hand.entries()
    # Whom the API server would refuse in the end sends nothing to Vault.
    hand.imports("app/new", "--yes", by=hand.where, ends=1, code="denied", says="settled, imported and rebound are written by")
    assert (hand.everything(), hand.entries()) == before
    hand.imports("app/new", "--yes", says="Secret app/new is imported/1")
    hand.owned("new")
    stage.render([stub(name) for name in (*SECRETS, "new")])
    hand.imports("app/new", "--yes", says="nothing to do")
    hand.mirrored("--yes")
    door.stop()
    hand.bao.stop()
    hand.cluster.close()
    stage.repo.commit({"clusters/prod/new.yaml": None})
