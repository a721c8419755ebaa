import json
import signal
import subprocess
import threading
import time

import authority
import init
import said
from applications import AUTOMATED, NAMESPACE, REFRESH, ArgoCD
from held import Held
from stage import PATIENCE, Sealed, config_map, pause, secret, until

READER = ("ClusterRoleBinding", "regent-reader-prod")


def story(stage):
    cluster = stage.cluster()
    argocd = ArgoCD(stage, cluster)
    prod = authority.Authority(stage, cluster, "prod")
    stage.repo.commit({f"{prod.root}/regent.yaml": prod.bootstrap(),
                       f"{prod.root}/db.yaml": Sealed(secret("db", authority.value(1), "prod")),
                       f"{prod.root}/settings.yaml": config_map("settings", "prod")})
    init.install(cluster)
    cluster.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prod"}}).ok()
    rule = stage.rule(authority="prod", bootstrap=f"{prod.root}/regent.yaml", paths=[prod.root, f"{prod.root}/**"])
    regent = init.serve(stage, cluster, [rule])
    held = Held(stage.house.plugins / f"{stage.name}-held.sock", regent.socket)
    place = Place(stage, cluster, argocd, prod, regent, held)
    try:
        by_init(place)
        by_refresh(place)
        under_way(place)
        lost(place)
        refused(place)
        late(place)
    finally:
        held.close()


class Place:
    def __init__(self, stage, cluster, argocd, prod, regent, held):
        self.stage, self.cluster, self.argocd, self.prod, self.regent, self.held = stage, cluster, argocd, prod, regent, held
        self.app = argocd.application("prod", prod.root, policy=AUTOMATED, namespace="prod")

    def words(self, *more):
        # The file says which plugin; the option, in which cluster and as whom.
        return ("refresh", *more, "--config", self.regent.config, "--kubeconfig", self.cluster.kubeconfig())

    def refresh(self, *more):
        return said.done(self.stage, *self.words(*more))

    def fails(self, code):
        """Three failures, and Argo CD asks no more."""
        self.app.refresh("hard")
        for _ in range(6):
            message = self.app.conditions().get("ComparisonError", "")
            if "(cached)" in message:
                break
            self.app.refresh()
        assert "(cached)" in message and f"regent[{code}]" in message, message


def by_init(place):
    place.fails("P1")
    done = said.done(place.stage, "init", place.stage.repo.folder / place.prod.root, "--no-vault-yet", "--yes",
                     *place.words()[1:])
    assert "applications  1 will be refreshed" in done.out and "argocd/prod was refreshed: " in done.err, done
    place.app.synced()
    place.prod.holds(authority.value(1))


def by_refresh(place):
    """The same again, by rights that the front door lost for a while."""
    cluster = place.cluster
    reader = init.reader_token(cluster)

    def reads():
        return cluster.get("Authority", "prod", user=reader).status
    binding = cluster.get(*READER).ok()
    cluster.delete(*READER).ok()
    # What Argo CD caches before that would hide the loss.
    until("the right is lost", lambda: reads() == 403)
    place.fails("P1")
    cluster.create({**binding, "metadata": {key: value for key, value in binding["metadata"].items()
                                            if key in ("name", "labels", "annotations")}}).ok()
    until("the right is back", lambda: reads() == 200)
    place.app.refresh()
    assert "(cached)" in place.app.conditions()["ComparisonError"], "it healed by itself: this story cannot fail"
    done = place.refresh()
    assert done.out == "" and "argocd/prod was refreshed: " in done.err, done
    place.app.synced()
    # And as JSON, in a process's standard output alone; every spelling of the one.
    for names in ((), ("prod",), ("argocd/prod",)):
        got = json.loads(place.refresh("-o", "json", *names).out)
        assert got == {"applications": [{"namespace": "argocd", "name": "prod", "refreshed": True, "sync": "Synced",
                                         "health": "Healthy", "problem": None}]}, got


