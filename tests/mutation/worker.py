"""Runs tests in a copy of the tree, each time in a fresh child process in which the heavy libraries are loaded already.

A program of its own, started in the copy by `trial.py`: it reads one job a line from its input, a JSON object with
`tests` and `timeout_s`, and answers with one line, the outcome.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

HEAVY = ("pytest", "hypothesis", "numpy", "PIL.Image", "scipy.ndimage", "scipy.spatial", "torch", "numba", "typer")
LOG = Path(".mutation.log")
PASSED, FAILED, NOTHING_RAN = 0, 1, 5  # exit codes of pytest
MEMORY_BYTES, FILE_BYTES = 12 << 30, 1 << 30  # a mutant may ask for any amount


def main() -> None:
    sys.path.remove(str(Path(__file__).parent))
    for name in HEAVY:
        importlib.import_module(name)
    assert "sam3d_gs" not in sys.modules, "each child must import the package, one file of which may be changed"
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # nothing else may write to where the answers go
    for line in sys.stdin:
        job = json.loads(line)
        print(json.dumps(run_tests(job["tests"], job["timeout_s"])), file=answers, flush=True)


def run_tests(tests: list[str], timeout_s: float) -> str:
    """ "passed", "failed", "timeout", or "nothing ran"; the output is in LOG."""
    child = os.fork()
    if child == 0:
        _be_the_child(tests)
    outcome = _wait(child, timeout_s)
    with suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # programs that the tests left behind
    return outcome


def _wait(child: int, timeout_s: float) -> str:
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            code = os.waitstatus_to_exitcode(status)
            return {PASSED: "passed", NOTHING_RAN: "nothing ran"}.get(code, "failed")
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "timeout"


def _be_the_child(tests: list[str]) -> None:
    code = FAILED
    try:
        os.setsid()
        log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
        import pytest

        code = int(pytest.main(["-x", "-q", "--tb=line", "-p", "no:cacheprovider", "--basetemp=.mutation_tmp", *tests]))
        package = sys.modules.get("sam3d_gs")
        assert package is None or Path(str(package.__file__)).is_relative_to(Path.cwd()), "not the copy was tested"
    finally:
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
