"""examples/bootstrap as an authority in a cluster: committed with the word in each value, what it needs there, and its live Secrets."""

import json
import subprocess

from authority import Authority
from stage import CANARY, TOP, Sealed, full
from teller import claim

EXAMPLE = TOP / "examples/bootstrap/clusters/prod"
# Path and name of what is handed over.
DOCUMENTS = [("app/db.yaml", "app/db"), ("app/registry.yaml", "app/registry"), ("argocd/repo-creds.yaml", "argocd/repo-creds"),
             ("vault/tls.yaml", "vault/tls"), ("vault/unseal.yaml", "vault/unseal")]


class Prod(Authority):
    """The authority of examples/bootstrap."""

    def secrets(self):
        """What must not change: each Secret by name, with its uid, its resourceVersion and its data."""
        found = self.cluster.get("Secret", query={"labelSelector": f"regent.dev/authority={self.name}"}).ok()["items"]
        return {f"{one['metadata']['namespace']}/{one['metadata']['name']}":
                (one["metadata"]["uid"], one["metadata"]["resourceVersion"], one["data"]) for one in found}

    def rotated(self):
        """Another password in app/db, as an operator of Vault writes it."""
        values = {"username": f"{CANARY}-user", "password": f"{CANARY}, rotated in Vault"}
        self.cluster.apply_one({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "app"},
                                "data": full("db", values)["data"]}, "vault-operator", force=True).ok()


def content(vault, root="clusters/prod"):
    """Its files with the word in each value and this Vault, to be encrypted and committed in this root."""
    def example(path):
        # A registry's credentials are encoded once more.
        return (EXAMPLE / path).read_text().replace("EXAMPLE", CANARY).replace("RVhBTVBMR", CANARY)
    files = {f"{root}/{path}": Sealed(example(f"{path}.in")) for path, _ in DOCUMENTS}
    files |= {f"{root}/{path}": example(path) for path in ("namespaces.yaml", "app/config.yaml")}
    files[f"{root}/regent.yaml"] = example("regent.yaml").replace("https://vault.vault.svc:8200", vault.address)
    return files


def installed(cluster):
    """Every object of manifests/cluster, as it is now: kind and name, uid and resourceVersion."""
    listed = json.loads(cluster.kubectl("get", "--kustomize", TOP / "manifests/cluster", "--output", "json"))["items"]
    return {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]):
            (one["metadata"]["uid"], one["metadata"]["resourceVersion"]) for one in listed}


def may_look(out, cluster, root, name):
    """Makes the roles of that name that are printed for this root."""
    words = ["regent", "handover", *root, "--print-policy", "--output", "json"]
    done = subprocess.run([*map(str, words)], cwd=out.folder, env=out.env, text=True, capture_output=True)
    claim(f"the policy is printed: {done.stderr}", done.returncode == 0)
    made = [thing for thing in json.loads(done.stdout)["kubernetes"]["toCreate"] if thing["metadata"]["name"] == name]
    claim("there are roles of that name", made)
    cluster.apply(made)
    cluster.rights_in_force()
