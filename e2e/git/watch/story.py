"""What `watch:` names is followed on a server as in a folder: each new commit is looked at before anybody asks for it,
one that breaks a rule is told, and a server that went away is told once and found again."""

import shutil
import urllib.request

from stage import CANARY, PATIENCE, TOKEN, Stage, free_port, run, until


def story(stage: Stage):
    house = stage.house
    run("age-keygen", "-o", stage.folder / "key.txt")
    bootstrap = "apiVersion: regent.dev/v1alpha1\nkind: Bootstrap\nname: prod\nepoch: 1\n"
    first = stage.commit("prod/regent.yaml", bootstrap)
    assert stage.regent("init", stage.work / "prod", "--store", stage.folder / "store", "--yes").returncode == 0
    stage.file("token", TOKEN)
    shutil.copy(house.folder / "ca.pem", stage.folder / "ca.pem")
    config = stage.file(
        "config.yaml",
        f"""apiVersion: regent.dev/v1alpha1
kind: RegentConfig
store: {{ kind: directory, path: store }}
rules:
- {{ authority: prod, bootstrap: prod/regent.yaml, namespaces: ["*"], identities: [key.txt] }}
watch:
- repo: https://localhost:{house.https}/token/{stage.repository.name}
  revision: main
  authority: prod
  access: {{ tokenFile: token, caFile: ca.pem }}
""",
    )
    port = free_port()
    stage.serve(config, port)

    def metrics():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
            return answer.read().decode()

    def looked_at(commit):
        return f'regent_watch_commit_info{{authority="prod",commit="{commit}"}} 1' in metrics()

    # A server is asked every half minute.
    until("the first commit was looked at", lambda: looked_at(first))
    secret = "apiVersion: v1\nkind: Secret\nmetadata: { name: db, namespace: app }\nstringData: { password: " + CANARY + " }\n"
    second = stage.commit("prod/db.yaml", secret)
    until("the next commit was looked at", lambda: looked_at(second), 2 * PATIENCE)
    # The commit is told a moment before its findings.
    until("what it breaks is counted", lambda: 'regent_watch_findings{authority="prod",severity="error"} 1' in metrics())

    # Gone, told once, and back.
    away = stage.repository.with_suffix(".away")
    stage.repository.rename(away)
    failures = 'regent_watch_failures_total{authority="prod"} 1'
    until("it was told that the repository is gone", lambda: failures in metrics(), 2 * PATIENCE)
    away.rename(stage.repository)
    stage.git("rm", "--quiet", "prod/db.yaml")
    third = stage.commit("prod/note.txt", "nothing\n")
    until("it was found again", lambda: looked_at(third), 2 * PATIENCE)
    assert failures in metrics(), metrics()
