"""The precision that a network computes in, and the memory it gives back."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sam3d_gs.errors import UsageError
from sam3d_gs.system.devices import release_cached

log = logging.getLogger("sam3d_gs")


KINDS = ("cuda", "cpu")  # that --device auto chooses from; MPS only on request


def choose_precision(name: str, device: torch.device) -> str:
    """fp32, tf32 or bf16; "auto" is bf16 (autocast, the weights stay float32) on CUDA and fp32 elsewhere.

    Against fp32, the network's boxes move by 3 px on average under autocast at 2048 px, by 0.4 px with TF32. We take
    boxes from the masks, so the fastest is the default. Raises UsageError for tf32 without CUDA.
    """
    if name == "auto":
        return "bf16" if device.type == "cuda" else "fp32"
    if name == "tf32" and device.type != "cuda":
        raise UsageError(f"--precision tf32 needs a CUDA GPU, not {device.type}. Use auto, fp32 or bf16.")
    return name


def warn_if_on_cpu(device: torch.device) -> None:
    if device.type == "cpu":
        log.warning("SAM 3 on the CPU is slow: on two cores two minutes per photo plus 13 s per phrase.")


def release_memory() -> None:
    """Free the device memory of networks that are no longer referenced."""
    gc.collect()
    release_cached()


@contextmanager
def computing(device: torch.device, precision: str) -> Iterator[None]:
    """Inference in a precision of `choose_precision`. Restores the global TF32 switches at the end."""
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, convolution.allow_tf32
    matmul.allow_tf32 = convolution.allow_tf32 = precision != "fp32"
    try:
        # No cache of casts: a CUDA graph must not hold casts that live only as long as this context.
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)
        with torch.inference_mode(), autocast:
            yield
    finally:
        matmul.allow_tf32, convolution.allow_tf32 = before
