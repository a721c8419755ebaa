import json
import subprocess
import time

from bao import Bao
from installed import Who
from stage import CANARY, PATIENCE, Sealed, bootstrap, full, leaks, secret, until
from vaulted import BREAK_GLASS, Place, both, namespace, rotate, unchanged

OTHER = "0b5f2c1e-8a3d-4f6b-9c2e-1d7a5e4b3c2f"
DOCUMENTS = [("db.yaml", "app/db", "Secret", "handover"), ("web.yaml", "app/web", "Secret", "handover")]
VALUE = {"db": {"password": f"{CANARY}-db"}, "web": {"token": f"{CANARY}-web"}}
ROTATED = {"password": f"{CANARY}-rotated"}


def story(stage):
    cluster = stage.cluster()
    bao = Bao(stage)
    try:
        place = Place(stage, cluster, bao)
        place.install()
        namespace(cluster, "app")
        begin(place)
        handover = hand_over(place)
        asks_for_nothing(place)
        git_asks(place, handover)
        vault_stands_against_it(place, handover)
        others_stand_against_it(place, handover)
        live_values(place, handover)
        raised(place, handover)
        completed(place)
        from_nothing(place)
        hub(stage, bao)
    finally:
        bao.stop()


def raise_(place, *words, **expected):
    return place.regent("rebootstrap", place.root, "-i", place.stage.key.file, *BREAK_GLASS, *words, **expected)


def write(place, epoch, supersedes=None, **more):
    """Commits what Git says of itself."""
    text = json.loads(bootstrap("prod"))
    text.update(epoch=epoch, vault={"address": place.bao.address, "mount": "secret", "prefix": "bootstrap/prod"},
                recipients={"root": [place.stage.key.recipient]}, **({"supersedes": supersedes} if supersedes else {}), **more)
    place.stage.repo.commit({"clusters/prod/regent.yaml": json.dumps(text)})


def begin(place):
    place.stage.repo.commit({f"clusters/prod/{name}.yaml": Sealed(secret(name, value)) for name, value in VALUE.items()})
    write(place, 1)
    place.regent("init", place.root, "--vault-token-file", place.bao.token_file(), "--yes",
                 says=f"asked: {place.bao.address} holds no record of epoch 1")
    for thing in place.values():
        place.door(thing).ok()
    raise_(place, ends=1, code="next-epoch", says="git(1)")


def hand_over(place):
    handover = place.hand_over(DOCUMENTS)
    place.bites("db")
    return handover


def refuses(place, *words, **expected):
    """A refusal, and nothing was written."""
    things = [("Authority", "prod"), ("Role", "regent-reader-prod", "kube-system"), ("Secret", "db", "app")]
    before = unchanged(place.cluster, *things)
    said = raise_(place, *words, **expected)
    assert unchanged(place.cluster, *things) == before
    return said


def asks_for_nothing(place):
    said = refuses(place, "--yes", ends=1, code="next-epoch", says="does not ask for an epoch that supersedes it")
    assert "supersedes: HANDOVER" in said


def git_asks(place, handover):
    write(place, 2, OTHER)
    refuses(place, "--yes", ends=1, code="P6")
    # Git closed another epoch than the one it supersedes: nothing would be rendered afterwards.
    write(place, 2, handover, closed=OTHER)
    refuses(place, "--yes", ends=1, code="P6", says="git(2")
    # As after a handover: `closed` names what is superseded.
    write(place, 2, handover, closed=handover)
    place.regent("render", place.root, ends=1, code="P3", says="regent rebootstrap")


