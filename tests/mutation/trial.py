"""A copy of the tree in which one file at a time is changed, and tests that run there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LEFT_BEHIND = shutil.ignore_patterns(".*", "__pycache__", "outputs", "runs", "build", "sam3", "sam-3d-objects")


class Copy:
    """A copy of the tree at `root`, with a process that runs tests in it. A context manager: removed at the end."""

    def __init__(self, root: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="sam3d_gs_mutation_"))
        self.root = self._folder / "tree"
        shutil.copytree(root, self.root, ignore=LEFT_BEHIND, symlinks=True)
        self._changes = 0
        self._worker = subprocess.Popen(
            [sys.executable, str(self.root / "tests/mutation/worker.py")],
            cwd=self.root,
            env=_environment(self.root),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Copy:
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.kill()
        self._worker.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, tests: Sequence[str], timeout_s: float) -> str:
        """ "passed", "failed" or "timeout". Raises RuntimeError when no test ran."""
        assert self._worker.stdin is not None and self._worker.stdout is not None
        self._worker.stdin.write(json.dumps({"tests": list(tests), "timeout_s": timeout_s}) + "\n")
        self._worker.stdin.flush()
        outcome = str(json.loads(self._worker.stdout.readline() or '"the process that runs tests has ended"'))
        if outcome not in ("passed", "failed", "timeout"):
            raise RuntimeError(f"{' '.join(tests)}: {outcome}\n{self.log()}")
        return outcome

    def log(self) -> str:
        """What the last tests printed, its end."""
        path = self.root / ".mutation.log"
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""

    @contextmanager
    def changed(self, path: str, text: str) -> Iterator[None]:
        """The file has another text while the block runs."""
        target = self.root / path
        before = target.read_text()
        self._write(target, text)
        try:
            yield
        finally:
            self._write(target, before)

    def _write(self, target: Path, text: str) -> None:
        """Each time with another time of change: compiled code of an earlier text must not pass for this one's."""
        target.write_text(text)
        self._changes += 1
        os.utime(target, (1_600_000_000 + self._changes,) * 2)


def _environment(root: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(root / "src"),
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "2",
        "NUMBA_CACHE_DIR": str(root.parent / "numba"),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(root.parent / "hypothesis"),
    }
