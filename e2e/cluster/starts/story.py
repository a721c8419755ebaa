import json

from stage import until


def story(stage):
    cluster = stage.cluster()
    assert json.loads(cluster.kubectl("version", "--output=json"))["serverVersion"]["gitVersion"].startswith("v1.36.")
    identities(cluster)
    restarts(cluster)
    restored(cluster)
    two(stage, cluster)


def identities(cluster):
    token = cluster.account("regent-system", "reader")
    assert cluster.create(config_map("one", "x")).status == 201
    for user, status in (("admin", 200), ("breakglass", 200), ("installer", 403), (token, 403),
                         ("nobody", 401), (None, 403), (cluster.expired(token), 401)):
        answer = cluster.get("ConfigMap", "one", "kube-system", user=user)
        assert answer.status == status, (user, answer)
    assert "service account token has expired" in cluster.tail("kube-apiserver")
    # The user of a kubeconfig is the same identity, with the token in it or in a file beside it.
    file = cluster.projected(token) / "token"
    for config in (cluster.kubeconfig(token), cluster.kubeconfig_for(file)):
        words = "--kubeconfig", config, "get", "--namespace=kube-system", "configmap", "one"
        assert "system:serviceaccount:regent-system:reader" in cluster.kubectl(*words, fails=True)
    # Bound, it reads this one object, and still no other.
    cluster.apply([
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "one", "namespace": "kube-system"},
         "rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["one"], "verbs": ["get"]}]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
         "metadata": {"name": "one", "namespace": "kube-system"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "one"},
         "subjects": [{"kind": "ServiceAccount", "namespace": "regent-system", "name": "reader"}]}])
    until("the binding is in force", lambda: cluster.get("ConfigMap", "one", "kube-system", user=token).status == 200)
    assert cluster.get("ConfigMap", "two", "kube-system", user=token).status == 403
    assert cluster.patch("ConfigMap", "one", "kube-system", {"data": {"a": "y"}}, user=token).status == 403
    # Whose token it is, the API server says: the name that policies compare.
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    said = cluster.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", review, user=token).ok()
    assert said["status"]["userInfo"]["username"] == "system:serviceaccount:regent-system:reader"


def restarts(cluster):
    uid, token = cluster.uid(), cluster.token("regent-system", "reader")
    cluster.restart_apiserver()
    assert cluster.uid() == uid and cluster.get("ConfigMap", "one", "kube-system", user=token).status == 200
    cluster.pause("kube-apiserver")
    try:
        cluster.request("GET", "/readyz", timeout=0.5)
        raise AssertionError("a program that hangs has answered")
    except TimeoutError:
        pass
    cluster.resume("kube-apiserver")
    cluster.ready()


def restored(cluster):
    uid = cluster.uid()
    early = cluster.snapshot()
    assert cluster.create(config_map("later", "z")).status == 201
    cluster.restore(early)
    assert cluster.uid() == uid
    assert cluster.get("ConfigMap", "one", "kube-system").status == 200
    assert cluster.get("ConfigMap", "later", "kube-system").body["reason"] == "NotFound"
    cluster.restore()
    assert cluster.uid() != uid and cluster.get("ConfigMap", "one", "kube-system").status == 404


def two(stage, first):
    """A second cluster beside it, which trusts nothing of the first; and namespaces that end there, not here."""
    second = stage.cluster("second")
    assert second.uid() != first.uid()
    assert second.get("ConfigMap", user=first.tokens["admin"]).status == 401
    second.controllers()
    second.account("short", "lived")
    first.account("short", "lived")
    for cluster in (first, second):
        assert cluster.delete("Namespace", "short").status == 200
    second.wait("the namespace is gone", "Namespace", "short", None, lambda namespace: namespace is None)
    assert first.get("Namespace", "short").ok()["status"]["phase"] == "Terminating"


def config_map(name, value):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "kube-system"},
            "data": {"a": value}}
