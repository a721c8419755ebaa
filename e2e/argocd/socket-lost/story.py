from stage import CANARY, Sealed, full, secret, until

VALUES = {"password": f"{CANARY}-socket"}


def story(stage):
    killed = stage.prod({"db.yaml": Sealed(secret("db", VALUES))})
    stage.render([full("db", VALUES)])
    killed.socket.unlink()
    until("the socket is back", killed.socket.is_socket)
    until("it is ready again", lambda: killed.get("/readyz")[0] == 200)
    stage.render([full("db", VALUES)])
    assert '"ERROR"' in killed.log() and killed.metric("regent_socket_lost_total") == 1
    killed.child.kill()
    killed.child.wait()
    assert killed.socket.is_socket(), "a killed process cannot remove its file"
    stage.serve(stage.rule())
    stage.render([full("db", VALUES)])
