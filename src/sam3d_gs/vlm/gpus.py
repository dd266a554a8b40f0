"""Choose the GPUs for a model server, and wait until it has released them."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from sam3d_gs.errors import UsageError
from sam3d_gs.system.nvidia import Gpu, all_gpus

_LARGEST_SHARE = 0.90  # of a GPU's memory, for the server
_KEPT_FREE_MIB = 512  # for what else starts on the GPU meanwhile


@dataclass(frozen=True)
class GpuShare:
    """The GPUs that the server gets, and how much of them."""

    ids: tuple[str, ...] = ()  # empty: all that it finds by itself
    count: int | None = None  # over how many the model is split; None: the server's default
    memory_share: float | None = None  # of each GPU, 0..1; None: the server's default
    free_mib: int = 0  # on all of them, before the start, less what is left to others


def choose_gpus(
    gpus: Sequence[Gpu], wanted: str, count: int | None, needed_mib: int | None, leave_free_mib: int = 0
) -> GpuShare:
    """The GPUs for a model that needs `needed_mib` in all: as few as hold it, those with the most free memory first.

    `wanted`: ids or UUIDs the user allows, separated by commas; "" means CUDA_VISIBLE_DEVICES, and without it all.
    `count`: exactly this many. `leave_free_mib` of each is left to other programs. Raises UsageError for ids that do
    not exist, when there are fewer than `count`, or when no GPU may be used.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    ids = [part.strip() for part in (wanted or visible or "").split(",") if part.strip()]
    if gpus and not wanted and (visible == "" or ids[:1] == ["-1"]):
        raise UsageError("CUDA_VISIBLE_DEVICES hides every GPU: unset it, or name GPUs with --gpus.")
    allowed = [gpu for gpu in gpus if not ids or any(gpu.is_called(name) for name in ids)]
    missing = [name for name in ids if not any(gpu.is_called(name) for gpu in gpus)]
    if wanted and gpus and missing:
        existing = ", ".join(gpu.index for gpu in gpus)
        raise UsageError(f"No GPU {missing[0]!r} for --gpus. This machine has: {existing}.")
    if missing or not allowed:  # MIG slices, or no nvidia-smi: trust the user
        if count and ids and count > len(ids):
            raise UsageError(f"--tensor-parallel {count} needs {count} GPUs, but {len(ids)} are named.")
        return GpuShare(tuple(ids[: count or 1]), count)
    if count and count > len(allowed):
        raise UsageError(f"--tensor-parallel {count} needs {count} GPUs, but {len(allowed)} may be used here.")
    best = sorted(allowed, key=lambda gpu: -gpu.free_mib)
    number = count or _fewest_that_hold(best, needed_mib)
    chosen = best[:number]
    share = min((gpu.free_mib - _KEPT_FREE_MIB - leave_free_mib) / gpu.total_mib for gpu in chosen)
    return GpuShare(
        tuple(sorted(gpu.index for gpu in chosen)),
        number,
        round(max(0.05, min(_LARGEST_SHARE, share)) - 0.005, 2),
        sum(max(0, gpu.free_mib - leave_free_mib) for gpu in chosen),
    )


def _fewest_that_hold(best: Sequence[Gpu], needed_mib: int | None) -> int:
    """1, 2, 4, ... GPUs, since the number of attention heads must be divisible by it; the most when none is enough."""
    number = 1
    while needed_mib is not None and number * 2 <= len(best) and best[number - 1].free_mib * number < needed_mib:
        number *= 2
    return number


def wait_until_free(share: GpuShare, timeout_s: float) -> bool:
    """Wait until the GPUs have nearly as much free memory as before; False when that takes longer than `timeout_s`."""
    if not share.free_mib:
        return True
    end_s = time.monotonic() + timeout_s
    while True:
        free_mib = sum(gpu.free_mib for gpu in all_gpus() if gpu.index in share.ids)
        if free_mib >= 0.95 * share.free_mib - 256:
            return True
        if time.monotonic() > end_s:
            return False
        time.sleep(0.2)
