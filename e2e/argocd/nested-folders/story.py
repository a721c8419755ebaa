from stage import CANARY, Link, Sealed, full, secret

VALUES = {"password": f"{CANARY}-nested"}


def story(stage):
    stage.repo.write({"clusters/link": Link("prod/a")})
    stage.prod({
        "top.yaml": Sealed(secret("top", VALUES)),
        "a/one.yaml": Sealed(secret("one", VALUES)),
        "a/b/c/two.yaml": Sealed(secret("two", VALUES)),
        "d/three.yml": Sealed(secret("three", VALUES)),
    }, paths=["clusters/prod", "clusters/prod/**", "clusters/link"])
    stage.render([full(name, VALUES) for name in ("top", "one", "two", "three")])
    below = [full(name, VALUES) for name in ("one", "two")]
    stage.render(below, path="clusters/prod/a")
    stage.render(below, path="clusters/link")
