"""`regent verify` as a CronJob and a person run it, with a token of the committed policy."""

import json

from handed import CANARY, sealed
from stage import TOP

POLICY = (TOP / "manifests/vault/policies/regent-verify-prod.hcl").read_text()
PERMANENT = "secrets: { permanent: [{ name: app/creds }] }\n"
CREDS = {"creds": {"key": f"{CANARY}-creds"}}
# Its account.
VERIFY = "regent-verify-prod"
HEARTBEAT = "regent/prod/heartbeat"


class Verifies:
    """For a `Hand`: what `verify` says of it."""

    def reads(self):
        self.bao.policy("verify", POLICY)
        self.reader = self.bao.token_file("verify")

    def verify(self, *words, ends=0, token=None, by=None, **kwargs):
        return self.regent("verify", "prod", *(by or self.verifier()), "--vault-token-file", token or self.reader, *words, ends=ends, **kwargs)

    def verifier(self):
        return self.where

    def in_git(self, *words, revision=None, key=True, **kwargs):
        identity = ["-i", self.stage.key.file] if key else []
        return self.verify("--repo", self.stage.repo.folder, "--revision", revision or "HEAD", "--path", "clusters/prod", *identity, *words, **kwargs)

    def told(self, *words, how=None, **kwargs):
        """The report for programs."""
        return json.loads((how or self.verify)(*words, "-o", "json", **kwargs))

    def finds(self, *codes, ends, how=None, words=(), **kwargs):
        """Exactly these findings, and the exit code that they mean."""
        report = self.told(*words, how=how, ends=ends, **kwargs)
        assert sorted(finding["code"] for finding in report["findings"]) == sorted(codes), report
        assert report["exitCode"] == ends, report
        return report

    def fine(self, **kwargs):
        return self.finds(ends=0, **kwargs)

    def beat(self):
        """The count that Vault is at."""
        status, body = self.bao.ask("GET", f"secret/metadata/{HEARTBEAT}")
        return body["data"]["current_version"] if status == 200 else 0

    def change(self, name, values):
        self.stage.repo.commit({f"clusters/prod/{name}.yaml": values and sealed(name, values)})
