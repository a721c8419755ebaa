"""What the stories need: repositories of the real Git behind HTTPS with a private CA and behind the real sshd, and
regent. Every folder lies in one scratch folder; every process is stopped at the end."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import time
from pathlib import Path

# The token, the password and every secret value hold it; nothing that regent says does.
CANARY = "REGENT-CANARY"
TOKEN = f"{CANARY}-token-7f3a"
USER, PASSWORD = "jane", f"{CANARY}-password-91c4"
PATIENCE = 90
GIVEN = set()  # ports that were given away and may not be taken yet


def until(what, happens, seconds=PATIENCE):
    """Waits for something to happen, and gives what it gave."""
    end = time.monotonic() + seconds
    while not (got := happens()):
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)
    return got


def free_port():
    while True:
        port = random.randrange(10000, 30000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            if port not in GIVEN:
                GIVEN.add(port)
                return port


def answers_on(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True


def run(*command, **kwargs):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **kwargs)
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


class House:
    """The servers, for all stories: there from `serve` to `close`."""

    def __init__(self, folder, regent, tools, _peers):
        self.folder, self.regent, self.tools, self.started = folder, regent, tools, []
        self.root = folder / "served"
        (self.root / "repositories").mkdir(parents=True)
        self.log = folder / "requests.log"
        self.log.touch()
        home = folder / "home"
        home.mkdir()
        self.env = {
            "PATH": os.environ["PATH"], "HOME": str(home), "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "e2e", "GIT_AUTHOR_EMAIL": "e2e@example.invalid",
            "GIT_COMMITTER_NAME": "e2e", "GIT_COMMITTER_EMAIL": "e2e@example.invalid",
        }  # fmt: skip

    def serve(self):
        (self.root / "token").write_text(TOKEN + "\n")
        (self.root / "basic").write_text(f"{USER}:{PASSWORD}\n")
        self.certificates()
        self.https, self.http, self.ssh = free_port(), free_port(), free_port()
        gitd = Path(__file__).with_name("gitd.py")
        self.start("https", "python3", gitd, self.root, self.https, self.log, self.folder / "server.pem", self.folder / "server.key")
        self.start("http", "python3", gitd, self.root, self.http, self.folder / "elsewhere.log")
        self.sshd()
        for port in (self.https, self.http, self.ssh):
            until(f"port {port} answers", lambda port=port: answers_on(port))

    def certificates(self):
        """A CA of our own and a certificate of it for this machine; and another CA that has nothing to do with it."""
        for name in ("ca", "other-ca"):
            run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", f"/CN=e2e {name}", "-addext", "basicConstraints=critical,CA:TRUE",
                "-keyout", self.folder / f"{name}.key", "-out", self.folder / f"{name}.pem")  # fmt: skip
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=git",
            "-keyout", self.folder / "server.key", "-out", self.folder / "server.csr")
        extensions = self.folder / "server.ext"
        extensions.write_text("subjectAltName = DNS:localhost, IP:127.0.0.1\nbasicConstraints = CA:FALSE\n")
        run("openssl", "x509", "-req", "-in", self.folder / "server.csr", "-CA", self.folder / "ca.pem", "-CAkey",
            self.folder / "ca.key", "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", self.folder / "server.pem")

    def sshd(self):
        """The real sshd as the user who runs the stories."""
        folder = self.folder / "sshd"
        folder.mkdir()
        for name in ("host", "other-host", "user", "stranger"):
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name)
        shutil.copy(folder / "user.pub", folder / "authorized_keys")
        program, libraries = sshd_program(self.tools.parent)
        (folder / "config").write_text(
            f"Port {self.ssh}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\n"
            "StrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\n"
        )
        server = [program, "-D", "-e", "-f", folder / "config"]
        if os.getuid() == 0:
            # sshd drops root for a user `sshd` and a folder /run/sshd. Where the package is not installed there are
            # none, so it gets them in a mount namespace of its own.
            users = Path("/etc/passwd").read_text()
            if not any(line.startswith("sshd:") for line in users.splitlines()):
                users += "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
            (folder / "passwd").write_text(users)
            prepare = f"mount --bind {folder}/passwd /etc/passwd && mount -t tmpfs tmpfs /run && mkdir /run/sshd && exec \"$@\""
            server = ["unshare", "--mount", "sh", "-c", prepare, "sh", *server]
        self.start("sshd.out", *server, env={"LD_LIBRARY_PATH": libraries} if libraries else {})
        host = (folder / "host.pub").read_text().split()
        other = (folder / "other-host.pub").read_text().split()
        (folder / "known_hosts").write_text(f"[localhost]:{self.ssh} {host[0]} {host[1]}\n")
        (folder / "wrong_hosts").write_text(f"[localhost]:{self.ssh} {other[0]} {other[1]}\n")
        (folder / "no_hosts").write_text(f"git.example {host[0]} {host[1]}\n")

    def start(self, name, *command, env=None):
        with (self.folder / f"{name}.log").open("wb") as log:
            child = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                     env={**self.env, **(env or {})})
        self.started.append(child)
        return child

    def close(self):
        for child in self.started:
            child.kill()
            child.wait()


def sshd_program(cache):
    """sshd and where its libraries are: the system's, else Debian's package unpacked into the cache."""
    if found := shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"):
        return Path(found), None
    folder = cache / "sshd"
    if not (folder / "usr/sbin/sshd").exists():
        assert shutil.which("apt-get"), "there is no sshd, and no Debian to take one from: install OpenSSH's server"
        packages = cache / "sshd.packages"
        shutil.rmtree(packages, ignore_errors=True)
        packages.mkdir()
        run("apt-get", "download", "-q", "openssh-server", "libwrap0", cwd=packages)
        for package in packages.glob("*.deb"):
            run("dpkg", "-x", package, folder)
        shutil.rmtree(packages)
    return folder / "usr/sbin/sshd", ":".join(map(str, {file.parent for file in folder.rglob("*.so.*")}))


class Stage:
    """One story's folder, its repository and its regents."""

    def __init__(self, house, name):
        self.house, self.name = house, name
        self.folder = house.folder / f"story-{name}"
        self.tmp = self.folder / "tmp"
        self.tmp.mkdir(parents=True)
        self.repository = house.root / "repositories" / f"{name}.git"
        self.work = self.folder / "work"
        run("git", "init", "--quiet", "--bare", "--initial-branch", "main", self.repository, env=house.env)
        run("git", "clone", "--quiet", self.repository, self.work, env=house.env)
        self.said = []
        self.children = []

    def file(self, name, text, mode=0o600):
        file = self.folder / name
        file.write_text(text)
        file.chmod(mode)
        return file

    def git(self, *words):
        return run("git", *words, cwd=self.work, env=self.house.env)

    def commit(self, name, text, branch="main"):
        """Commits and pushes a file, and gives the commit."""
        file = self.work / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", name)
        self.git("push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")
        return self.git("rev-parse", "HEAD")

    def env(self):
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "TMPDIR": str(self.tmp)}

    def regent(self, *words, env=None):
        """Runs regent, and insists that it says nothing of a credential and leaves nothing behind."""
        done = subprocess.run([str(word) for word in (self.house.regent, *words)], capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, cwd=self.folder, env={**self.env(), **(env or {})}, timeout=PATIENCE * 5)
        self.said.append(done.stdout + done.stderr)
        assert CANARY not in self.said[-1], self.said[-1]
        left = [entry.name for entry in self.tmp.iterdir()]
        assert not left, f"left behind: {left}"
        return done

    def render(self, address, revision, *words):
        return self.regent("render", "--repo", address, "--revision", revision, *words)

    def holds(self, done, *texts):
        assert done.returncode == 0, done.stderr
        for text in texts:
            assert text in done.stdout, f"{text!r} is not in:\n{done.stdout}{done.stderr}"

    def refuses(self, done, *texts, code=2):
        assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
        assert not done.stdout, done.stdout
        for text in texts:
            assert text in done.stderr, f"{text!r} is not in:\n{done.stderr}"

    def serve(self, config, port):
        """A server of Argo CD's door, for what it does on its own."""
        log = (self.folder / "regent.log").open("wb")
        words = [self.house.regent, "serve", "argocd", "--config", config, "--listen", f"127.0.0.1:{port}", "--single-process-demo"]
        plugins = self.folder / "plugins"
        plugins.mkdir()
        child = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                 env={**self.env(), "ARGOCD_PLUGINSOCKFILEPATH": str(plugins)})
        log.close()
        self.children.append(child)
        until("regent listens", lambda: answers_on(port))

    def close(self):
        self.abandon()
        log = self.folder / "regent.log"
        assert not log.exists() or CANARY not in log.read_text(), log

    def abandon(self):
        for child in self.children:
            child.terminate()
            child.wait()
        self.children = []
