"""How a demo tells its story: chapters, commands as one types them and what they say. What is told is checked, and the demo ends where
it is not so; a line with a secret value is never printed; all processes are ended on the way out.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import stories
from argocd.stage import leaks
from stories import TOP


class Untrue(Exception):
    """What was told is not what was shown."""


class Teller:
    """Prints chapters, commands and what they say."""

    def __init__(self, colours):
        self.bold, self.dim, self.plain = ("\033[1m", "\033[2m", "\033[0m") if colours else ("", "", "")
        self.step, self.env, self.folder = 0, {}, TOP

    def line(self, text=""):
        if leaks(text.encode()):
            raise Untrue("a line with a secret value was about to be printed")
        print(f"   {text}".rstrip(), flush=True)

    def chapter(self, title):
        self.step += 1
        print(f"\n{self.bold}{self.step}. {title}{self.plain}", flush=True)

    def tell(self, *lines):
        for line in lines:
            self.line(line)

    def show(self, *words, folder=None, refused=False, some=None, last=None, shown=None):
        """Shows a command as one would type it, runs it, and shows what it says: the first or last lines, where that is too
        much. Gives all of it."""
        words = [str(word) for word in words]
        self.line()
        self.line(f"{self.dim}$ {shown or ' '.join(map(typed, words))}{self.plain}")
        done = subprocess.run(words, cwd=folder or self.folder, env=self.env, text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        lines = done.stdout.splitlines()
        self.tell(*lines[-last if last else 0:some])
        if some and len(lines) > some:
            self.line(f"... and {len(lines) - some} more lines")
        if refused:
            self.line(f"(exit {done.returncode})")
        claim(f"`{' '.join(words)}` {'is refused' if refused else 'succeeds'}", (done.returncode != 0) == refused)
        return done.stdout


def typed(word):
    """A word as a shell takes it."""
    return word if word and not set(word) & set(" {}'\"$\\*()") else f"'{word}'"


def claim(what, holds):
    if not holds:
        raise Untrue(what)


def stays():
    """Until somebody presses Ctrl-C."""
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            signal.pause()


def ended(number, _):
    raise SystemExit(128 + number)


def main(words, usage, staging, name, story):
    """Tells `story(out, stage, keep)` in a scratch folder. `staging` is the module of its House and its Stage, `name` the stage's."""
    keep = words == ["--keep"]
    if words and not keep:
        print(usage.strip())
        return 0 if words in (["-h"], ["--help"]) else 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, ended)
    # Also where whoever started this ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    tools, peers = stories.output("hack/tools", "--bin"), stories.output("hack/peers", "--bin")
    os.environ["PATH"] = f"{tools}:{os.environ['PATH']}"
    scratch = Path(tempfile.mkdtemp(prefix="regent-demo-"))
    scratch.chmod(0o711)
    house = stage = None
    failed = True
    try:
        house = staging.House(scratch, scratch / "bin/regent", tools, peers)
        shutil.copy(os.environ["REGENT"], house.regent)
        stage = staging.Stage(house, name)
        story(Teller(sys.stdout.isatty() and not os.environ.get("NO_COLOR")), stage, keep)
        # This looks into every log for the word.
        stage.close()
        failed = False
    except (Untrue, AssertionError) as error:
        print(f"hack/demo: what was shown is not what was told: {error}", file=sys.stderr)
    except (KeyboardInterrupt, SystemExit) as ended_by:
        print(file=sys.stderr)
        failed = False
        return ended_by.code if isinstance(ended_by, SystemExit) else 130
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if stage:
            stage.abandon()
        if house:
            house.close()
        if keep or failed:
            print(f"\n   kept: {scratch}", file=sys.stderr)
        else:
            stories.remove(scratch)
    return 1 if failed else 0
