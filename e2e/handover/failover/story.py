"""Three nodes: the active one is killed in the middle of a handover, the quorum is lost and comes back, a standby is addressed. A
token that ends in the middle, a store that is none of version 2, a namespace that is another one.
"""

import time

from bao import Bao, Issuer
from handed import ANY_HANDOVER, CANARY, Hand, regent_yaml
from proxy import Proxy, delay
from stage import until

SECRETS = {name: {"password": f"{CANARY}-{name}"} for name in ("api", "db", "queue")}
SUBJECT, AUDIENCE = "system:serviceaccount:regent-system:regent-handover", "https://vault.example"
IN_ORDER = "--concurrency", "1"
IMPATIENT, PATIENT = ("--vault-patience", "0"), ("--vault-patience", "600")


def story(stage):
    bao = Bao(stage, nodes=3)
    try:
        # A balancer that looks at `sys/health`.
        with Proxy(bao, to=lambda: active_now(bao)) as proxy:
            hand = Hand(stage, bao, secrets=SECRETS, address=proxy.address)
            bao.policy("handover", ANY_HANDOVER)
            hand.handover("--yes", *IN_ORDER)
            hand.handed_over()
            seen = [(method, path) for method, path, _ in proxy.seen]
            killed(hand, proxy, seen)
            stepped_down(hand, proxy, seen)
            quorum(hand, proxy, seen)
            standby(hand, proxy)
            tokens(hand, proxy, seen)
            places(hand, proxy)
    finally:
        bao.stop()


def active_now(bao):
    return next((node for node in bao.nodes if node.child and node.health() == 200), None)


def the(seen, method, part, which=0):
    """The number of a request."""
    return [number for number, (how, path) in enumerate(seen) if how == method and part in path][which]


def at(number, does):
    """Once, before that request is passed on."""
    return lambda now, method, path: does() if now == number else None


def killed(hand, proxy, seen):
    """Right before the second copy, and right before the record. The client waits for the other active node."""
    for number in (the(seen, "POST", "/data/bootstrap/", 1), the(seen, "POST", "/authority/1")):
        hand.another(f"killed-{number}")
        gone = []

        def kill(gone=gone):
            gone.append(hand.bao.active())
            gone[0].kill()
        proxy.again(at(number, kill))
        began = time.monotonic()
        hand.handover("--yes", *IN_ORDER, *PATIENT)
        assert gone and time.monotonic() - began > 1, "nobody had to wait for another active node"
        hand.handed_over()
        back(hand.bao, gone)
        hand.handed_over()


def back(bao, nodes):
    for node in nodes:
        node.start()
    bao.active()
    for node in nodes:
        until("the node is back", node.joined)


def stepped_down(hand, proxy, seen):
    """Whoever was active becomes a standby in the middle, and is still the one that is asked. It passes the copies on; the record
    is for the active node, so the run stops before it, and the next one goes on."""
    for number in range(10):
        hand.another(f"stepped-down-{number}")
        first = hand.bao.active()
        proxy.to = lambda first=first: first
        proxy.again(at(the(seen, "POST", "/data/bootstrap/"), lambda first=first: hand.bao.done("PUT", "sys/step-down", node=first)))
        words = "--yes", *IN_ORDER, "--vault-patience", "20"
        ended, said = hand.over(hand.begin(*words))
        # Where nobody else was active in time, or the same node is again, nothing was shown.
        if hand.bao.active() is not first and set(hand.names()) == set(hand.expected):
            break
    else:
        raise AssertionError("not once another node was active in time")
    hand.judged(ended, said.encode(), words, 4, "vault", "standby")
    hand.git_rules()
    proxy.to = lambda: active_now(hand.bao)
    hand.handover("--yes")
    hand.handed_over()


def quorum(hand, proxy, seen):
    """Two of three go in the middle of the copies. The client waits as long as it is told; and a later one goes on."""
    number = the(seen, "POST", "/data/bootstrap/", 1)
    for name, words in (("waits", PATIENT), ("gives-up", ("--vault-patience", "2"))):
        hand.another(f"quorum-{name}")
        gone = []

        def kill(gone=gone):
            gone.extend(hand.bao.standbys())
            for node in gone:
                node.kill()
        proxy.again(at(number, kill))
        if words is not PATIENT:
            hand.handover("--yes", *IN_ORDER, *words, ends=4, code="vault")
            back(hand.bao, gone)
            proxy.again()
            hand.git_rules()
            hand.handover("--yes")
        else:
            child = hand.begin("--yes", *IN_ORDER, *words)
            until("the quorum is lost", lambda: gone)
            time.sleep(5)
            assert child.poll() is None, "it did not wait"
            back(hand.bao, gone)
            ends, said = hand.over(child)
            assert ends == 0, said
        hand.handed_over()


