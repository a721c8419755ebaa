"""Wherever a token's rights come from: one that may change or delete a single copy, or could not write it, hands nothing over. A
token with the printed policy and nothing else is not asked about every key, and no other is taken for one.
"""

from bao import Bao
from handed import Hand, regent_yaml
from proxy import Proxy
from stage import CANARY, TOP

HANDOVER = "regent-handover-prod"
PRINTED = (TOP / f"manifests/vault/policies/{HANDOVER}.hcl").read_text()
SECRETS = {f"s{number}": {"token": f"{CANARY}-{number}"} for number in range(20)}
COPY = "bootstrap/prod/app/s13"

# What is too much, or too little, and what is said of it.
MORE = {
    f'path "secret/data/{COPY}" {{ capabilities = ["create", "read", "update"] }}': f"may update `{COPY}`",
    'path "secret/data/bootstrap/prod/+/s13" { capabilities = ["create", "read", "patch"] }': f"may patch `{COPY}`",
    'path "secret/data/bootstrap/prod/app/+" { capabilities = ["create", "read", "delete"] }': "may delete `bootstrap/prod/app/s0`",
    'path "secret/metadata/bootstrap/prod/app/s13*" { capabilities = ["read", "update"] }': f"may update `{COPY}`",
    'path "secret/+/bootstrap/prod/app/s13" { capabilities = ["update"] }': f"may delete versions of `{COPY}`",
    f'path "secret/destroy/{COPY}" {{ capabilities = ["update"] }}': f"may delete versions of `{COPY}`",
    f'path "secret/undelete/{COPY}" {{ capabilities = ["create"] }}': f"may delete versions of `{COPY}`",
    'path "secret/delete/bootstrap/*" { capabilities = ["update"] }': "may delete versions of `bootstrap/prod/app/s0`",
    'path "secret/data/regent/prod/authority/1" { capabilities = ["create", "read", "update"] }': "may update `regent/prod/authority/1`",
    f'path "secret/metadata/{COPY}" {{ capabilities = ["deny"] }}': f"may not read the metadata of `{COPY}`",
    f'path "secret/data/{COPY}" {{ capabilities = ["read"] }}': f"may not create `{COPY}`",
}


def story(stage):
    bao = Bao(stage)
    proxy = Proxy(bao)
    try:
        hand = Hand(stage, bao, SECRETS, proxy.address)
        looks = Looks(hand, proxy)
        bao.policy(HANDOVER, PRINTED)
        printed(looks)
        beside(looks)
        rewritten(looks)
        identities(looks)
        namespaces(stage, looks)
        hand.git_rules()
    finally:
        proxy.close()
        bao.stop()


class Looks:
    """Plans with a token, and how many keys Vault was asked about."""

    def __init__(self, hand, proxy):
        self.hand, self.bao, self.proxy = hand, hand.bao, proxy

    def file(self, text):
        file = self.bao.folder / "token-of-the-story"
        file.write_text(text)
        file.chmod(0o600)
        return file

    def token(self, *policies, **more):
        return self.bao.token(*policies, **{"no_default_policy": True, **more})

    def asked(self):
        sizes = [int(headers["content-length"]) for _, path, headers in self.proxy.seen if path.endswith("sys/capabilities-self")]
        assert len(sizes) == 5, sizes
        return sum(sizes)

    def passes(self, token, each):
        self.proxy.again()
        self.hand.handover("--plan", token=self.file(token))
        # Two paths a question, or 21: each has some 40 bytes.
        assert (self.asked() > 3000) == each and (self.asked() < 800) != each, (self.asked(), each)

    def refused(self, token, says):
        self.proxy.again()
        self.hand.handover("--plan", token=self.file(token), ends=6, code="preflight", says=says)


def printed(looks):
    looks.passes(looks.token(HANDOVER), each=False)
    looks.passes(looks.token(HANDOVER, ttl="5m", period="5m", num_uses=100, meta={"who": "the story"}), each=False)
    # Beside `default`, in a batch token, or under another name it is enough as well, and asked about.
    looks.passes(looks.token(HANDOVER, no_default_policy=False), each=True)
    looks.passes(looks.token(HANDOVER, type="batch"), each=True)
    looks.bao.policy("another", PRINTED)
    looks.passes(looks.token("another"), each=True)
    looks.passes(looks.token("another", HANDOVER), each=True)
    looks.refused(looks.bao.root, "may root")


def beside(looks):
    """By another policy of the token."""
    for rule, says in MORE.items():
        looks.bao.policy("more", rule)
        looks.refused(looks.token(HANDOVER, "more"), says)
        looks.refused(looks.token(HANDOVER, "more", type="batch"), says)
    # `default` is what somebody made of it.
    default = looks.bao.done("GET", "sys/policies/acl/default")["data"]["policy"]
    rule, says = next(iter(MORE.items()))
    looks.bao.policy("default", f"{default}\n{rule}")
    looks.refused(looks.token(HANDOVER, no_default_policy=False), says)
    looks.bao.policy("default", default)


