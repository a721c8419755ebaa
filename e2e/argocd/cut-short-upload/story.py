from stage import CANARY, Sealed, full, secret

VALUES = {"password": f"{CANARY}-cut-short"}


def story(stage):
    stage.prod({"a/db.yaml": Sealed(secret("db", VALUES)), "b/other.yaml": Sealed(secret("other", VALUES))})
    stage.refused("not-uploaded", "manifest-generate-paths", path="clusters/prod/a", manifestPaths=".")
    stage.render([full("db", VALUES)], path="clusters/prod/a", manifestPaths="/clusters/prod;/clusters/other")
