"""Over SSH with the real sshd: one key, one server that is known, and nobody else."""

import os
import pwd

from stage import Stage


def manifest(text):
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: a, namespace: b }}\ndata: {{ x: {text} }}\n"


def story(stage: Stage):
    house = stage.house
    keys = house.folder / "sshd"
    first = stage.commit("prod/a.yaml", manifest("the-first"))
    second = stage.commit("prod/a.yaml", manifest("the-second"))
    user = pwd.getpwuid(os.getuid()).pw_name
    address = f"ssh://{user}@localhost:{house.ssh}{stage.repository}"

    def access(key="user", hosts="known_hosts"):
        return ["--ssh-key-file", keys / key, "--ssh-known-hosts-file", keys / hosts]

    for revision, text in [("main", "the-second"), (second, "the-second"), (first, "the-first")]:
        stage.holds(stage.render(address, revision, *access(), "--path", "prod"), text)

    stage.refuses(stage.render(address, "main", *access(key="stranger")), "Permission denied")
    stage.refuses(stage.render(address, "main", *access(hosts="wrong_hosts")), "Host key verification failed")
    stage.refuses(stage.render(address, "main", *access(hosts="no_hosts")), "Host key verification failed")
    stage.refuses(stage.render(f"{address}-gone", "main", *access()), "`ssh` says")
    stage.refuses(stage.render(address, "gone", *access()), "no branch or tag `gone`")

    # A key that others can read is no key; ssh would say so too, and sooner or later somebody else has it.
    open_key = stage.file("open-key", (keys / "user").read_text(), mode=0o644)
    stage.refuses(stage.render(address, "main", "--ssh-key-file", open_key, "--ssh-known-hosts-file", keys / "known_hosts"),
                  "others may read the private key file")

    # What stands in the user's own folder is not asked: neither keys nor hosts nor options.
    home = stage.folder / ".ssh"
    home.mkdir(mode=0o700)
    (home / "known_hosts").write_text((keys / "known_hosts").read_text())
    (home / "config").write_text(f"Host *\n  StrictHostKeyChecking no\n  IdentityFile {keys}/user\n  ProxyCommand false\n")
    stage.refuses(stage.render(address, "main", *access(hosts="no_hosts")), "Host key verification failed")
    stage.refuses(stage.render(address, "main", *access(key="stranger")), "Permission denied")
    stage.holds(stage.render(address, "main", *access()), "the-second")

    # No server is believed at first sight.
    done = stage.render(address, "main", "--ssh-key-file", keys / "user")
    assert done.returncode == 2 and "--ssh-known-hosts-file" in done.stderr, done.stderr