def vault_stands_against_it(place, handover):
    token = place.bao.token_file()
    gives_up = f"--abandon-vault {handover}"
    refuses(place, "--yes", ends=4, code="abandon", says=["no token was given", gives_up])
    refuses(place, "--yes", "--vault-token-file", token, ends=1, code="abandon",
            says=[f"Vault holds the record of handover {handover}", gives_up])
    # A record that was deleted was there.
    place.bao.ask("DELETE", "secret/data/regent/prod/authority/1")
    refuses(place, "--yes", "--vault-token-file", token, ends=1, code="abandon", says="(unreadable)")
    place.bao.ask("POST", "secret/undelete/regent/prod/authority/1", {"versions": [1]})
    refuses(place, "--yes", "--vault-token-file", place.bao.token_file("default"), ends=4, code="abandon", says="(403)")
    for words in ([], ["--vault-token-file", token]):
        refuses(place, "--yes", "--abandon-vault", OTHER, *words, ends=1, code="abandon", says=gives_up)
    refuses(place, "--yes", "--abandon-vault", "all", ends=2, code="usage")
    place.bao.ask("PUT", "sys/seal")
    until("OpenBao is sealed", lambda: place.bao.ask("GET", "sys/health")[0] == 503)
    refuses(place, "--yes", "--vault-token-file", token, ends=4, code="abandon", says="sealed")
    place.bao.stop()
    refuses(place, "--yes", "--vault-token-file", token, ends=4, code="abandon", says="does not say")
    # Given up, it need not be asked. Nothing else stands against it.
    refuses(place, "--abandon-vault", handover, "--dry-run", says=["2 as in Git", "given up", "say git(2"])
    # All of it was lost: the same address, and no record.
    place.bao.start()
    place.token = place.bao.token_file()
    refuses(place, "--vault-token-file", place.token, "--dry-run", says="holds no record of the handover")


def lost(place, *words, **expected):
    """With a Vault that holds nothing any more."""
    return refuses(place, "--vault-token-file", place.token, *words, **expected)


def others_stand_against_it(place, handover):
    lost(place, ends=2, code="usage", says="--yes")
    # Another folder of the same name, and a folder with the other's name in it.
    place.stage.repo.commit({"clusters/copy/regent.yaml": (place.root / "regent.yaml").read_text()})
    place.regent("rebootstrap", place.stage.repo.folder / "clusters/copy", "--yes", ends=1, code="P0")
    place.stage.repo.commit({"clusters/copy/regent.yaml": None})
    # The API server itself holds an administrator off who has not the group.
    before = place.authority()
    words = "rebootstrap", place.root, "-i", place.stage.key.file, "--vault-token-file", place.token, "--yes"
    place.regent(*words, ends=1, code="denied", says="only by group regent:break-glass")
    assert place.authority() == before
    place.regent(*words, "--as", "jane", ends=1, code="forbidden")
    # Somebody still delivers what was handed over, by its own name or another.
    for group, kind, plural, spec in (
            ("external-secrets.io", "ExternalSecret", "externalsecrets", {"target": {"name": "db"}}),
            ("secrets.hashicorp.com", "VaultStaticSecret", "vaultstaticsecrets", {"destination": {"name": "db", "create": True}})):
        version = "v1" if kind == "ExternalSecret" else "v1beta1"
        crd = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
               "metadata": {"name": f"{plural}.{group}"},
               "spec": {"group": group, "scope": "Namespaced",
                        "names": {"kind": kind, "listKind": f"{kind}List", "plural": plural, "singular": kind.lower()},
                        "versions": [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                            "type": "object", "x-kubernetes-preserve-unknown-fields": True}}}]}}
        place.cluster.apply([crd])
        place.cluster.established(f"{plural}.{group}")
        path = f"/apis/{group}/{version}/namespaces/app/{plural}"
        thing = {"apiVersion": f"{group}/{version}", "kind": kind, "metadata": {"name": "one", "namespace": "app"}, "spec": spec}
        place.cluster.request("POST", path, thing).ok()
        lost(place, "--yes", ends=1, code="delivered", says=[f"{kind} app/one still delivers Secret app/db", "--cascade=orphan"])
        place.cluster.request("DELETE", f"{path}/one").ok()
        # One that has nothing to do with it may stay.
        place.cluster.request("POST", path, {**thing, "metadata": {"name": "two", "namespace": "app"}, "spec": {}}).ok()
        lost(place, "--dry-run")


