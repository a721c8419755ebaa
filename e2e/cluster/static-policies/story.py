import json
import shutil

from installed import MANIFESTS, authority, bound, install, of_authority, people, refused_by, root, verdict
from stage import PATIENCE, until

NAME = "prod"
POLICY, BINDING = "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"
STATIC = "regent-policies.static.k8s.io"


def story(stage):
    plain(stage.cluster("plain"))
    files = stage.folder / "files"
    shutil.copytree(MANIFESTS / "static-policies", files)
    config = stage.folder / "admission.yaml"
    config.write_text(json.dumps({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": [{
            "name": POLICY, "configuration": {
                "apiVersion": "apiserver.config.k8s.io/v1", "kind": "ValidatingAdmissionPolicyConfiguration",
                "staticManifestsDir": str(files)}}]}))
    cluster = stage.cluster("static", "--feature-gates=ManifestBasedAdmissionControlConfig=true",
                            f"--admission-control-config-file={config}")
    static(cluster)
    # A file that cannot be read is no policy less: there is no API server then.
    (files / "regent.yaml").write_text("nothing: of this\n")
    cluster.stop_apiserver()
    cluster.start_apiserver(wait=False)
    assert cluster.running["kube-apiserver"].wait(2 * PATIENCE) != 0
    del cluster.running["kube-apiserver"]


def everything(cluster):
    install(cluster)
    bound(cluster)
    root(cluster, authority(NAME, "git1"))
    return people(cluster, NAME)


def names(cluster):
    return [policy["metadata"]["name"] for policy in cluster.get(POLICY).ok()["items"]]


def plain(cluster):
    """What policies alone cannot do."""
    everything(cluster)
    keep = {"query": {"dryRun": "All"}}
    assert refused_by(cluster.delete("Authority", NAME, **keep), "regent-keep")
    cluster.patch(BINDING, "regent-keep", None, {"spec": {"validationActions": ["Audit"]}}).ok()
    until("it is open", lambda: cluster.delete("Authority", NAME, **keep).status == 200)


def static(cluster):
    them = everything(cluster)
    ours = names(cluster)
    assert STATIC not in ours and f"regent-lock-{NAME}" in ours, ours
    for who in ("admin", "installer", "somebody"):
        asks = them[who].asks()
        for name in ours:
            for kind, body in ((POLICY, {"spec": {"failurePolicy": "Ignore"}}), (POLICY, {"spec": {"validations": [{"expression": "true"}]}}),
                               (BINDING, {"spec": {"validationActions": ["Audit"]}}),
                               (BINDING, {"spec": {"matchResources": {"namespaceSelector": {"matchLabels": {"a": "b"}}}}})):
                for answer in (cluster.patch(kind, name, None, body, **asks), cluster.delete(kind, name, **asks),
                               cluster.delete_all(kind, query={"fieldSelector": f"metadata.name={name}"}, **asks)):
                    assert answer.status == 403, (who, kind, name, answer)
                    # An admin is stopped by the file, the others before it by RBAC.
                    assert refused_by(answer, STATIC) == (who == "admin"), (who, kind, name, answer)
    assert names(cluster) == ours
    # Installing again, another authority's lock, labels, and what is not ours: as ever.
    install(cluster)
    cluster.apply(of_authority("staging"), manager="regent")
    assert verdict(cluster.patch(POLICY, "regent-keep", None, {"metadata": {"labels": {"a": "b"}}})) == "done"
    other = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": BINDING, "metadata": {"name": "other"},
             "spec": {"policyName": "other", "validationActions": ["Deny"]}}
    for answer in (cluster.create(other), cluster.patch(BINDING, "other", None, {"spec": {"validationActions": ["Audit"]}}),
                   cluster.delete(BINDING, "other")):
        assert verdict(answer) == "done", answer
    # Its name cannot be taken, and the way out is the group's.
    assert cluster.create({**other, "metadata": {"name": STATIC}}).status in (403, 422)
    for kind in (BINDING, POLICY):
        assert verdict(cluster.delete(kind, f"regent-lock-{NAME}", user="breakglass")) == "done"
