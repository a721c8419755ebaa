from stage import CANARY, Sealed, full, secret


def values(number):
    return {"password": f"{CANARY}-{number}"}


def story(stage):
    files = {f"{file:02}.yaml": Sealed("---\n".join(secret(f"s{file}-{number}", values(file * 5 + number))
                                                     for number in range(5))) for file in range(60)}
    stage.prod(files)
    stage.render([full(f"s{file}-{number}", values(file * 5 + number)) for file in range(60) for number in range(5)])
