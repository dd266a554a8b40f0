"""Choosing PyTorch's device and freeing its memory. PyTorch is imported late: the base install lacks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sam3d_gs.errors import UsageError
from sam3d_gs.system.nvidia import all_gpus

if TYPE_CHECKING:
    import torch


def choose_device(name: str, kinds: Sequence[str] = ("cuda", "mps", "cpu")) -> torch.device:
    """The device `name`; "auto" is the first of `kinds` that is available. Raises UsageError if it is not available.

    Of several GPUs it is the one with the most free memory. That one also becomes PyTorch's current device, because
    third-party code uses plain "cuda".
    """
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind in kinds if available[kind])
    device = torch.device(name)
    if not available.get(device.type):
        usable = " or ".join(kind for kind in kinds if available[kind])
        raise UsageError(f"--device {name}: PyTorch {torch.__version__} finds none here. Use auto or {usable}.")
    if device.type == "cuda" and torch.cuda.device_count() > 1:
        device = torch.device("cuda", _emptiest_gpu())
        torch.cuda.set_device(device)
    return device


def _emptiest_gpu() -> int:
    """PyTorch's index of the GPU with the most free memory; the first of equals, or if nvidia-smi reports nothing.

    nvidia-smi is used because a query through CUDA would allocate a few hundred MiB on every GPU.
    """
    import torch

    free_mib = {gpu.uuid.removeprefix("GPU-"): gpu.free_mib for gpu in all_gpus()}
    uuids = [str(getattr(torch.cuda.get_device_properties(i), "uuid", "")) for i in range(torch.cuda.device_count())]
    return max(range(len(uuids)), key=lambda i: free_mib.get(uuids[i].removeprefix("GPU-"), 0))


def release_cached() -> None:
    """Return memory that PyTorch has cached but does not use to the device."""
    import torch

    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()
