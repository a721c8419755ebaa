"""The client for Vault against the real OpenBao, with one node and with three: the tests of plugin/regent/src/vault/real.rs."""

import contextlib
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import stories
from bao import HANDOVER, Bao, Issuer
from proxy import DROP, Proxy, redirect
from stage import free_port

SUBJECT = "system:serviceaccount:regent-system:regent-handover"
AUDIENCE = "https://vault.example"


def story(stage):
    with contextlib.ExitStack() as ends:
        one_node(stage, ends)
        three_nodes(stage, ends)


def one_node(stage, ends):
    bao = Bao(stage, "one")
    ends.callback(bao.stop)
    bao.mount("old", version="1")
    bao.mount("transit", kind="transit")
    bao.done("POST", "sys/namespaces/team")
    bao.mount("kv/deep", namespace="team")
    facts = prepared(bao)
    reviews = Reviews(bao)
    ends.callback(reviews.close)
    facts |= logins(bao, reviews)
    # Every third write is done and nobody hears of it; of the first requests half are redirected, to nowhere.
    drops = Proxy(bao, lambda number, method, path: DROP if method == "POST" and number % 3 == 0 else None)
    redirects = Proxy(bao, lambda number, method, path: redirect(bao.address) if number < 40 and number % 2 else None)
    for proxy in (drops, redirects):
        ends.callback(proxy.close)
    facts["at"] = {"drops": drops.address, "redirects": redirects.address}
    tests(stage, bao, facts, "one_node")


def three_nodes(stage, ends):
    bao = Bao(stage, "three", nodes=3)
    ends.callback(bao.stop)
    facts = prepared(bao)
    facts["at"] = {"standby": bao.standbys()[0].address}
    tests(stage, bao, facts, "three_nodes::a_standby")
    # Somebody may have become the active node since.
    facts |= {"active": bao.active().child.pid, "at": {"standby": bao.standbys()[0].address}}
    tests(stage, bao, facts, "three_nodes::a_handover")


def prepared(bao):
    bao.policy("handover", HANDOVER)
    bao.policy("update", 'path "secret/*" { capabilities = ["create", "read", "update"] }')
    tokens = {"root": bao.root, **{policy: bao.token(policy) for policy in ("handover", "update")}}
    return {"address": bao.address, "ca": str(bao.ca), "tokens": tokens}


def logins(bao, reviews):
    issuer = Issuer(bao.folder)
    jwt = bao.folder / "projected-token"
    jwt.write_text(issuer.sign(sub=SUBJECT, aud=[AUDIENCE], iss="https://platform.example",
                               **{"kubernetes.io": {
                                   "namespace": "regent-system", "serviceaccount": {"name": "regent-handover", "uid": "u-1"}}}))
    bao.done("POST", "sys/auth/jwt", {"type": "jwt"})
    bao.done("POST", "auth/jwt/config", {"jwt_validation_pubkeys": [issuer.public.read_text()], "bound_issuer": "https://platform.example"})
    for role, more in {"regent-handover": {"token_ttl": "10m"}, "short": {"token_ttl": "2s", "token_max_ttl": "3s"},
                       "batch": {"token_ttl": "2s", "token_type": "batch"}}.items():
        bao.done("POST", f"auth/jwt/role/{role}", {
            "role_type": "jwt", "user_claim": "sub", "bound_audiences": [AUDIENCE], "bound_subject": SUBJECT,
            "bound_claims": {"/kubernetes.io/serviceaccount/uid": "u-1"}, "token_policies": ["handover"], **more})
    bao.done("POST", "sys/auth/kubernetes", {"type": "kubernetes"})
    bao.done("POST", "auth/kubernetes/config", {
        "kubernetes_host": reviews.address, "kubernetes_ca_cert": bao.ca.read_text(), "disable_local_ca_jwt": True})
    bao.done("POST", "auth/kubernetes/role/regent-handover", {
        "bound_service_account_names": ["regent-handover"], "bound_service_account_namespaces": ["regent-system"],
        "audience": AUDIENCE, "alias_name_source": "serviceaccount_uid", "token_policies": ["handover"], "token_ttl": "10m"})
    bao.done("POST", "sys/auth/approle", {"type": "approle"})
    bao.done("POST", "auth/approle/role/regent", {"token_policies": ["handover"], "token_ttl": "10m"})
    wrapped = {"X-Vault-Wrap-TTL": "300s"}

    def secret_id():
        return bao.done("POST", "auth/approle/role/regent/secret-id", {}, headers=wrapped)["wrap_info"]["token"]
    used = secret_id()
    bao.done("POST", "sys/wrapping/unwrap", token=used)
    other = bao.done("POST", "sys/wrapping/wrap", {"secret_id": "x"}, headers=wrapped)["wrap_info"]["token"]
    return {
        "jwt": str(jwt), "role_id": bao.done("GET", "auth/approle/role/regent/role-id")["data"]["role_id"],
        "wrapping": {"fresh": secret_id(), "used": used, "other": other},
        "logins": {"jwt": ["jwt", "regent-handover"], "kubernetes": ["kubernetes", "regent-handover"], "short": ["jwt", "short"],
                   "batch": ["jwt", "batch"], "no role": ["jwt", "nobody"], "no mount": ["nowhere", "regent-handover"]}}


def tests(stage, bao, facts, which):
    file = bao.folder / f"{which.replace('::', '-')}.json"
    file.write_text(json.dumps(facts))
    file.chmod(0o600)
    said = stories.real_tests(f"vault::real::{which}", REGENT_TEST_VAULT=str(file))
    (stage.folder / f"{which.replace('::', '-')}.log").write_text(said)


class Reviews:
    """The API server as far as OpenBao's Kubernetes login asks it: whose is this token?"""

    def __init__(self, bao):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(handler):
                asked = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
                user = {"username": SUBJECT, "uid": "u-1", "groups": ["system:serviceaccounts"]}
                status = {"authenticated": True, "user": user, "audiences": asked["spec"].get("audiences") or []}
                content = json.dumps({**asked, "status": status}).encode()
                handler.send_response(201)
                handler.send_header("Content-Type", "application/json")
                handler.send_header("Content-Length", str(len(content)))
                handler.end_headers()
                handler.wfile.write(content)

            def log_message(handler, *_):
                pass
        self.port = free_port()
        self.address = f"https://127.0.0.1:{self.port}"
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(bao.certificate, bao.certificate_key)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
