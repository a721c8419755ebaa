from stage import CANARY, Key, Sealed, full, secret, until

VALUES = {"password": f"{CANARY}-rotated"}


def mount(folder, version, content):
    """What the kubelet does: a folder of the new version, then `..data` exchanged for a link to it."""
    made = folder / f"..{version}"
    made.mkdir(parents=True)
    (made / "age.txt").write_bytes(content)
    (made / "age.txt").chmod(0o600)
    link = folder / "..data_tmp"
    link.symlink_to(made.name)
    link.rename(folder / "..data")
    if not (folder / "age.txt").is_symlink():
        (folder / "age.txt").symlink_to("..data/age.txt")


def story(stage):
    new = Key(stage.folder / "new.txt")
    keys = stage.folder / "mounted"
    mount(keys, "one", stage.key.file.read_bytes())
    regent = stage.prod({"old/db.yaml": Sealed(secret("old", VALUES)), "new/db.yaml": Sealed(secret("new", VALUES), new)},
                        identities=[str(keys)])

    def only(opens, other):
        stage.render([full(opens, VALUES)], path=f"clusters/prod/{opens}")
        stage.refused("no-key", f"{other}/db.yaml", path=f"clusters/prod/{other}")

    only("old", "new")
    bad = 'regent_reloads_total{what="keys",sound="false"}'
    assert regent.metric(bad) == 0
    mount(keys, "two", b"this is no key\n")
    until("the bad reload is counted", lambda: regent.metric(bad))
    # It is counted before it is told.
    until("the bad reload is told", lambda: '"WARN"' in regent.log() or '"ERROR"' in regent.log())
    only("old", "new")
    mount(keys, "three", new.file.read_bytes())
    until("the new key is used", lambda: regent.metric('regent_reloads_total{what="keys",sound="true"}'))
    only("new", "old")
