"""Which CUDA cards there are, by nvidia-smi, and which of them a model server should take."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sam3d_gs.errors import UsageError

_QUERY = ["nvidia-smi", "--query-gpu=index,uuid,memory.total,memory.free", "--format=csv,noheader,nounits"]
_TIMEOUT_S = 20
_LARGEST_SHARE = 0.90  # of a card's memory, for the server
_KEPT_FREE_MIB = 512  # for what starts on the card meanwhile


@dataclass(frozen=True)
class Gpu:
    """One card as nvidia-smi sees it."""

    index: str
    uuid: str
    total_mib: int
    free_mib: int


@dataclass(frozen=True)
class Share:
    """What the server is given."""

    ids: tuple[str, ...] = ()  # none: it sees what it finds by itself
    cards: int | None = None  # to spread the model over; None: as the server likes
    memory_share: float | None = None  # of each card, 0..1; None: as the server likes
    free_mib: int = 0  # on all of them, before the start, less what is left to others


def list_gpus() -> list[Gpu]:
    """All cards, whatever CUDA_VISIBLE_DEVICES says; none where nvidia-smi is missing or fails."""
    try:
        done = subprocess.run(_QUERY, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in done.stdout.splitlines():
        fields = [part.strip() for part in line.split(",")]
        if len(fields) == 4 and fields[2].isdigit() and fields[3].isdigit():
            found.append(Gpu(fields[0], fields[1], int(fields[2]), int(fields[3])))
    return found


def choose(
    gpus: Sequence[Gpu], wanted: str, cards: int | None, needed_mib: int | None, leave_free_mib: int = 0
) -> Share:
    """The cards for a model that needs `needed_mib` in all: as few as hold it, those with the most free memory first.

    `wanted`: ids or UUIDs the user allows, separated by commas; "" means CUDA_VISIBLE_DEVICES, and without it all.
    `cards`: exactly so many. `leave_free_mib` of each are for other programs. Raises UsageError for ids that are not
    there, or fewer than `cards`.
    """
    asked = wanted or os.environ.get("CUDA_VISIBLE_DEVICES", "")
    ids = [part.strip() for part in asked.split(",") if part.strip()]
    allowed = [gpu for gpu in gpus if not ids or any(_is(gpu, name) for name in ids)]
    missing = [name for name in ids if not any(_is(gpu, name) for gpu in gpus)]
    if wanted and gpus and missing:
        there = ", ".join(gpu.index for gpu in gpus)
        raise UsageError(f"No GPU {missing[0]!r} for --gpus on this machine. There are: {there}.")
    if missing or not allowed:  # MIG slices, or a machine where nvidia-smi says nothing: taken at the user's word
        if cards and ids and cards > len(ids):
            raise UsageError(f"--tensor-parallel {cards} needs {cards} GPUs, {len(ids)} are named.")
        return Share(tuple(ids[: cards or 1]), cards)
    if cards and cards > len(allowed):
        raise UsageError(f"--tensor-parallel {cards} needs {cards} GPUs, {len(allowed)} may be used here.")
    best = sorted(allowed, key=lambda gpu: -gpu.free_mib)
    number = cards or _fewest_that_hold(best, needed_mib)
    chosen = best[:number]
    share = min((gpu.free_mib - _KEPT_FREE_MIB - leave_free_mib) / gpu.total_mib for gpu in chosen)
    return Share(
        tuple(sorted(gpu.index for gpu in chosen)),
        number,
        round(max(0.05, min(_LARGEST_SHARE, share)) - 0.005, 2),
        sum(max(0, gpu.free_mib - leave_free_mib) for gpu in chosen),
    )


def _is(gpu: Gpu, name: str) -> bool:
    return name == gpu.index or (name.startswith("GPU-") and gpu.uuid.startswith(name))


def _fewest_that_hold(best: Sequence[Gpu], needed_mib: int | None) -> int:
    """1, 2, 4, ... (a model's heads divide by these); the most there are when none is enough."""
    number = 1
    while needed_mib is not None and number * 2 <= len(best) and best[number - 1].free_mib * number < needed_mib:
        number *= 2
    return number


def wait_until_free(share: Share, timeout_s: float) -> bool:
    """Wait until the cards have (nearly) as much free memory as before; False when they do not get it in time."""
    if not share.free_mib:
        return True
    end_s = time.monotonic() + timeout_s
    while True:
        free_mib = sum(gpu.free_mib for gpu in list_gpus() if gpu.index in share.ids)
        if free_mib >= 0.95 * share.free_mib - 256:
            return True
        if time.monotonic() > end_s:
            return False
        time.sleep(0.2)
