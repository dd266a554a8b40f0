"""The NVIDIA GPUs of this machine, as listed by nvidia-smi."""

from __future__ import annotations

import csv
import os
import subprocess
from dataclasses import dataclass

_QUERY = ("index", "name", "driver_version", "memory.total", "memory.free", "uuid")
_TIMEOUT_S = 20.0
_MIB_PER_GIB = 1024


@dataclass(frozen=True)
class Gpu:
    """One row of nvidia-smi."""

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
        """Whether `name` is its index or a prefix of its UUID, the two forms CUDA_VISIBLE_DEVICES accepts."""
        return name == self.index or (name.startswith("GPU-") and self.uuid.startswith(name))


def all_gpus() -> list[Gpu]:
    """Every GPU, regardless of CUDA_VISIBLE_DEVICES, except those that do not report their memory.

    Empty when nvidia-smi is missing, fails or hangs.
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
            found.append(Gpu(index, name, driver, int(total_mib), int(free_mib), uuid))
    return found


def gpus() -> list[Gpu]:
    """The GPUs whose indices are in CUDA_VISIBLE_DEVICES; all of them if it holds no indices."""
    visible = visible_gpus()
    return [gpu for gpu in all_gpus() if visible is None or gpu.index in visible]


def visible_gpus() -> list[str] | None:
    """The indices in CUDA_VISIBLE_DEVICES; None if it is unset or names GPUs differently (UUID, MIG)."""
    setting = os.environ.get("CUDA_VISIBLE_DEVICES")
    names = [] if setting is None else [name.strip() for name in setting.split(",") if name.strip()]
    return None if setting is None or not all(name.lstrip("-").isdigit() for name in names) else names
