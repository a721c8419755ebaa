"""From a repository elsewhere, over HTTPS: a branch that an allowed signer vouches for, with the history that tells who changed
what, and whose old values still open."""

import subprocess
import sys

from argocd.stage import answers_on
from handed import CANARY, SECRETS, Hand, sealed
from stage import TOP, free_port, until
from verified import Verifies

TOKEN = f"{CANARY}-git-token"


def story(stage):
    signer, stranger = key(stage, "signer"), key(stage, "stranger")
    hand = Elsewhere(stage, more=f"handover: {{ signers: ['{signer.with_suffix('.pub').read_text().strip()}'] }}\n")
    first = hand.commit
    new = {"token": f"{CANARY}-api-2"}
    stage.repo.write({"clusters/prod/api.yaml": sealed("api", new)})
    stage.repo.git("commit", "--quiet", "--all", "--author", "Another <another@example.invalid>", "--message", "two")
    hand.serve()

    # The last commit of a branch is worth its signature; one that is named by its full id is what it is.
    hand.handover("--plan", ends=1, code="signature", says="it is not signed")
    hand.sign(stranger)
    hand.handover("--plan", ends=1, code="signature", says="handover.signers")
    hand.sign(signer)
    plan = hand.plan()
    commit = stage.repo.git("rev-parse", "HEAD")
    assert plan["commit"] == commit and [entry["name"] for entry in plan["documents"]] == ["app/api", "app/db"], plan
    # Each file's own last change, and not that of the commit on top.
    assert [entry["author"] for entry in plan["documents"]] == ["Another", "e2e"], plan
    # Two commits may be of two days.
    assert [entry["changed"] for entry in plan["documents"]] == [
        stage.repo.git("log", "-1", "--format=%as", "--", f"clusters/prod/{name}.yaml") for name in ("api", "db")], plan
    assert hand.plan(revision=commit)["digest"] == plan["digest"]
    assert [entry["author"] for entry in hand.plan(revision=first)["documents"]] == ["e2e", "e2e"]

    hand.handover("--approve", plan["digest"], says="closed: ")
    hand.vault_rules()
    assert hand.copies() == {"app/db": SECRETS["db"], "app/api": new}
    # What older commits hold is found through the same address.
    hand.reads()
    report = hand.told("--history", how=hand.from_there, ends=1)
    assert {each["secret"] for each in report["findings"] if each["code"] == "to-rotate"} == {"app/db", "app/api"}, report
    assert report["history"]["commits"] == 4, report
    hand.bao.stop()


class Elsewhere(Verifies, Hand):
    """The root in a repository behind the real `git http-backend`."""

    def serve(self):
        git = self.stage.folder / "git"
        (git / "repositories").mkdir(parents=True)
        (git / "repositories/prod.git").symlink_to(self.stage.repo.folder / ".git")
        (git / "token").write_text(TOKEN)
        port, bao = free_port(), self.bao
        self.stage.house.start("repository", sys.executable, TOP / "e2e/git/gitd.py", git, port, git / "log", bao.certificate, bao.certificate_key)
        until("the server of the repository answers", lambda: answers_on(port))
        token = self.stage.folder / "keys/git-token"
        token.write_text(TOKEN)
        self.there = ["--repo", f"https://127.0.0.1:{port}/token/prod.git", "--git-token-file", token, "--git-ca-file", bao.ca,
                      "--path", "clusters/prod", "-i", self.stage.key.file]

    def handover_words(self, *words, token=None, revision=None):
        return ["handover", *self.there, "--revision", revision or "main", *self.where, "--vault-token-file", token or self.token, *words]

    def from_there(self, *words, **kwargs):
        return self.verify(*self.there, "--revision", "main", *words, **kwargs)

    def sign(self, key):
        self.stage.repo.git("-c", "gpg.format=ssh", "-c", f"user.signingkey={key}", "commit", "--quiet", "--allow-empty",
                            "--gpg-sign", "--message", "signed")


def key(stage, name):
    file = stage.folder / "keys" / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", file], check=True)
    return file
