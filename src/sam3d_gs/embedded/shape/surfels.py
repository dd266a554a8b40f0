"""Surfels: flat Gaussians on a surface, described by the steps to their neighbours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sam3d_gs.types import SH_C0, Gaussians

OVERLAP = 0.62  # standard deviation over the step to the neighbour: no holes, little blur
FLATNESS = 0.12  # thin axis over the shorter tangent axis


@dataclass(frozen=True)
class Surfels:
    """N pieces of a surface. `step_a` and `step_b` point to the neighbours and span the tangent plane."""

    points: np.ndarray  # (N, 3)
    step_a: np.ndarray  # (N, 3)
    step_b: np.ndarray  # (N, 3)
    rgb: np.ndarray  # (N, 3) 0..1
    opacity: np.ndarray  # (N,) 0..1

    def __len__(self) -> int:
        return len(self.points)


def concatenate(parts: list[Surfels]) -> Surfels:
    names = ("points", "step_a", "step_b", "rgb", "opacity")
    return Surfels(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def to_gaussians(surfels: Surfels, rotation: np.ndarray, origin: np.ndarray, scale: float) -> Gaussians:
    """Discs with the covariance given by the two steps, in the frame ``x = rotation.T @ (point - origin) / scale``.

    rotation: (3, 3), the frame's axes as columns. The third local axis is the thin one, along the normal.
    """
    step_a, step_b = (s.astype(np.float64) @ rotation / scale for s in (surfels.step_a, surfels.step_b))
    means = (surfels.points.astype(np.float64) - origin) @ rotation / scale

    # An orthonormal frame with its first axis along step_a, then the 2x2 ellipse a a' + b b' turned to its axes.
    length_a = np.maximum(np.linalg.norm(step_a, axis=1), 1e-12)
    axis_u = step_a / length_a[:, None]
    b_u = np.einsum("ni,ni->n", step_b, axis_u)
    across = step_b - b_u[:, None] * axis_u
    b_v = np.linalg.norm(across, axis=1)
    axis_v = across / np.maximum(b_v, 1e-12)[:, None]
    uu, uv, vv = length_a**2 + b_u**2, b_u * b_v, b_v**2
    angle = 0.5 * np.arctan2(2 * uv, uu - vv)
    cos, sin = np.cos(angle)[:, None], np.sin(angle)[:, None]
    major, minor = cos * axis_u + sin * axis_v, cos * axis_v - sin * axis_u
    mean, half = (uu + vv) / 2, np.hypot((uu - vv) / 2, uv)
    sigma_major = OVERLAP * np.sqrt(mean + half)
    sigma_minor = OVERLAP * np.sqrt(np.maximum(mean - half, 0))
    sigma_minor = np.maximum(sigma_minor, 0.1 * sigma_major)
    scales = np.stack([sigma_major, sigma_minor, FLATNESS * sigma_minor], axis=1)

    opacity = np.clip(surfels.opacity, 1e-3, 0.999)
    axes = np.stack([major, minor, np.cross(major, minor)], axis=2)
    return Gaussians(
        means=means.astype(np.float32),
        quats=matrices_to_quats(axes).astype(np.float32),
        log_scales=np.log(np.maximum(scales, 1e-9)).astype(np.float32),
        opacity_logits=np.log(opacity / (1 - opacity)).astype(np.float32),
        sh0=((np.clip(surfels.rgb, 0, 1) - 0.5) / SH_C0).astype(np.float32),
    )


def matrices_to_quats(matrices: np.ndarray) -> np.ndarray:
    """(N, 3, 3) rotations -> (N, 4) unit quaternions wxyz.

    Each of the four components follows from a square root; using the largest one is accurate (Shepperd 1978).
    """
    m = matrices
    xx, yy, zz = m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]
    squares = np.stack([1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz], axis=1)
    wx, wy, wz = m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]
    xy, xz, yz = m[:, 0, 1] + m[:, 1, 0], m[:, 0, 2] + m[:, 2, 0], m[:, 1, 2] + m[:, 2, 1]
    # Row k holds 4 q_k q, so its entry k is the square itself.
    products = np.stack(
        [
            np.stack([squares[:, 0], wx, wy, wz], axis=1),
            np.stack([wx, squares[:, 1], xy, xz], axis=1),
            np.stack([wy, xy, squares[:, 2], yz], axis=1),
            np.stack([wz, xz, yz, squares[:, 3]], axis=1),
        ],
        axis=1,
    )
    best = products[np.arange(len(m)), np.argmax(squares, axis=1)]
    return best / np.linalg.norm(best, axis=1, keepdims=True)
