"""Compile the ray caster for a device, and call it with tensors."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from sam3d_gs.errors import Sam3dGsError
from training.objects.layout import PLANE_COUNT, header

SOURCE = Path(__file__).with_name("raycast.cu")
BUILD = Path(__file__).with_name("build")


@dataclass(frozen=True)
class Shapes:
    """B shapes in the format of the ray caster, all on one device."""

    rows: Tensor  # (B, MAX_PRIMITIVES, ROW_LENGTH) float32
    counts: Tensor  # (B,) int32, rows in use
    deformations: Tensor  # (B, 4) float32: bump height, bump frequency, twist, taper
    tumbles: Tensor  # (B,) float32 0 or 1: it may lie on any side

    def __len__(self) -> int:
        return len(self.counts)

    def pick(self, index: Tensor) -> Shapes:
        return Shapes(self.rows[index], self.counts[index], self.deformations[index], self.tumbles[index])

    def to(self, device: torch.device) -> Shapes:
        return Shapes(*(t.to(device) for t in (self.rows, self.counts, self.deformations, self.tumbles)))


def build(device: torch.device, architecture: str | None = None) -> Path:
    """The shared library for CUDA or the CPU, compiled if needed.

    architecture: for nvcc, such as "sm_90"; by default the GPU's. Raises Sam3dGsError with the compiler's output.
    """
    if device.type == "cuda":
        compiler = "nvcc"
        architecture = architecture or "sm_{}{}".format(*torch.cuda.get_device_capability(device))
        flags = ["-O3", "--use_fast_math", f"-arch={architecture}", "-Xcompiler", "-fPIC"]
    else:
        compiler = "g++"
        # Not -ffast-math: a library linked with it makes the whole process flush tiny numbers to zero.
        quick = ["-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-freciprocal-math"]
        flags = ["-O3", *quick, "-march=native", "-fopenmp", "-fPIC", "-x", "c++"]
    text = header()
    key = hashlib.sha256(" ".join([text, SOURCE.read_text(), compiler, *flags]).encode()).hexdigest()[:12]
    library = BUILD / f"raycast-{device.type}-{key}.so"
    if library.is_file():
        return library
    if not shutil.which(compiler):
        raise Sam3dGsError(f"The ray caster needs {compiler}, which is not on the PATH. Install it and try again.")
    BUILD.mkdir(exist_ok=True)
    layout, made = BUILD / f"layout-{key}.h", BUILD / f".{os.getpid()}-{library.name}"
    layout.write_text(text)
    command = [compiler, "-shared", *flags, "-include", str(layout), str(SOURCE), "-o", str(made)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Sam3dGsError(f"{compiler} could not build {SOURCE.name}: {' '.join(done.stderr.split())[:300]}")
    os.replace(made, library)
    return library


@cache
def _library(kind: str) -> ctypes.CDLL:
    return ctypes.CDLL(str(build(torch.device(kind))))


def render(shapes: Shapes, views: Tensor, materials: Tensor, side: int, silhouette: bool = False) -> Tensor:
    """(B, PLANE_COUNT, side, side) float32 planes (see layout.py); with `silhouette` (B, 1, side, side), 0 or 1.

    views: (B, VIEW_LENGTH), materials: (B, MATERIALS, MATERIAL_LENGTH), float32, on the device of the shapes.
    """
    inputs = [shapes.rows.contiguous(), shapes.counts.contiguous(), views.contiguous(), materials.contiguous()]
    device = views.device
    out = torch.zeros(len(shapes), 1 if silhouette else PLANE_COUNT, side, side, device=device)
    stream = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (*inputs, out)]
    error = _library(device.type).render(*pointers, len(shapes), side, int(silhouette), ctypes.c_void_p(stream))
    if error:
        raise Sam3dGsError(f"The ray caster failed with CUDA error {error}. Run it again with CUDA_LAUNCH_BLOCKING=1.")
    return out
