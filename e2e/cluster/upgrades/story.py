import copy
import json

from installed import MANIFESTS, authority, bound, flat, install, refused_by, verdict
from stage import until

NAME = "authorities.regent.dev"


def story(stage):
    cluster = stage.cluster()
    twice(cluster)
    bound(cluster)
    # An object of the first version is there all the time.
    cluster.create(authority("prod", "git1")).ok()
    before = cluster.get("Authority", "prod").ok()
    changes(cluster)
    new_version(cluster)
    by_tools(cluster)
    assert cluster.get("Authority", "prod").ok()["spec"] == before["spec"]
    break_glass(cluster)


def twice(cluster):
    """The same apply again: no object is written."""
    install(cluster)
    first = versions(cluster)
    assert len(first) >= 19, first
    for _ in range(2):
        install(cluster)
        assert versions(cluster) == first
    guards = {"argocd.argoproj.io/sync-options": "Prune=false,Delete=false", "kustomize.toolkit.fluxcd.io/prune": "disabled",
              "helm.sh/resource-policy": "keep"}
    for thing in objects(cluster):
        annotations = thing["metadata"]["annotations"]
        assert guards.items() <= annotations.items(), thing["metadata"]


def objects(cluster):
    text = cluster.kubectl("get", "--kustomize", str(MANIFESTS), "--output=json")
    return json.loads(text)["items"]


def versions(cluster):
    return {(thing["kind"], thing["metadata"].get("namespace"), thing["metadata"]["name"]): thing["metadata"]["resourceVersion"]
            for thing in objects(cluster)}


# --- what an upgrade may do: a name, the change, and whether it passes ----------------------------------------------

def root(crd):
    return crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def spec(crd):
    return root(crd)["properties"]["spec"]


def status(crd):
    return root(crd)["properties"]["status"]


def fields(crd):
    return spec(crd)["properties"]


def new(name="v1alpha2"):
    """Adds a version that is the stored one under another name."""
    def change(crd):
        added = copy.deepcopy(crd["spec"]["versions"][0]) | {"name": name, "storage": False}
        crd["spec"]["versions"].append(added)
        return added
    return change


def put(where, **more):
    return lambda crd: where(crd).update(more)


def drop(where, *keys):
    def change(crd):
        for key in keys:
            del where(crd)[key]
    return change


def each_rule(place):
    """One row for every rule there: without it."""
    def rows(crd):
        rules = place(crd)["x-kubernetes-validations"]
        for index, rule in enumerate(rules):
            yield f"without the rule `{rule['rule'][:60]}`", lambda crd, index=index: place(crd)["x-kubernetes-validations"].pop(index)
            yield f"with `true ||` before `{rule['rule'][:60]}`", (
                lambda crd, index=index: place(crd)["x-kubernetes-validations"][index].update(rule="true || " + rule["rule"]))
    return rows


def version_with(change):
    """A new version that differs from the stored one."""
    def both(crd):
        added = new()(crd)
        change({"spec": {"versions": [added]}})
    return both


def first(crd):
    return crd["spec"]["versions"][0]


STRING = {"type": "string", "maxLength": 64}

