"""The CUDA cards of this machine, as nvidia-smi tells them."""

from __future__ import annotations

import csv
import os
import subprocess
from dataclasses import dataclass

_QUERY = ("index", "name", "driver_version", "memory.total", "memory.free", "uuid")
_TIMEOUT_S = 20.0
_MIB_PER_GIB = 1024


@dataclass(frozen=True)
class Card:
    """One card."""

    index: str
    name: str
    driver: str
    total_mib: int
    free_mib: int
    uuid: str

    @property
    def total_gib(self) -> float:
        return round(self.total_mib / _MIB_PER_GIB, 1)

    @property
    def free_gib(self) -> float:
        return round(self.free_mib / _MIB_PER_GIB, 1)

    def is_called(self, name: str) -> bool:
        """By its number, or by the beginning of its UUID, as CUDA takes it."""
        return name == self.index or (name.startswith("GPU-") and self.uuid.startswith(name))


def all_cards() -> list[Card]:
    """Whatever CUDA_VISIBLE_DEVICES says; a card that does not tell its memory is left out.

    None where nvidia-smi is missing, fails or hangs.
    """
    command = ["nvidia-smi", f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for row in csv.reader(done.stdout.splitlines(), skipinitialspace=True):
        if len(row) != len(_QUERY):
            continue
        index, name, driver, total_mib, free_mib, uuid = (field.strip() for field in row)
        if total_mib.isdigit() and free_mib.isdigit():
            found.append(Card(index, name, driver, int(total_mib), int(free_mib), uuid))
    return found


def cards() -> list[Card]:
    """Those that CUDA_VISIBLE_DEVICES leaves when it holds numbers, else all."""
    visible = visible_cards()
    return [card for card in all_cards() if visible is None or card.index in visible]


def visible_cards() -> list[str] | None:
    """The numbers in CUDA_VISIBLE_DEVICES; None when it is not set, or names cards in another way (UUID, MIG)."""
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [] if setting is None else [name.strip() for name in setting.split(",") if name.strip()]
    return None if setting is None or not all(name.lstrip("-").isdigit() for name in names) else names
