from stage import CANARY, Sealed, config_map, full, leaks, plain, secret, stub

DB, TOKEN = {"password": f"{CANARY}-db"}, {"token": f"{CANARY}-token"}


def story(stage):
    regent = stage.prod({"db.yaml": Sealed(secret("db", DB)), "token.yaml": Sealed(secret("token", TOKEN, "other")),
                         "settings.yaml": config_map("settings")})
    first = stage.repo.git("rev-parse", "HEAD")
    values = [full("db", DB), full("token", TOKEN, "other"), plain(config_map("settings"))]
    stubs = [stub("db"), stub("token", "other"), plain(config_map("settings"))]
    stage.render(values, cache=True)
    # So that what follows can fail: Argo CD does keep the values.
    assert any(map(leaks, stage.cached())), "Argo CD kept no values"

    stage.vault_rules([("db.yaml", "app/db"), ("token.yaml", "other/token")])
    stage.render(stubs)
    assert stage.cached() and not any(map(leaks, stage.cached())), "a value is still in Redis"
    stage.render(stubs, cache=True)

    # Whoever saw it remembers it: also without a store the answer is the stubs.
    away = stage.folder / "away"
    stage.store.rename(away)
    stage.render(stubs)
    away.rename(stage.store)

    # No key is needed any more, and Git cannot argue.
    regent.stop()
    stage.key.file.unlink()
    stage.serve(stage.rule())
    stage.render(stubs)
    stage.repo.commit({"clusters/prod/settings.yaml": None})
    stage.render(stubs[:2])
    stage.repo.git("reset", "--quiet", "--hard", first)
    stage.render(stubs)
    assert not any(map(leaks, stage.cached())), "a value came back"
