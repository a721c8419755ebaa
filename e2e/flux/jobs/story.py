"""A handover by Jobs in a cluster that has Flux and no Argo CD: what the Jobs lack is named at once, the plan is read from a Job's log, and the
same Jobs wait until the Kustomization has let go. Their accounts have the rights that were printed, and none of them a key that is not its own."""

import base64
import json
import subprocess
import sys

import let_go
from bao import Bao
from kubelet import Kubelet
from stage import CANARY, PATIENCE, TOP, free_port, leaks

HOME, TOKEN = "regent-system", f"{CANARY}-git-token"


def story(stage):
    bao = Bao(stage)
    cluster = stage.cluster("cluster", "--kubelet-preferred-address-types=InternalIP", f"--kubelet-certificate-authority={bao.ca}", pods=True)
    cluster.controllers()
    handing = let_go.begin(stage, bao=bao, cluster=cluster)
    it, before = handing.it, handing.it.live()
    git, repository = serve_git(stage, bao)
    kubelet = None
    try:
        jane = cluster.kubeconfig(cluster.account("people", "jane"))
        run = lambda *words, **kwargs: regent(stage, repository, jane, *words, **kwargs)  # noqa: E731
        may(cluster)
        lacks = run("--yes", ends=1)
        assert all(f"regent-{each}-prod is missing" in lacks for each in ("keys", "git", "handover", "verify")), lacks
        provided(handing)
        login(handing)
        kubelet = Kubelet(cluster, HOME, stage.folder / "kubelet", stage.house.regent, (bao.certificate, bao.certificate_key))
        said = run("--plan")
        assert "prod/db" in said and "Job regent-handover-prod begins" in said, said
        said = run("--yes")
        for word in ("1 Kustomization let go", "there is no Argo CD here", "Job regent-verify-prod begins"):
            assert word in said, f"`{word}` is not in: {said}"
        it.app.ready(handing.stubs())
        it.flux.unchanged(before)
        assert "1 Kustomization let go" in handing.settled()
        assert bao.fields("bootstrap/prod/prod/db") == it.values()
        done = {job["metadata"]["name"]: job["status"] for job in cluster.get("Job", None, HOME).ok()["items"]}
        assert done["regent-handover-prod"]["succeeded"] == done["regent-verify-prod"]["succeeded"] == 1, done
        for container in kubelet.ran:
            assert not leaks(container.log.read_bytes()), container.name
            files = {str(file.relative_to(container.root)) for file in container.root.rglob("*") if file.is_file()}
            assert ("var/run/regent/keys/age.txt" in files) == ("handover" in container.name), (container.name, files)
        for kind in ("Job", "Pod", "Event"):
            assert not leaks(json.dumps(cluster.get(kind, None, HOME).ok()).encode()), kind
    finally:
        git.kill()
        git.wait()
        if kubelet:
            kubelet.close()
    bao.stop()


def serve_git(stage, bao):
    """The story's repository over TLS, for whoever has the token."""
    root, port = stage.folder / "for-jobs", free_port()
    (root / "repositories").mkdir(parents=True)
    (root / "repositories/prod").symlink_to(stage.repo.folder)
    (root / "basic").write_text(f"x-access-token:{TOKEN}\n")
    with (stage.folder / "git.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, TOP / "e2e/git/gitd.py", root, str(port), stage.folder / "git-requests.log",
                                   bao.certificate, bao.certificate_key], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    return server, f"https://127.0.0.1:{port}/basic/prod/.git"


def regent(stage, repository, kubeconfig, *words, ends=0):
    """The command as a person types it, who has neither keys nor a way to Vault."""
    commit = stage.repo.git("rev-parse", "HEAD")
    words = [stage.house.regent, "handover", "--in-cluster", "prod", "--image", "registry.example/regent:e2e", "--repo", repository, "--revision",
             commit, "--path", "clusters/prod", "--kubeconfig", kubeconfig, *words]
    done = subprocess.run(list(map(str, words)), stdin=subprocess.DEVNULL, capture_output=True, text=True, env=stage.house.env,
                          timeout=3 * PATIENCE)
    said = done.stdout + done.stderr
    assert not leaks(said.encode()), "the canary in what was said"
    assert done.returncode == ends, f"{done.returncode}, not {ends}: {said}"
    return said


def may(cluster):
    cluster.apply(TOP / "manifests/vault/in-cluster.yaml")
    name, who = "regent-in-cluster-prod", "--serviceaccount=people:jane"
    cluster.kubectl("create", "rolebinding", name, f"--role={name}", who, f"--namespace={HOME}")
    cluster.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", who)


def provided(handing):
    """What the Jobs mount, and the accounts and rights that are printed for this root."""
    cluster, config = handing.cluster, json.loads(handing.config.read_text())
    config["store"] = {"kind": "kubernetes"}
    for rule in config["rules"]:
        # The Job has its keys from elsewhere.
        rule.pop("identities", None)
    ca = handing.bao.ca.read_text()
    for name, data in (("handover", {"ca.crt": ca, "vault-ca.crt": ca}), ("verify", {"vault-ca.crt": ca})):
        cluster.apply([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"regent-{name}-prod", "namespace": HOME},
                        "data": {"regent.yaml": json.dumps(config), **data}}])
    for name, key, content in (("keys", "age.txt", handing.stage.key.file.read_bytes()), ("git", "token", f"{TOKEN}\n".encode())):
        cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"regent-{name}-prod", "namespace": HOME},
                        "data": {key: base64.b64encode(content).decode()}}).ok()
    handing.printed = json.loads(handing.handover("--print-policy", "-o", "json"))
    # Of a cluster without Argo CD nothing in its namespace is asked for.
    there = {each["metadata"]["namespace"] for each in handing.printed["kubernetes"]["toCreate"]}
    assert there == {HOME, "prod"}, there
    cluster.apply(handing.printed["kubernetes"]["toCreate"], force=True)


def login(handing):
    """By `kubernetes`, with the policies and roles that were printed."""
    bao, cluster = handing.bao, handing.cluster
    reviewer = cluster.account("kube-system", "vault")
    cluster.kubectl("create", "clusterrolebinding", "vault", "--clusterrole=system:auth-delegator", "--serviceaccount=kube-system:vault")
    bao.done("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
    bao.done("POST", "auth/kubernetes/config", {
        "kubernetes_host": cluster.server, "kubernetes_ca_cert": cluster.ca.read_text(), "token_reviewer_jwt": reviewer,
        "disable_local_ca_jwt": True})
    for policy in handing.printed["vault"]["policies"]:
        bao.policy(policy["name"], policy["hcl"])
    for role in handing.printed["vault"]["roles"]:
        if role["method"] == "kubernetes":
            bao.done("POST", role["path"], role["fields"])