def rewritten(looks):
    """By the policy itself, whose name says nothing."""
    token = looks.token(HANDOVER)
    for rule, says in MORE.items():
        looks.bao.policy(HANDOVER, PRINTED.replace("# The copies.", rule))
        looks.refused(token, says)
    # Where it may not be looked at, or has another comment, it is not known.
    for text in (PRINTED.replace("sys/policies/acl", "sys/policies/other"), PRINTED.replace("lookup-self", "other-self"), f"# mine\n{PRINTED}"):
        looks.bao.policy(HANDOVER, text)
        looks.passes(token, each=True)
    looks.bao.policy(HANDOVER, f"\n{PRINTED}\n\n")
    looks.passes(token, each=False)
    looks.bao.policy(HANDOVER, PRINTED)


def identities(looks):
    """By who the token belongs to, and by that one's groups."""
    bao = looks.bao
    bao.done("POST", "sys/auth/approle", {"type": "approle"})
    bao.done("POST", "auth/approle/role/story", {"token_policies": [HANDOVER], "token_no_default_policy": True})
    role_id = bao.done("GET", "auth/approle/role/story/role-id")["data"]["role_id"]

    def login():
        secret_id = bao.done("POST", "auth/approle/role/story/secret-id", {})["data"]["secret_id"]
        return bao.done("POST", "auth/approle/login", {"role_id": role_id, "secret_id": secret_id})["auth"]
    auth = login()
    token, entity = auth["client_token"], auth["entity_id"]
    assert entity and auth["policies"] == [HANDOVER], auth
    looks.passes(token, each=False)
    for rule, says in MORE.items():
        bao.policy("more", rule)
        bao.done("POST", f"identity/entity/id/{entity}", {"policies": ["more"]})
        looks.refused(token, says)
    bao.done("POST", f"identity/entity/id/{entity}", {"policies": []})
    looks.passes(token, each=False)
    group = bao.done("POST", "identity/group", {"policies": ["more"], "member_entity_ids": [entity]})["data"]["id"]
    above = bao.done("POST", "identity/group", {"policies": [], "member_group_ids": [group]})["data"]["id"]
    looks.refused(token, says)
    bao.done("POST", f"identity/group/id/{group}", {"policies": [], "member_entity_ids": [entity]})
    looks.passes(token, each=False)
    bao.done("POST", f"identity/group/id/{above}", {"policies": ["more"], "member_group_ids": [group]})
    looks.refused(token, says)
    for each in (above, group):
        bao.done("DELETE", f"identity/group/id/{each}")
    # A name in a template.
    bao.done("POST", f"identity/entity/id/{entity}", {"name": "s13", "policies": []})
    rule = 'path "secret/data/bootstrap/prod/app/{{identity.entity.name}}" { capabilities = ["create", "read", "update"] }'
    bao.policy(HANDOVER, f"{PRINTED}{rule}\n")
    looks.refused(token, f"may update `{COPY}`")
    bao.policy(HANDOVER, PRINTED)
    # As a role of the platform is bound to one account: the identity has the policy, and the role gives none.
    bao.done("POST", "auth/approle/role/story", {"token_policies": [], "token_no_default_policy": True})
    bao.done("POST", f"identity/entity/id/{entity}", {"name": "story", "policies": [HANDOVER]})
    auth = login()
    assert not auth.get("token_policies") and auth["identity_policies"] == [HANDOVER], auth
    looks.passes(auth["client_token"], each=False)


def namespaces(stage, looks):
    """A policy of the same name in another namespace is another policy."""
    hand, bao = looks.hand, looks.bao
    bao.done("POST", "sys/namespaces/team")
    bao.mount("secret", namespace="team")
    bao.done("PUT", f"sys/policies/acl/{HANDOVER}", {"policy": PRINTED}, namespace="team")
    hand.commit = stage.repo.commit({"clusters/prod/regent.yaml": regent_yaml(hand.address, namespace="team")})
    there, hand.where = hand.where, ["--store", stage.folder / "store-team"]
    hand.init()
    made = bao.done("POST", "auth/token/create", {"policies": [HANDOVER], "no_default_policy": True}, namespace="team")
    looks.passes(made["auth"]["client_token"], each=False)
    # One of the root may reach into it.
    within = PRINTED.replace('path "', 'path "team/')
    bao.policy(HANDOVER, f"{PRINTED}{within}")
    looks.passes(looks.token(HANDOVER), each=True)
    bao.policy(HANDOVER, f'{PRINTED}{within}path "team/secret/data/{COPY}" {{ capabilities = ["create", "read", "update"] }}\n')
    looks.refused(looks.token(HANDOVER), f"may update `{COPY}`")
    hand.where = there
