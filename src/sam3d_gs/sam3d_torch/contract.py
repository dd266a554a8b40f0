"""Options, requests and results of the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from sam3d_gs.sam3d_torch.gaussian_decoder import GaussianFields
from sam3d_gs.types import Pose


@dataclass(frozen=True)
class RuntimeOptions:
    """Settings of a runtime. None means the preset's value, the checkpoint's, or no limit."""

    device: str = "auto"  # auto, cuda, cpu, mps, or as torch names one ("cuda:1")
    dtype: str = "auto"  # auto, fp16, bf16 or fp32
    preset: str = "normal"
    steps: int | None = None
    slat_steps: int | None = None
    gaussians_per_voxel: int | None = None
    vram_gib: float | None = None
    batch: int = 1  # objects in one pass of a network; above 1, rounding depends on the other objects
    timed: bool = False  # wait for the device at the end of every step and fill `Result.seconds`


@dataclass(frozen=True)
class PhotoGeometry:
    """The 3D point of every pixel of a photo, and its camera."""

    pointmap: Tensor  # (H, W, 3) float32, PyTorch3D camera (x left, y up, z forward), NaN where unknown
    K: np.ndarray  # (3, 3) float64, pixels of the photo
    scale_source: str  # what one unit is, as in `types.PlacedObject`
    seconds: float = 0.0


@dataclass(frozen=True)
class Request:
    """One object to make. Values other than None replace what the runtime would draw or compute itself."""

    object_id: str
    mask: np.ndarray  # (H, W) bool, or float 0..1 for a soft one
    seed: int = 0
    structure_noise: Mapping[str, Tensor] | None = None  # by latent, (1, tokens, channels)
    coords: Tensor | None = None  # (N, 3) int voxels, taken as they are
    latent_noise: Tensor | None = None  # (N, channels)


@dataclass(frozen=True)
class Result:
    """A finished object; tensors on the runtime's device."""

    object_id: str
    gaussians: GaussianFields  # object frame
    pose: Pose  # to the OpenCV camera frame of the photo
    coords: Tensor  # (N, 3) int32 voxels
    latents: Mapping[str, Tensor]  # end state of the first stage
    slat: Tensor  # (N, channels) float32, de-normalised latent of the second stage
    downsample: int  # 1, or 2 when the voxels were too many and were shrunk
    seconds: Mapping[str, float]  # by step; empty unless RuntimeOptions.timed


@dataclass(frozen=True)
class Failure:
    """An object that failed, with the reason in one line."""

    object_id: str
    reason: str
