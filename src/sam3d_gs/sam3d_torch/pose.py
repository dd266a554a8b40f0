"""Decodes the pose latents, and converts poses to our camera frame.

The latents describe the object relative to the normalised pointmap (`preprocess.py`), in PyTorch3D's camera frame
(x left, y up, z forward) and with row vectors. Everything here is float64 on the CPU: a few numbers per object.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sam3d_gs.gaussians.pose import matrix_to_quat, quat_to_matrix
from sam3d_gs.types import Pose

# Statistics of the training set, by which the rotation latent is normalised. They are constants of the released
# pipeline: no checkpoint file holds them.
_ROTATION_MEAN = np.array(
    [
        -0.06366084883674913,
        0.008438224692279752,
        0.00017084786438302483,
        0.0007126610473540038,
        -0.0030916726538816417,
        0.5166093753457688,
    ]
)
_ROTATION_STD = np.array(
    [
        0.6656971967514863,
        0.6787012271867754,
        0.30345010594844524,
        0.4394504420678794,
        0.39817973931717104,
        0.6176286868761914,
    ]
)
_LATENTS = {"6drotation_normalized": 6, "scale": 3, "translation": 3}  # name -> numbers
_TINY = 1e-6  # of vectors whose length is about one: shorter ones have no direction
_FLIP = np.diag([-1.0, -1.0, 1.0])  # PyTorch3D camera <-> OpenCV camera: half a turn about the optical axis


class PoseError(ValueError):
    """The network's pose is unusable; the text is the reason, on one line."""


@dataclass(frozen=True)
class Sam3dPose:
    """Object to camera as upstream writes it: ``x_cam = scale * (x_obj @ R(quat_wxyz)) + translation``.

    Rows are points, the camera frame is PyTorch3D's; with columns the rotation would be the transpose.
    """

    quat_wxyz: np.ndarray  # (4,) float64, unit length
    translation: np.ndarray  # (3,) float64, units of the pointmap
    scale: float  # units of the pointmap per object unit


def decode(latents: Mapping[str, Tensor], scale: Tensor, shift: Tensor, downsample: float = 1.0) -> Sam3dPose:
    """Undo the normalisations of the latents and of the pointmap.

    Args:
        latents: one object's `6drotation_normalized` (6 numbers), `scale` (3, log) and `translation` (3), in any shape.
            Others are ignored; `translation_scale` is not used in this convention.
        scale: (3,) of the pointmap.
        shift: (3,) of the pointmap.
        downsample: factor by which the voxels were shrunk to fit into the latent flow.

    Raises:
        PoseError: a number is not finite, or the rotation is degenerate.
    """
    parts = [_flat(latents[name], name, n) for name, n in _LATENTS.items()]
    numbers = torch.cat([*parts, _flat(scale, "scale of the pointmap", 3), _flat(shift, "shift of the pointmap", 3)])
    rotation, log_scale, offset, scene_scale, scene_shift = np.split(
        numbers.cpu().double().numpy(), np.cumsum([*_LATENTS.values(), 3])
    )
    matrix = _gram_schmidt(rotation * _ROTATION_STD + _ROTATION_MEAN)
    with np.errstate(over="ignore"):
        object_scale = float(np.mean(np.exp(log_scale) * scene_scale) * downsample)
        translation = offset * scene_scale + scene_shift
    if not (np.isfinite(translation).all() and np.finfo(np.float32).tiny < object_scale < np.finfo(np.float32).max):
        raise PoseError(f"the network placed it nowhere (scale {object_scale:g}, translation {translation.tolist()})")
    return Sam3dPose(matrix_to_quat(matrix), translation, object_scale)


def to_opencv(pose: Sam3dPose) -> Pose:
    """The same placement with column vectors and the OpenCV camera: ``x_cam = scale * R @ x_obj + translation``."""
    rotation = _FLIP @ quat_to_matrix(pose.quat_wxyz).T
    return Pose(matrix_to_quat(rotation), _FLIP @ pose.translation, pose.scale)


def _flat(latent: Tensor, name: str, numbers: int) -> Tensor:
    if latent.numel() != numbers:
        raise ValueError(f"{name} has shape {tuple(latent.shape)}, expected {numbers} numbers of one object")
    return latent.detach().float().reshape(numbers)


def _gram_schmidt(six: np.ndarray) -> np.ndarray:
    """(6,) two vectors -> (3, 3) rotation with orthonormal columns (Zhou et al. 2019, section 4.2)."""
    first, second = six[:3], six[3:]
    with np.errstate(invalid="ignore", divide="ignore"):
        b1 = first / np.linalg.norm(first)
        across = second - (b1 @ second) * b1
        b2 = across / np.linalg.norm(across)
    if not (min(np.linalg.norm(first), np.linalg.norm(across)) > _TINY and np.isfinite(six).all()):  # NaN fails
        raise PoseError(f"the network gave no rotation (6-D vector {six.tolist()})")
    return np.stack([b1, b2, np.cross(b1, b2)], axis=1)
