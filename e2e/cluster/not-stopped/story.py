import authority
import init
from applications import DOOR
from stage import config_map, full, plain, stub, until

WITNESS = "regent-authority-prod-1"


def story(stage):
    cluster = stage.cluster()
    stage.house.serve()
    door, prod = authority.begin(stage, cluster, ["prod"])
    values = [full("db", authority.value(1), "prod"), plain(config_map("settings", "prod"))]
    stubs = [stub("db", "prod"), plain(config_map("settings", "prod"))]
    # No Argo CD writes here: its Secret is what the lock is about, and its account may do everything, as in a stock install.
    cluster.kubectl("create", "clusterrolebinding", "door", "--clusterrole=cluster-admin", f"--user={DOOR}")
    cluster.create(full("db", authority.value(1), "prod")).ok()
    stage.render(values)
    unserved(stage, cluster, door)
    stage.render(values)

    prod.witnessed()
    stage.render(stubs)
    cluster.delete("ConfigMap", WITNESS, "kube-system", user="breakglass").ok()
    stage.render(stubs)
    fresh(door)
    stage.render(values)

    prod.hand_over()
    prod.lock(stays=True)
    stage.render(stubs)
    moved = cluster.get("Authority", "prod").ok()
    cluster.delete("Authority", "prod", user="breakglass").ok()
    # Without an Authority nobody writes the Secret.
    until("nobody may", lambda: cluster.delete("Secret", "db", "prod", {"dryRun": "All"}).status == 422)
    said = init.init(stage, cluster, "prod", fails=True)
    assert "error[exists]" in said and WITNESS in said, said
    spec = {key: moved["spec"][key] for key in ("schema", "authorityId", "epoch", "root", "vaultAddress", "mount", "prefix",
                                                "witnessKubeUid", "targetKubeUid")}
    again = {"apiVersion": "regent.dev/v1alpha1", "kind": "Authority", "metadata": {"name": "prod"},
             "spec": {**spec, "authority": "git"}}
    cluster.create(again).ok()
    fresh(door)
    stage.render(stubs)
    until("the lock is open", lambda: prod.tried().status == 200)
    said = init.init(stage, cluster, "prod", fails=True)
    assert "error[exists]" in said, said
    prod.moved()
    prod.lock(stays=True)

    prod.lock(stays=False)
    init.init(stage, cluster, "prod", "--complete")
    prod.lock(stays=True)
    stage.render(stubs)


def fresh(door):
    """A process that remembers nothing."""
    door.kill()
    door.again()


def unserved(stage, cluster, door):
    """The CRD is not served while Git rules."""
    def serve(serves):
        crd = cluster.get("CustomResourceDefinition", "authorities.regent.dev").ok()
        crd["spec"]["versions"][0]["served"] = serves
        cluster.update(crd, user="breakglass").ok()
    serve(False)
    until("it is not served", lambda: isinstance(cluster.get("Authority", "prod").body, str))
    fresh(door)
    stage.refused("P1", "the API server does not serve it (404)")
    serve(True)
    cluster.established("authorities.regent.dev")
