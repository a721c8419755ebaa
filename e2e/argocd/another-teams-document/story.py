from stage import CANARY, Key, Sealed, bootstrap, full, secret

VALUES = {"password": f"{CANARY}-team-b"}


def story(stage):
    theirs = Key(stage.folder / "theirs.txt")
    stage.repo.commit({"a/regent.yaml": bootstrap("a"), "b/regent.yaml": bootstrap("b"),
                       "b/shut.yaml": Sealed(secret("shut", VALUES, "b"), theirs),
                       "b/shared.yaml": Sealed(secret("shared", VALUES, "b"))})
    stage.init("a")
    stage.init("b")
    both = [str(stage.key.file), str(theirs.file)]
    common = {"revisions": ["main"], "repo": f"file://{stage.repo.folder}"}
    stage.serve(
        {"authority": "a", "bootstrap": "a/regent.yaml", "project": "a", "paths": ["a"], "namespaces": ["a"],
         "identities": [str(stage.key.file)], **common},
        {"authority": "b", "bootstrap": "b/regent.yaml", "project": "b", "paths": ["b"], "namespaces": ["b"],
         "identities": both, **common})
    stage.render([full("shut", VALUES, "b", "b"), full("shared", VALUES, "b", "b")], project="b", path="b", namespace="b")
    shut, shared = ((stage.repo.folder / f"b/{name}.yaml").read_text() for name in ("shut", "shared"))
    stage.repo.commit({"a/stolen.yaml": shut})
    stage.refused("no-key", "stolen.yaml", project="a", path="a", namespace="a")
    stage.repo.commit({"a/stolen.yaml": shared})
    stage.refused("allow", "stolen.yaml", project="a", path="a", namespace="a")
    stage.repo.commit({"a/stolen.yaml": shared.replace("namespace: b", "namespace: a")})
    stage.refused("mac", "stolen.yaml", project="a", path="a", namespace="a")
    stage.repo.commit({"a/stolen.yaml": None})
    stage.refused("allow", project="a", path="b", namespace="a")
