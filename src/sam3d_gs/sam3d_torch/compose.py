"""Merge objects the way upstream's `make_scene` does, to compare with the official package.

Our own scenes keep every object's scales as they are (`gaussians/merge.py`). Upstream stores scales relative to a
smallest scale (a 3-D filter kernel), one per object, and keeps only the smallest when it merges, which is visible.
Frames and quaternions are upstream's: PyTorch3D camera, row vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sam3d_gs.gaussians.pose import product_matrix, quat_to_matrix
from sam3d_gs.sam3d_torch.pose import Sam3dPose

_FLOOR = 1.1  # smallest merged scale, in kernels: keeps the root of the difference real
_OPAQUE = 0.9  # minimum to count for the extent of a scene


class Fields(Protocol):
    """The decoded Gaussians of one object, in the object frame."""

    @property
    def means(self) -> Tensor: ...  # (N, 3)
    @property
    def scales(self) -> Tensor: ...  # (N, 3) standard deviations
    @property
    def quats(self) -> Tensor: ...  # (N, 4) wxyz
    @property
    def opacities(self) -> Tensor: ...  # (N,) 0..1
    @property
    def sh0(self) -> Tensor: ...  # (N, 3)


@dataclass(frozen=True)
class MergedScene:
    """All objects in the camera frame, in the order given."""

    means: Tensor  # (N, 3)
    scales: Tensor  # (N, 3) standard deviations
    quats: Tensor  # (N, 4) wxyz
    opacities: Tensor  # (N,) 0..1
    sh0: Tensor  # (N, 3)
    kernel_size: float  # smallest of the objects' kernels


def merge(objects: Sequence[tuple[Fields, Sam3dPose]], kernel_size: float) -> MergedScene:
    """Every object at its pose.

    A scale s of object i becomes sqrt(a^2 - k_i^2 + k^2) with a = max(scale_i s, 1.1 k_i), k_i = scale_i `kernel_size`
    and k the smallest k_i: encoded with the object's kernel, decoded with the scene's.

    Args:
        objects: at least one.
        kernel_size: of a decoded object, object units (`GaussianDecoderConfig.kernel_size_3d`).
    """
    kernels = [kernel_size * pose.scale for _, pose in objects]
    smallest = min(kernels)
    means, scales, quats = [], [], []
    for (fields, pose), kernel in zip(objects, kernels, strict=True):
        rotation = _like(quat_to_matrix(pose.quat_wxyz), fields.means)
        means.append(pose.scale * (fields.means @ rotation) + _like(pose.translation, fields.means))
        inverse = pose.quat_wxyz * (1.0, -1.0, -1.0, -1.0)
        quats.append(fields.quats @ _like(product_matrix(inverse), fields.quats).T)
        adjusted = (fields.scales * pose.scale).clamp_min(_FLOOR * kernel)
        scales.append((adjusted.square() - kernel**2 + smallest**2).sqrt())
    return MergedScene(
        torch.cat(means),
        torch.cat(scales),
        torch.cat(quats),
        torch.cat([fields.opacities for fields, _ in objects]),
        torch.cat([fields.sh0 for fields, _ in objects]),
        smallest,
    )


def normalised(scene: MergedScene, upright: bool = False) -> MergedScene:
    """The scene as upstream's videos show it: about the origin, its longest side 1; measured on opaque Gaussians.

    `upright` first maps (x, y, z) to (-x, z, y). As in upstream, that moves positions only, not orientations.

    Raises:
        ValueError: no Gaussian is opaque enough to measure the scene by.
    """
    means = scene.means[:, [0, 2, 1]] * scene.means.new_tensor((-1.0, 1.0, 1.0)) if upright else scene.means
    opaque = means[scene.opacities > _OPAQUE]
    if not len(opaque):
        raise ValueError(f"no Gaussian has an opacity above {_OPAQUE}")
    low, high = opaque.amin(0), opaque.amax(0)
    extent = (high - low).max()
    return MergedScene(
        (means - (low + high) / 2) / extent,
        scene.scales / extent,
        scene.quats,
        scene.opacities,
        scene.sh0,
        scene.kernel_size / float(extent),
    )


def _like(array: object, tensor: Tensor) -> Tensor:
    return torch.as_tensor(array, dtype=tensor.dtype, device=tensor.device)
