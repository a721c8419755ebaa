from stage import CANARY, Sealed, bootstrap, full, secret

VALUES = {"password": f"{CANARY}-nearer"}


def story(stage):
    stage.prod({"a/db.yaml": Sealed(secret("db", VALUES))})
    stage.render([full("db", VALUES)])
    for place in ("clusters/prod/a/regent.yaml", "clusters/regent.yaml", "regent.yaml"):
        stage.repo.commit({place: bootstrap("prod")})
        stage.refused("P0", path="clusters/prod/a")
        stage.refused("P0")
        stage.repo.commit({place: None})
    stage.repo.commit({"clusters/prod/regent.yaml": bootstrap("other")})
    stage.refused("P0")
