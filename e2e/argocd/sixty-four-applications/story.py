import threading
from concurrent.futures import ThreadPoolExecutor

from stage import CANARY, PATIENCE, Sealed, comparable, full, leaks, secret, stub

COUNT = 64


def values(number):
    return {"password": f"{CANARY}-{number}"}


def story(stage):
    files = {f"app-{number}/db.yaml": Sealed(secret("db", values(number), f"n{number}")) for number in range(COUNT)}
    stage.prod(files)

    def ask(number):
        return stage.ask(app=f"{stage.name}-{number}", path=f"clusters/prod/app-{number}", namespace=f"n{number}")

    def ask_all():
        return [ask(number) for number in range(COUNT)]

    def answered(number, future):
        """Whether it got values; anything but its own Secret or its stub is an error."""
        answer = future.result(3 * PATIENCE)
        assert "error" not in answer, answer["error"]
        got = [comparable(manifest) for manifest in answer["manifests"]]
        full_one, stub_one = comparable(full("db", values(number), f"n{number}")), comparable(stub("db", f"n{number}"))
        assert got in ([full_one], [stub_one]), got
        return got == [full_one]

    assert all(answered(*each) for each in enumerate(ask_all()))
    assert all(map(leaks, stage.cached())) and len(stage.cached()) == COUNT
    # Vault takes over while all of them are on their way: each asks again and again until it has.
    first, taken = threading.Event(), threading.Event()

    def keep_asking(number):
        got = []
        while not taken.is_set():
            got.append(answered(number, ask(number)))
            first.set()
        return got

    with ThreadPoolExecutor(COUNT) as pool:
        asking = [pool.submit(keep_asking, number) for number in range(COUNT)]
        try:
            assert first.wait(3 * PATIENCE), "nobody was on his way"
            stage.vault_rules([(path, f"n{number}/db") for number, path in enumerate(files)])
        finally:
            taken.set()
    answers = [each.result() for each in asking]
    assert any(map(any, answers)), "nobody got a value before Vault took over"
    assert all(got == sorted(got, reverse=True) for got in answers), "a value after a stub"
    assert not any(answered(*each) for each in enumerate(ask_all())), "a value after the handover"
    assert len(stage.cached()) == COUNT and not any(map(leaks, stage.cached())), "a value is in Redis"
