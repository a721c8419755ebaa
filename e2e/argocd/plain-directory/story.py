import json
import subprocess

from stage import CANARY, Sealed, config_map, full, plain, secret

DB = {"username": f"{CANARY}-user", "password": f"{CANARY}-p\u00e4ss\n with a line break"}
TOKEN = {"token": f"{CANARY}-token"}


def story(stage):
    regent = stage.prod({
        "db.yaml": Sealed(secret("db", DB)),
        "two.yaml": Sealed(secret("first", TOKEN) + "---\n" + secret("second", TOKEN, "other")),
        "settings.yaml": config_map("settings"),
    })
    answer = stage.render([full("db", DB), full("first", TOKEN), full("second", TOKEN, "other"),
                           plain(config_map("settings"))])
    assert answer["sourceType"] == "Plugin", answer["sourceType"]
    # Everything that Argo CD adds is on it, and nothing else was.
    for manifest in answer["manifests"]:
        place, name = manifest["metadata"]["namespace"], manifest["metadata"]["name"]
        tracking = manifest["metadata"]["annotations"]["argocd.argoproj.io/tracking-id"]
        assert tracking == f"{stage.name}:/{manifest['kind']}:{place}/{name}", tracking
    assert regent.get("/healthz")[0] == 200
    # One audit line an answer, and the metrics name no object.
    told = [line for line in map(json.loads, regent.log().splitlines()) if line.get("application") == stage.name]
    assert len(told) == 1, regent.log()
    expected = {"project": "platform", "repository": f"file://{stage.repo.folder}", "path": "clusters/prod",
                "revision": answer["revision"], "authority": "prod", "decision": "values",
                "keys": f"age {stage.key.recipient}"}
    assert expected.items() <= told[0].items(), told[0]
    for name in ("app/db", "app/first", "other/second", "app/settings"):
        assert name in told[0]["names"] and name not in regent.get("/metrics")[1], told[0]["names"]
    probe = [stage.house.regent, "probe", "--socket", regent.socket]
    assert subprocess.run(probe, capture_output=True).returncode == 0
    regent.stop()
    assert subprocess.run(probe, capture_output=True).returncode != 0

    # Not even the most talkative log holds a value.
    stage.serve(stage.rule(), flags=("--single-process-demo", "--log-level", "trace"))
    stage.render([full("db", DB), full("first", TOKEN), full("second", TOKEN, "other"), plain(config_map("settings"))])
