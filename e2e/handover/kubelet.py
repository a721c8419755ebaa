"""A node without a container runtime: what kubelet and the scheduler do for the Pods of one namespace, played as far as a Job of
regent sees it.

Played are: binding a Pod to the node, asking for its projected tokens (TokenRequest, bound to the Pod), laying out its volumes,
running its container's very `args` and `env` as its user in an empty root folder, serving its log to the API server on the node's
own port over TLS, and writing the Pod's status. Real are the API server, which proxies the log, the Job controller, which makes
the Pods and judges how they ended, and the program. Not there are: cgroups, namespaces, seccomp, capabilities, image pulls.
"""

import base64
import contextlib
import http.server
import os
import shutil
import signal
import ssl
import stat
import subprocess
import threading
import time
import traceback
import urllib.parse

from stage import at, free_port

NODE = "node-1"


class Kubelet:
    """`tls` is certificate and key of the node's port; `refuse(pod)` gives the status that a Pod is left in for now, or None.
    With `is_mute` every log breaks off at once."""

    def __init__(self, cluster, namespace, folder, program, tls):
        self.cluster, self.namespace, self.folder, self.program = cluster, namespace, folder, program
        self.port, self.refuse, self.running, self.ran = free_port(), lambda pod: None, {}, []
        self.is_mute, self.failed, self.over = False, [], threading.Event()
        folder.mkdir()
        self.libraries = linked(program)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), type("Logs", (Logs,), {"kubelet": self}))
        self.server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}
        cluster.create(node).ok()
        cluster.patch("Node", NODE, None, {"status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}}}}, subresource="status").ok()
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self.server.serve_forever, self.work)]
        for thread in self.threads:
            thread.start()

    def close(self):
        self.over.set()
        self.server.shutdown()
        for container in list(self.running.values()):
            container.child.kill()
        self.threads[1].join()
        assert not self.failed, self.failed[0]

    def work(self):
        """Looks at every Pod that is not over, several times a second."""
        while not self.over.wait(0.2):
            try:
                for pod in self.cluster.get("Pod", None, self.namespace).ok()["items"]:
                    self.sync(pod)
            except Exception:  # noqa: BLE001: told when the story ends
                if not self.over.is_set():
                    self.failed.append(traceback.format_exc())
                return

    def sync(self, pod):
        metadata, name = pod["metadata"], pod["metadata"]["name"]
        if container := self.running.get(metadata["uid"]):
            if "deletionTimestamp" in metadata:
                container.child.send_signal(signal.SIGTERM)
            if container.child.poll() is not None:
                self.ended(name, container)
                del self.running[metadata["uid"]]
            return
        if "deletionTimestamp" in metadata:
            self.cluster.delete("Pod", name, self.namespace, query={"gracePeriodSeconds": 0})
            return
        if pod["status"].get("phase") != "Pending":
            return
        if status := self.refuse(pod):
            self.write(name, status)
            return
        if "nodeName" not in pod["spec"]:
            self.cluster.request("POST", at("Pod", name, self.namespace, "binding"), {
                "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": {"kind": "Node", "name": NODE}}).ok()
        root = self.folder / name
        if missing := self.lay_out(pod, root):
            self.warn(pod, missing)
            return
        container = Container(self, pod, root)
        self.running[metadata["uid"]] = container
        self.ran.append(container)
        self.write(name, {"phase": "Running", "containerStatuses": [container.status({"running": {"startedAt": container.began}})]})

    def ended(self, name, container):
        code = container.child.returncode
        code = code if code >= 0 else 128 - code
        state = {"terminated": {"exitCode": code, "reason": "Completed" if code == 0 else "Error",
                                "startedAt": container.began, "finishedAt": now()}}
        self.write(name, {"phase": "Succeeded" if code == 0 else "Failed", "containerStatuses": [container.status(state)]})

    def write(self, name, status):
        answer = self.cluster.patch("Pod", name, self.namespace, {"status": status}, subresource="status")
        assert answer.status in (200, 404), answer

    def warn(self, pod, message):
        """As kubelet does where a volume cannot be mounted: the Pod's status says nothing of it."""
        metadata = pod["metadata"]
        about = {"kind": "Pod", "apiVersion": "v1", **{key: metadata[key] for key in ("name", "namespace", "uid")}}
        self.cluster.create({
            "apiVersion": "v1", "kind": "Event", "involvedObject": about, "type": "Warning", "reason": "FailedMount",
            "metadata": {"name": f"{metadata['name']}.mount", "namespace": self.namespace}, "message": message,
            "firstTimestamp": now(), "lastTimestamp": now(), "source": {"component": "kubelet", "host": NODE}})

    # --- volumes

    def lay_out(self, pod, root):
        """The container's root folder: the program, what it is linked with, and its volumes. What is missing, or None."""
        shutil.rmtree(root, ignore_errors=True)
        spec = pod["spec"]
        group = spec["securityContext"]["fsGroup"]
        mounts = {mount["name"]: mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]}
        root.mkdir(mode=0o755)
        os.link(self.program, root / "regent")
        # Every runtime adds devices; a static program takes what is random from one of these.
        (root / "dev").mkdir()
        for name, minor in ("random", 8), ("urandom", 9):
            os.mknod(root / "dev" / name, stat.S_IFCHR, os.makedev(1, minor))
            (root / "dev" / name).chmod(0o666)
        for library in self.libraries:
            (root / library[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, root / library[1:])
        for volume in spec["volumes"]:
            folder = root / mounts[volume["name"]][1:]
            folder.mkdir(parents=True)
            if "emptyDir" in volume:
                folder.chmod(0o2777)
                continue
            files = self.files(pod, volume)
            if isinstance(files, str):
                return f'MountVolume.SetUp failed for volume "{volume["name"]}" : {files}'
            mode = (volume.get("secret") or volume.get("projected") or {}).get("defaultMode", 0o644)
            for name, content in files.items():
                (folder / name).write_bytes(content)
                (folder / name).chmod(mode)
                os.chown(folder / name, 0, group)
        return None

    def files(self, pod, volume):
        """The files of a volume, or what is not found."""
        if "configMap" in volume:
            return self.of("ConfigMap", volume["configMap"]["name"], str.encode)
        if "secret" in volume:
            return self.of("Secret", volume["secret"]["secretName"], base64.b64decode)
        found = {}
        for source in volume["projected"]["sources"]:
            if "serviceAccountToken" in source:
                found[source["serviceAccountToken"]["path"]] = self.token(pod, source["serviceAccountToken"])
            elif "configMap" in source:
                files = self.of("ConfigMap", source["configMap"]["name"], str.encode)
                if isinstance(files, str):
                    return files
                found |= {item["path"]: files[item["key"]] for item in source["configMap"]["items"]}
            else:
                (item,) = source["downwardAPI"]["items"]
                assert item["fieldRef"]["fieldPath"] == "metadata.namespace"
                found[item["path"]] = self.namespace.encode()
        return found

    def of(self, kind, name, decoded):
        answer = self.cluster.get(kind, name, self.namespace)
        if answer.status == 404:
            return f'{kind.lower()} "{name}" not found'
        return {key: decoded(value) for key, value in answer.ok().get("data", {}).items()}

    def token(self, pod, wanted):
        metadata = pod["metadata"]
        spec = {"expirationSeconds": wanted["expirationSeconds"],
                "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": metadata["name"], "uid": metadata["uid"]},
                **({"audiences": [wanted["audience"]]} if "audience" in wanted else {})}
        answer = self.cluster.request("POST", at("ServiceAccount", pod["spec"]["serviceAccountName"], self.namespace, "token"), {
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})
        return answer.ok()["status"]["token"].encode()


