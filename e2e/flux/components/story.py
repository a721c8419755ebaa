"""Components, of a kustomization and of the Kustomization itself, with encrypted documents and a generator whose name ends in a hash; labels
and a patch over all of it. What regent makes of it is what Flux' own decryption makes; it is handed over under the names of the cluster, and
nothing changes. An encrypted patch, and a component that two overlays share, are refused before anything moves."""

import json
import subprocess

import let_go
from authority import value
from let_go import deployment, env, refers, secrets, stock
from stage import Sealed, secret

API = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component", "namePrefix": "blue-", "resources": ["api.yaml"],
       "secretGenerator": [{"name": "gen", "envs": ["gen.env"]}], "labels": [{"pairs": {"part": "api"}}],
       "patches": [{"path": "owner.yaml", "target": {"kind": "Secret"}}]}
# It marks what was gathered before it.
OWNER = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "any", "annotations": {"owner": "team-a"}}}
MORE = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component", "resources": ["more.yaml"]}
TOP = {"resources": ["db.yaml", "settings.yaml", "web.yaml"], "components": ["parts/api"]}
SPEC = {"components": ["parts/more"], "commonMetadata": {"labels": {"of": "flux"}}}


def story(stage):
    handing = let_go.begin(stage, files={
        "kustomization.yaml": json.dumps({**TOP, "namespace": "prod"}), "web.yaml": deployment("gen", "api", "db"),
        "parts/api/kustomization.yaml": json.dumps(API), "parts/api/owner.yaml": json.dumps(OWNER), "parts/api/gen.env": env(stage, 1),
        "parts/api/api.yaml": Sealed(secret("api", value(2), "elsewhere"))})
    it = handing.it
    it.app.spec(targetNamespace="prod", **SPEC)
    # Only now the component of the Kustomization itself is there.
    it.applied(it.commit({"kustomization.yaml": json.dumps(TOP), "parts/more/kustomization.yaml": json.dumps(MORE),
                          "parts/more/more.yaml": Sealed(secret("more", value(3), "nowhere"))}))
    ours = secrets(it, "prod", it.app)
    assert stock(it, **SPEC) == ours and len(ours) == 4, f"Flux makes others than {sorted(ours)}"
    generated, = (name for name in ours if name.startswith("blue-gen-"))
    assert set(ours) == {"blue-db", "blue-api", generated, "more"}, ours
    live = [*map(it.live, ours), it.flux.live("blue-web", "prod", "Deployment")]
    assert refers(live[-1]) == [generated, "blue-api", "blue-db"], refers(live[-1])
    for each in live[:-1]:
        labels, annotations = each["metadata"]["labels"], each["metadata"].get("annotations", {})
        is_more = each["metadata"]["name"] == "more"
        assert labels["of"] == "flux" and labels["regent.dev/authority"] == "prod", labels
        assert ("part" in labels, "owner" in annotations) == (not is_more, not is_more), (labels, annotations)
    inventory = it.app.inventory()
    refused_before(handing)

    handing.hands_over(live, inventory)
    # Another value in Git is another hash there, and none here.
    it.applied(it.commit({"parts/api/gen.env": env(stage, 4), "parts/more/more.yaml": Sealed(secret("more", value(5), "nowhere"))}))
    it.flux.unchanged(*live)
    handing.bao.stop()


def refused_before(handing):
    """What cannot be handed over keeps the artifact that there is, and no plan is made of it."""
    it = handing.it
    before = it.artifact()
    repository = it.stage.repo
    first = repository.git("rev-parse", "HEAD")
    patched = {"parts/api/kustomization.yaml": json.dumps({**API, "patches": [*API["patches"], {"path": "values.yaml"}]})}
    patch = lambda kind, name, field: {**patched, "parts/api/values.yaml": Sealed(json.dumps(  # noqa: E731
        {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, field: value(6)}))}
    for files, words in (
        (patch("Secret", "db", "stringData"), ["parts/api/values.yaml", "changes an encrypted document"]),
        (patch("ConfigMap", "settings", "data"), ["parts/api/values.yaml", "a patch"]),
        ({"kustomization.yaml": json.dumps({**TOP, "resources": [*TOP["resources"], "a", "b"]}),
          **{f"{each}/kustomization.yaml": json.dumps({"nameSuffix": f"-{each}", "components": ["../parts/shared"]}) for each in "ab"},
          "parts/shared/kustomization.yaml": json.dumps({**MORE, "resources": ["shared.yaml"]}),
          "parts/shared/shared.yaml": Sealed(secret("shared", value(7), "prod"))},
         ["parts/shared/shared.yaml", "more than once"]),
    ):
        it.commit(files)
        it.cluster.wait(f"refused: {words}", "ExternalArtifact", "prod", "prod", lambda thing, words=words: all(
            word in ready(thing)["message"] for word in words))
        assert it.artifact()["revision"] == before["revision"]
        handing.handover("--plan", ends=1, says=words)
        # As it was.
        repository.git("checkout", "-q", first, "--", ".")
        gone = subprocess.run(["git", "diff", "--name-only", "--diff-filter=A", first], cwd=repository.folder, capture_output=True, text=True)
        it.commit({path.removeprefix(f"{it.root}/"): None for path in gone.stdout.split()})
        it.cluster.wait("built again", "ExternalArtifact", "prod", "prod", lambda thing: ready(thing)["status"] == "True")
        assert it.artifact()["revision"] == before["revision"]


def ready(thing):
    return next(each for each in thing["status"]["conditions"] if each["type"] == "Ready")
