"""Without source-controller: regent follows the repository itself. A commit in a folder is an artifact at once. A server is asked as often as
`interval` says, and at once when its webhook proves that it knows the secret. Where signers are listed, a commit that none of them signed
builds nothing: the artifact before it stays, its condition says which commit and why, and the stubs of the handover come from the last
commit that was signed."""

import hmac
import subprocess
import time
import urllib.error
import urllib.request

import bootstrapped
from authority import value
from stage import CANARY, PATIENCE, Sealed, secret, until

# Below the half minute after which everything is looked at again: each of these commits comes right behind a look.
AT_ONCE = 20
SECRET = f"{CANARY}-hook"
ORIGIN = "org.opencontainers.image.revision"


def story(stage):
    it = bootstrapped.begin(stage)
    it.applied(it.first)
    follow = Follows(it)

    # In a folder the kernel tells.
    follow.served({"repo": str(stage.repo.folder)})
    follow.looked(it.first)
    second = follow.commit(2)
    follow.publishes(second, AT_ONCE)

    # On a server nobody looks within the hour, but for a hook. Others are refused alike.
    secret_file = stage.folder / "keys" / "hook"
    secret_file.write_text(SECRET + "\n")
    follow.served({"repo": it.flux.url, "interval": "1h", "webhook": {"secretFile": str(secret_file)}})
    follow.looked(second)
    third = follow.commit(3)
    refused = [follow.hook("a-guess"), follow.hook(SECRET, "nobody"), follow.hook("", "nobody")]
    assert len(set(refused)) == 1 and refused[0][0] == 403, refused
    time.sleep(2)
    assert it.artifact()["metadata"][ORIGIN] == second, it.artifact()
    assert follow.hook(SECRET) == (200, "")
    follow.publishes(third)

    # And by itself once its interval is over.
    follow.served({"repo": it.flux.url, "interval": "5s"})
    follow.looked(third)
    fourth = follow.commit(4)
    follow.publishes(fourth)
    it.applied(fourth)
    assert it.values() == value(4)

    # Only what is signed counts, also for what was there before.
    signer, stranger = key(stage, "signer"), key(stage, "stranger")
    follow.served({"repo": str(stage.repo.folder)}, signers=[signer.with_suffix(".pub").read_text().strip()])
    follow.says("False", fourth.rpartition(":")[2], "it is not signed")
    assert it.artifact()["metadata"][ORIGIN] == fourth
    fifth = follow.commit(5, signer)
    follow.publishes(fifth, AT_ONCE)
    it.applied(fifth)
    assert it.values() == value(5)
    sixth = follow.commit(5, stranger)
    follow.says("False", sixth.rpartition(":")[2], "not among the signers")
    assert it.artifact()["metadata"][ORIGIN] == fifth

    before = it.live()
    stubs = it.handed_over()
    assert stubs["metadata"][ORIGIN] == fifth, stubs
    follow.says("False", sixth.rpartition(":")[2], "not among the signers")
    it.flux.unchanged(before)


class Follows:
    """regent that follows the repository itself."""

    def __init__(self, it):
        self.it, self.repo = it, it.stage.repo

    def served(self, place, **source):
        self.it.regent.kill()
        self.it.repository = {"watch": True, **source}
        self.it.serve(watch=[{"revision": "main", "authority": self.it.name, **place}])

    def commit(self, number, signer=None):
        """Git's value of `db` becomes another, or stays; gives the revision."""
        self.repo.write({f"{self.it.root}/db.yaml": Sealed(secret("db", value(number), self.it.name))})
        self.repo.git("add", "--all")
        sign = ["-c", "gpg.format=ssh", "-c", f"user.signingkey={signer}"] if signer else []
        self.repo.git(*sign, "commit", "--quiet", "--allow-empty", "--message", "another", *(["--gpg-sign"] if signer else []))
        return f"main@sha1:{self.repo.git('rev-parse', 'HEAD')}"

    def publishes(self, revision, seconds=PATIENCE):
        return self.it.published(lambda artifact: artifact.get("metadata", {}).get(ORIGIN) == revision, seconds)

    def looked(self, revision):
        """Waits until the process that was started last has asked the repository."""
        until(f"it built {revision}", lambda: any(
            "an artifact was built" in line and revision in line for line in self.it.regent.log().splitlines()))

    def says(self, status, *words):
        """Waits until the condition of the ExternalArtifact says so."""
        def holds(thing):
            ready = [each for each in thing.get("status", {}).get("conditions", ()) if each["type"] == "Ready"]
            return ready and ready[0]["status"] == status and all(word in ready[0]["message"] for word in words)
        name = self.it.name
        self.it.cluster.wait(f"the artifact is {status}: {words}", "ExternalArtifact", name, name, lambda thing: thing and holds(thing))

    def hook(self, secret, name="prod"):
        """Status and text of the answer to a push, as GitHub tells of one."""
        body = b'{"ref":"refs/heads/main"}'
        mac = hmac.new(secret.encode(), body, "sha256").hexdigest()
        url = f"http://127.0.0.1:{self.it.flux.artifacts_port}/hook/{name}"
        request = urllib.request.Request(url, body, {"X-Hub-Signature-256": f"sha256={mac}"})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read().decode()


def key(stage, name):
    file = stage.folder / "keys" / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", file], check=True)
    return file
