"""This machine as it is now: GPUs, free disk space, a free port."""

from __future__ import annotations

import platform
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from sam3d_gs.system.nvidia import Gpu, gpus

_GIB = 2**30


@dataclass(frozen=True)
class Disk:
    """Free space in a folder that runs write to."""

    what: str
    folder: str
    free_gib: float


@dataclass(frozen=True)
class Machine:
    """The resources that all stages share."""

    python: str
    system: str
    gpus: tuple[Gpu, ...]
    disks: tuple[Disk, ...]
    free_port: int | None  # on 127.0.0.1; None: no port is free


def inspect_machine(workspace: Path, cache: Path) -> Machine:
    """The machine's state, with the free space of the workspace and of the hub cache."""
    disks = tuple(
        Disk(what, str(folder.absolute()), round(_free_bytes(folder) / _GIB, 1))
        for what, folder in (("workspace", workspace), ("hub cache", cache))
    )
    return Machine(
        python=f"{platform.python_version()} ({sys.executable})",
        system=f"{platform.system()} {platform.machine()}",
        gpus=tuple(gpus()),
        disks=disks,
        free_port=_free_port(),
    )


def _free_bytes(folder: Path) -> int:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def _free_port() -> int | None:
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])
    except OSError:
        return None
