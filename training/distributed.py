"""Data-parallel training: one process per GPU, started by torchrun, with averaged gradients.

    torchrun --standalone --nproc-per-node 2 -m training.objects.train runs/objects

Without torchrun there is a single process, and nothing here has any effect.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

_TIMEOUT = timedelta(minutes=5)  # for processes that wait for each other; validation and compiling take less


@dataclass(frozen=True)
class Group:
    """This process's rank, and the number of processes."""

    rank: int = 0
    count: int = 1

    @property
    def is_leader(self) -> bool:
        """Whether this is the process that writes and prints."""
        return self.rank == 0

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Run the block in the leader first, then in all others, which can reuse files that the leader has built."""
        if not self.is_leader:
            dist.barrier()
        yield
        if self.is_leader and self.count > 1:
            dist.barrier()

    def broadcast(self, value: bool) -> bool:
        """The leader's `value`, in all processes."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors by their means over all processes."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = flat.div_(self.count).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def join(device_type: str) -> tuple[Group, torch.device]:
    """Join the processes that torchrun started, if any; each gets its own GPU."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Group(), torch.device(device_type)
    device = torch.device(device_type)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    atexit.register(_leave)
    return Group(dist.get_rank(), count), device


def _leave() -> None:
    """End together: if one process disconnects early, others may be aborted."""
    if not hasattr(sys, "last_value"):  # set if an error ends this process; then do not wait for the others
        dist.barrier()
    dist.destroy_process_group()
