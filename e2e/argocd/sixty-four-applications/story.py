from concurrent.futures import FIRST_COMPLETED, wait

from stage import CANARY, Sealed, comparable, full, leaks, secret, stub

COUNT = 64


def values(number):
    return {"password": f"{CANARY}-{number}"}


def story(stage):
    files = {f"app-{number}/db.yaml": Sealed(secret("db", values(number), f"n{number}")) for number in range(COUNT)}
    stage.prod(files)

    def ask_all():
        return [stage.ask(app=f"{stage.name}-{number}", path=f"clusters/prod/app-{number}", namespace=f"n{number}")
                for number in range(COUNT)]

    def answered(number, future):
        """Whether it got values; anything but its own Secret or its stub is an error."""
        answer = future.result(60)
        assert "error" not in answer, answer["error"]
        got = [comparable(manifest) for manifest in answer["manifests"]]
        full_one, stub_one = comparable(full("db", values(number), f"n{number}")), comparable(stub("db", f"n{number}"))
        assert got in ([full_one], [stub_one]), got
        return got == [full_one]

    assert all(answered(*each) for each in enumerate(ask_all()))
    assert all(map(leaks, stage.cached())) and len(stage.cached()) == COUNT
    # Vault takes over while all of them are on their way.
    asked = ask_all()
    wait(asked, 60, FIRST_COMPLETED)
    stage.vault_rules([(path, f"n{number}/db") for number, path in enumerate(files)])
    midway = [answered(*each) for each in enumerate(asked)]
    assert any(midway) and not all(midway), "nobody was on his way"
    assert not any(answered(*each) for each in enumerate(ask_all())), "a value after the handover"
    assert len(stage.cached()) == COUNT and not any(map(leaks, stage.cached())), "a value is in Redis"
