import json

from stage import CANARY, Regent, Sealed, bootstrap, config_map, full, plain, secret, until

VALUES = {"password": f"{CANARY}-misconfigured"}


def story(stage):
    stage.repo.commit({"clusters/prod/regent.yaml": bootstrap("prod"), "clusters/prod/db.yaml": Sealed(secret("db", VALUES)),
                       "plain/settings.yaml": config_map("settings")})
    broken = stage.folder / "broken.txt"
    broken.write_text("this is no key\n")
    broken.chmod(0o600)

    def config(**changes):
        return json.dumps({"apiVersion": "regent.dev/v1alpha1", "kind": "RegentConfig",
                           "store": {"kind": "directory", "path": str(stage.store)}, "rules": [stage.rule(**changes)]})

    # Without a file the plugin has its default name.
    regent = Regent(stage, None, "regent-v1")
    mine = {"plugin": "regent-v1"}

    def set_config(text):
        part = regent.folder / "part"
        part.write_text(text)
        part.rename(regent.config)

    def all_else_is_well():
        assert regent.get("/healthz")[0] == 200 and regent.get("/readyz")[0] == 200
        stage.render([plain(config_map("settings"))], plugin=None, path="plain")

    stage.refused("io", **mine)
    all_else_is_well()
    set_config("rules: [")
    until("the broken file is told", lambda: "regent[config]" in stage.ask(**mine).result().get("error", ""))
    stage.refused("config", **mine)
    all_else_is_well()
    set_config(config(identities=[str(broken)]))
    until("the store is missed", lambda: "regent[P1]" in stage.ask(**mine).result().get("error", ""))
    stage.refused("P1", "refresh", **mine)
    all_else_is_well()
    stage.init("clusters/prod")
    until("the key is looked at", lambda: "regent[identity]" in stage.ask(**mine).result().get("error", ""))
    stage.refused("identity", **mine)
    all_else_is_well()
    # Argo CD keeps an error after three of them; what the error says of P1 and P5, a hard refresh, brings the repair.
    kept = {**mine, "app": f"{stage.name}-kept", "cache": True}
    for _ in range(4):
        error = stage.ask(**kept).result()["error"]
    assert "(cached)" in error and "regent[identity]" in error, error
    set_config(config())
    until("it is mended", lambda: "error" not in stage.ask(**mine).result())
    assert "(cached)" in stage.ask(**kept).result()["error"]
    stage.render([full("db", VALUES)], **{**kept, "cache": False})
    stage.render([full("db", VALUES)], **kept)
