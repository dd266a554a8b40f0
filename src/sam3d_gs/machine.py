"""The machine as it is now: cards, disk, ports."""

from __future__ import annotations

import csv
import os
import platform
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_QUERY = ("index", "name", "driver_version", "memory.total", "memory.free")
_TIMEOUT_S = 20.0
_GIB, _MIB_PER_GIB = 2**30, 1024


@dataclass(frozen=True)
class Card:
    """One CUDA card, by nvidia-smi."""

    index: str
    name: str
    driver: str
    total_gib: float
    free_gib: float


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


def cards() -> list[Card]:
    """Those that CUDA_VISIBLE_DEVICES leaves when it holds numbers; one that does not tell its memory is left out.

    None where nvidia-smi is missing, fails or hangs.
    """
    command = ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for row in csv.reader(done.stdout.splitlines(), skipinitialspace=True):
        if len(row) == len(_QUERY) and row[3].strip().isdigit() and row[4].strip().isdigit():
            total, free = (round(int(mib) / _MIB_PER_GIB, 1) for mib in row[3:])
            found.append(Card(row[0].strip(), row[1].strip(), row[2].strip(), total, free))
    visible = visible_cards()
    return [card for card in found if visible is None or card.index in visible]


def visible_cards() -> list[str] | None:
    """The numbers in CUDA_VISIBLE_DEVICES; None when it is not set, or names cards in another way (UUID, MIG)."""
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [] if setting is None else [name.strip() for name in setting.split(",") if name.strip()]
    return None if setting is None or not all(name.lstrip("-").isdigit() for name in names) else names


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
