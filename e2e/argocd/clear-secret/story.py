from stage import CANARY, bootstrap, plain, secret

VALUES = {"password": f"{CANARY}-clear"}


def story(stage):
    stage.prod({"db.yaml": secret("db", VALUES)})
    stage.refused("clear-secret", "db.yaml")
    stage.repo.commit({"clusters/prod/regent.yaml": bootstrap("prod", secrets={"plain": ["app/db"]})})
    stage.render([plain(secret("db", VALUES))])
