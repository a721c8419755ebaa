"""Two replicas behind one address. They serve the same bytes and take the same token; one of them writes. It dies, and the other one
writes within twenty seconds. In a rolling update a Kustomization of 32 documents is reconciled all the time, and not one of its requests
is lost. One that was away and leads before it could look around writes nothing old over what is newer."""

import http.client
import json
import ssl
import time
import urllib.parse

import bootstrapped
from artifacts import unpacked
from authority import value
from kustomizations import SOURCES
from regents import Busy
from stage import PATIENCE, Sealed, secret, until

MANY = 32
ORIGIN = "org.opencontainers.image.revision"


def story(stage):
    many = {f"many/{number}.yaml": Sealed(secret(f"s{number}", value(number), "prod")) for number in range(MANY)}
    it = bootstrapped.begin(stage, files=many, replicas=2)
    artifact = it.applied(it.first)
    same(it, artifact)

    leader, second = taken_over(it)
    artifact = it.applied(second)

    # One that has what the other had before it died, and leads without a look at the sources: what is published stays.
    only = it.replicas[0]
    it.cluster.kill(SOURCES)
    only.kill()
    it.service.leave(only)
    behind = it.replica(data=leader.data)
    until("it leads", lambda: '"leading":true' in behind.log())
    it.cluster.wait("it is told", "ExternalArtifact", "prod", "prod",
                    lambda thing: thing and thing["status"]["conditions"][0]["status"] == "False")
    assert it.artifact() == artifact, it.artifact()
    it.flux.start_source_controller()
    it.replicas = [behind, it.replica(data=only.data)]
    third = it.change(3)
    same(it, it.applied(third))

    # The update: one after the other, each ready before the next.
    it.service.lost.clear()
    with Busy(it.app) as busy:
        busy.more(1)
        for old in list(it.replicas):
            # It is asked for a moment longer.
            it.service.leave(old, late=0.5)
            old.terminate()
            old.gone()
            # The next one need not wait until its lease runs out.
            assert not holds(it, old), "it did not give its lease back"
            it.replicas.append(it.replica(data=old.data))
            it.replicas.remove(old)
            busy.more(2)
        fourth = it.change(4)
        it.published(lambda artifact: artifact.get("metadata", {}).get(ORIGIN) == fourth)
        busy.more(1)
    assert not it.service.lost, it.service.lost
    it.applied(fourth)
    assert it.values() == value(4)
    failed = [event for event in it.app.events() if event[1] == "BuildFailed"]
    assert not failed, failed


def taken_over(it):
    """The one that writes dies, and the other one writes within twenty seconds; once more where the machine had something else to do. Gives
    who died, and the revision that was written."""
    for number in range(MANY, MANY + 5):
        leader = leads(it)
        leader.kill()
        revision = it.change(number)
        start = time.monotonic()
        it.published(lambda artifact, revision=revision: artifact.get("metadata", {}).get(ORIGIN) == revision)
        took = time.monotonic() - start
        it.service.leave(leader)
        it.replicas.remove(leader)
        if took < 25:
            return leader, revision
        it.replicas.append(it.replica(data=leader.data))
    raise AssertionError(f"the next one wrote after {took:.1f} s")


def leads(it):
    """The replica that has the lease."""
    return until("one leads", lambda: next((each for each in it.replicas if holds(it, each)), None))


def holds(it, replica):
    lease = it.cluster.request("GET", "/apis/coordination.k8s.io/v1/namespaces/flux-system/leases/regent-flux").ok()
    holder = lease["spec"]["holderIdentity"]
    return holder and f'"identity":"{holder}"' in replica.log()


def same(it, artifact):
    """Each serves the same bytes, and gives the same data key for the one token."""
    path = urllib.parse.urlsplit(artifact["url"]).path
    ports = [it.service.replicas[each]["ports"] for each in it.replicas]
    served = [until("it is there", lambda port=port: asked(port, path)) for _, port in ports]
    assert len(set(served)) == 1, "the replicas serve different bytes"
    document = unpacked(served[0])[f"{it.root}/db.yaml"].decode()
    enc = next(line.split('"')[1] for line in document.splitlines() if "enc: " in line and "regent:v1:" in line)
    token = it.cluster.get("Secret", bootstrapped.TOKEN, "prod").ok()["data"]["sops.vault-token"]
    keys = [data_key(it, port, enc, bootstrapped.base64.b64decode(token).decode()) for port, _ in ports]
    assert len(set(keys)) == 1, "the replicas give different data keys"


def asked(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        content = answer.read()
        return content if answer.status == 200 else None
    finally:
        connection.close()


def data_key(it, port, enc, token):
    context = ssl.create_default_context(cafile=str(it.flux.ca))
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=PATIENCE, context=context)
    try:
        connection.request("PUT", "/v1/regent/prod/decrypt/prod", json.dumps({"ciphertext": enc}), {"X-Vault-Token": token})
        answer = connection.getresponse()
        content = json.loads(answer.read())
        assert answer.status == 200, content
        return content["data"]["plaintext"]
    finally:
        connection.close()
