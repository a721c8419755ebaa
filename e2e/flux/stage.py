"""What the stories of Flux need beside a cluster: that nothing which its controllers said in objects or left behind holds the
canary. The controllers themselves are in kustomizations.py, `regent serve flux` is in regents.py.
"""

import subprocess

from argocd.stage import answers_on  # noqa: F401
from cluster import stage as base
from cluster.stage import (CANARY, GUARDS, KINDS, PATIENCE, STUB, TOP, Cluster, House, Key, Link, Repo, Sealed,  # noqa: F401
                           asked, at, bootstrap, config_map, free_port, full, leaks, pause, plain, secret, stub,
                           until)


class Stage(base.Stage):
    """One story's place, with its clusters and the Flux on each."""

    def __init__(self, house, name):
        super().__init__(house, name)
        self.fluxes = []

    def close(self):
        for flux in self.fluxes:
            flux.check()
            flux.close()
        super().close()

    def abandon(self):
        for flux in self.fluxes:
            flux.close()
        super().abandon()


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
    return done.stdout
