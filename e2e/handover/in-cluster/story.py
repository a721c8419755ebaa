import base64
import json
import os
import pty
import signal
import subprocess
import sys

from bao import Bao
from delivered import LIMITS, PLUGIN, Delivered
from kubelet import Kubelet
from stage import CANARY, PATIENCE, TOP, free_port, leaks, until

HOME, PARTS = "regent-system", ("handover", "refresh", "verify")
JOBS = {part: f"regent-{part}-prod" for part in PARTS}
TOKEN = f"{CANARY}-git-token"


def story(stage):
    bao = Bao(stage)
    cluster = stage.cluster("cluster", "--kubelet-preferred-address-types=InternalIP", f"--kubelet-certificate-authority={bao.ca}", pods=True)
    hand = Delivered(stage, cluster=cluster, bao=bao)
    git = serve_git(hand)
    kubelet = None
    try:
        person = Person(hand)
        app = hand.application("prod")
        app.synced()
        forbidden(hand, person)
        missing(hand, person)
        vault(hand)
        kubelet = Kubelet(cluster, HOME, stage.folder / "kubelet", stage.house.regent, (hand.bao.certificate, hand.bao.certificate_key))
        planned(hand, person)
        unheard(hand, person, kubelet)
        failing(hand, person)
        waiting(hand, person, kubelet)
        handed_over(hand, person, kubelet)
        again(hand, person)
        clean(hand, kubelet)
    finally:
        git.kill()
        git.wait()
        if kubelet:
            kubelet.close()
    hand.close()


def serve_git(hand):
    """The story's repository over TLS, for whoever has the token."""
    root, port = hand.stage.folder / "served", free_port()
    (root / "repositories").mkdir(parents=True)
    (root / "repositories/prod").symlink_to(hand.stage.repo.folder)
    (root / "basic").write_text(f"x-access-token:{TOKEN}\n")
    hand.repository = f"https://127.0.0.1:{port}/basic/prod/.git"
    with (hand.stage.folder / "git.log").open("wb") as log:
        return subprocess.Popen([sys.executable, TOP / "e2e/git/gitd.py", root, str(port), hand.stage.folder / "git-requests.log",
                                 hand.bao.certificate, hand.bao.certificate_key], stdin=subprocess.DEVNULL, stdout=log, stderr=log)


class Person:
    """Who runs it."""

    def __init__(self, hand):
        self.hand, self.cluster = hand, hand.cluster
        self.where = ["--kubeconfig", self.cluster.kubeconfig(self.cluster.account("people", "jane"))]

    def allowed(self):
        self.cluster.apply(TOP / "manifests/vault/in-cluster.yaml")
        name, who = "regent-in-cluster-prod", "--serviceaccount=people:jane"
        self.cluster.kubectl("create", "rolebinding", name, f"--role={name}", who, f"--namespace={HOME}")
        self.cluster.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", who)

    def words(self, *words):
        return ["handover", "--in-cluster", "prod", "--image", "registry.example/regent:e2e", "--repo", self.hand.repository, "--revision",
                self.hand.commit, "--path", "clusters/prod", "--caches-locked", *self.where, *words]

    def run(self, *words, **kwargs):
        return self.hand.regent(*self.words(*words), **kwargs)

    def begin(self, *words, answer=None):
        """At a terminal, where there is an answer to what it asks."""
        if answer is None:
            return self.hand.started(self.words(*words))
        self.terminal, theirs = pty.openpty()
        child = subprocess.Popen(self.hand.command(*self.words(*words)), cwd=self.hand.work, stdin=theirs, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, env=self.hand.environment())
        os.close(theirs)
        os.write(self.terminal, f"{answer}\n".encode())
        return child

    def follow(self, said, *words, **kwargs):
        """Begins it, and waits until it says something; gives the process and what it said so far."""
        child = self.begin(*words, **kwargs)
        return child, self.hears(child, said)

    def hears(self, child, said):
        heard = b""
        os.set_blocking(child.stdout.fileno(), False)

        def told():
            nonlocal heard
            # Asked first: what it said until then is read below.
            is_over = child.poll() is not None
            heard += child.stdout.read() or b""
            assert said.encode() in heard or not is_over, heard.decode()
            return said.encode() in heard
        until(f"`{said}` is said", told, 3 * PATIENCE)
        os.set_blocking(child.stdout.fileno(), True)
        return heard.decode()

    def interrupt(self, child, heard, ends):
        child.send_signal(signal.SIGINT)
        returned, rest = self.hand.over(child)
        assert returned == ends, (returned, heard + rest)
        assert "error[job]" in rest and "follows it again" in rest and "--in-cluster prod" in rest, rest
        return heard + rest


