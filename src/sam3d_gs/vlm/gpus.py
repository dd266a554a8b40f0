"""Which CUDA cards a model server should take, and when it has given them back."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sam3d_gs.errors import UsageError
from sam3d_gs.system.nvidia import Card, all_cards

_LARGEST_SHARE = 0.90  # of a card's memory, for the server
_KEPT_FREE_MIB = 512  # for what starts on the card meanwhile


@dataclass(frozen=True)
class Share:
    """What the server is given."""

    ids: tuple[str, ...] = ()  # none: it sees what it finds by itself
    cards: int | None = None  # to spread the model over; None: as the server likes
    memory_share: float | None = None  # of each card, 0..1; None: as the server likes
    free_mib: int = 0  # on all of them, before the start, less what is left to others


def choose(
    gpus: Sequence[Card], wanted: str, cards: int | None, needed_mib: int | None, leave_free_mib: int = 0
) -> Share:
    """The cards for a model that needs `needed_mib` in all: as few as hold it, those with the most free memory first.

    `wanted`: ids or UUIDs the user allows, separated by commas; "" means CUDA_VISIBLE_DEVICES, and without it all.
    `cards`: exactly so many. `leave_free_mib` of each are for other programs. Raises UsageError for ids that are not
    there, fewer than `cards`, or none that may be used.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    ids = [part.strip() for part in (wanted or visible or "").split(",") if part.strip()]
    if gpus and not wanted and (visible == "" or ids[:1] == ["-1"]):
        raise UsageError("CUDA_VISIBLE_DEVICES hides every GPU: unset it, or name some with --gpus.")
    allowed = [gpu for gpu in gpus if not ids or any(gpu.is_called(name) for name in ids)]
    missing = [name for name in ids if not any(gpu.is_called(name) for gpu in gpus)]
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


def _fewest_that_hold(best: Sequence[Card], needed_mib: int | None) -> int:
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
        free_mib = sum(gpu.free_mib for gpu in all_cards() if gpu.index in share.ids)
        if free_mib >= 0.95 * share.free_mib - 256:
            return True
        if time.monotonic() > end_s:
            return False
        time.sleep(0.2)
