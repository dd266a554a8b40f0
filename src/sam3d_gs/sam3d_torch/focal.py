"""Focal length and depth offset of a pointmap that is only known up to both (the last step of MoGe, Wang et al. 2024).

A network gives points whose x and y are right but whose z lacks a constant, and no camera. A pinhole camera with
its centre in the middle of the picture sees a point at ``focal * xy / (z + shift)``; the two numbers are those that
bring the points closest to the pixels they belong to, in the least-squares sense.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLES = 64  # the fit looks at a grid of this many rows and columns
MAX_STEPS = 200
STEP_TOLERANCE = 1e-12  # of the shift, relative to 1 + |shift|
MAX_FOCAL = 1e4  # half diagonals, a hundredth of a degree across: beyond that, the camera might as well be at infinity


def view_plane(height: int, width: int, aspect: float | None = None, device: torch.device | None = None) -> Tensor:
    """(height, width, 2) float32: x and y of each pixel centre in units of half the picture's diagonal, centre at 0.

    `aspect` is the picture's width over height where the grid is coarser than the picture.
    """
    aspect = width / height if aspect is None else aspect
    half_height = 1 / math.sqrt(1 + aspect**2)
    spans = (aspect * half_height * (width - 1) / width, half_height * (height - 1) / height)
    x, y = (torch.linspace(-s, s, n, device=device) for s, n in zip(spans, (width, height), strict=True))
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)


def recover_focal_shift(points: Tensor, mask: Tensor) -> tuple[float, float]:
    """The focal length, in half diagonals, and what to add to z; (1, 0) when the points do not determine them.

    Args:
        points: (H, W, 3) float, x right, y down, z forward.
        mask: (H, W) bool, which points count.
    """
    height, width = mask.shape
    rows, columns = (_nearest(side, points.device) for side in (height, width))
    xyz = points[rows][:, columns]
    used = mask[rows][:, columns] & xyz.isfinite().all(-1)
    uv = view_plane(height, width, device=points.device)[rows][:, columns]
    return fit(uv[used].cpu().double(), xyz[used].cpu().double())  # MPS has no float64


def fit(uv: Tensor, xyz: Tensor) -> tuple[float, float]:
    """Minimise ``|focal * xy / (z + shift) - uv|`` over both, (N, 2) and (N, 3) float64.

    For a given shift the best focal is known in closed form, so this is a search in one number: Gauss-Newton steps
    from 0, damped (Levenberg-Marquardt) whenever one would make the fit worse. Unlike the usual solvers with their
    loose default tolerance it runs until the shift no longer changes. (1, 0) when there is no such camera.
    """
    if len(uv) < 2:
        return 1.0, 0.0
    xy, z = xyz[:, :2], xyz[:, 2:]

    def evaluate(shift: float) -> tuple[float, float, float, float]:
        """Cost, focal, and the gradient and curvature of the residual along the shift."""
        seen = xy / (z + shift)
        slope = -seen / (z + shift)
        power, match = float((seen * seen).sum()), float((seen * uv).sum())
        if not 0 < power < math.inf:
            return math.inf, 1.0, 0.0, 0.0
        focal = match / power
        focal_slope = (float((slope * uv).sum()) - 2 * focal * float((seen * slope).sum())) / power
        residual = focal * seen - uv
        jacobian = focal_slope * seen + focal * slope
        return (
            float((residual * residual).sum()),
            focal,
            float((jacobian * residual).sum()),
            float((jacobian * jacobian).sum()),
        )

    shift, damping = 0.0, 0.0
    cost, focal, gradient, curvature = evaluate(shift)
    for _ in range(MAX_STEPS):
        if not 0 < curvature < math.inf:
            break
        step = -gradient / (curvature * (1 + damping))
        if abs(step) <= STEP_TOLERANCE * (1 + abs(shift)):
            break
        tried = evaluate(shift + step)
        if tried[0] <= cost:
            shift += step
            cost, focal, gradient, curvature = tried
            damping /= 10
        else:
            damping = max(10 * damping, 1e-3)
    return (focal, shift) if math.isfinite(cost) and abs(focal) <= MAX_FOCAL else (1.0, 0.0)


def normalized_focal(focal: float, aspect: float) -> tuple[float, float]:
    """(fx, fy) in picture widths and heights from a focal length in half diagonals; `aspect` is width over height."""
    diagonal = math.sqrt(1 + aspect**2)  # in heights
    return focal / 2 * diagonal / aspect, focal / 2 * diagonal


def _nearest(side: int, device: torch.device) -> Tensor:
    """(SAMPLES,) indices of a nearest-neighbour resize of `side` pixels."""
    index = torch.arange(side, dtype=torch.float32, device=device)
    return F.interpolate(index[None, None], SAMPLES, mode="nearest")[0, 0].long()
