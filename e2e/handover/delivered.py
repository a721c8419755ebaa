"""The whole Argo CD on an authority that `regent handover` hands over: several revisions deployed, self-healing and pruning
on, and a place where an answer of the plugin can be held back.
"""

import concurrent.futures
import json

import init
from applications import AUTOMATED, DOOR, IN_CLUSTER, NAMESPACE, ArgoCD
from clustered import Clustered, condition
from handed import sealed
from held import Held
from stage import CANARY, TOP, full, leaks, until

OTHERS = concurrent.futures.ThreadPoolExecutor(4)
LIMITS = {"request": "3s"}
PLUGIN = {"version": "held"}


class Delivered(Clustered):
    def __init__(self, stage, *flags, api=(), cluster=None, **kwargs):
        """`flags` are for the application controller, `api` for kube-apiserver, unless there is a `cluster`."""
        cluster = cluster or stage.cluster("cluster", *api)
        # Argo CD caches by the kinds that it knows: another one later would leave entries that nobody overwrites.
        cluster.apply(TOP / "manifests/crd")
        cluster.established("authorities.regent.dev")
        self.argocd = ArgoCD(stage, cluster, *flags, repo_server=True)
        self.argocd.serve()
        super().__init__(stage, self.argocd.cluster, **kwargs)
        self.serve()
        self.held = Held(stage.house.plugins / f"{stage.name}-held.sock", self.door.socket)
        self.revisions = [self.commit]

    def serve(self):
        self.door = init.serve(self.stage, self.cluster, [self.rule()], limits=LIMITS)

    def restart_door(self):
        self.door.child.kill()
        self.door.child.wait()
        self.serve()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        # Of one that failed the stage ends all processes and keeps the logs.
        if kind is None:
            self.close()

    def rule(self):
        """Revisions that were deployed are asked for by their ids, once they are not cached any more."""
        return self.stage.rule(revisions=["*"])

    def application(self, name, policy=AUTOMATED, namespace="app", **more):
        return self.argocd.application(name, "clusters/prod", f"{self.stage.name}-held", policy, namespace=namespace, **more)

    def deployed(self, revisions, name="prod", **more):
        """An Application with so many revisions in its history, each with another value of `db`."""
        app = self.application(name, **more)
        app.synced()
        for number in range(2, revisions + 1):
            self.change(number)
            app.refresh()
            app.synced()
        return app

    def elsewhere(self, name, namespace):
        """An Application outside Argo CD's own namespace."""
        self.cluster.patch("AppProject", "platform", NAMESPACE, {"spec": {"sourceNamespaces": [namespace]}}).ok()
        self.cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}).ok()
        source = {"repoURL": f"file://{self.stage.repo.folder}", "path": "clusters/prod", "targetRevision": "main",
                  "plugin": {"name": f"{self.stage.name}-held"}}
        self.cluster.create({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": name, "namespace": namespace},
            "spec": {"project": "platform", "source": source, "destination": {"server": IN_CLUSTER, "namespace": "app"}}}).ok()
        self.cluster.wait(f"{namespace}/{name} is compared", "Application", name, namespace,
                          lambda app: app and "reconciledAt" in app.get("status", {}))

    def change(self, number):
        """Git's value of `db` becomes another."""
        self.commit = self.stage.repo.commit({"clusters/prod/db.yaml": sealed("db", {"password": f"{CANARY}-db-{number}"})})
        self.revisions.append(self.commit)

    def config(self, **argocd):
        """The operator's file, as whoever hands over has it."""
        file = self.stage.folder / f"config-{len(list(self.stage.folder.glob('config-*')))}.json"
        file.write_text(json.dumps({
            "apiVersion": "regent.dev/v1alpha1", "kind": "RegentConfig", "store": {"kind": "kubernetes"}, "limits": LIMITS,
            "rules": [self.rule()], "argocd": {"name": self.stage.name, **PLUGIN, **argocd}}))
        return file

    def begun_settling(self, *words):
        """A handover that goes on until Argo CD is waited for."""
        there, self.where = self.where, self.account
        child = self.begin("--yes", *words)
        self.where = there
        self.cluster.wait("it settles", "Authority", "prod", None, lambda it: condition(it, "Settled") or child.poll() is not None)
        return child

    def refresh(self, *words):
        """By somebody who may."""
        self.regent("refresh", *self.where, "--config", self.config(), *words)

    # --- the live Secret

    def rotate(self, number):
        """Another value, written as Vault's operator does. Gives what has to stay."""
        live = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "app"},
                "data": full("db", {"password": f"{CANARY}-of-vault-{number}"})["data"]}
        self.cluster.apply_one(live, "vault-operator", force=True).ok()
        return self.same()

    def same(self):
        live = self.cluster.get("Secret", "db", "app").ok()
        return live["metadata"]["uid"], live["metadata"]["resourceVersion"], live["data"]

    def cached(self, name):
        """Of which revisions Argo CD caches values."""
        return {key.split("|")[3] for key, text in self.argocd.cached(name).items() if leaks(text)}

    def unlock(self):
        """Without the lock only what was disarmed keeps the old values away."""
        for kind in ("ValidatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy"):
            self.cluster.delete(kind, "regent-lock-prod", user="breakglass").ok()
        bitten = {"apiVersion": "v1", "kind": "Secret", "metadata": {
            "name": "bitten", "namespace": "app", "labels": {"regent.dev/authority": "prod"}}}
        door = {"Impersonate-User": DOOR}
        until("the lock is gone", lambda: self.cluster.create(bitten, query={"dryRun": "All"}, headers=door).status == 201)

    def stays(self, app, number):
        """A rotated value, whatever Argo CD does: to every older revision and back, with each component restarted."""
        before = self.rotate(number)
        for how in ("normal", "hard", "normal"):
            app.refresh(how)
            assert self.same() == before, how
        for go in (self.argocd.restart, self.argocd.restart_repo_server, self.argocd.restart_server, self.restart_door):
            go()
            app.refresh()
            assert self.same() == before, go
        for revision in self.revisions[:-1]:
            for words in ({}, {"options": ["Replace=true"], "force": True}):
                operation = app.sync(**self.at(revision), **words)
                assert operation["phase"] == "Succeeded", operation
                assert self.same() == before, (revision, words)
            operation = app.rollback(revision)
            assert operation["phase"] == "Succeeded", operation
            assert self.same() == before, f"a rollback to {revision}"
        app.patch({"spec": {"syncPolicy": AUTOMATED}})
        app.refresh()
        app.synced()
        assert self.same() == before, "self-healing"

    def stays_uncached(self, app, number):
        """The same with nothing in Redis: each revision is rendered anew, by whoever asks."""
        before = self.rotate(number)
        self.stage.house.restart_redis()
        for how in ("normal", "hard"):
            app.refresh(how)
            assert self.same() == before, how
        self.argocd.manifests(app.name)
        for revision in (self.revisions[0], self.commit):
            operation = app.sync(**self.at(revision))
            assert operation["phase"] == "Succeeded" and self.same() == before, (revision, operation)
        assert not self.cached(app.name)

    def at(self, revision):
        """The root at a revision, as an operation names it."""
        return {"revision": revision}

    def close(self):
        self.held.close()
        self.door.stop()
        self.bao.stop()

