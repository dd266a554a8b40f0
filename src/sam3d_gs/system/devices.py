"""Which device PyTorch computes on, and its memory given back. PyTorch is imported late: the base install lacks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sam3d_gs.errors import UsageError
from sam3d_gs.system.nvidia import all_cards

if TYPE_CHECKING:
    import torch


def choose_device(name: str, kinds: Sequence[str] = ("cuda", "mps", "cpu")) -> torch.device:
    """A device by name; "auto" takes the first of `kinds` that is there. Raises UsageError when it is not there.

    Of several CUDA cards it is the one with the most free memory, and PyTorch's current one from then on, for the code
    of others that says "cuda" and means that.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind in kinds if there[kind])
    device = torch.device(name)
    if not there.get(device.type):
        usable = " or ".join(kind for kind in kinds if there[kind])
        raise UsageError(f"--device {name}: PyTorch {torch.__version__} finds none here. Use auto or {usable}.")
    if device.type == "cuda" and torch.cuda.device_count() > 1:
        device = torch.device("cuda", _roomiest_card())
        torch.cuda.set_device(device)
    return device


def _roomiest_card() -> int:
    """PyTorch's number of the card with the most free memory; the first of equals, and where nvidia-smi is silent.

    Asking CUDA itself would take some hundred MiB on every card.
    """
    import torch

    free_mib = {card.uuid.removeprefix("GPU-"): card.free_mib for card in all_cards()}
    uuids = [str(getattr(torch.cuda.get_device_properties(i), "uuid", "")) for i in range(torch.cuda.device_count())]
    return max(range(len(uuids)), key=lambda i: free_mib.get(uuids[i].removeprefix("GPU-"), 0))


def release_cached() -> None:
    """Give unused memory of PyTorch's allocators back to the device."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
