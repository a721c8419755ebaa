"""What `regent handover --print-policy` prints, created by the real CLIs as it is printed: it is enough for a handover by every
login, and for nothing else. The platform is a real API server, whose tokens OpenBao verifies.
"""

import json
import os
import subprocess

from handed import SECRETS, Hand, regent_yaml
from stage import TOP, secret

HOME, HANDOVER, VERIFY, DELIVER = "regent-system", "regent-handover-prod", "regent-verify-prod", "regent-deliver-prod"
ISSUER = "https://kubernetes.default.svc.cluster.local"


def story(stage):
    hand = Hand(stage)
    try:
        platform = Platform(stage, hand)
        said(hand)
        policies = printed_and_created(hand, platform)
        logins(hand, platform)
        enough(hand, platform)
        exactly(hand, policies)
        refused(hand)
        app_role(hand)
        namespace(stage, hand)
    finally:
        hand.bao.stop()


class Platform:
    """A cluster, and OpenBao's two logins for its accounts."""

    def __init__(self, stage, hand):
        self.hand, self.bao, self.cluster = hand, hand.bao, stage.cluster()
        self.folder, self.cluster.waits_for_rights = stage.folder, True
        for namespace in ("argocd", "app"):
            self.cluster.kubectl("create", "namespace", namespace)
        for name in (HANDOVER, VERIFY, "another"):
            self.cluster.account(HOME, name)
        reviewer = self.cluster.account("kube-system", "vault")
        self.cluster.kubectl("create", "clusterrolebinding", "vault", "--clusterrole=system:auth-delegator",
                             "--serviceaccount=kube-system:vault")
        public = subprocess.run(["openssl", "rsa", "-in", self.cluster.key, "-pubout"], check=True, capture_output=True, text=True).stdout
        for method in ("jwt", "kubernetes"):
            self.bao.done("POST", f"sys/auth/{method}", {"type": method})
        self.bao.done("POST", "auth/jwt/config", {"jwt_validation_pubkeys": [public], "bound_issuer": ISSUER})
        self.bao.done("POST", "auth/kubernetes/config", {
            "kubernetes_host": self.cluster.server, "kubernetes_ca_cert": self.cluster.ca.read_text(), "token_reviewer_jwt": reviewer,
            "disable_local_ca_jwt": True})

    def uid(self, name=HANDOVER):
        return self.cluster.get("ServiceAccount", name, HOME).ok()["metadata"]["uid"]

    def again(self, name=HANDOVER):
        """The account is deleted, and made by whoever may make accounts."""
        self.cluster.delete("ServiceAccount", name, HOME).ok()
        self.cluster.account(HOME, name)

    def login(self, method, name=HANDOVER, audience=None, role=None):
        """The words of a login with a projected token."""
        jwt = self.folder / f"jwt-{os.urandom(4).hex()}"
        jwt.write_text(self.cluster.token(HOME, name, 600, [audience or self.hand.address]))
        return "--vault-auth", method, "--vault-role", role or name, "--vault-jwt-file", jwt


def said(hand):
    """Words that do not fit are refused, and so is a root that names no place or a commit that nobody pinned."""
    repo = hand.stage.repo.folder
    hand.regent(*words(hand), "--service-account-uid", "$(reboot)", ends=2, says="a uid is expected")
    hand.regent(*words(hand), "--plan", ends=2, says="cannot be used with")
    hand.regent(*words(hand), "--vault-auth", "approle", "--service-account-uid", "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f", ends=2, code="usage")
    hand.regent("handover", "--repo", repo, "--revision", "HEAD", "--path", "clusters/prod", "--print-policy", ends=1, code="signature")
    placeless = hand.stage.repo.commit({"clusters/prod/regent.yaml": "apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: 1\n"})
    hand.regent(*words(hand, revision=placeless), ends=6, code="plan", says="no `vault`")
    # A file that is encrypted as a whole keeps its Secret's name to itself; a Secret in the clear is an error.
    whole = subprocess.run(["age", "--armor", "-r", hand.stage.key.recipient], input=b"nothing", check=True, capture_output=True).stdout
    unnamed = hand.stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(hand.address), "clusters/prod/tls.yaml.age": whole})
    hand.regent(*words(hand, revision=unnamed), says=["# tls.yaml.age says only when it is opened", "\n  resourceNames:\n  - api\n  - db\n"])
    clear = hand.stage.repo.commit({"clusters/prod/tls.yaml.age": None, "clusters/prod/clear.yaml": secret("clear", {"a": "b"})})
    hand.regent(*words(hand, revision=clear), ends=1, code="clear-secret")
    hand.stage.repo.commit({"clusters/prod/clear.yaml": None})