PASSES = [
    ("nothing", lambda crd: None),
    ("a label and an annotation", lambda crd: crd["metadata"].setdefault("labels", {}).update(a="b")),
    ("an optional field in the spec", put(fields, later=STRING)),
    ("an optional field in the status", put(lambda crd: status(crd)["properties"], later=STRING)),
    ("an optional field with a default", put(fields, later={"type": "string", "default": "x"})),
    ("an optional object in the status", put(lambda crd: status(crd)["properties"],
                                             later={"type": "object", "properties": {"a": STRING}})),
    ("an optional field in settled", put(lambda crd: status(crd)["properties"]["settled"]["properties"], later=STRING)),
    ("an optional field of an imported document",
     put(lambda crd: status(crd)["properties"]["imported"]["additionalProperties"]["properties"], later=STRING)),
    ("an optional field of a condition", put(lambda crd: status(crd)["properties"]["conditions"]["items"]["properties"], later=STRING)),
    ("a field that is required of new objects", lambda crd: (fields(crd).update(later=STRING), spec(crd)["required"].append("later"))),
    ("one more rule on the spec", lambda crd: spec(crd)["x-kubernetes-validations"].append({"rule": "self.epoch > 0"})),
    ("one more rule on the object", lambda crd: root(crd)["x-kubernetes-validations"].append({"rule": "has(self.spec)"})),
    ("a first rule on the status", lambda crd: status(crd).setdefault("x-kubernetes-validations", []).append({"rule": "true"})),
    ("the rules in another order", lambda crd: spec(crd)["x-kubernetes-validations"].reverse()),
    ("a rule with another message", lambda crd: spec(crd)["x-kubernetes-validations"][0].update(message="said otherwise")),
    ("a column", lambda crd: first(crd)["additionalPrinterColumns"].append(
        {"name": "Later", "type": "string", "jsonPath": ".spec.root"})),
    ("no column", drop(first, "additionalPrinterColumns")),
    ("other descriptions", lambda crd: (root(crd).update(description="other"), fields(crd)["root"].update(description="other"),
                                        spec(crd).update(description="other"), status(crd).update(description="other"),
                                        status(crd)["properties"]["settled"]["properties"]["epoch"].update(description="other"))),
    ("a short name and a category", lambda crd: crd["spec"]["names"].update(shortNames=["rga"], categories=["regent"])),
    ("a version beside the stored one", new()),
    ("a version with more", version_with(lambda crd: (fields(crd).update(later=STRING),
                                                       spec(crd)["x-kubernetes-validations"].append({"rule": "true"})))),
    ("a version that is not served yet", lambda crd: new()(crd).update(served=False)),
    ("a version that warns", lambda crd: first(crd).update(deprecated=True, deprecationWarning="later there is another")),
]

