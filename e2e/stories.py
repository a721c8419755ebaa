"""Plays stories: a folder each, with a `story.py`. One line per story: its name, whether it holds, and how long it took."""

import concurrent.futures
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent


def output(*command):
    return Path(subprocess.run(command, cwd=TOP, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())


def main(words, usage, here, staging, tools, peers, before=lambda house: None, at_once=1):
    """`here` holds the stories; `staging` is their stage module; `before` is done once, before the first story. Those that mostly
    wait for servers may be played several `at_once`."""
    if "-h" in words or "--help" in words:
        print(usage.strip())
        return 0
    keep = "--keep" in words
    stories = [word for word in words if word != "--keep"] or sorted(file.parent.name for file in here.glob("*/story.py"))
    if unknown := [story for story in stories if not (here / story / "story.py").is_file()]:
        print(f"{here.relative_to(TOP)}/run: no such story: {' '.join(unknown)}", file=sys.stderr)
        return 2
    subprocess.run(["hack/tools", *tools], cwd=TOP, check=True)
    if peers:
        subprocess.run(["hack/peers", *peers], cwd=TOP, check=True)
    regent = os.environ.get("REGENT")
    if not regent:
        subprocess.run(["cargo", "build", "--quiet", "--package", "regent-cli"], cwd=TOP, check=True)
        regent = TOP / "target/debug/regent"
    # Short, because the path of a Unix socket is at most 107 bytes; open to the story of another user.
    scratch = Path(tempfile.mkdtemp(prefix=f"regent-{here.name}-"))
    scratch.chmod(0o711)
    program = scratch / "regent"
    shutil.copy(regent, program)
    program.chmod(0o755)
    os.environ["PATH"] = f"{output('hack/tools', '--bin')}:{os.environ['PATH']}"
    failed = dict.fromkeys(stories, "")
    start = time.monotonic()
    # A house for each that is played at one time: it has one Redis, and a story with the whole Argo CD begins with an empty one.
    houses = []
    try:
        for number in range(at_once):
            folder = scratch / str(number) if at_once > 1 else scratch
            folder.mkdir(exist_ok=True)
            houses.append(staging.House(folder, program, output("hack/tools", "--bin"), output("hack/peers", "--bin")))
            before(houses[-1])
        waiting = iter(stories)
        with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
            played = pool.map(lambda house: [(name, play(house, staging, here / name)) for name in waiting], houses)
            failed = {name: trouble for lane in played for name, trouble in lane if trouble}
    finally:
        for house in houses:
            house.close()
        if keep or failed:
            print(f"kept: {scratch}")
        else:
            remove(scratch)
    # Last, where a reader of a long log looks first.
    for name, trouble in failed.items():
        print("\n".join([f"{name}:", *(f"  {line}" for line in trouble.splitlines())]))
    print(f"{len(stories) - len(failed)} of {len(stories)} stories hold, {time.monotonic() - start:.0f} s"
          + (f"; not: {' '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def real_tests(path, **facts):
    """What tests of the program say that need what a story has started: those under a module's `path`, told by the environment
    where its facts are. They are built as `hack/test` builds all tests, so that nothing is built twice."""
    passed_on = "PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "CARGO_TARGET_DIR"
    done = subprocess.run(["cargo", "test", "--locked", "--quiet", "--workspace", "--features", "regent-cli/otlp", "--bin", "regent", path,
                           "--", "--ignored", "--nocapture"], cwd=TOP, capture_output=True, text=True,
                          env={**{name: os.environ[name] for name in passed_on if name in os.environ}, **facts})
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert " 0 passed" not in done.stdout, "there was no test to run"
    return said


def remove(scratch):
    # The repo-server takes all rights off the folder that its checkouts lie in, and one story off its store.
    for folder, _, _ in os.walk(scratch):
        for each in filter(os.path.isdir, (entry.path for entry in os.scandir(folder))):
            if not os.path.islink(each):
                os.chmod(each, 0o700)
    shutil.rmtree(scratch, ignore_errors=True)


def play(house, staging, folder):
    """Nothing where the story holds, else what went wrong."""
    spec = importlib.util.spec_from_file_location("story", folder / "story.py")
    module = importlib.util.module_from_spec(spec)
    start = time.monotonic()
    stage = None
    try:
        spec.loader.exec_module(module)
        stage = staging.Stage(house, folder.name)
        module.story(stage)
        stage.close()
    except BaseException as error:
        if stage:
            stage.abandon()
        if not isinstance(error, Exception):
            raise
        print(f"{folder.name}: FAILED after {time.monotonic() - start:.1f} s", flush=True)
        return traceback.format_exc()
    print(f"{folder.name}: {time.monotonic() - start:.1f} s", flush=True)
    return None