def jobs(hand):
    return {job["metadata"]["name"]: job for job in hand.cluster.get("Job", None, HOME).ok()["items"]}


def forbidden(hand, person):
    """Without the role, and with a part of it."""
    person.run(ends=1, code="job", says=["cannot get resource", "authorities", "manifests/vault/in-cluster.yaml"])
    person.allowed()
    role = hand.cluster.get("Role", "regent-in-cluster-prod", HOME).ok()
    without = [rule for rule in role["rules"] if rule["verbs"] != ["create"]]
    hand.cluster.patch("Role", "regent-in-cluster-prod", HOME, {"rules": without}).ok()
    person.run(ends=1, code="job", says=["cannot create resource", "jobs", "manifests/vault/in-cluster.yaml"])
    hand.cluster.patch("Role", "regent-in-cluster-prod", HOME, {"rules": role["rules"]}).ok()
    assert not jobs(hand)


def missing(hand, person):
    """Everything that the Jobs lack is named at once, with what makes it."""
    said = ["regent-keys-prod is missing (`kubectl -n regent-system create secret generic regent-keys-prod --from-file=age.txt=KEYFILE`)",
            "the Secret regent-git-prod is missing", "the ConfigMap regent-handover-prod is missing", "the ConfigMap regent-verify-prod is missing",
            "the ServiceAccount regent-refresh-prod is missing (`regent handover --print-policy"]
    person.run("--yes", ends=1, code="job", says=said)
    person.run("--accept-vault-identity", "--yes", ends=2, code="usage", says="`regent handover --accept-vault-identity` once from outside")
    # A plan needs nothing of the others.
    told = person.run("--plan", ends=1, code="job", says=said[:3])
    assert "refresh" not in told and "regent-verify-prod" not in told, told
    config = {"apiVersion": "regent.dev/v1alpha1", "kind": "RegentConfig", "store": {"kind": "kubernetes"}, "limits": LIMITS,
              "rules": [{"authority": "prod", "bootstrap": "clusters/prod/regent.yaml", "namespaces": ["app"]}],
              "argocd": {"name": hand.stage.name, **PLUGIN}}
    ca = hand.bao.ca.read_text()
    for name, data in (("handover", {"ca.crt": "", "vault-ca.crt": ca}), ("verify", {"vault-ca.crt": ca})):
        thing = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"regent-{name}-prod", "namespace": HOME}}
        hand.cluster.apply([{**thing, "data": {"regent.yaml": json.dumps(config), **data}}])
    for name, key, content in (("keys", "age.txt", hand.stage.key.file.read_bytes()), ("git", "token", f"{TOKEN}\n".encode())):
        thing = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": f"regent-{name}-prod", "namespace": HOME}}
        hand.cluster.create({**thing, "data": {key: base64.b64encode(content).decode()}}).ok()
    person.run("--plan", ends=1, code="job", says="`ca.crt` of the ConfigMap regent-handover-prod is empty")
    hand.cluster.patch("ConfigMap", "regent-handover-prod", HOME, {"data": {"ca.crt": ca}}).ok()
    # What its hint says makes the account, with its rights.
    printed = hand.regent("handover", "--repo", hand.stage.repo.folder, "--revision", hand.commit, "--path", "clusters/prod", "--print-policy",
                          "--application", "argocd/prod", "-o", "json")
    hand.printed = json.loads(printed)
    hand.cluster.apply(hand.printed["kubernetes"]["toCreate"], force=True)
    assert not jobs(hand)


