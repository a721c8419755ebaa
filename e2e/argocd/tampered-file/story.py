from stage import CANARY, Sealed, full, secret

VALUES = {"password": f"{CANARY}-tampered"}


def story(stage):
    stage.prod({"db.yaml": Sealed(secret("db", VALUES)), "fine.yaml": Sealed(secret("fine", VALUES))})
    good = [full("db", VALUES), full("fine", VALUES)]
    stage.render(good)
    file = stage.repo.folder / "clusters/prod/db.yaml"
    sealed = file.read_text()
    stage.repo.commit({"clusters/prod/db.yaml": sealed.replace("namespace: app", "namespace: other")})
    stage.refused("mac", "db.yaml")
    at = sealed.index("data:", sealed.index("ENC["))
    flipped = "B" if sealed[at + 5] == "A" else "A"
    stage.repo.commit({"clusters/prod/db.yaml": sealed[:at + 5] + flipped + sealed[at + 6:]})
    stage.refused("value", "db.yaml")
    stage.repo.commit({"clusters/prod/db.yaml": sealed})
    stage.render(good)
