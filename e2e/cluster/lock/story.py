import base64
import time

from installed import Who, authority, bound, flat, granted, install, of_authority, one_connection, root, verdict
from stage import CANARY, until

NAME, OTHER = "prod", "prod-1"
LABEL = "regent.dev/authority"
CONTROLLER = "system:serviceaccount:argocd:argocd-application-controller"
# The shipped list, and accounts that Argo CD or Flux impersonate there.
DOORS = {
    "the controller": ("argocd", "argocd-application-controller"),
    "the page": ("argocd", "argocd-server"),
    "kustomize": ("flux-system", "kustomize-controller"),
    "helm": ("flux-system", "helm-controller"),
}
OTHERS = {"operator": ("external-secrets", "external-secrets"), "a tenant": ("app", "deployer")}


def story(stage):
    cluster = stage.cluster()
    install(cluster)
    bound(cluster)
    cluster.kubectl("create", "clusterrolebinding", "all", "--clusterrole=cluster-admin", "--group=system:serviceaccounts")
    doors = {name: Who(name, cluster.account(*account)) for name, account in DOORS.items()}
    others = {name: Who(name, cluster.account(*account)) for name, account in OTHERS.items()}
    others["admin"] = Who("admin", cluster.tokens["admin"])
    others["break-glass"] = Who("break-glass", cluster.tokens["breakglass"])
    for who in doors.values():
        granted(cluster, who, ("Secret",))
    for name in (NAME, OTHER):
        cluster.apply(of_authority(name), manager="regent")

        def tried(name=name):
            return cluster.create(secret("db", "git", name), query={"dryRun": "All"}).status
        # Without its Authority nobody may, so it can be seen when the lock is in force, and when it knows its Authority.
        until(f"the lock of {name} is in force", lambda: tried() == 422)
        root(cluster, authority(name, "git1"))
        until(f"the lock of {name} knows its Authority", lambda: tried() == 201)
    with one_connection(cluster):
        lock = Lock(cluster, doors, others)
        lock.under_git()
        lock.binds()
        lock.under_vault()
        lock.many_at_once()
        lock.labels()
        lock.two_authorities()
        lock.impersonation()
        lock.odd_names()
        lock.lifted()
        lock.without_its_authority()
    lock.without_its_crd()
    lock.gone()


