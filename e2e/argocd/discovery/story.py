from stage import CANARY, Sealed, config_map, full, secret

VALUES = {"password": f"{CANARY}-discovery"}


def story(stage):
    off = stage.prod({"db.yaml": Sealed(secret("db", VALUES))})
    error = stage.ask(plugin="").result(60).get("error", "")
    assert "could not find plugin supporting the given repository" in error, error
    off.stop()
    stage.serve(stage.rule(), argocd={"discover": ["regent.yaml"]})
    client = stage.socket_client()
    upload = {"root": str(stage.repo.folder), "env": stage.asked_env()}
    assert client.ask(call="check").result(30)["response"] == {"isDiscoveryConfigured": True}
    found = client.ask(call="match", path="clusters/prod", **upload).result(30)
    assert found["response"] == {"isSupported": True, "isDiscoveryEnabled": True}, found
    stage.repo.commit({"plain/settings.yaml": config_map("settings")})
    found = client.ask(call="match", path="plain", **upload).result(30)
    assert found["response"] == {"isDiscoveryEnabled": True}, found
    stage.render([full("db", VALUES)], plugin="")
    stage.render([full("db", VALUES)])
