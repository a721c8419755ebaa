"""`regent serve flux`, as its pod has it: a file with its configuration, a volume for its artifacts, and two addresses."""

import json
import signal
import subprocess

from argocd import stage as door
from artifacts import unpacked
from stage import free_port, leaks, until


class Regent(door.Regent):
    """A running one. `data` is its volume; a later one of the same story may be given it again."""

    def __init__(self, stage, config, *flags, data=None, env=None):
        self.stage = stage
        self.folder = stage.folder / f"regent-{len(stage.regents)}"
        self.work, self.tmp = self.folder / "work", self.folder / "tmp"
        etc = self.folder / "etc"
        for made in (self.folder, self.work, self.tmp, etc):
            made.mkdir()
        self.data = data or self.folder / "data"
        self.data.mkdir(exist_ok=True)
        self.config, self.port = etc / "config.yaml", free_port()
        self.config.write_text(json.dumps(config))
        with (self.folder / "log").open("wb") as log:
            self.child = subprocess.Popen(
                [stage.house.regent, "serve", "flux", "--config", self.config, "--log-format", "json", "--data", self.data,
                 "--listen", f"127.0.0.1:{self.port}", *flags], cwd=self.work, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"TMPDIR": str(self.tmp), **(env or {})})
        stage.regents.append(self)
        until(f"regent is ready: {self.log()[-500:]}", lambda: self.get("/readyz")[0] == 200)

    def kill(self):
        """As a node that dies; its volume stays. What it leaves is searched, too."""
        self.child.kill()
        self.child.wait()
        for where, data in {"log": self.log().encode(), **self.left()}.items():
            assert not leaks(data), f"the canary in {where}"

    def pause(self):
        """Its addresses take connections, and nothing answers."""
        self.child.send_signal(signal.SIGSTOP)

    def resume(self):
        self.child.send_signal(signal.SIGCONT)

    def left(self):
        """What is on its volume, and in each artifact there."""
        found = {str(file): file.read_bytes() for file in self.data.rglob("*") if file.is_file()}
        inside = {f"{file}:{name}": content for file, data in found.items() if file.endswith(".tar.gz")
                  for name, content in unpacked(data).items()}
        return found | inside