def words(hand, *more, revision=None):
    """Neither keys nor a store."""
    return ["handover", "--repo", hand.stage.repo.folder, "--revision", revision or hand.commit, "--path", "clusters/prod", "--print-policy", *more]


def create(hand, text, kubeconfig=None):
    """Runs what was printed in a shell, as an administrator pastes it."""
    vault, kubernetes = text.split("\n# --- Kubernetes\n")
    vault_environment = {"BAO_ADDR": hand.bao.address, "BAO_TOKEN": hand.bao.root, "BAO_CACERT": str(hand.bao.ca)}
    shell(hand, vault, vault_environment)
    if kubeconfig:
        shell(hand, kubernetes, {"KUBECONFIG": str(kubeconfig)})


def shell(hand, text, environment):
    path = f"{hand.stage.house.peers}:{os.environ['PATH']}"
    home = hand.stage.folder / "administrator"
    home.mkdir(exist_ok=True)
    done = subprocess.run(["bash", "-euo", "pipefail"], input=text, capture_output=True, text=True,
                          env={"HOME": str(home), "PATH": path, **environment})
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\n{text}"


def printed_and_created(hand, platform):
    """Everything exists as it was printed, for a shell and for programs. Gives each policy's lines."""
    bound = words(hand, "--service-account-uid", platform.uid())
    text = hand.regent(*bound, env={"VAULT_ADDR": "https://nowhere.example", "KUBECONFIG": "/nowhere"})
    create(hand, text, platform.cluster.kubeconfig())
    platform.cluster.rights_in_force()
    data = json.loads(hand.regent(*bound, "-o", "json"))
    for policy in data["vault"]["policies"]:
        there = hand.bao.done("GET", f"sys/policies/acl/{policy['name']}")["data"]["policy"]
        assert there == policy["hcl"], there
    assert [policy["name"] for policy in data["vault"]["policies"]] == [HANDOVER, VERIFY, DELIVER]
    for role in data["vault"]["roles"]:
        there = hand.bao.done("GET", role["path"])["data"]
        for field, value in role["fields"].items():
            found = there[field]
            assert found == value or found == {"10m": 600, "30m": 1800}.get(value), (field, found, value)
    entity = hand.bao.done("GET", f"identity/entity/name/{HANDOVER}")["data"]
    assert entity["policies"] == [HANDOVER] and [alias["name"] for alias in entity["aliases"]] == [platform.uid()], entity
    in_the_cluster(hand, platform, data["kubernetes"])
    return {policy["name"]: policy["hcl"] for policy in data["vault"]["policies"]}