REFUSED = [
    ("not served", lambda crd: first(crd).update(served=False)),
    ("no status subresource", lambda crd: first(crd).update(subresources={})),
    ("a scale subresource", lambda crd: first(crd)["subresources"].update(
        scale={"specReplicasPath": ".spec.epoch", "statusReplicasPath": ".status.heartbeat.version"})),
    ("another list kind", lambda crd: crd["spec"]["names"].update(listKind="Sovereigns")),
    ("another singular", lambda crd: crd["spec"]["names"].update(singular="sovereign")),
    ("a conversion by somebody", lambda crd: crd["spec"].update(conversion={"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://convert.example/"}}})),
    ("another stored version", lambda crd: (new()(crd).update(storage=True), first(crd).update(storage=False))),
    ("unknown fields in the spec", put(spec, **{"x-kubernetes-preserve-unknown-fields": True})),
    ("unknown fields in the object", put(root, **{"x-kubernetes-preserve-unknown-fields": True})),
    ("unknown fields in the status", put(status, **{"x-kubernetes-preserve-unknown-fields": True})),
    ("a spec of several owners", lambda crd: spec(crd).update({"x-kubernetes-map-type": "granular"})),
    ("no rules on the spec", drop(spec, "x-kubernetes-validations")),
    ("no rules on the object", drop(root, "x-kubernetes-validations")),
    ("no required spec", drop(root, "required")),
    ("no required field", drop(spec, "required")),
    ("one field less is required", lambda crd: spec(crd)["required"].remove("authorityId")),
    ("one field of settled less is required",
     lambda crd: status(crd)["properties"]["settled"]["required"].remove("handoverId")),
    ("one field of an imported document less is required",
     lambda crd: status(crd)["properties"]["imported"]["additionalProperties"]["required"].remove("blob")),
    ("a field less", drop(fields, "noVaultYet")),
    ("a field of the status less", drop(lambda crd: status(crd)["properties"], "conditions")),
    ("a field of an imported document less", lambda crd: [
        remove("blob") for remove in (status(crd)["properties"]["imported"]["additionalProperties"]["properties"].pop,
                                      status(crd)["properties"]["imported"]["additionalProperties"]["required"].remove)]),
    ("a wider enum", lambda crd: fields(crd)["authority"]["enum"].append("nobody")),
    ("a narrower enum", lambda crd: fields(crd)["authority"].update(enum=["git"])),
    ("no enum", lambda crd: fields(crd)["authority"].pop("enum")),
    ("a wider maximum", lambda crd: fields(crd)["epoch"].update(maximum=2000000)),
    ("a narrower maximum", lambda crd: fields(crd)["epoch"].update(maximum=1)),
    ("no maximum", lambda crd: fields(crd)["epoch"].pop("maximum")),
    ("a smaller minimum", lambda crd: fields(crd)["epoch"].update(minimum=0)),
    ("a longer string", lambda crd: fields(crd)["root"].update(maxLength=fields(crd)["root"]["maxLength"] * 2)),
    ("a pattern where there was none", lambda crd: fields(crd)["root"].update(pattern="^0$")),
    ("another pattern", lambda crd: fields(crd)["supersedes"].update(pattern="^.*$")),
    ("no pattern", lambda crd: fields(crd)["handoverId"].pop("pattern")),
    ("another type", lambda crd: fields(crd).update(noVaultYet={"type": "integer"})),
    ("null where there was none", lambda crd: fields(crd)["supersedes"].update(nullable=True)),
    ("a default where there was none", lambda crd: fields(crd)["prefix"].update(default="x")),
    ("a wider field of settled", lambda crd: status(crd)["properties"]["settled"]["properties"]["epoch"].update(minimum=0)),
    ("a wider field of an imported document",
     lambda crd: status(crd)["properties"]["imported"]["additionalProperties"]["properties"]["blob"].pop("maxLength")),
    ("unknown fields of an imported document", lambda crd: status(crd)["properties"]["imported"]["additionalProperties"].update(
        {"x-kubernetes-preserve-unknown-fields": True})),
    ("unknown fields of settled", lambda crd: status(crd)["properties"]["settled"].update(
        {"x-kubernetes-preserve-unknown-fields": True})),
    ("any condition", lambda crd: status(crd)["properties"]["conditions"]["items"]["properties"]["reason"].pop("maxLength")),
    ("room for one more imported document", lambda crd: status(crd)["properties"]["imported"].update(
        maxProperties=status(crd)["properties"]["imported"]["maxProperties"] + 1)),
    ("room for one more condition", lambda crd: status(crd)["properties"]["conditions"].update(
        maxItems=status(crd)["properties"]["conditions"]["maxItems"] + 1)),
    ("a new version without rules", version_with(lambda crd: spec(crd).pop("x-kubernetes-validations"))),
    ("a new version without one rule", version_with(lambda crd: spec(crd)["x-kubernetes-validations"].pop())),
    ("a new version without the status subresource", version_with(lambda crd: first(crd).pop("subresources"))),
    ("a new version with a wider enum", version_with(lambda crd: fields(crd)["authority"]["enum"].append("nobody"))),
    ("a new version that requires less", version_with(lambda crd: spec(crd)["required"].remove("authorityId"))),
]

# Kubernetes itself knows better here, whoever asks.
IMPOSSIBLE = [
    ("another kind", lambda crd: crd["spec"]["names"].update(kind="Sovereign")),
    ("another name for the version", lambda crd: first(crd).update(name="v1alpha2")),
    ("a field less that a rule names", drop(fields, "handoverId")),
    ("anything imported", lambda crd: status(crd)["properties"]["imported"].update(
        additionalProperties={"x-kubernetes-preserve-unknown-fields": True})),
]


