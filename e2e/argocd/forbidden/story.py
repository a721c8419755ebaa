import shutil

from stage import CANARY, Sealed, bootstrap, full, secret

VALUES = {"password": f"{CANARY}-forbidden"}


def story(stage):
    stage.repo.write({"clusters/other/regent.yaml": bootstrap("other"),
                      "clusters/other/db.yaml": Sealed(secret("db", VALUES))})
    stage.prod({"db.yaml": Sealed(secret("db", VALUES))}, namespaces=["app"])
    stage.render([full("db", VALUES)])
    stage.refused("allow", project="tenant")
    stage.refused("allow", path="clusters/other")
    commit = stage.repo.git("rev-parse", "HEAD")
    stage.repo.git("branch", "feature")
    stage.refused("allow", revision="feature")
    stage.refused("allow", revision="HEAD")
    stage.refused("allow", revision=commit)
    copy = stage.folder / "copy"
    shutil.copytree(stage.repo.folder, copy)
    stage.refused("allow", repo=str(copy))
    # What an Application may set itself widens nothing.
    for name, value in {"ARGOCD_APP_PROJECT_NAME": "platform", "PROJECT": "platform", "NAMESPACES": "*"}.items():
        stage.refused("allow", project="tenant", env=[f"{name}={value}"])
    stage.repo.commit({"clusters/prod/more.yaml": Sealed(secret("more", VALUES, "kube-system"))})
    stage.refused("allow", "more.yaml")