class Container:
    def __init__(self, kubelet, pod, root):
        self.name, self.began, self.root = pod["metadata"]["name"], now(), root
        self.log = kubelet.folder / f"{self.name}.log"
        (self.spec,) = pod["spec"]["containers"]
        security = pod["spec"]["securityContext"]
        ids = f"{security['runAsUser']}:{security['runAsGroup']}"
        # What a runtime adds to what the Pod says.
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/", "HOSTNAME": self.name, **kubelet.cluster.in_cluster(),
                       **{each["name"]: each["value"] for each in self.spec.get("env") or ()}}
        with self.log.open("wb") as log:
            self.child = subprocess.Popen(
                [shutil.which("chroot"), f"--userspec={ids}", "--groups=", str(root), "/regent", *self.spec["args"]],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)

    def status(self, state):
        running = "running" in state
        return {"name": self.spec["name"], "image": self.spec["image"], "imageID": "e2e", "restartCount": 0, "ready": running,
                "started": running, "containerID": f"e2e://{self.name}", "state": state}


class Logs(http.server.BaseHTTPRequestHandler):
    """`containerLogs` of a kubelet."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        where, _, query = self.path.partition("?")
        kind, _namespace, pod, name = where.strip("/").split("/")
        found = [each for each in self.kubelet.ran if each.name == pod and each.spec["name"] == name]
        if kind != "containerLogs" or not found:
            self.send_error(404)
            return
        follows = urllib.parse.parse_qs(query).get("follow") == ["true"]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.kubelet.is_mute:
            self.close_connection = True
            return
        # Who listens may go.
        with contextlib.suppress(OSError), found[-1].log.open("rb") as log:
            while True:
                # Asked first: what it wrote until then is read below.
                is_over = found[-1].child.poll() is not None
                while part := log.read(1 << 16):
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
                if is_over or not follows:
                    break
                time.sleep(0.05)
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_):
        pass


def linked(program):
    """The files that a program is linked with; the image's own is linked with nothing."""
    done = subprocess.run(["ldd", program], capture_output=True, text=True)
    words = [word for line in done.stdout.splitlines() for word in line.split()]
    return sorted({word for word in words if word.startswith("/")})


def now():
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
