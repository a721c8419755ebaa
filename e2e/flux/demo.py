#!/usr/bin/env python3
"""The story of regent beside Flux, told with the real etcd and kube-apiserver and with Flux's stock controllers.

usage: hack/demo --flux [--keep]    which also installs and builds what this needs

What is shown is what the programs print; what is told about it is checked, and the demo ends where it is not so. Every
secret value holds one word, and a line with that word is never printed. All processes are ended on the way out.
"""

import base64
import concurrent.futures
import json
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "handover"), str(HERE.parent / "cluster"), str(HERE.parent)]
sys.dont_write_bytecode = True
import example  # noqa: E402
import stage  # noqa: E402
import teller  # noqa: E402
from artifacts import unpacked  # noqa: E402
from bao import HANDOVER, Bao  # noqa: E402
from example import DOCUMENTS, EXAMPLE, Prod  # noqa: E402
from kustomizations import DOOR, SOURCES, Flux, Kustomization, ready  # noqa: E402
from regents import unread  # noqa: E402
from stage import CANARY, TOP, Sealed, until  # noqa: E402
from teller import claim  # noqa: E402

# As manifests/flux has them: the root and its Kustomization, regent's account, and the gates of kustomize-controller.
ROOT, NAME, NAMESPACE = "apps/prod", "app", "app"
REGENT = "flux-system", "regent"
GATES = "ExternalArtifact", "CancelHealthCheckOnNewRevision"
# kustomize-controller would take regent.yaml for an object.
RESOURCES = ["namespaces.yaml", "app/config.yaml", *(path for path, _ in DOCUMENTS)]
# An administrator, as kubectl and regent name it: the context of a kubeconfig.
ADMIN, BREAKGLASS = "admin", "breakglass"
ORIGIN = "org.opencontainers.image.revision"
BOTH = "externalartifacts,kustomizations"


class App:
    """The artifact and the Kustomization of the story."""

    def __init__(self, flux):
        self.cluster, self.kustomization = flux.cluster, Kustomization(flux, NAME, NAMESPACE)

    def published(self, holds):
        told = self.cluster.wait("an artifact", "ExternalArtifact", NAME, NAMESPACE,
                                 lambda thing: thing and holds(thing.get("status", {}).get("artifact") or {}))
        return told["status"]["artifact"]

    def applied(self, commit):
        """Waits until a commit is applied, and gives its artifact."""
        artifact = self.published(lambda artifact: artifact.get("metadata", {}).get(ORIGIN) == commit)
        self.kustomization.ready(artifact["revision"])
        return artifact

    def handed_over(self):
        artifact = self.published(lambda artifact: artifact.get("revision", "").startswith("handover@"))
        self.kustomization.ready(artifact["revision"])
        return artifact


def committed(flux, vault):
    """examples/bootstrap with its kustomization.yaml, and a namespace for the Secret of Argo CD's; gives the revision."""
    files = example.content(vault, ROOT)
    files[f"{ROOT}/namespaces.yaml"] += "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: argocd\n"
    files[f"{ROOT}/kustomization.yaml"] = "".join([
        "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources:\n", *(f"- {path}\n" for path in RESOURCES)])
    return flux.commit(files)


def changed():
    """Another password for app/db, as somebody commits it."""
    text = (EXAMPLE / "app/db.yaml.in").read_text().replace("EXAMPLE-not-a-password", f"{CANARY}, changed in Git")
    return {f"{ROOT}/app/db.yaml": Sealed(text.replace("EXAMPLE", CANARY))}


def serve(flux, data=None):
    """regent as manifests/flux has it, with the account of its pod by a real token."""
    rule = flux.rule(bootstrap=f"{ROOT}/regent.yaml", paths=[ROOT, f"{ROOT}/**"])
    application = flux.application(f"{NAMESPACE}/{NAME}", flux.repositories[0], tokenSecret="regent-token")
    return flux.regent(application, rules=[rule], token=flux.cluster.token(*REGENT), section={"namespace": REGENT[0]}, data=data)


def operators(stage, regent):
    """The operator's file: regent's own, but for the way to the API server."""
    config = json.loads(regent.config.read_text())
    config["store"] = {"kind": "kubernetes"}
    file = stage.folder / "operator.yaml"
    file.write_text(json.dumps(config))
    return file


def keys_in(cluster):
    """The Secrets with a private key of age."""
    secrets = json.loads(cluster.kubectl("get", "secrets", "--all-namespaces", "--output", "json"))["items"]
    return [secret["metadata"]["name"] for secret in secrets
            if any(b"AGE-SECRET-KEY" in base64.b64decode(value) for value in secret.get("data", {}).values())]


