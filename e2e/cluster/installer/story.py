import init
from authority import Authority
from init_place import Place, objects
from installed import HANDOVERS, INSTALLER, Who, granted
from stage import Sealed, secret

BOUND = ["--serviceaccount=platform:installer"]


def story(stage):
    cluster = stage.cluster()
    prod = Authority(stage, cluster, "prod")
    stage.repo.commit({f"{prod.root}/regent.yaml": prod.bootstrap(),
                       f"{prod.root}/db.yaml": Sealed(secret("db", {"password": "REGENT-CANARY-1"}, "prod"))})
    init.install(cluster)
    token = cluster.account("platform", "installer")
    place, installer = Place(stage, cluster, prod, token), Who("installer", token)
    # Each of the three parts is needed, and each that is missing is told before anything is written.
    place.refused("forbidden", 1, ["regent-init"])
    cluster.kubectl("create", "clusterrolebinding", "regent-init", "--clusterrole=regent-init", *BOUND)
    granted(cluster, installer, INSTALLER[0])
    place.refused("forbidden", 1, ["regent-init", "configmaps"])
    for namespace in ("kube-system", "regent-system"):
        cluster.kubectl("create", "rolebinding", "regent-init", "--role=regent-init", f"--namespace={namespace}", *BOUND)
    granted(cluster, installer, *INSTALLER)
    place.done("--dry-run")
    place.done()
    made = objects(cluster)
    assert ("Authority", None, "prod") in made and ("ValidatingAdmissionPolicyBinding", None, "regent-lock-prod") in made
    place.refused("exists", 1, ["Authority prod", "git(1)"])
    place.done("--complete")
    assert objects(cluster) == made
    # What is missing is made; what differs is for somebody who may change it.
    cluster.delete("ValidatingAdmissionPolicyBinding", "regent-lock-prod").ok()
    cluster.delete("Role", "regent-reader-prod", "kube-system").ok()
    place.refused("exists", 1, ["regent init --complete"])
    place.done("--complete")
    assert set(objects(cluster)) == set(made)
    cluster.patch("Role", "regent-reader-prod", "kube-system", {"rules": []}).ok()
    place.refused("forbidden", 1, ["roles"], "--complete")
    # It is git's first hour, and no other, that is its to give.
    moved(place)
    stage.repo.commit({f"{prod.root}/regent.yaml": prod.bootstrap(epoch=2, supersedes=HANDOVERS[0])})
    cluster.delete("Authority", "prod", user="breakglass").ok()
    place.refused("denied", 1, ["epoch"])


def moved(place):
    """Another place in Vault is not the installer's to say, though RBAC lets it patch the Authority."""
    place.stage.repo.commit({f"{place.prod.root}/regent.yaml": place.prod.bootstrap().replace("https://vault.example", "https://other.example")})
    place.refused("denied", 1, ["break-glass"], "--move")
