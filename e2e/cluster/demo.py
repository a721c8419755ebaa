#!/usr/bin/env python3
"""The story of regent in a cluster, told with the real etcd, the real kube-apiserver and the real Argo CD.

usage: hack/demo --cluster [--keep]    which also installs and builds what this needs

What is shown is what the programs print; what is told about it is checked, and the demo ends where it is not so. Every
secret value holds one word, and a line with that word is never printed. All processes are ended on the way out.
"""

import concurrent.futures
import json
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "handover"), str(HERE), str(HERE.parent)]
sys.dont_write_bytecode = True
import example  # noqa: E402
import init  # noqa: E402
import stage  # noqa: E402
import teller  # noqa: E402
from applications import AUTOMATED, DOOR, NAMESPACE, ArgoCD  # noqa: E402
from authority import values_in  # noqa: E402
from bao import HANDOVER, Bao  # noqa: E402
from example import DOCUMENTS, EXAMPLE, Prod  # noqa: E402
from stage import CANARY, TOP, leaks  # noqa: E402
from teller import claim  # noqa: E402

# So that a handover need not wait a minute for a request that may be under way.
LIMITS = {"request": "10s"}
# What stands in each stub, as regent writes it.
STUB = 'argocd.argoproj.io/hook: "Skip"'
# An administrator, as kubectl and regent name it: the context of a kubeconfig.
ADMIN = "admin"


def operators(stage, rules):
    """The operator's file: what the sidecar allows, and where Argo CD keeps what it rendered."""
    file = stage.folder / "operator.yaml"
    file.write_text(json.dumps({
        "apiVersion": "regent.dev/v1alpha1", "kind": "RegentConfig", "store": {"kind": "kubernetes"}, "rules": rules,
        "argocd": {"redis": f"127.0.0.1:{stage.house.redis_port}"}, "limits": LIMITS}))
    return file


def stubs_of(out, ask):
    """How many stubs the plugin answers."""
    done = subprocess.run([*map(str, ask), "--reveal"], cwd=out.folder, env=out.env, text=True, capture_output=True)
    claim(f"the plugin answers: {done.stderr}", done.returncode == 0 and not leaks(done.stdout.encode()))
    return done.stdout.count(STUB)


