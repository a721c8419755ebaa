"""A command of regent as a person types it: what it says on both outputs, and how it ends. Whatever it says is searched for
the tokens of every cluster.
"""

import re
import subprocess
from typing import NamedTuple

from stage import leaks


class Said(NamedTuple):
    code: int
    out: str
    err: str


def run(stage, *words, env=None, secrets=(), timeout=180):
    done = subprocess.run([stage.house.regent, *map(str, words)], env={**stage.house.env, **(env or {})}, text=True,
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)
    tokens = [token for cluster in stage.clusters for token in cluster.tokens.values()]
    for text in (done.stdout, done.stderr):
        assert not leaks(text.encode()) and not any(token in text for token in (*tokens, *secrets)), "a secret in what it says"
    return Said(done.returncode, done.stdout, done.stderr)


def done(stage, *words, **kwargs):
    said = run(stage, *words, **kwargs)
    assert said.code == 0, f"regent {' '.join(map(str, words))} ended with {said.code}: {said.err}"
    return said


def refused(stage, code, exit, expected, *words, **kwargs):
    """It ends with this exit code and one error: a sentence with these texts in it, and a way out."""
    said = run(stage, *words, **kwargs)
    what = f"regent {' '.join(map(str, words))} ended with {said.code}: {said.out}{said.err}"
    assert said.code == exit, what
    lines = [line for line in said.err.splitlines() if re.match(r"regent: (error|hint)", line)]
    assert len(lines) == 2 and lines[1].startswith("regent: hint: "), what
    assert lines[0].startswith(f"regent: error[{code}]: "), what
    for text in expected:
        assert text in "\n".join(lines), f"`{text}` is not in: {lines}"
    return said
