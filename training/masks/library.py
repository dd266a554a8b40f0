"""The compositor `native/scenes.cu`, compiled for a GPU or a CPU, and calls of its functions with tensors."""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from sam3d_gs.errors import Sam3dGsError
from training.masks.rows import header

NATIVE = Path(__file__).with_name("native")
BUILDS = Path(__file__).with_name("build")


class _Pointers(ctypes.Structure):
    """Base class of the structs that are passed by value."""


class CRows(_Pointers):
    _fields_ = [(name, ctypes.c_void_p) for name in ("scenes", "surfaces", "panels", "layers")]


class CBank(_Pointers):
    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("rgba", "z", "sprites")),
        *((name, ctypes.c_int) for name in ("side", "levels", "texels")),
    ]


class CIndex(_Pointers):
    _fields_ = [(name, ctypes.c_void_p) for name in ("sprites", "first")]


@cache
def library(device_type: str) -> ctypes.CDLL:
    """The library for "cuda" or "cpu", compiled if its source has changed.

    Raises Sam3dGsError with the compiler's first error.
    """
    flags = _flags(device_type)
    sources = sorted(NATIVE.iterdir())
    text = "\0".join([header(), *flags, *(path.read_text() for path in sources)])
    folder = BUILDS / f"{device_type}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    target = folder / "scenes.so"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "rows.h").write_text(header())
        partial = folder / f"scenes-{os.getpid()}.so"
        command = [*flags, f"-I{folder}", f"-I{NATIVE}", str(NATIVE / "scenes.cu"), "-o", str(partial)]
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            raise Sam3dGsError(
                f"Cannot start the compiler {flags[0]}: {error}. Install it or use --device cpu."
            ) from error
        if done.returncode:
            complaint = next((line for line in done.stderr.splitlines() if "error" in line), "no message")
            raise Sam3dGsError(f"{flags[0]} cannot build {NATIVE / 'scenes.cu'}: {complaint.strip()}")
        os.replace(partial, target)
    return ctypes.CDLL(str(target))


def _flags(device_type: str) -> list[str]:
    if device_type == "cuda":
        major, minor = torch.cuda.get_device_capability()
        return ["nvcc", "-std=c++17", "-O3", f"-arch=sm_{major}{minor}", "-Xcompiler", "-fPIC", "-shared"]
    # Fused multiply-adds would differ from one machine to the next.
    return ["g++", "-x", "c++", "-std=c++17", "-O2", "-ffp-contract=off", "-fopenmp", "-shared", "-fPIC"]


def call(name: str, device: torch.device, *arguments: Tensor | _Pointers | int | None) -> None:
    """Call a function of the library on `device`, in the current stream."""
    converted: list[object] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            converted.append(address(argument))
        else:
            converted.append(ctypes.c_void_p() if argument is None else argument)
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    error = getattr(library(device.type), name)(*converted, ctypes.c_void_p(stream))
    if error:
        raise Sam3dGsError(f"{name} failed with CUDA error {error}. Try a smaller batch, or --device cpu to debug it.")


def address(tensor: Tensor) -> ctypes.c_void_p:
    """The address of a contiguous tensor's data."""
    assert tensor.is_contiguous()
    return ctypes.c_void_p(tensor.data_ptr())