def vault(hand):
    """The login by `kubernetes`, with the policies and roles that were printed."""
    reviewer = hand.cluster.account("kube-system", "vault")
    hand.cluster.kubectl("create", "clusterrolebinding", "vault", "--clusterrole=system:auth-delegator", "--serviceaccount=kube-system:vault")
    hand.bao.done("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
    hand.bao.done("POST", "auth/kubernetes/config", {
        "kubernetes_host": hand.cluster.server, "kubernetes_ca_cert": hand.cluster.ca.read_text(), "token_reviewer_jwt": reviewer,
        "disable_local_ca_jwt": True})
    for policy in hand.printed["vault"]["policies"]:
        hand.bao.policy(policy["name"], policy["hcl"])
    for role in hand.printed["vault"]["roles"]:
        if role["method"] == "kubernetes":
            hand.bao.done("POST", role["path"], role["fields"])


def planned(hand, person):
    """The plan of the Job, as a person and as a program reads it; nothing else begins."""
    text = person.run("--plan", says=["authority  prod, epoch 1", "app/db", "Job regent-handover-prod begins"])
    said = person.run("--plan", "-o", "json")
    plan = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    assert f"plan       {plan['digest']}" in text and plan["commit"] == hand.commit, said
    assert set(jobs(hand)) == {JOBS["handover"]}
    hand.git_rules()
    hand.digest = plan["digest"]


def unheard(hand, person, kubelet):
    """A plan that nobody read is not approved, and no handover begins."""
    kubelet.is_mute = True
    before = len(kubelet.ran)
    said = person.run(ends=4, code="job", says="no plan is in what was read of its log")
    kubelet.is_mute = False
    assert hand.digest not in said and len(kubelet.ran) == before + 1, said
    assert "--plan" in jobs(hand)[JOBS["handover"]]["spec"]["template"]["spec"]["containers"][0]["args"]
    hand.git_rules()


def failing(hand, person):
    """The exit code of the container is the command's, and its own words say why."""
    said = person.run("--approve", "0" * 64, ends=6, says=["error[approval]", "Job regent-handover-prod ended with 6"], code="approval")
    assert "--in-cluster prod" in said.splitlines()[-1], said
    failed = jobs(hand)[JOBS["handover"]]["status"]["conditions"]
    assert any(each["type"] == "Failed" and each["status"] == "True" for each in failed), failed
    hand.git_rules()
    # Nobody is there to be asked.
    person.run(ends=2, code="usage", says="plan       ")
    hand.git_rules()


def waiting(hand, person, kubelet):
    """A Pod that does not begin says why; whoever waits may go, and the same command finds it again."""
    image = {"phase": "Pending", "containerStatuses": [{
        "name": "regent", "image": "registry.example/regent:e2e", "imageID": "", "restartCount": 0, "ready": False,
        "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}}]}
    unschedulable = {"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}]}
    kubelet.refuse = lambda pod: unschedulable
    child, heard = person.follow("waits: Unschedulable: 0/1 nodes are available", "--plan")
    person.interrupt(child, heard, ends=4)
    kubelet.refuse = lambda pod: image
    child, heard = person.follow("waits: ImagePullBackOff: Back-off pulling image", "--plan")
    assert "Job regent-handover-prod runs already, and is followed" in heard, heard
    person.interrupt(child, heard, ends=4)
    # A Secret that went meanwhile: its volume stands in an Event.
    hand.cluster.delete("Job", JOBS["handover"], HOME, query={"propagationPolicy": "Background"}).ok()
    kubelet.refuse = lambda pod: {"phase": "Pending"}
    child, heard = person.follow("Job regent-handover-prod begins", "--plan")
    keys = hand.cluster.get("Secret", "regent-keys-prod", HOME).ok()
    hand.cluster.delete("Secret", "regent-keys-prod", HOME).ok()
    kubelet.refuse = lambda pod: None
    heard += person.hears(child, 'waits: FailedMount: MountVolume.SetUp failed for volume "keys" : secret "regent-keys-prod" not found')
    hand.cluster.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "regent-keys-prod", "namespace": HOME}, "data": keys["data"]}).ok()
    returned, rest = hand.over(child)
    assert returned == 0 and hand.digest in rest, heard + rest
    hand.git_rules()


def handed_over(hand, person, kubelet):
    """Asked, answered, interrupted while it waits for Argo CD, and gone on with."""
    returned, said = hand.over(person.begin(answer="n"))
    assert returned == 6 and "Hand over? [y/N]" in said and "error[approval]" in said, said
    hand.git_rules()
    # The Job of the refresh account does not come to run for now: the handover waits.
    kubelet.refuse = lambda pod: {"phase": "Pending"} if pod["spec"]["serviceAccountName"] == JOBS["refresh"] else None
    child, heard = person.follow("Job regent-refresh-prod begins", answer="y")
    assert '"waiting":"argocd/prod"' in heard, heard
    hand.vault_rules()
    assert hand.settled() is None
    heard = person.interrupt(child, heard, ends=7)
    assert "the Jobs regent-handover-prod, regent-refresh-prod go on" in heard, heard
    assert f"--approve={hand.digest}" in jobs(hand)[JOBS["handover"]]["spec"]["template"]["spec"]["containers"][0]["args"]
    before = {name: job["metadata"]["uid"] for name, job in jobs(hand).items()}
    # Without an answer: Vault rules already, so nobody is asked.
    child, heard = person.follow("Job regent-refresh-prod runs already, and is followed")
    assert "Job regent-handover-prod runs already, and is followed" in heard, heard
    assert {name: job["metadata"]["uid"] for name, job in jobs(hand).items()} == before
    kubelet.refuse = lambda pod: None
    returned, rest = hand.over(child)
    said = heard + rest
    assert returned == 0, said
    for word in ("argocd/prod was refreshed", f"closed: {hand.authority()['handoverId']}", "Job regent-verify-prod begins"):
        assert word in said, said
    assert hand.settled() and "left behind" not in hand.settled()
    done = jobs(hand)
    assert set(done) == set(JOBS.values()) and done[JOBS["handover"]]["metadata"]["uid"] == before[JOBS["handover"]]
    assert done[JOBS["verify"]]["status"]["succeeded"] == 1, done[JOBS["verify"]]["status"]
    order = [container.name.rsplit("-", 1)[0] for container in kubelet.ran]
    assert order[-1] == JOBS["verify"] and JOBS["refresh"] in order, order


def again(hand, person):
    """What ended is made anew, and finds nothing to do."""
    before = {name: job["metadata"]["uid"] for name, job in jobs(hand).items()}
    person.run(says=["Job regent-handover-prod begins", "Job regent-verify-prod begins"])
    after = {name: job["metadata"]["uid"] for name, job in jobs(hand).items()}
    assert after[JOBS["handover"]] != before[JOBS["handover"]] and after[JOBS["verify"]] != before[JOBS["verify"]]
    assert after[JOBS["refresh"]] == before[JOBS["refresh"]]
    hand.vault_rules()


def clean(hand, kubelet):
    """Nothing secret is in a Job, a Pod or a log; each account had the tokens that are its own."""
    for kind in ("Job", "Pod", "Event"):
        assert not leaks(json.dumps(hand.cluster.get(kind, None, HOME).ok()).encode()), kind
    for container in kubelet.ran:
        assert not leaks(container.log.read_bytes()), container.name
        files = {str(file.relative_to(container.root)) for file in container.root.rglob("*") if file.is_file()}
        account = "var/run/secrets/kubernetes.io/serviceaccount/token"
        assert account in files and not list((container.root / "tmp").glob("*")), files
        assert ("var/run/regent/vault/token" in files) == (JOBS["refresh"] not in container.name), (container.name, files)
        assert ("var/run/regent/keys/age.txt" in files) == (JOBS["handover"] in container.name), (container.name, files)
