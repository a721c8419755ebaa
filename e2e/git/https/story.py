"""Over HTTPS with a CA of one's own: a token, a user with a password, and everything that is refused on the way."""

from stage import CANARY, PASSWORD, TOKEN, USER, Stage


def manifest(text):
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: a, namespace: b }}\ndata: {{ x: {text} }}\n"


def story(stage: Stage):
    house = stage.house
    first = stage.commit("prod/a.yaml", manifest("the-first"))
    second = stage.commit("prod/a.yaml", manifest("the-second"))
    stage.git("tag", "--annotate", "--message", "one", "v1", first)
    stage.git("push", "--quiet", "origin", "v1")
    server = f"https://localhost:{house.https}"
    name = stage.repository.name
    token = ["--git-token-file", stage.file("token", TOKEN + "\n")]
    basic = ["--git-username", USER, "--git-token-file", stage.file("password", PASSWORD)]
    ca = ["--git-ca-file", house.folder / "ca.pem"]

    # A branch, a tag, HEAD, the commit on top and one below it, each with what the server wants.
    for revision, text in [("main", "the-second"), ("HEAD", "the-second"), ("v1", "the-first"), ("refs/heads/main", "the-second"),
                           (second, "the-second"), (first, "the-first")]:
        stage.holds(stage.render(f"{server}/token/{name}", revision, *token, *ca, "--path", "prod"), text)
    stage.holds(stage.render(f"{server}/basic/{name}", "main", *basic, *ca), "the-second")
    stage.holds(stage.render(f"{server}/open/{name}", "main", *ca), "the-second")
    stage.holds(stage.render(f"{server}/moved/{name}", "main", *token, *ca), "the-second")
    stage.holds(stage.render(f"http://127.0.0.1:{house.http}/open/{name}", "main"), "the-second")
    done = stage.regent("lint", "--repo", f"{server}/token/{name}", "--revision", "main", *token, *ca)
    assert done.returncode == 0, done.stderr

    # Who is not let in, or is not who he says.
    stage.refuses(stage.render(f"{server}/token/{name}", "main", *ca), "the server asks for credentials", "--git-token-file")
    wrong = ["--git-token-file", stage.file("wrong", f"{CANARY}-wrong")]
    stage.refuses(stage.render(f"{server}/token/{name}", "main", *wrong, *ca), "does not accept the credentials")
    stage.refuses(stage.render(f"{server}/basic/{name}", "main", *token, *ca), "does not accept the credentials")
    stage.refuses(stage.render(f"{server}/open/gone.git", "main", *ca), "no such repository")
    for strangers in [[], ["--git-ca-file", house.folder / "other-ca.pem"]]:
        stage.refuses(stage.render(f"{server}/token/{name}", "main", *token, *strangers), "invalid peer certificate")
    stage.refuses(stage.render(f"https://127.0.0.2:{house.https}/token/{name}", "main", *token, *ca), "cannot fetch")

    # Credentials stay with the server that was named.
    stage.refuses(stage.render(f"{server}/away/127.0.0.1:{house.http}/open/{name}", "main", *token, *ca), "redirects")
    elsewhere = (house.folder / "elsewhere.log").read_text()
    assert "with credentials" not in elsewhere.replace("without credentials", ""), elsewhere
    for address in [f"https://{TOKEN}@localhost/x", f"https://{USER}:{PASSWORD}@localhost/x"]:
        stage.refuses(stage.render(address, "main"), "holds a user or a password")
    stage.refuses(stage.render(f"http://git.example/{name}", "main"), "`http://` reaches this machine alone")
    stage.refuses(stage.render(stage.repository, "main", *token), "without credentials")

    # A user's configuration of Git counts for nothing.
    stage.file(".gitconfig", f'[url "http://127.0.0.1:{house.http}/away/"]\n\tinsteadOf = {server}/\n')
    stage.holds(stage.render(f"{server}/token/{name}", "main", *token, *ca), "the-second")
