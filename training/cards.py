"""Several cards as one: a process a card, started by torchrun, gradients averaged between them.

    torchrun --standalone --nproc-per-node 2 -m training.objects.train runs/objects

Without torchrun there is one process, and nothing here does anything.
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

_PATIENCE = timedelta(minutes=5)  # how long processes wait for each other; validation and compiling take less


@dataclass(frozen=True)
class Cards:
    """Which of how many processes this is."""

    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """True for the one that writes and prints."""
        return self.rank == 0

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """The leader runs the block alone, then all others: what it builds and keeps, they find."""
        if not self.leads:
            dist.barrier()
        yield
        if self.leads and self.count > 1:
            dist.barrier()

    def agree(self, says: bool) -> bool:
        """What the leader says."""
        if self.count == 1:
            return says
        said = [says]
        dist.broadcast_object_list(said, src=0)
        return said[0]

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace float32 tensors by their means over all processes."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        parts = flat.div_(self.count).split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def join(device_type: str) -> tuple[Cards, torch.device]:
    """Meet the other processes that torchrun started, if it did; each gets a card of its own."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Cards(), torch.device(device_type)
    device = torch.device(device_type)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    atexit.register(_leave)
    return Cards(dist.get_rank(), count), device


def _leave() -> None:
    """All together: a process whose partner hangs up before it has finished may be aborted."""
    if not hasattr(sys, "last_value"):  # which an error that ends this process leaves; nobody shall wait for it then
        dist.barrier()
    dist.destroy_process_group()