def secret(name, value, label=NAME, **more):
    metadata = {"name": name, "namespace": "app", **({"labels": {LABEL: label}} if label else {})}
    data = {"password": base64.b64encode(f"{CANARY}-{value}".encode()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data} | more


class Lock:
    def __init__(self, cluster, doors, others):
        self.cluster, self.doors, self.others = cluster, doors, others

    def judge(self, what, answer, expected, name=NAME):
        expected = {"locked": f"regent-lock-{name}"}.get(expected, expected)
        assert verdict(answer) == expected, f"{what}: expected {expected}, got {answer.status}: {answer.message}"
        if expected == f"regent-lock-{name}":
            assert f"`regent status` tells more of authority {name}" in answer.message, answer

    def live(self, name="db"):
        return self.cluster.get("Secret", name, "app").ok()

    def there(self, thing):
        """Puts a Secret there, as the operator would."""
        name = thing["metadata"]["name"]
        self.cluster.delete("Secret", name, "app")
        return self.cluster.create(thing).ok()

    def under_git(self):
        """While Git rules, a lock is open."""
        for door in self.doors.values():
            asks = door.asks()
            for answer in (self.cluster.create(secret("db", "git"), **asks),
                           self.cluster.apply_one(secret("db", "git-2"), force=True, **asks),
                           self.cluster.update(secret("db", "git-3"), **asks),
                           self.cluster.patch("Secret", "db", "app", {"metadata": {"labels": {LABEL: None}}}, **asks),
                           self.cluster.patch("Secret", "db", "app", {"metadata": {"labels": {LABEL: NAME}}}, **asks),
                           self.cluster.delete("Secret", "db", "app", **asks)):
                self.judge(door, answer, "done")

    def binds(self):
        """How long an old value could still be written after the Authority moved. A fact about the API server, so it is told."""
        self.there(secret("db", "git"))
        start = time.monotonic()
        handover = Who("handover", self.cluster.token("regent-system", f"regent-handover-{NAME}"))
        self.cluster.apply_one(authority(NAME, "vault1"), manager="regent", force=True, **handover.asks()).ok()
        self.bites()
        print(f"  the lock bound {time.monotonic() - start:.2f} s after the Authority said vault", flush=True)

    def tried(self):
        """What a door is told that deletes the live Secret; nothing is deleted."""
        return self.cluster.delete("Secret", "db", "app", query={"dryRun": "All"}, **self.doors["the controller"].asks())

    def bites(self):
        """While an Authority is exchanged nobody may write, so `there` comes after this."""
        until("the lock is in force", lambda: self.tried().status == 403)

    def under_vault(self):
        other = secret("db", "vault")
        del other["type"]
        # What is asked of a live, labelled Secret, and what comes of it for a door.
        rows = [
            ("other data, PUT", "locked", lambda asks: self.put(lambda thing: thing.update(data=other["data"]), asks)),
            ("other data, merge", "locked", lambda asks: self.merge({"data": other["data"]}, asks)),
            ("stringData, merge", "locked", lambda asks: self.merge({"stringData": {"password": "x"}}, asks)),
            ("one more key", "locked", lambda asks: self.merge({"data": {"more": "eA=="}}, asks)),
            ("one key less", "locked", lambda asks: self.merge({"data": {"password": None}}, asks)),
            ("no data, merge", "locked", lambda asks: self.merge({"data": None}, asks)),
            ("no data, PUT", "locked", lambda asks: self.put(lambda thing: thing.pop("data"), asks)),
            ("no data, JSON patch", "locked", lambda asks: self.cluster.patch("Secret", "db", "app", [{"op": "remove", "path": "/data"}], "json", **asks)),
            ("other data, strategic", "locked", lambda asks: self.cluster.patch("Secret", "db", "app", {"data": other["data"]}, "strategic", **asks)),
            ("other data, apply with force", "locked", lambda asks: self.cluster.apply_one(other, force=True, **asks)),
            ("other data, apply", "conflict", lambda asks: self.cluster.apply_one(other, **asks)),
            ("PUT without the label", "locked", lambda asks: self.put(lambda thing: thing["metadata"].pop("labels"), asks)),
            ("the label off", "locked", lambda asks: self.merge({"metadata": {"labels": {LABEL: None}}}, asks)),
            ("the label empty", "locked", lambda asks: self.merge({"metadata": {"labels": {LABEL: ""}}}, asks)),
            ("the label of another", "locked", lambda asks: self.merge({"metadata": {"labels": {LABEL: "staging"}}}, asks)),
            ("delete", "locked", lambda asks: self.cluster.delete("Secret", "db", "app", **asks)),
            ("delete, tried", "locked", lambda asks: self.cluster.delete("Secret", "db", "app", query={"dryRun": "All"}, **asks)),
            ("delete, foreground", "locked", lambda asks: self.cluster.delete("Secret", "db", "app", query={"propagationPolicy": "Foreground"}, **asks)),
            ("another label", "done", lambda asks: self.merge({"metadata": {"labels": {"a": "b"}}}, asks)),
            ("an annotation", "done", lambda asks: self.merge({"metadata": {"annotations": {"a": "b"}}}, asks)),
            ("the same again, PUT", "done", lambda asks: self.put(lambda thing: None, asks)),
            ("the same again, apply", "done", lambda asks: self.cluster.apply_one(secret("db", "git"), **asks)),
        ]
        for door in self.doors.values():
            before = self.there(secret("db", "git"))
            for name, expected, ask in rows:
                self.judge((name, door), ask(door.asks()), expected)
                now = self.live()
                assert (now["data"], now["metadata"]["labels"][LABEL], now["metadata"]["uid"]) == (
                    before["data"], NAME, before["metadata"]["uid"]), (name, door)
                if expected != "done":
                    assert flat(now) == flat(before), (name, door)
                before = now
            # One that is not there does not come back, not even for a moment.
            for again in (secret("gone", "git"), secret("gone", "git", stringData={"a": "b"}), secret("gone", "git", data={})):
                self.judge(("create", door), self.cluster.create(again, **door.asks()), "locked")
                self.judge(("apply", door), self.cluster.apply_one(again, force=True, **door.asks()), "locked")
            generated = secret("gone", "git")
            generated["metadata"] = {"generateName": "gone-", "namespace": "app", "labels": {LABEL: NAME}}
            self.judge(("create", door), self.cluster.create(generated, **door.asks()), "locked")
            # Its own namespace, and any other.
            generated["metadata"] |= {"namespace": "default"}
            self.judge(("create", door), self.cluster.create(generated, **door.asks()), "locked")
            # What does not bear the label is as ever.
            for ask in (self.cluster.create, self.cluster.apply_one, self.cluster.update):
                self.judge(("another", door), ask(secret("another", "x", label=None), **door.asks()), "done")
            self.judge(("another", door), self.cluster.delete("Secret", "another", "app", **door.asks()), "done")
        # Nobody else is looked at.
        for other in self.others.values():
            asks = other.asks()
            for answer in (self.merge({"data": {"password": "cm90YXRlZA=="}}, asks),
                           self.cluster.apply_one(secret("db", "rotated"), force=True, **asks),
                           self.cluster.create(secret("new", "x"), **asks),
                           self.merge({"metadata": {"labels": {LABEL: None}}}, asks),
                           self.merge({"metadata": {"labels": {LABEL: NAME}}}, asks),
                           self.cluster.delete("Secret", "new", "app", **asks),
                           self.cluster.delete("Secret", "db", "app", **asks)):
                self.judge(other, answer, "done")
            self.there(secret("db", "git"))

    def many_at_once(self):
        """deletecollection is judged object by object: the labelled one stays, the call ends with the lock's word."""
        for door in self.doors.values():
            before = self.there(secret("db", "git"))
            for query in ({}, {"labelSelector": f"{LABEL}={NAME}"}, {"fieldSelector": "metadata.name=db"},
                          {"labelSelector": f"{LABEL}={NAME}", "dryRun": "All"}):
                self.there(secret("bystander", "x", label=None))
                self.judge((query, door), self.cluster.delete_all("Secret", "app", query, **door.asks()), "locked")
                assert flat(self.live()) == flat(before), (query, door)
            self.there(secret("bystander", "x", label=None))
            only = {"labelSelector": f"!{LABEL}"}
            self.judge(door, self.cluster.delete_all("Secret", "app", only, **door.asks()), "done")
            assert self.cluster.get("Secret", "bystander", "app").status == 404

    def labels(self):
        """A door cannot bring a Secret under the label either: it would bear the name of one that Vault filled."""
        asks = self.doors["the controller"].asks()
        for label in (None, "staging"):
            before = self.there(secret("db", "git", label=label))
            for ask in (lambda: self.merge({"metadata": {"labels": {LABEL: NAME}}}, asks),
                        lambda: self.cluster.apply_one(secret("db", "git"), force=True, **asks)):
                self.judge(label, ask(), "locked")
                assert flat(self.live()) == flat(before)
        # Taken off by somebody else it is out of the lock's sight, and back in it with the label.
        self.there(secret("db", "git"))
        self.merge({"metadata": {"labels": {LABEL: None}}}, self.others["operator"].asks()).ok()
        self.judge("unlabelled", self.merge({"data": {"password": "eA=="}}, asks), "done")
        self.merge({"metadata": {"labels": {LABEL: NAME}}}, self.others["operator"].asks()).ok()
        self.judge("labelled again", self.merge({"data": {"password": "eQ=="}}, asks), "locked")

    def two_authorities(self):
        """One moved, the other not; a Secret does not get from one to the other."""
        asks = self.doors["the controller"].asks()
        for answer in (self.cluster.create(secret("theirs", "git", OTHER), **asks),
                       self.cluster.apply_one(secret("theirs", "git-2", OTHER), force=True, **asks)):
            self.judge(OTHER, answer, "done", OTHER)
        self.judge("into prod", self.cluster.patch("Secret", "theirs", "app", {"metadata": {"labels": {LABEL: NAME}}}, **asks), "locked")
        self.there(secret("db", "git"))
        self.judge("out of prod", self.merge({"metadata": {"labels": {LABEL: OTHER}}}, asks), "locked")
        self.judge(OTHER, self.cluster.delete("Secret", "theirs", "app", **asks), "done")

    def impersonation(self):
        """The API server sees whom a door acts as, and nobody else: those accounts have to be named too."""
        controller = self.doors["the controller"]
        before = self.there(secret("db", "git"))
        as_page = {"user": controller.token, "headers": {"Impersonate-User": "system:serviceaccount:argocd:argocd-server"}}
        self.judge("as another door", self.cluster.delete("Secret", "db", "app", **as_page), "locked")
        as_controller = {"user": self.others["admin"].token, "headers": {"Impersonate-User": CONTROLLER,
                                                                        "Impersonate-Group": "system:masters"}}
        self.judge("an admin as a door", self.cluster.delete("Secret", "db", "app", **as_controller), "locked")
        assert flat(self.live()) == flat(before)
        said = self.cluster.kubectl("delete", "secret", "db", "--namespace=app", f"--as={CONTROLLER}", fails=True)
        assert f"'regent-lock-{NAME}'" in said, said
        tenant = "system:serviceaccount:app:deployer"
        as_tenant = {"user": controller.token, "headers": {"Impersonate-User": tenant}}
        self.judge("as an account that is not named", self.merge({"data": {"password": "eA=="}}, as_tenant), "done")
        # Named, it is a door.
        self.name_as_door(f"'{tenant}'")
        tried = {"query": {"dryRun": "All"}, **as_tenant}
        until("the tenant is a door", lambda: self.cluster.delete("Secret", "db", "app", **tried).status == 403)
        self.judge("as an account that is named", self.merge({"data": {"password": "eg=="}}, as_tenant), "locked")
        self.judge("itself", self.merge({"data": {"password": "eg=="}}, self.others["a tenant"].asks()), "locked")
        self.cluster.apply(of_authority(NAME), manager="regent", force=True)
        until("it is none any more", lambda: self.cluster.delete("Secret", "db", "app", **tried).status == 200)

    def name_as_door(self, literals):
        policy = self.cluster.get("ValidatingAdmissionPolicy", f"regent-lock-{NAME}").ok()
        condition = policy["spec"]["matchConditions"][0]
        condition["expression"] = condition["expression"].replace("[", f"[{literals}, ", 1)
        self.cluster.update(policy).ok()

    def odd_names(self):
        """Names as regent writes them (a test of cluster/lock.rs has the same): each is that one user, and no more."""
        odd = {
            "it's": r"'it\'s'",
            "a\\": r"'a\\'",
            "a\\'": r"'a\\\''",
            'a"b': "'a\"b'",
            "a'] || true || request.userInfo.username in ['": r"'a\'] || true || request.userInfo.username in [\''",
            "ü👑": r"'\U000000fc\U0001f451'",
        }
        self.name_as_door(", ".join(odd.values()))
        self.there(secret("db", "git"))

        def tried(user):
            return self.cluster.delete("Secret", "db", "app", query={"dryRun": "All"}, user=self.others["admin"].token, headers={
                "Impersonate-User": user.encode(), "Impersonate-Group": "system:masters"})
        until("they are doors", lambda: tried("it's").status == 403)
        for user in odd:
            self.judge(user, tried(user), "locked")
        for user in ("its", "a", "a'", "a\\\\", "ab", "u", "b", "jane"):
            self.judge(user, tried(user), "done")
        self.cluster.apply(of_authority(NAME), manager="regent", force=True)
        until("they are none any more", lambda: tried("it's").status == 200)

    def lifted(self):
        """After a rebootstrap Git writes again."""
        root(self.cluster, authority(NAME, "git2"))
        start = time.monotonic()
        until("the lock is open", lambda: self.tried().status == 200)
        print(f"  the lock opened {time.monotonic() - start:.2f} s after epoch 2 began", flush=True)
        self.there(secret("db", "vault"))
        asks = self.doors["the controller"].asks()
        self.judge("Git rules again", self.cluster.apply_one(secret("db", "git"), force=True, **asks), "done")

    def without_its_authority(self):
        """Closed for everybody, but only for Secrets that bear its label; back with the Authority."""
        root(self.cluster, authority(NAME, "vault1"))
        asks = self.doors["the controller"].asks()
        self.bites()
        self.there(secret("db", "git"))
        self.cluster.delete("Authority", NAME, user="breakglass").ok()
        until("the Authority is missed", lambda: self.merge({"metadata": {"labels": {"a": "b"}}}, asks).status == 422)
        self.closed_but_only_here("the Authority is gone")
        root(self.cluster, authority(NAME, "git1"))
        until("the lock knows its Authority", lambda: self.merge({"metadata": {"labels": {"a": "c"}}}, asks).status == 200)
        self.judge("Git rules", self.merge({"data": {"password": "eA=="}}, asks), "done")

    def closed_but_only_here(self, why):
        """Nobody writes a Secret of this authority; everybody writes every other one."""
        everybody = {**self.doors, **self.others}
        before = self.live()
        for who in everybody.values():
            asks = who.asks()
            for answer in (self.merge({"data": {"password": "eA=="}}, asks), self.cluster.create(secret("new", "x"), **asks),
                           self.cluster.delete("Secret", "db", "app", **asks)):
                assert answer.status in (403, 422), (why, who, answer)
                assert f"'regent-lock-{NAME}'" in answer.message, (why, who, answer)
            self.others_go_on(why, who)
        assert flat(self.live()) == flat(before), why

    def others_go_on(self, why, who):
        asks = who.asks()
        for label in (None, "staging"):
            self.cluster.delete("Secret", "free", "app")
            for answer in (self.cluster.create(secret("free", "x", label), **asks),
                           self.cluster.apply_one(secret("free", "y", label), force=True, **asks),
                           self.cluster.patch("Secret", "free", "app", {"data": {"a": "eA=="}}, **asks),
                           self.cluster.delete("Secret", "free", "app", **asks)):
                assert verdict(answer) == "done", (why, label, who, answer)

    def without_its_crd(self):
        crd, name = "CustomResourceDefinition", "authorities.regent.dev"
        root(self.cluster, authority(NAME, "vault1"))
        self.bites()
        self.there(secret("db", "git"))
        self.cluster.delete("Secret", "theirs", "app")

        self.served(False)
        until("it is not served", lambda: self.cluster.get("Authority", NAME).status == 404)
        # The lock goes by what it knew: closed for the doors, open for the operator.
        self.watched("with `served: false`", 5)
        self.cluster.restart_apiserver()
        # Now it knows nothing, and is closed for everybody.
        self.watched("with `served: false` and an API server that started anew", 5)
        self.closed_but_only_here("`served: false`, started anew")
        self.served(True)
        until("the lock knows its Authority", lambda: self.merge({"metadata": {"labels": {"a": "d"}}}, self.others["operator"].asks()).status == 200)
        self.judge("served again", self.merge({"data": {"password": "eA=="}}, self.doors["the controller"].asks()), "locked")

        self.cluster.delete(crd, name, user="breakglass").ok()
        until("the CRD is gone", lambda: self.cluster.get(crd, name).status == 404)
        self.watched("without the CRD", 2)
        until("the Authority is missed", lambda: self.merge({"metadata": {"labels": {"a": "e"}}}, self.others["operator"].asks()).status == 422)
        self.watched("without the CRD, later", 2)
        self.closed_but_only_here("the CRD is gone")
        self.cluster.restart_apiserver()
        self.closed_but_only_here("the CRD is gone, and the API server started anew")

    def served(self, served):
        name = "authorities.regent.dev"
        versions = self.cluster.get("CustomResourceDefinition", name).ok()["spec"]["versions"]
        versions[0]["served"] = served
        self.cluster.patch("CustomResourceDefinition", name, None, {"spec": {"versions": versions}}, user="breakglass").ok()

    def watched(self, when, seconds):
        """For a while: no door gets a value in, and no other Secret has to wait."""
        door, operator, start = self.doors["the controller"], self.others["operator"], time.monotonic()
        told, longest = {}, 0
        while time.monotonic() - start < seconds:
            for name, answer in (("a door", self.merge({"data": {"password": "bm8="}}, door.asks())),
                                 ("the operator", self.merge({"metadata": {"labels": {"a": str(time.monotonic())}}}, operator.asks()))):
                if name == "a door":
                    assert answer.status in (403, 422), (when, answer)
                words = told.setdefault(name, [])
                said = f"{answer.status} {answer.message.split('denied request: ')[-1]}"
                if said not in words:
                    words.append(said)
            began = time.monotonic()
            for who in (door, operator):
                self.others_go_on(when, who)
            longest = max(longest, time.monotonic() - began)
        print("".join(f"  {when}, {name} is told: {'; then: '.join(words)}\n" for name, words in told.items())
              + f"  {when}, 16 writes of other Secrets took at most {longest:.2f} s", flush=True)
        assert longest < 16, longest

    def gone(self):
        """The way out is the binding: without it, and before the Authority goes, nothing is held."""
        for kind in ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"):
            self.cluster.delete(kind, f"regent-lock-{NAME}").ok()
        start = time.monotonic()
        until("the lock is gone", lambda: self.merge({"data": {"password": "eA=="}}, self.doors["the controller"].asks()).status == 200)
        print(f"  the lock was gone {time.monotonic() - start:.2f} s after its binding", flush=True)

    def put(self, change, asks):
        thing = self.live()
        change(thing)
        return self.cluster.update(thing, **asks)

    def merge(self, body, asks):
        return self.cluster.patch("Secret", "db", "app", body, "merge", **asks)
