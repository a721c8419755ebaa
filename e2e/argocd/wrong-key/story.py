from stage import CANARY, Key, Sealed, secret

VALUES = {"password": f"{CANARY}-wrong-key"}


def story(stage):
    other = Key(stage.folder / "other.txt")
    stage.prod({"mine.yaml": Sealed(secret("mine", VALUES)), "db.yaml": Sealed(secret("db", VALUES), other)})
    stage.refused("no-key", "db.yaml")