def story(out, stage, keep):
    began = time.monotonic()
    tell, show, chapter = out.tell, out.show, out.chapter
    repo, house = stage.repo, stage.house
    in_git = f"file://{repo.folder}"

    chapter("A Kubernetes, and Argo CD in it")
    tell("etcd, kube-apiserver, the garbage collector, Argo CD's controller, repo-server and Redis, and OpenBao: the real",
         "programs, on free ports of this machine, with their data in a scratch folder.")
    vault = Bao(stage)
    vault.policy("handover", HANDOVER)
    vault_token = vault.token_file("handover")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        sealed, served = pool.submit(lambda: repo.commit(example.content(vault))), pool.submit(house.serve)
        cluster = stage.cluster()
        first = sealed.result()
        served.result()
    argocd = ArgoCD(stage, cluster)
    out.env = {**house.env, "PATH": f"{house.folder / 'bin'}:{house.peers}:{house.env['PATH']}", "NO_COLOR": "1",
               "KUBECONFIG": str(cluster.kubeconfig(ADMIN)), "VAULT_CACERT": str(vault.ca), "ARGOCD_PLUGINSOCKFILEPATH": str(house.plugins)}
    out.folder = repo.folder
    show("kubectl", "get", "crds,namespaces", "--output", "name")

    chapter("What regent needs there, once for all authorities")
    tell("The Authority and its rules, the policies that guard the evidence, two roles. By a cluster administrator.")
    words = "kubectl", "apply", "--server-side", "-k", "manifests/cluster"
    show(*words, folder=TOP)
    cluster.established("authorities.regent.dev")
    before = example.installed(cluster)
    subprocess.run(words, cwd=TOP, env=out.env, check=True, capture_output=True)
    claim("a second apply changes nothing", example.installed(cluster) == before and len(before) > 10)
    tell("", f"The same again changes nothing: all {len(before)} objects keep their resourceVersion.")

    chapter("The bootstrap Secrets, in Git")
    tell("examples/bootstrap, encrypted with the real sops and committed. hack/demo without --cluster tells this part.")
    show("git", "ls-tree", "-r", "--name-only", "main")

    chapter("Git rules: said once, on purpose")
    tell("It looks for any witness of any epoch, asks Vault for a record, looks whether the policies bind, who reads and who",
         "writes; and says what it makes.")
    init_words = "regent", "init", "clusters/prod", "--context", ADMIN, "--vault-token-file", vault_token, "--yes"
    shown_init = f"regent init clusters/prod --context {ADMIN} --vault-token-file token --yes"
    made = show(*init_words, shown=shown_init)
    claim("it made the Authority", "created Authority prod" in made)
    again = show(*init_words, refused=True, shown=shown_init)
    claim("it says why not twice", "error" in again)

    chapter("An Application is synced")
    tell("regent runs beside the repo-server, and reads the authority with the token of its pod's account.")
    # A rollback asks for a commit by its id.
    rules = [stage.rule(revisions=["*"])]
    token = init.reader_token(cluster)
    sidecar = init.serve_with(stage, cluster, token, rules, limits=LIMITS)
    app = argocd.application("bootstrap", "clusters/prod", policy=AUTOMATED)
    app.synced()
    show("kubectl", "-n", NAMESPACE, "get", "application", "bootstrap")
    tell("", "The Secrets are live. kubectl tells of a value its length alone:")
    described = show("kubectl", "-n", "app", "describe", "secret", "db")
    claim("the guards are there", "Prune=false" in described and "Delete=false" in described)
    claim("it is labelled", "regent.dev/authority=prod" in described)
    claim("no value stands in an annotation", "last-applied" not in described)
    # One that is older by now: Argo CD keeps the manifests of every revision for a day.
    repo.commit({"clusters/prod/app/config.yaml": (EXAMPLE / "app/config.yaml").read_text().replace("info", "debug")})
    app.refresh()
    app.synced()
    second = repo.git("rev-parse", "HEAD")
    prod = Prod(stage, cluster, "prod")
    before = prod.secrets()
    claim("all five Secrets are live", sorted(before) == sorted(name for _, name in DOCUMENTS))
    claim("Argo CD caches the values", values_in(argocd.cached("bootstrap"), first))

    chapter("Who rules")
    rules_git = show("regent", "status", "clusters/prod", "--context", ADMIN, "-i", stage.key.file,
                     shown=f"regent status clusters/prod --context {ADMIN} -i key.txt")
    claim("Git rules", "P4" in rules_git)

    chapter("What would a handover do?")
    tell("By the one account that may move this authority; an administrator acts as it. All rights, the lock, the guards of live",
         "Secrets and what Argo CD applied are looked at, in Vault and in the cluster, and nothing is written. To look at guards",
         "takes a right to each Secret by its name. `regent handover --print-policy` prints these roles, and a person makes them:")
    example.may_look(out, cluster, ["--repo", repo.folder, "--revision", second, "--path", "clusters/prod"], f"regent-listed-{prod.name}")
    show("kubectl", "get", "rolebindings", "--all-namespaces", "--field-selector", f"metadata.name=regent-listed-{prod.name}")
    claim("Argo CD caches the values", values_in(argocd.cached("bootstrap"), second))
    account = f"system:serviceaccount:regent-system:regent-handover-{prod.name}"
    handover = ["regent", "handover", "--repo", repo.folder, "--revision", second, "--path", "clusters/prod", "-i", stage.key.file,
                "--config", operators(stage, rules), "--context", ADMIN, "--as", account, "--vault-token-file", vault_token]
    typed_handover = f"regent handover --repo . --revision {second[:7]}... --path clusters/prod -i key.txt --config operator.yaml ..."
    plan = show(*handover, "--plan", shown=f"{typed_handover} --plan")
    digest = next(line.split()[1] for line in plan.splitlines() if line.startswith("plan "))

    chapter("The authority moves, and is settled")
    tell("Each value is created in Vault, read back and compared; then the record is written, and from that moment on Vault rules.",
         "Argo CD still has the values in its cache. It is asked again until every Secret is a stub; what it has cached of older",
         "revisions is removed from Redis; nothing that began before may be under way; then it is noted as settled.",
         "Who may move the authority may not touch Applications, unless somebody says so:")
    role = "--verb=get,patch", "--resource=applications.argoproj.io", "--resource-name=bootstrap"
    show("kubectl", "-n", NAMESPACE, "create", "role", "regent-refresh", *role)
    show("kubectl", "-n", NAMESPACE, "create", "rolebinding", "regent-refresh", "--role=regent-refresh",
         f"--serviceaccount=regent-system:regent-handover-{prod.name}")
    show("kubectl", "get", "authorities")
    said = show(*handover, "--approve", digest, shown=f"{typed_handover} --approve {digest[:7]}...")
    claim("it is settled", "settled" in said)
    show("kubectl", "get", "authorities")
    show("kubectl", "-n", "kube-system", "get", "configmap", "regent-authority-prod-1")
    copied = vault.done("GET", "secret/data/bootstrap/prod/app/db")["data"]["data"]
    claim("Vault has the password", CANARY in copied["password"])
    claim("no revision in the cache holds a value", not any(leaks(text) for text in argocd.cached("bootstrap").values()))
    ask = ["regent", "render", "clusters/prod", "--via", sidecar.socket, "--project", "platform", "--app", "bootstrap",
           "--repo-url", in_git, "--target-revision", "main"]
    asked = f"regent render clusters/prod --via {sidecar.socket.name} --project platform --app bootstrap ..."
    stubs = show(*ask, "--reveal", shown=f"{asked} --reveal", some=18)
    claim("there are stubs and no ciphertext", stubs.count(STUB) == len(DOCUMENTS) and "ENC[" not in stubs)
    columns = "NAMESPACE:.metadata.namespace,NAME:.metadata.name,UID:.metadata.uid,VERSION:.metadata.resourceVersion"
    show("kubectl", "get", "secrets", "-A", "-l", "regent.dev/authority=prod", "-o", f"custom-columns={columns}")
    claim("no live Secret has changed", prod.secrets() == before)
    tell("", "Every uid and every resourceVersion is what it was before: nothing was touched.")
    rules_vault = show("regent", "status", "clusters/prod", "--context", ADMIN, shown=f"regent status clusters/prod --context {ADMIN}")
    claim("Vault rules", "P2" in rules_vault)

    chapter("Vault rotates, and somebody rolls back")
    tell("From here on rotation is safe: another password, as an operator of Vault writes it. And Argo CD is rolled back to the",
         "first revision, which has the old one in Git.")
    prod.rotated()
    before = prod.secrets()
    show("kubectl", "-n", "app", "describe", "secret", "db", shown="kubectl -n app describe secret db | tail -n 2", last=2)
    app.rollback(first)
    show("kubectl", "-n", NAMESPACE, "get", "application", "bootstrap", "-o", "jsonpath={.status.operationState.message}")
    claim("it is in order", app.get()["status"]["operationState"]["phase"] == "Succeeded")
    claim("the rotated value is there", prod.secrets() == before)
    tell("", "The plugin answered stubs for that revision too: the rotated password is there, and so is every other Secret.",
         "And were a cache to remember after all, the API server is the last lock:")
    locked = show("kubectl", "--as", DOOR, "-n", "app", "delete", "secret", "db", refused=True)
    claim("the lock refused it", "Vault is the authority" in locked)
    claim("the rotated value is there", prod.secrets() == before)

    chapter("An administrator tries")
    tell(f"`{ADMIN}` is in system:masters: no RBAC stops it.")
    for words in (["delete", "authority", "prod"],
                  ["patch", "authority", "prod", "--type", "merge", "-p", '{"spec":{"authority":"git"}}'],
                  ["-n", "kube-system", "delete", "configmap", "regent-authority-prod-1"]):
        said = show("kubectl", *words, refused=True)
        claim("a rule of regent says no", "regent" in said or "final" in said)
    tell("", "An accident and a tool end here. Who may write the policies themselves does not: manifests/cluster/README.md.")

    chapter("Vault is gone, and comes back")
    node, = vault.nodes
    node.kill()
    tell("OpenBao is killed. The plugin never asks it, so nothing changes, and no value comes back from Git.")
    claim("there are stubs", stubs_of(out, ask) == len(DOCUMENTS))
    said = show(*handover, "--yes", "--vault-patience", "0", refused=True, shown=f"{typed_handover} --yes")
    claim("it says that Vault does not answer", "Vault" in said)
    node.start()
    node.unseal()
    tell("", "It is started again, and unsealed. The same command finds everything done:")
    said = show(*handover, "--yes", shown=f"{typed_handover} --yes")
    claim("Vault rules all the while", "rules" in said and prod.secrets() == before)
    claim("Vault has what it had", vault.done("GET", "secret/data/bootstrap/prod/app/db")["data"]["metadata"]["version"] == 1)

    chapter("Git is rolled back to before everything")
    repo.git("reset", "--quiet", "--hard", first)
    show("git", "log", "--oneline", "main")
    app.refresh("hard")
    app.synced()
    claim("the rotated value is there", prod.secrets() == before and stubs_of(out, ask) == len(DOCUMENTS))
    tell("", "Argo CD renders that commit and is in order: the files of then, and the values of now.")

    chapter("The authority is lost, and bootstrapped again")
    tell("Both witnesses go, as after a restore of an old etcd; by break-glass, since nobody else can.")
    for words in ["-n", "kube-system", "delete", "configmap", "regent-authority-prod-1"], ["delete", "authority", "prod"]:
        show("kubectl", "--context", "breakglass", *words)
    claim("the first sidecar remembers", stubs_of(out, ask) == len(DOCUMENTS))
    third = init.serve_with(stage, cluster, token, rules, name="third")
    refusal = show(*ask[:4], third.socket, *ask[5:], "--reveal", refused=True, shown=asked.replace(sidecar.socket.name, third.socket.name))
    claim("whoever asks anew gets no value", "P5" in refusal)
    tell("", "`init` asks Vault first, finds the record there, and begins with Vault straight away. Git gets no moment:")
    said = show(*init_words, refused=True, shown=shown_init)
    claim("it found the record", "record" in said)
    said = show(*init_words, "--from-vault", refused=True, shown=f"{shown_init} --from-vault")
    claim("it begins with Vault, and is not settled", "begun" in said and "not settled" in said)
    claim("there are stubs", stubs_of(out, [*ask[:4], third.socket, *ask[5:]]) == len(DOCUMENTS))
    said = show(*handover, "--yes", shown=f"{typed_handover} --yes")
    claim("it is settled again, and nothing has changed", "settled" in said and prod.secrets() == before)
    show("kubectl", "get", "authorities")

    chapter("The API server is gone")
    cluster.stop_apiserver()
    tell("kube-apiserver is killed. A sidecar that starts now knows nothing, and unknown is an error: never an old value, never an",
         "empty answer that would prune.")
    # Both wait for it for a while, twice each.
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        still = pool.submit(stubs_of, out, ask)
        second = init.serve_with(stage, cluster, token, rules, name="second")
        refusal = show(*ask[:4], second.socket, *ask[5:], refused=True, shown=asked.replace(sidecar.socket.name, second.socket.name))
        claim("it remembers", still.result() == len(DOCUMENTS))
    claim("it is P1", "P1" in refusal)
    tell("", f"The first sidecar, which saw Vault rule, answers {len(DOCUMENTS)} stubs all the while.")
    show("regent", "explain", "P1")
    cluster.start_apiserver()
    claim("the second answers stubs again", stubs_of(out, [*ask[:4], second.socket, *ask[5:]]) == len(DOCUMENTS))
    claim("no live Secret has changed", prod.secrets() == before)
    tell("", "kube-apiserver is back, and the second answers stubs too. The live Secrets are what they were.")
    tell("", f"Told in {time.monotonic() - began:.0f} s.")

    print(f"\n{out.bold}What to try next{out.plain}", flush=True)
    tell("e2e/cluster/run                    every danger that is known, with the lock and without it",
         "manifests/argocd/README.md         the same in your cluster",
         "manifests/cluster/README.md        who may do what, and what nobody can stop")
    if keep:
        tell("", f"The cluster runs until you press Ctrl-C. Meanwhile, in {repo.folder}:", "",
             f"export KUBECONFIG={out.env['KUBECONFIG']}",
             f"export PATH={house.folder / 'bin'}:{house.peers}:$PATH    # regent, kubectl",
             f"regent render clusters/prod --via {sidecar.socket} --project platform --repo-url {in_git}",
             f"kubectl config use-context breakglass                     # group regent:break-glass; {ADMIN} goes back")
        teller.stays()
    else:
        tell("", "hack/demo --cluster --keep lets the cluster run for you.")


if __name__ == "__main__":
    # The name by which Applications know the plugin: regent-v1.
    sys.exit(teller.main(sys.argv[1:], __doc__, stage, "regent", story))