def live_values(place, handover):
    """Vault's operator rotated one after the handover, and Vault is lost."""
    rotate(place.cluster, "db", ROTATED)
    said = lost(place, "--yes", ends=1, code="live-differs", says="app/db")
    assert "app/web" not in said and "--save-live live.json.age --overwrite-live app/db" in said, said
    lost(place, "--yes", "--overwrite-live", "app/dbb", ends=2, code="usage", says="app/dbb")
    lost(place, "--yes", "--overwrite-live", "app/web", ends=1, code="live-differs", says="app/db")
    # Saved first, and still refused: two decisions.
    saved = place.stage.folder / "live.json.age"
    lost(place, "--save-live", saved, "--dry-run", ends=1, code="live-differs")
    assert not saved.exists()
    lost(place, "--save-live", saved, ends=1, code="live-differs", says="saved 1 live Secrets")
    data = saved.read_bytes()
    assert data.startswith(b"age-encryption.org/v1") and not leaks(data) and saved.stat().st_mode & 0o777 == 0o600
    assert len([file for file in saved.parent.iterdir() if file.name.startswith(".regent")]) == 0
    lost(place, "--save-live", saved, "--overwrite-live", "app/db", "--yes", ends=2, code="io", says="never replaced")
    assert saved.read_bytes() == data
    place.saved = saved


def raised(place, handover):
    # An earlier run was cut off between the roles and the Authority.
    for part, epochs in (("reader", (1, 2, 3)), ("handover", (2,))):
        place.cluster.patch("Role", f"regent-{part}-prod", "kube-system", [
            {"op": "replace", "path": "/rules/0/resourceNames", "value": [f"regent-authority-prod-{epoch}" for epoch in epochs]}],
            "json").ok()
    second = place.stage.folder / "second.json.age"
    said = raise_(place, "--vault-token-file", place.token, "--overwrite-live", "app/db", "--save-live", second, "--yes",
                  says=[f"vault(1, {handover})", "overwritten   app/db", "raised: Authority prod says git(2", "regent refresh"])
    assert "saved 1 live Secrets" in said and second.exists()
    spec = place.authority()
    assert spec == {**{key: spec[key] for key in ("schema", "authorityId", "root", "witnessKubeUid", "targetKubeUid", "vaultAddress",
                                                  "vaultNamespace", "mount", "prefix")}, "authority": "git", "epoch": 2, "supersedes": handover}, spec
    # The witness of the handover stays.
    place.cluster.get("ConfigMap", "regent-authority-prod-1", "kube-system").ok()
    names = place.cluster.get("Role", "regent-reader-prod", "kube-system").ok()["rules"][0]["resourceNames"]
    assert names == [f"regent-authority-prod-{epoch}" for epoch in (1, 2, 3)], names
    # The door brings Git's values; what was overwritten is in the saved copy, for whoever has the root key.
    things = {thing["metadata"]["name"]: thing for thing in place.values()}
    place.opens("db")
    place.door(things["db"]).ok()
    assert place.live("db") == VALUE["db"]
    for file in (place.saved, second):
        opened = subprocess.run([place.stage.house.regent, "open", file, "-i", place.stage.key.file, "--reveal"],
                                capture_output=True, check=True).stdout
        place.cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=opened.decode())
        assert place.live("db") == ROTATED
        place.door(things["db"]).ok()
    # A second run finds it done, whatever else is typed.
    before = unchanged(place.cluster, ("Authority", "prod"), ("Role", "regent-handover-prod", "kube-system"))
    raise_(place, "--yes", says=["the epoch is raised already", "Git rules epoch 2"])
    raise_(place, "--yes", "--abandon-vault", handover)
    assert unchanged(place.cluster, ("Authority", "prod"), ("Role", "regent-handover-prod", "kube-system")) == before


def completed(place):
    """The next handover stops between its two witnesses, and then that Vault is lost too."""
    second = place.witness(DOCUMENTS)
    assert place.says() == "git2"
    # The reader reads around the new epoch: no answer of it is unreadable.
    reader = Who("reader", place.cluster.account("argocd", "argocd-repo-server"))
    for epoch in (1, 2, 3):
        assert place.cluster.get("ConfigMap", f"regent-authority-prod-{epoch}", "kube-system", **reader.asks()).status in (200, 404)
    write(place, 3, second)
    lost(place, "--yes", ends=1, code="abandon", says=second)
    lost(place, "--abandon-vault", second, "--dry-run", says=["unfinished", f"say vault(2, {second}) first"])
    assert place.says() == "git2"
    raise_(place, "--abandon-vault", second, "--yes", says=["completed the mirror", "raised: Authority prod says git(3"])
    assert place.says() == "git3" and place.authority()["supersedes"] == second