def changes(cluster):
    now = cluster.get("CustomResourceDefinition", NAME).ok()
    assert len(now["spec"]["versions"]) == 1
    for name, change in PASSES:
        answer = asked(cluster, now, change)
        assert verdict(answer) == "done", f"{name}: {answer.status} {answer.message}"
    refused = [*REFUSED, *each_rule(spec)(now), *each_rule(root)(now)]
    if "x-kubernetes-validations" in status(now):
        refused += each_rule(status)(now)
    for name, change in refused:
        answer = asked(cluster, now, change)
        assert refused_by(answer, "regent-rules"), f"{name}: {answer.status} {answer.message}"
        # What refuses is the policy's sentence, not a mistake in it.
        assert all("regent: " in cause and "resulted in error" not in cause for cause in answer.causes), answer
        # Break-glass passes, so nothing else was in the way.
        answer = asked(cluster, now, change, "breakglass")
        assert verdict(answer) == "done", f"{name}, by break-glass: {answer.status} {answer.message}"
    for name, change in IMPOSSIBLE:
        assert verdict(asked(cluster, now, change, "breakglass")) == "rules", name
    assert flat(cluster.get("CustomResourceDefinition", NAME).ok()) == flat(now)
    # The same words mean less if they are not asked of the first object.
    asked_first = {"rule": "has(oldSelf.root) || self.epoch == 1", "optionalOldSelf": True}
    assert verdict(changed(cluster, lambda crd: spec(crd)["x-kubernetes-validations"].append(asked_first))) == "done"
    now = cluster.get("CustomResourceDefinition", NAME).ok()
    answer = asked(cluster, now, lambda crd: spec(crd)["x-kubernetes-validations"][-1].pop("optionalOldSelf"))
    assert refused_by(answer, "regent-rules"), answer
    reset(cluster)
    # The API server's own bookkeeping.
    answer = cluster.patch("CustomResourceDefinition", NAME, None, {"status": {"storedVersions": ["v1alpha1"]}}, subresource="status")
    assert verdict(answer) == "done"
    print(f"  {len(PASSES)} changes of the CRD pass, {len(refused)} are refused", flush=True)


def asked(cluster, now, change, user="admin"):
    """The change, only tried."""
    crd = copy.deepcopy(now)
    change(crd)
    return cluster.update(crd, query={"dryRun": "All"}, user=user)


def changed(cluster, change):
    """The change, by whoever may grow it."""
    crd = cluster.get("CustomResourceDefinition", NAME).ok()
    change(crd)
    return cluster.update(crd)


def shipped(cluster):
    """The CRD as it is shipped."""
    text = cluster.kubectl("create", "--dry-run=client", "--kustomize", str(MANIFESTS.parent / "crd"), "--output=json")
    crd = json.loads(text)
    crd = crd["items"][0] if crd["kind"] == "List" else crd
    return {"apiVersion": crd["apiVersion"], "kind": crd["kind"], "spec": crd["spec"],
            "metadata": {"name": NAME, "annotations": {key: value for key, value in crd["metadata"].get("annotations", {}).items()
                                                       if "last-applied" not in key}}}


def grown(cluster):
    """The CRD as a later release could ship it: a field, a column, a rule, a version."""
    crd = shipped(cluster)
    fields(crd)["later"] = STRING
    spec(crd)["x-kubernetes-validations"].append({"rule": "!has(self.later) || self.later != ''", "message": "said or not"})
    first(crd).setdefault("additionalPrinterColumns", []).append({"name": "Later", "type": "string", "jsonPath": ".spec.later"})
    new()(crd)
    return crd