def story(out, stage, keep):
    began = time.monotonic()
    tell, show, chapter = out.tell, out.show, out.chapter
    repo, house = stage.repo, stage.house

    def shows_both():
        """Once more reconciled, so that nothing is under way."""
        claim("the Kustomization is Ready", ready(app.kustomization.reconcile())["status"] == "True")
        show("kubectl", "-n", NAMESPACE, "get", BOTH)

    chapter("A Kubernetes, and Flux in it")
    tell("etcd, kube-apiserver, Flux's source-controller and kustomize-controller, and OpenBao: the real programs, unchanged, on free",
         "ports of this machine, with their data in a scratch folder. kustomize-controller has two gates on, and knows the CA of",
         "regent's endpoint. Both controllers have the accounts and the rights that `flux install` makes.")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        vault = pool.submit(Bao, stage)
        flux = Flux(stage, gates=GATES)
        vault = vault.result()
    vault.policy("handover", HANDOVER)
    vault_token = vault.token_file("handover")
    cluster = flux.cluster
    out.env = {**house.env, "PATH": f"{house.folder / 'bin'}:{house.peers}:{house.env['PATH']}", "NO_COLOR": "1",
               "KUBECONFIG": str(cluster.kubeconfig(ADMIN)), "VAULT_CACERT": str(vault.ca)}
    out.folder = repo.folder
    show("kubectl", "get", "crds,namespaces", "--output", "name")

    chapter("What regent needs there")
    tell("Once for all authorities: the Authority and its rules. And what regent may do beside Flux: its account, a role in each",
         "namespace with the names of what it writes there, and policies over its artifacts and tokens. No kubelet runs here: of its",
         "pods there are the objects alone.")
    flux.namespace(NAMESPACE)
    for folder in "manifests/cluster", "manifests/flux/example":
        show("kubectl", "apply", "--server-side", "-k", folder, folder=TOP, some=8)
    cluster.established("authorities.regent.dev")
    show("kubectl", "-n", NAMESPACE, "describe", "role", "regent")

    chapter("The bootstrap Secrets, in Git")
    tell("examples/bootstrap, encrypted with the real sops, and a kustomization.yaml that lists the manifests: Flux would take",
         "regent.yaml for an object. source-controller fetches the repository.")
    flux.git(name="flux-system")
    first = committed(flux, vault)
    show("git", "ls-tree", "-r", "--name-only", "main")

    chapter("Git rules: said once, on purpose")
    words = "regent", "init", ROOT, "--context", ADMIN, "--reader", "system:serviceaccount:flux-system:regent", "--vault-token-file"
    made = show(*words, vault_token, "--yes", shown=f"{' '.join(words)} token --yes")
    claim("it made the Authority", "created Authority prod" in made)

    chapter("regent serves, and stock Flux decrypts without a key")
    tell("regent runs with the account that the manifests made. The Kustomization takes its tree from regent's artifact, and its",
         "data keys with regent's token.")
    regent = serve(flux)
    app = App(flux)
    show("kubectl", "apply", "-f", "manifests/flux/kustomizations/app.yaml", folder=TOP)
    old = app.applied(first)
    shows_both()
    content = unpacked(urllib.request.urlopen(old["url"]).read())
    document = content[f"{ROOT}/app/db.yaml"].decode()
    file = stage.folder / "db.yaml"
    file.write_text(document)
    tell("", "What is in the artifact: the values as they are in Git, and one stanza, for regent:")
    show("sed", "s/\\(.\\{100\\}\\).*/\\1.../", file,
         shown=f"curl -s .../{Path(old['path']).name[:8]}....tar.gz | tar -xzO {ROOT}/app/db.yaml")
    claim("ciphertext, and one stanza", "ENC[" in document and document.count("enc: ") == 1 and "hc_vault" in document)
    claim("no recipient of age is left", stage.key.recipient not in document)
    show("kubectl", "get", "secrets", "--all-namespaces")
    claim("no Secret holds a key", keys_in(cluster) == [])
    prod = Prod(stage, cluster, "prod")
    claim("all five Secrets are live", sorted(prod.secrets()) == sorted(name for _, name in DOCUMENTS))
    tell("", "None of them holds a key of age: regent alone has it, here in a file, as a Secret is mounted into its pod. The five of Git",
         "are live, with their guards:")
    described = show("kubectl", "-n", "app", "describe", "secret", "db")
    claim("the guards are there", "kustomize.toolkit.fluxcd.io/prune: disabled" in described)

    chapter("A commit changes a value")
    before = prod.secrets()
    second = flux.commit(changed())
    app.applied(second)
    shows_both()
    now = prod.secrets()
    claim("one Secret has changed", [name for name in now if now[name] != before[name]] == ["app/db"])
    tell("", "Ready with it. app/db has the new value, and no other Secret was written.")

    chapter("The authority moves")
    tell("By the one account that may move this authority; an administrator acts as it. To look at the guards of live Secrets takes",
         "a right to each by its name: `regent handover --print-policy` prints these roles, and a person makes them.")
    commit = repo.git("rev-parse", "HEAD")
    example.may_look(out, cluster, ["--repo", repo.folder, "--revision", commit, "--path", ROOT], f"regent-listed-{prod.name}")
    account = f"system:serviceaccount:regent-system:regent-handover-{prod.name}"
    handover = ["regent", "handover", "--repo", repo.folder, "--revision", commit, "--path", ROOT, "-i", stage.key.file,
                "--config", operators(stage, regent), "--context", ADMIN, "--as", account, "--vault-token-file", vault_token]
    typed = f"regent handover --repo . --revision {commit[:7]}... --path {ROOT} -i key.txt --config operator.yaml ..."
    plan = show(*handover, "--plan", shown=f"{typed} --plan")
    digest = next(line.split()[1] for line in plan.splitlines() if line.startswith("plan "))
    before = prod.secrets()
    said = show(*handover, "--approve", digest, shown=f"{typed} --approve {digest[:7]}...")
    claim("it is settled", "settled" in said)
    app.handed_over()
    shows_both()
    columns = "NAMESPACE:.metadata.namespace,NAME:.metadata.name,UID:.metadata.uid,VERSION:.metadata.resourceVersion"
    show("kubectl", "get", "secrets", "-A", "-l", "regent.dev/authority=prod", "-o", f"custom-columns={columns}")
    claim("no live Secret has changed", prod.secrets() == before)
    copied = vault.done("GET", "secret/data/bootstrap/prod/app/db")["data"]["data"]
    claim("Vault has the password", CANARY in copied["password"])
    tell("", "The artifact has stubs, the Kustomization is Ready with them, and every uid and resourceVersion is what it was before.",
         "regent's token is taken away; its Secret stays, because the Kustomization still names it:")
    cluster.wait("the token is taken away", "Secret", "regent-token", NAMESPACE, lambda secret: secret and not secret.get("data"))
    show("kubectl", "-n", NAMESPACE, "get", "secret", "regent-token")

    chapter("Vault rotates, and Git is rolled back")
    prod.rotated()
    before = prod.secrets()
    repo.git("reset", "--quiet", "--hard", first.rpartition(":")[2])
    flux.repositories[0].fetched(repo.git("rev-parse", "HEAD"))
    app.applied(first)
    shows_both()
    claim("the rotated value is there", prod.secrets() == before)
    tell("", "Ready with the first commit, which has the first password in it: as a stub. The rotated one stays. And were a controller",
         "to hold an old value after all, the API server is the last lock:")
    locked = show("kubectl", "--as", DOOR, "-n", "app", "delete", "secret", "db", refused=True)
    claim("the lock refused it", "Vault is the authority" in locked)

    chapter("Somebody puts an old artifact back")
    patch = json.dumps({"status": {"artifact": old}})
    words = "kubectl", "-n", NAMESPACE, "patch", "externalartifact", NAME, "--subresource", "status", "--type", "merge", "-p"
    typed_patch = f"{' '.join(words)} '{{\"status\": ...}}'"
    said = show(*words, patch, refused=True, shown=typed_patch)
    claim("a policy of regent's says no", "regent" in said)
    tell("", "Artifacts are regent's, also for administrators. By break-glass, while regent stands still; it would put it right at once:")
    regent.pause()
    show(words[0], "--context", BREAKGLASS, *words[1:], patch, shown=typed_patch.replace("kubectl", f"kubectl --context {BREAKGLASS}"))
    until("it is asked for", lambda: unread(flux.artifacts_port))
    regent.resume()
    # In lines that are broken wherever the controller likes.
    until("the refusal is told", lambda: any("Vault is the authority" in " ".join(message.replace("|", "").split())
                                             for _, _, message in app.kustomization.events()))
    claim("nothing live was touched", prod.secrets() == before)
    show("kubectl", "-n", NAMESPACE, "events", "--for", f"kustomization/{NAME}", "--types", "Warning", "--no-headers")
    app.applied(first)
    shows_both()
    claim("nothing live was touched", prod.secrets() == before)
    tell("", "There is no token any more, regent gave no data key, and nothing of it was built. The stubs are published again.")

    chapter("regent is killed, and Git is gone")
    regent.kill()
    for name in "git", SOURCES:
        cluster.kill(name)
    tell("So is source-controller. regent starts again, and has its volume:")
    serve(flux, regent.data)
    shows_both()
    claim("nothing live was touched", prod.secrets() == before)
    tell("", "kustomize-controller fetched the artifact again, and is Ready. The live Secrets are what they were.")
    tell("", f"Told in {time.monotonic() - began:.0f} s.")

    print(f"\n{out.bold}What to try next{out.plain}", flush=True)
    tell("e2e/flux/run                       every danger that is known, with the stock controllers",
         "manifests/flux/README.md           the same in your cluster, and from Flux's own decryption in three commits",
         "manifests/cluster/README.md        who may do what, and what nobody can stop")
    if keep:
        flux.start_git()
        flux.start_source_controller()
        tell("", f"The cluster runs until you press Ctrl-C. Meanwhile, in {repo.folder}:", "",
             f"export KUBECONFIG={out.env['KUBECONFIG']}",
             f"export PATH={house.folder / 'bin'}:{house.peers}:$PATH    # regent, kubectl",
             f"kubectl -n {NAMESPACE} get {BOTH}",
             f"kubectl config use-context {BREAKGLASS}                     # group regent:break-glass; {ADMIN} goes back")
        teller.stays()
    else:
        tell("", "hack/demo --flux --keep lets the cluster run for you.")


if __name__ == "__main__":
    sys.exit(teller.main(sys.argv[1:], __doc__, stage, "flux", story))