def standby(hand, proxy):
    """Nothing is begun at a standby, and no token goes there."""
    hand.another("standby")
    there = hand.bao.standbys()[0]
    proxy.to = lambda: there
    proxy.again()
    hand.handover("--yes", *IMPATIENT, ends=4, code="vault", says="standby")
    assert not [headers for _, _, headers in proxy.seen if "X-Vault-Token" in headers]
    hand.git_rules()
    proxy.to = lambda: active_now(hand.bao)
    hand.handover("--yes")
    hand.handed_over()


def tokens(hand, proxy, seen):
    """A login is repeated when its token is over; a token that a person gave is not, and the next run goes on with another."""
    number = the(seen, "POST", "/data/bootstrap/", 1)
    hand.another("short-login")
    proxy.again(lambda now, method, path: delay(8) if "/data/bootstrap/" in path and method == "POST" and path.endswith("/db") else None)
    hand.handover("--yes", *IN_ORDER, "--vault-auth", "jwt", "--vault-role", "short", "--vault-jwt-file", jwt(hand.bao))
    logins = [path for method, path, _ in proxy.seen if path.endswith("auth/jwt/login")]
    assert len(logins) > 1, logins
    hand.handed_over()
    hand.another("short-token")
    proxy.again(lambda now, method, path: delay(8) if now == number else None)
    hand.handover("--yes", *IN_ORDER, token=hand.bao.token_file("handover", ttl="6s"), ends=6, code="vault", says="403")
    proxy.again()
    hand.git_rules()
    hand.handover("--yes")
    hand.handed_over()


def jwt(bao):
    issuer = Issuer(bao.folder)
    bao.done("POST", "sys/auth/jwt", {"type": "jwt"})
    bao.done("POST", "auth/jwt/config", {"jwt_validation_pubkeys": [issuer.public.read_text()]})
    bao.done("POST", "auth/jwt/role/short", {
        "role_type": "jwt", "user_claim": "sub", "bound_audiences": [AUDIENCE], "bound_subject": SUBJECT, "token_policies": ["handover"],
        "token_ttl": "5s", "token_max_ttl": "6s"})
    file = bao.folder / "projected-token"
    file.write_text(issuer.sign(sub=SUBJECT, aud=[AUDIENCE]))
    file.chmod(0o600)
    return file


def places(hand, proxy):
    """Authority and regent.yaml name the same place, and it is none that keeps a value safe."""
    proxy.again()
    bao = hand.bao
    bao.mount("old", version="1")
    bao.policy("old", 'path "old/*" { capabilities = ["create", "read"] }')
    hand.another("version-1", mount="old")
    hand.handover("--yes", *IMPATIENT, token=bao.token_file("handover", "old"), ends=6, code="vault", says="no KV store of version 2")
    assert bao.ask("LIST", "old")[0] == 404
    assert hand.authority()["authority"] == "git"
    namespaces(hand)


def namespaces(hand):
    """In `team` there is a store of the same name, and a token that may write to it: a run that has the wrong namespace could."""
    bao = hand.bao
    bao.done("POST", "sys/namespaces/team")
    bao.mount("secret", namespace="team")
    # In its own namespace everybody may ask what the token may.
    bao.policy("both", ANY_HANDOVER + ANY_HANDOVER.replace('"secret/', '"team/secret/')
               + 'path "team/sys/capabilities-self" { capabilities = ["update"] }\n')
    both = bao.token_file("both")
    # The Authority names one, and regent.yaml another.
    for authority, written in (("", "team"), ("team", "")):
        hand.another(f"moved-{authority or 'root'}", namespace=authority)
        hand.commit = hand.stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(hand.address, name=hand.name, namespace=written)})
        refused(hand, both, code="plan", says=["regent.yaml names", "and the Authority", "namespace team"])
    # Both name one that the token is not for, and one that is none.
    hand.another("in-team", namespace="team")
    refused(hand, None, code="vault", says="403")
    hand.another("nowhere", namespace="nowhere")
    refused(hand, both, code="vault", says="404")
    # And with the right words it is written there, and nowhere else.
    hand.another("at-last", namespace="team")
    hand.handover("--yes", *IMPATIENT, token=both, says="namespace team secret/bootstrap/at-last")
    assert hand.authority()["authority"] == "vault" and hand.names() == [] and there(hand, "team") == set(hand.expected)


def refused(hand, token, code, says):
    hand.handover("--yes", *IMPATIENT, token=token, ends=6, code=code, says=says)
    assert not there(hand, "") and not there(hand, "team")
    assert hand.authority()["authority"] == "git"


def there(hand, namespace):
    """The copies of this authority in a namespace; a record counts as one."""
    status, body = hand.bao.ask("LIST", f"secret/metadata/bootstrap/{hand.name}/app", namespace=namespace)
    record = hand.bao.ask("GET", f"secret/data/{hand.key_of_record()}", namespace=namespace)[0]
    copies = {f"app/{key}" for key in body["data"]["keys"]} if status == 200 else set()
    assert (status, record) in ((200, 200), (404, 404)), (status, record)
    return copies