def beside(place, *more):
    """`regent refresh`, under way."""
    return subprocess.Popen([place.stage.house.regent, *map(str, place.words(*more))], env=place.stage.house.env, text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ended(child, code=0):
    out, err = child.communicate(timeout=3 * PATIENCE)
    assert child.returncode == code, (out, err)
    return err


def under_way(place):
    """A refresh that began before ends with it, and would take the request for a hard one along."""
    cluster, held = place.cluster, place.held
    app = place.argocd.application("held", place.prod.root, f"{place.stage.name}-held", namespace="prod")
    app.refresh()
    held.arm()
    place.prod.change(2)
    app.patch({"metadata": {"annotations": {REFRESH: "normal"}}})
    held.wait()
    child = beside(place, "held")
    time.sleep(2)
    assert app.get()["metadata"]["annotations"][REFRESH] == "normal", "it wrote into a refresh under way"
    before = answered(place)
    held.let_go()
    assert "argocd/held was refreshed" in ended(child)
    assert answered(place) > before, "the plugin was not asked again"
    # Somebody changes the Application all the time.
    stop = threading.Event()

    def changes():
        while not stop.is_set():
            app.patch({"metadata": {"labels": {"at": str(time.monotonic_ns())}}})
    busy = threading.Thread(target=changes)
    busy.start()
    try:
        before = answered(place)
        assert "argocd/held was refreshed" in ended(beside(place, "held"))
        assert answered(place) > before
    finally:
        stop.set()
        busy.join()
    cluster.delete("Application", "held", NAMESPACE).ok()


def answered(place):
    lines = [line for line in place.regent.get("/metrics")[1].splitlines() if line.startswith("regent_answers_total{")]
    return sum(float(line.split()[-1]) for line in lines)


def lost(place):
    """The request is taken away and never done, as where two refreshes meet: it is made again."""
    app, cluster = place.app, place.cluster
    app.synced()
    controller = cluster.running["application-controller"]
    pause(controller)
    try:
        child = beside(place, "prod")

        def asked():
            return app.get()["metadata"].get("annotations", {}).get(REFRESH) == "hard"
        until("it is asked for", asked)
        app.patch({"metadata": {"annotations": {REFRESH: None}}})
        until("it is asked for again", asked)
    finally:
        controller.send_signal(signal.SIGCONT)
    assert "argocd/prod was refreshed" in ended(child)


def refused(place):
    """Another Application, in no root of a rule."""
    place.stage.repo.commit({"elsewhere/settings.yaml": config_map("settings", "prod")})
    place.argocd.application("elsewhere", "elsewhere", namespace="prod")
    got = said.run(place.stage, *place.words("-o", "json"))
    assert got.code == 1, got
    rows = {row["name"]: row for row in json.loads(got.out)["applications"]}
    assert rows["prod"]["problem"] is None and rows["prod"]["refreshed"], rows
    assert rows["elsewhere"]["problem"].startswith("regent[") and rows["elsewhere"]["sync"] is None, rows
    assert "argocd/prod was refreshed: " in got.err and "argocd/elsewhere was refreshed and says: regent[" in got.err, got.err
    got = said.run(place.stage, *place.words("nowhere", "prod"))
    assert got.code == 1 and "argocd/nowhere was not refreshed" in got.err and "argocd/prod was refreshed" in got.err, got
    said.refused(place.stage, "usage", 2, ["names no Application"], *place.words("a/b/c"))
    somebody = place.cluster.kubeconfig(place.cluster.account("app", "somebody"))
    said.refused(place.stage, "forbidden", 1, ["applications"], "refresh", "--kubeconfig", somebody)
    got = said.run(place.stage, "refresh", "prod", "--kubeconfig", somebody)
    assert got.code == 1 and "argocd/prod was not refreshed" in got.err, got


def late(place):
    """Nobody does it."""
    place.argocd.stop()
    got = said.run(place.stage, *place.words("prod", "--timeout", "3"))
    assert got.code == 1 and "not refreshed in time" in got.err, got