def in_the_cluster(hand, platform, data):
    """The refresh account may patch the named Applications; verify and the handover may read the listed Secrets."""
    refresh, verify, handover = (f"system:serviceaccount:{HOME}:regent-{part}-prod" for part in ("refresh", "verify", "handover"))

    def may(who, verb, what, namespace):
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": who, "resourceAttributes": {
            "group": "argoproj.io" if what.startswith("applications") else "", "resource": what.split("/")[0],
            "name": what.partition("/")[2], "verb": verb, "namespace": namespace}}}
        answer = platform.cluster.request("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
        return answer.ok()["status"]["allowed"]
    # As it is printed no Application can be patched: somebody has to say which.
    assert not may(refresh, "patch", "applications/bootstrap", "argocd")
    named = json.loads(hand.regent(*words(hand), "--application", "argocd/bootstrap", "-o", "json"))["kubernetes"]["toCreate"]
    assert named == json.loads(json.dumps(data["toCreate"]).replace('"APPLICATION"', '"bootstrap"'))
    platform.cluster.apply(named, force=True)
    assert may(refresh, "patch", "applications/bootstrap", "argocd") and may(refresh, "get", "applications/bootstrap", "argocd")
    for name in SECRETS:
        assert all(may(who, "get", f"secrets/{name}", "app") for who in (verify, handover))
    for who, verb, what, namespace in (
            (refresh, "patch", "applications/other", "argocd"), (refresh, "delete", "applications/bootstrap", "argocd"),
            (refresh, "list", "applications", "argocd"), (refresh, "get", "secrets/db", "app"), (refresh, "list", "secrets", "app"),
            (refresh, "patch", "secrets/db", "app"), (verify, "patch", "applications/bootstrap", "argocd"),
            (verify, "update", "secrets/db", "app"), (handover, "patch", "secrets/db", "app"), (verify, "get", "secrets/db", "kube-system")):
        assert not may(who, verb, what, namespace), (who, verb, what)
    # What it says that `init` makes is what the example of manifests/cluster holds.
    example = (TOP / "manifests/cluster/example/prod.yaml").read_text()
    made = {(one["kind"], one["name"]) for one in data["madeByInit"]}
    assert ("ServiceAccount", HANDOVER) in made and ("Role", VERIFY) in made, made
    assert all(f"name: {name}\n" in example for _, name in made)
    assert data["unnamed"] == [], data


def logins(hand, platform):
    """The account as it is now, and nobody else: not another one, not for another audience, not one that was made again."""
    for method in ("jwt", "kubernetes"):
        hand.handover("--plan", *platform.login(method))
        for words_ in (platform.login(method, "another", role=HANDOVER), platform.login(method, audience="https://other.example"),
                       platform.login(method, VERIFY, role=HANDOVER)):
            hand.handover("--plan", *words_, ends=6, code="vault")
        # The account of `verify` is let in, and may not hand over.
        hand.handover("--plan", *platform.login(method, VERIFY), ends=6, code="vault", says="may not ask what it may do")
    platform.again()
    for method in ("jwt", "kubernetes"):
        said_ = hand.handover("--plan", *platform.login(method), ends=6, code="vault")
        assert ("claim" in said_) == (method == "jwt"), said_
    # An administrator binds the new one: the same commands with the new uid, also after it had been let in with no policy.
    create(hand, hand.regent(*words(hand, "--service-account-uid", platform.uid())))
    for method in ("jwt", "kubernetes"):
        hand.handover("--plan", *platform.login(method))
    hand.git_rules()


def enough(hand, platform):
    """A whole handover by each login, and by a token."""
    hand.token = hand.bao.token_file(HANDOVER)
    before = hand.bao.snapshot()
    # Where another login is named, the token is not looked at.
    for number, login in enumerate(((), platform.login("jwt"), platform.login("kubernetes"))):
        if number:
            hand.bao.restore(before)
            hand.where = ["--store", hand.stage.folder / f"store-{number}"]
            hand.init()
        hand.handover("--yes", *login)
        hand.handover("--yes", *login)
        assert set(hand.versions().values()) == {1}, hand.versions()
        assert hand.copies() == {f"app/{name}": values for name, values in SECRETS.items()}


def exactly(hand, policies):
    """Without a line of the policy nothing is handed over; with more, neither."""
    fresh(hand)
    hand.bao.policy("as-printed", policies[HANDOVER])
    hand.handover("--plan", token=hand.bao.token_file("as-printed", no_default_policy=True))
    lines = [line for line in policies[HANDOVER].splitlines() if line.startswith("path ")]
    assert len(lines) == 10, lines
    keys, itself = [line for line in lines if "/bootstrap/" in line or "/authority/" in line], lines[5:]
    assert len(keys) == 4, keys
    for line in keys:
        if "metadata/regent" in line:
            # It tells a person who looks what the handover need not know.
            continue
        for word in ("create", "read"):
            if f'"{word}"' in line:
                left = line.replace(f'"{word}", ', "").replace(f', "{word}"', "").replace(f'["{word}"]', '["deny"]')
                hand.bao.policy("less", policies[HANDOVER].replace(line, left))
                # Who may not read the record does not know who rules.
                # What is looked at last is found by the preflight, what is read before it by the read.
                late = word == "create" or "/metadata/" in line
                ends, code = (6, "preflight") if late else (4, "vault") if "authority" in line else (6, "vault")
                hand.handover("--yes", token=hand.bao.token_file("less", no_default_policy=True), ends=ends, code=code)
                for path in hand.names():
                    hand.bao.done("DELETE", f"secret/metadata/bootstrap/prod/{path}")
    # What it may, it has to be able to ask; that it may do no more can be asked key by key.
    for line in (lines[4], *itself):
        hand.bao.policy("less", policies[HANDOVER].replace(line, ""))
        asks = "capabilities-self" in line
        hand.handover("--plan", token=hand.bao.token_file("less", no_default_policy=True), ends=6 if asks else 0, code="vault" if asks else None)
    for more in ("update", "patch", "delete"):
        for line in keys:
            hand.bao.policy("more", policies[HANDOVER].replace(line, line.replace('"read"', f'"read", "{more}"')))
            hand.handover("--yes", token=hand.bao.token_file("more"), ends=6, code="preflight", says=f"may {more}")
    assert hand.record() is None and hand.names() == []


def fresh(hand):
    """The same server without what was handed over, and a new store beside it."""
    for name in hand.names():
        hand.bao.done("DELETE", f"secret/metadata/bootstrap/prod/{name}")
    hand.bao.done("DELETE", "secret/metadata/regent/prod/authority/1")
    hand.where = ["--store", hand.stage.folder / f"store-{os.urandom(4).hex()}"]
    hand.init()


def refused(hand):
    """Every attempt at more than the job, with tokens of the printed policies: all refused, and everything stays as it was."""
    handover, verify, deliver = (hand.bao.token(policy) for policy in (HANDOVER, VERIFY, DELIVER))
    hand.handover("--yes", token=hand.bao.token_file(HANDOVER))
    for other in ("bootstrap/prod-1/app/db", "bootstrap/other/app/db", "regent/prod-1/authority/1", "regent/other/authority/1"):
        hand.bao.put(other, {"theirs": "x"})
    copy, record, metadata = "bootstrap/prod/app/db", "regent/prod/authority/1", hand.versions()
    # What is appended beside a record belongs to the job, and is written once.
    for beside in ("adopted/0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f", "rebind-1", "imported/1"):
        assert write(hand, handover, f"{record}/{beside}", cas=0) == 200
        assert write(hand, handover, f"{record}/{beside}", cas=0) == 403
        assert write(hand, handover, f"{record}/{beside}") == 403
    # verify reads, and beats.
    for path in (copy, record, "bootstrap/prod/app/api"):
        for of in ("data", "metadata"):
            assert hand.bao.ask("GET", f"secret/{of}/{path}", token=verify)[0] == 200, (of, path)
    for beat in range(3):
        assert write(hand, verify, "regent/prod/heartbeat", cas=beat) == 200
    assert write(hand, verify, "regent/prod/heartbeat", cas=1) == 400
    assert hand.bao.ask("GET", "secret/data/regent/prod/heartbeat", token=verify)[0] == 200
    assert hand.bao.ask("GET", f"secret/data/{copy}", token=deliver)[0] == 200
    before = contents(hand)
    counted = 0
    for token, tried in ((handover, changes(copy) + changes(record) + elsewhere() + [("POST", "secret/data/regent/prod/heartbeat", NEW)]),
                         (verify, changes(copy) + changes(record) + creations() + elsewhere() + ends("regent/prod/heartbeat")),
                         (deliver, changes(copy) + changes(record) + creations() + elsewhere() + [
                             ("GET", f"secret/data/{record}", None), ("GET", f"secret/metadata/{copy}", None),
                             ("POST", "secret/data/regent/prod/heartbeat", NEW)])):
        for method, path, body in tried:
            headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
            status, answer = hand.bao.ask(method, path, body, token=token, headers=headers)
            assert status == 403, (method, path, body, status, answer)
            counted += 1
    assert counted == 158, counted
    assert contents(hand) == before and hand.versions() == metadata
    assert not any(hand.rendered().values())


NEW = {"options": {"cas": 0}, "data": {"a": "b"}}


def write(hand, token, path, cas=None):
    options = {} if cas is None else {"options": {"cas": cas}}
    return hand.bao.ask("POST", f"secret/data/{path}", {**options, "data": {"a": "b"}}, token=token)[0]


def changes(path):
    """Everything that could change a key that exists, or tell its neighbours."""
    folder = path.rpartition("/")[0]
    return [("POST", f"secret/data/{path}", {"data": {"a": "b"}}), ("POST", f"secret/data/{path}", NEW),
            ("PUT", f"secret/data/{path}", {"options": {"cas": 1}, "data": {"a": "b"}}),
            ("PATCH", f"secret/data/{path}", {"data": {"a": "b"}}), *ends(path),
            ("LIST", f"secret/metadata/{folder}", None), ("GET", f"secret/metadata/{folder}?list=true", None), ("SCAN", f"secret/metadata/{folder}", None)]


def ends(path):
    """Everything that deletes, brings back, or makes a key forget its versions."""
    return [("DELETE", f"secret/data/{path}", None), *(("POST", f"secret/{how}/{path}", {"versions": [1]}) for how in ("delete", "undelete", "destroy")),
            ("POST", f"secret/metadata/{path}", {"max_versions": 1}), ("PATCH", f"secret/metadata/{path}", {"delete_version_after": "1s"}),
            ("DELETE", f"secret/metadata/{path}", None)]


def creations():
    return [("POST", f"secret/data/{path}", NEW) for path in ("bootstrap/prod/app/new", "regent/prod/authority/1/adopted/x", "regent/prod/authority/2")]


def elsewhere():
    """What belongs to others, and what could give more rights."""
    theirs = ("bootstrap/prod-1/app/db", "bootstrap/other/app/db", "regent/prod-1/authority/1", "regent/other/authority/1")
    return [*(("GET", f"secret/data/{path}", None) for path in theirs), *(("POST", f"secret/data/{path}", {"data": {"a": "b"}}) for path in theirs),
            *(("POST", f"secret/data/{path}", NEW) for path in ("bootstrap/new", "regent/prod/other", "new")),
            ("POST", "secret/config", {"delete_version_after": "1s"}), ("DELETE", "sys/mounts/secret", None),
            *(("PUT", f"sys/policies/acl/{name}", {"policy": 'path "*" { capabilities = ["sudo"] }'}) for name in (HANDOVER, "new")),
            ("DELETE", f"sys/policies/acl/{HANDOVER}", None), ("POST", f"auth/jwt/role/{HANDOVER}", {"bound_subject": "anybody"}),
            ("POST", "auth/token/create", {"policies": ["root"]}), ("POST", "identity/entity", {"name": "new", "policies": ["root"]})]


def contents(hand):
    """Every key and every version of it, as the root token sees them."""
    found = {}

    def below(folder):
        status, body = hand.bao.ask("LIST", f"secret/metadata/{folder}")
        assert status == 200, (folder, status)
        for key in body["data"]["keys"]:
            if key.endswith("/"):
                below(folder + key)
            else:
                found[folder + key] = (hand.bao.done("GET", f"secret/metadata/{folder}{key}")["data"], hand.bao.fields(folder + key))
    below("")
    return found


def app_role(hand):
    """A machine without a platform: what is printed for it logs in, once."""
    fresh(hand)
    hand.bao.done("POST", "sys/auth/approle", {"type": "approle"})
    create(hand, hand.regent(*words(hand, "--vault-auth", "approle")))
    role = f"auth/approle/role/{HANDOVER}"
    wrapping = hand.stage.folder / "wrapping"
    wrapping.write_text(hand.bao.done("POST", f"{role}/secret-id", {}, headers={"X-Vault-Wrap-TTL": "300s"})["wrap_info"]["token"])
    role_id = hand.bao.done("GET", f"{role}/role-id")["data"]["role_id"]
    login = "--plan", "--vault-auth", "approle", "--vault-role", role_id
    hand.handover(*login, token=wrapping, says="the wrapping token is used up")
    hand.handover(*login, token=wrapping, ends=6, code="vault", says=["each run uses one up", "have another secret id wrapped"])


def namespace(stage, hand):
    """A place in a namespace, in a mount of several parts."""
    hand.bao.done("POST", "sys/namespaces/team")
    hand.bao.mount("kv/deep", namespace="team")
    for method in ("jwt", "kubernetes"):
        hand.bao.done("POST", f"sys/auth/{method}", {"type": method}, namespace="team")
    hand.commit = stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(hand.address, namespace="team", mount="kv/deep")})
    hand.where = ["--store", stage.folder / "store-team"]
    hand.init()
    create(hand, hand.regent(*words(hand, "--service-account-uid", "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f")))
    token = stage.folder / "token-team"
    made = hand.bao.done("POST", "auth/token/create", {"policies": [HANDOVER], "ttl": "1h"}, namespace="team")
    token.write_text(made["auth"]["client_token"])
    hand.handover("--yes", token=token)
    status, body = hand.bao.ask("GET", "kv/deep/data/bootstrap/prod/app/db", namespace="team")
    assert status == 200 and body["data"]["data"] == SECRETS["db"]
    # The policy of the namespace is nothing outside it.
    assert hand.bao.ask("GET", "secret/data/bootstrap/prod/app/db", token=made["auth"]["client_token"])[0] == 403
