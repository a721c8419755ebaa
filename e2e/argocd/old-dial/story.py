import json

from stage import CANARY, Sealed, comparable, full, secret

VALUES = {"password": f"{CANARY}-old-dial"}


def story(stage):
    stage.prod({"db.yaml": Sealed(secret("db", VALUES))})
    client = stage.socket_client()
    common = {"root": str(stage.repo.folder), "path": "clusters/prod", "env": stage.asked_env()}
    for old in (True, False):
        calls = {name: client.ask(call=name, oldDial=old, **common) for name in ("check", "match", "parameters", "generate")}
        answers = {name: call.result(60) for name, call in calls.items()}
        for name, answer in answers.items():
            assert "error" not in answer, f"{name}: {answer['error']}"
        assert answers["check"]["response"] == {}, answers["check"]
        assert answers["match"]["response"] == {}, answers["match"]
        for each in answers["parameters"]["response"].get("parameterAnnouncements", []):
            assert each["name"] and each["title"], each
        manifests = [json.loads(manifest) for manifest in answers["generate"]["response"]["manifests"]]
        assert [comparable(manifest) for manifest in manifests] == [comparable(full("db", VALUES))], manifests