def new_version(cluster):
    """Through a version that came later, the same rules and the same policies hold."""
    changed(cluster, new()).ok()
    cluster.established(NAME)
    path = "/apis/regent.dev/v1alpha2/authorities"
    until("the new version is served", lambda: cluster.request("GET", path).status == 200)
    start = authority("later", "vault1")
    answer = cluster.request("POST", path, {**start, "apiVersion": "regent.dev/v1alpha2"})
    assert refused_by(answer, "regent-first"), answer
    cluster.create(authority("later", "git1")).ok()
    merge = "application/merge-patch+json"
    to_vault = {"spec": start["spec"]}
    assert refused_by(cluster.request("PATCH", f"{path}/later", to_vault, content=merge), "regent-handover")
    assert verdict(cluster.request("PATCH", f"{path}/later", to_vault, "breakglass", merge)) == "done"
    for user in ("admin", "breakglass"):
        back = {"spec": {key: None for key in start["spec"]} | authority("later", "git1")["spec"]}
        assert verdict(cluster.request("PATCH", f"{path}/later", back, user, merge)) == "rules"
    assert refused_by(cluster.request("DELETE", f"{path}/later"), "regent-keep")
    assert refused_by(cluster.request("DELETE", path), "regent-keep")


def by_tools(cluster):
    """From N to N+1 and, by mistake, back."""
    for tool in (
            # As Argo CD syncs with ServerSideApply=true, and Flux always: another manager, with force.
            lambda crd, **ask: cluster.apply([crd], manager="argocd-controller", force=True),
            # As Argo CD syncs otherwise, and kubectl apply.
            lambda crd, **ask: cluster.kubectl("apply", "--filename=-", stdin=json.dumps(crd))):
        reset(cluster)
        tool(grown(cluster))
        assert "later" in fields(cluster.get("CustomResourceDefinition", NAME).ok())
        version = cluster.get("CustomResourceDefinition", NAME).ok()["metadata"]["resourceVersion"]
        tool(grown(cluster))
        assert cluster.get("CustomResourceDefinition", NAME).ok()["metadata"]["resourceVersion"] == version
        cluster.established(NAME)
    # An older release would take away what the newer one brought.
    said = cluster.kubectl("apply", "--filename=-", stdin=json.dumps(shipped(cluster)), fails=True)
    assert "'regent-rules'" in said and "break-glass" in said, said
    for how, body in (("merge", {"spec": {"versions": shipped(cluster)["spec"]["versions"]}}),
                      ("json", [{"op": "remove", "path": "/spec/versions/0/schema/openAPIV3Schema/properties/spec/x-kubernetes-validations/0"}])):
        assert refused_by(cluster.patch("CustomResourceDefinition", NAME, None, body, how), "regent-rules"), how
    answer = cluster.apply_one(shipped(cluster), manager="argocd-controller", force=True)
    assert refused_by(answer, "regent-rules"), answer


def reset(cluster):
    """The shipped CRD again, whoever owned what."""
    cluster.apply_one(shipped(cluster), manager="regent", force=True, user="breakglass").ok()


def break_glass(cluster):
    """The group may still do what nobody else may: this is the way of a release that has to shrink."""
    reset(cluster)
    crd = cluster.get("CustomResourceDefinition", NAME).ok()
    first(crd)["served"] = False
    assert refused_by(cluster.update(crd), "regent-rules")
    cluster.update(crd, user="breakglass").ok()
    until("it is not served", lambda: cluster.get("Authority", "prod").status == 404)
    # Back is growth, so whoever finds it so may repair it.
    install(cluster, "--force-conflicts")
    # A release that shrinks, and its way out.
    cluster.apply([grown(cluster)], manager="regent")
    said = cluster.kubectl("apply", "--server-side", "--field-manager=regent", "--kustomize", str(MANIFESTS), fails=True)
    assert "'regent-rules'" in said and "group regent:break-glass" in said, said
    install(cluster, "--as=jane", "--as-group=regent:break-glass", "--as-group=system:masters")
    assert "later" not in fields(cluster.get("CustomResourceDefinition", NAME).ok())
    assert cluster.get("Authority", "prod").ok()["spec"]["authority"] == "git"
