"""What the tests with a real vLLM share: how it is started with a tiny model, and what is left of it afterwards."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

ENVIRONMENT = Path(os.environ.get("SAM3D_GS_TEST_SERVERS", "nowhere"))
PROMPT = "Name the objects."
ARGUMENTS = "--enforce-eager --kv-cache-memory-bytes 64M --max-model-len 4096"
SMALL = ("--sent-side-px", "96", "--max-tokens", "512", "--thinking-tokens", "32")
_SET_CHILD_SUBREAPER = 36  # of Linux' prctl.h


def photo(folder: Path, colour: str, name: str = "") -> Path:
    path = folder / f"{name or colour}.png"
    Image.new("RGB", (96, 64), {"red": (210, 30, 30), "blue": (30, 40, 210)}[colour]).save(path)
    return path


def prompt_file(folder: Path) -> Path:
    path = folder / "prompt.md"
    path.write_text(PROMPT)
    return path


def adopt_orphans() -> None:
    """From now on, what a process of ours leaves behind is our child, whatever group or session it is in."""
    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def left_behind() -> list[str]:
    """Command lines of our living children: with `adopt_orphans` all that outlived the commands we waited for."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if int(parent) == os.getpid() and state not in "ZX":
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
    return found


def server_groups(workspace: Path) -> set[int]:
    """Process groups of the vLLM servers that were started for this workspace, by their log file."""
    log, groups = workspace / "outputs" / "master_with_vllm" / "logs" / "vllm.log", set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "fd" / "1").resolve() == log:
                    groups.add(os.getpgid(int(entry.name)))
            except (OSError, RuntimeError):
                continue
    return groups


def wait_until(true: Callable[[], object], process: subprocess.Popen[str], timeout_s: float = 300) -> None:
    """Fails when the time is over, or when the process that is to bring it about has ended."""
    end_s = time.monotonic() + timeout_s
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end_s, f"not within {timeout_s:.0f} s"
        time.sleep(0.05)