def from_nothing(place):
    """Somebody deleted the Authority after the witness was written; and every run is killed after its first write."""
    third = place.witness(DOCUMENTS)
    write(place, 4, third)
    place.cluster.delete("Authority", "prod", user="breakglass").ok()
    seen = []
    for _ in range(6):
        before = place.says()
        child = subprocess.Popen(
            place.command("rebootstrap", place.root, "-i", place.stage.key.file, *BREAK_GLASS, "--abandon-vault", third, "--yes"),
            cwd=place.work, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=place.environment())
        end = time.monotonic() + PATIENCE
        while place.says() == before and child.poll() is None and time.monotonic() < end:
            pass
        child.kill()
        said = child.communicate()[0]
        assert not leaks(said)
        seen.append(place.says())
        if seen[-1] == "git4":
            break
    # One write after the other, in this order; a run may have come further before it was killed.
    order = ["git3", "vault3", "git4"]
    assert seen[-1] == "git4" and [order.index(word) for word in seen] == sorted(order.index(word) for word in seen), seen
    raise_(place, "--yes", says="Git rules epoch 4")
    assert place.authority()["supersedes"] == third
    place.opens("db")


def hub(stage, bao):
    """Witnesses here, Secrets there."""
    hub, target = stage.cluster("hub"), stage.cluster("target")
    place = Place(stage, hub, bao, target)
    place.install()
    namespace(target, "app")
    config = both(stage, hub, target)
    bao.stop()
    bao.start()
    write(place, 1)
    here = "--context", "hub", "--target-context", "target"
    place.regent("init", place.root, *here, "--vault-token-file", bao.token_file(), "--yes", config=config)
    place.door(full("db", VALUE["db"])).ok()
    handover = place.hand_over(DOCUMENTS)
    assert place.says(target) == "vault1"
    write(place, 2, handover)
    words = "rebootstrap", place.root, "-i", stage.key.file, *BREAK_GLASS, "--abandon-vault", handover, "--yes"
    # Live values are looked for where they are, or nowhere.
    place.regent(*words, "--context", "hub", ends=1, code="other-cluster", says="--target-context", config=config)
    place.regent(*words, "--context", "target", "--target-context", "hub", ends=1, code="other-cluster", config=config)
    rotate(target, "db", ROTATED)
    place.regent(*words, *here, ends=1, code="live-differs", says="app/db", config=config)
    # Where the Secrets cannot be looked at, nothing is decided.
    target.stop_apiserver()
    place.regent(*words, *here, "--overwrite-live", "app/db", ends=4, code="cluster", config=config)
    target.start_apiserver()
    assert place.says() == "vault1"
    place.regent(*words, *here, "--overwrite-live", "app/db", config=config,
                 says=["raised: Authority prod says git(2", "the copy for the lock", "Git rules epoch 2"])
    assert place.says() == place.says(target) == "git2"
    # A run that ended after the Authority left the copy behind, at any of its stages. Until it follows, the lock is shut.
    for says in (None, "git1", "vault1"):
        lag(target, says, place)
        if says == "vault1":
            place.bites("db")
        place.regent(*words, *here, says="the copy for the lock", config=config)
        assert place.says(target) == "git2" and place.authority(target) == place.authority()
    place.opens("db")


def lag(target, says, place):
    """Puts the copy back, past every rule."""
    target.delete("Authority", "prod", user="breakglass").ok()
    if says is None:
        return
    record = {key: value for key, value in place.moved.items() if key not in (
        "handoverId", "vaultClusterId", "mountUuid", "markerVersion", "markerCreatedTime", "treeDigest", "gitCommit", "regentVersion")}
    steps = [{**record, "authority": "git"}] + ([place.moved] if says == "vault1" else [])
    for spec in steps:
        thing = {"apiVersion": "regent.dev/v1alpha1", "kind": "Authority", "metadata": {"name": "prod"}, "spec": spec}
        target.apply_one(thing, "regent", force=True, user="breakglass").ok()
