import copy

from installed import authority, install, of_authority
from stage import free_port

NAME = "prod"
VERSIONS = {"regent.dev": "v1alpha1"}  # v1 otherwise


def story(stage):
    cluster = stage.cluster()
    install(cluster)
    cluster.create(authority(NAME, "git1")).ok()
    cluster.apply(of_authority(NAME), manager="regent")
    cluster.run("kube-controller-manager", cluster.peers / "kube-controller-manager", "--bind-address=127.0.0.1",
                f"--secure-port={free_port()}", f"--cert-dir={cluster.folder / 'controllers'}", "--leader-elect=false",
                "--controllers=validatingadmissionpolicy-status-controller",
                *(f"--{flag}kubeconfig={cluster.kubeconfig()}" for flag in ("", "authentication-", "authorization-")))
    shipped = cluster.get("ValidatingAdmissionPolicy").ok()["items"]
    assert [policy["metadata"]["name"] for policy in shipped] == [
        "regent-first", "regent-handover", "regent-keep", f"regent-lock-{NAME}", "regent-rules", "regent-witness"]
    # regent-keep looks at kinds that share nothing but their metadata: each is checked against its expressions.
    for policy in shipped:
        assert warnings(cluster, policy) == [], policy["metadata"]["name"]
        assert warnings(cluster, today(policy)) == [], policy["metadata"]["name"]
    wrong = today(next(policy for policy in shipped if policy["metadata"]["name"] == "regent-handover"))
    wrong["metadata"]["name"] = "wrong"
    wrong["spec"]["validations"][0]["expression"] = "object.spec.handover == ''"
    assert ["undefined field 'handover'" in each for each in warnings(cluster, wrong)] == [True]


def today(policy):
    """The same with today's versions, bound to nothing."""
    checked = copy.deepcopy(policy)
    checked["metadata"] = {"name": f"today-{policy['metadata']['name']}"}
    checked.pop("status", None)
    for rule in checked["spec"]["matchConstraints"]["resourceRules"]:
        assert rule["apiVersions"] == ["*"]
        rule["apiVersions"] = [VERSIONS.get(rule["apiGroups"][0], "v1")]
    return checked


def warnings(cluster, policy):
    if "uid" not in policy["metadata"]:
        policy = cluster.create({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", **policy}).ok()
    name = policy["metadata"]["name"]
    seen = cluster.wait(f"{name} is checked", "ValidatingAdmissionPolicy", name, None, lambda policy: policy and
                        policy.get("status", {}).get("observedGeneration") == policy["metadata"]["generation"])
    return [f"{each['fieldRef']}: {each['warning']}" for each in seen["status"].get("typeChecking", {}).get("expressionWarnings", [])]
