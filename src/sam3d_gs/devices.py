"""Which device PyTorch computes on, and its memory given back. PyTorch is imported late: the base install lacks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sam3d_gs.errors import UsageError

if TYPE_CHECKING:
    import torch


def choose_device(name: str, kinds: Sequence[str] = ("cuda", "mps", "cpu")) -> torch.device:
    """A device by name; "auto" takes the first of `kinds` that is there. Raises UsageError when it is not there."""
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind in kinds if there[kind])
    device = torch.device(name)
    if not there.get(device.type):
        usable = " or ".join(kind for kind in kinds if there[kind])
        raise UsageError(f"--device {name}: PyTorch {torch.__version__} finds none here. Use auto or {usable}.")
    return device


def release_cached() -> None:
    """Give unused memory of PyTorch's allocators back to the device."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
