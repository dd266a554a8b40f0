"""The machine as it is now: cards, disk, ports."""

from __future__ import annotations

import platform
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from sam3d_gs.system.nvidia import Card, cards

_GIB = 2**30


@dataclass(frozen=True)
class Disk:
    """Free space where something is written."""

    what: str
    folder: str
    free_gib: float


@dataclass(frozen=True)
class Machine:
    """What the stages share."""

    python: str
    system: str
    cards: tuple[Card, ...]
    disks: tuple[Disk, ...]
    free_port: int | None  # one that a server could take on loopback now


def look(workspace: Path, cache: Path) -> Machine:
    disks = tuple(
        Disk(what, str(folder.absolute()), round(_free_bytes(folder) / _GIB, 1))
        for what, folder in (("workspace", workspace), ("hub cache", cache))
    )
    return Machine(
        python=f"{platform.python_version()} ({sys.executable})",
        system=f"{platform.system()} {platform.machine()}",
        cards=tuple(cards()),
        disks=disks,
        free_port=_free_port(),
    )


def _free_bytes(folder: Path) -> int:
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(there).free


def _free_port() -> int | None:
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])
    except OSError:
        return None
