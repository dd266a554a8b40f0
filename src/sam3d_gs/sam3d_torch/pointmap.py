"""Pointmaps: a 3-D point per pixel, in the camera frame that the networks were trained with.

That frame is PyTorch3D's (x left, y up, z forward); ours is OpenCV's (x right, y down, z forward). An invalid pixel is
NaN in all three coordinates.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sam3d_gs.errors import BadInputError


def to_pytorch3d(points: Tensor) -> Tensor:
    """(..., 3) points in the OpenCV camera frame -> float32 in the PyTorch3D one.

    A point with any non-finite coordinate becomes NaN in all of them.
    """
    flipped = points.float() * torch.tensor((-1.0, -1.0, 1.0), device=points.device)
    invalid = ~torch.isfinite(points[..., 0])
    for axis in (1, 2):  # one axis at a time: no bool copy of the whole map
        invalid |= ~torch.isfinite(points[..., axis])
    return flipped.masked_fill_(invalid[..., None], torch.nan)


def from_depth(
    depth: np.ndarray, K: np.ndarray, photo_size: tuple[int, int], device: torch.device | str = "cpu"
) -> Tensor:
    """Pointmap of a depth map: every pixel's ray, times its depth.

    Args:
        depth: (h, w) metres along the optical axis (not along the ray); zero, negative and non-finite are invalid.
        K: (3, 3) pixels of the photo, pixel centres at half-integers, no skew.
        photo_size: (width, height) px. A depth map of another size covers the same view, so that K shrinks with it.
        device: of the result.

    Returns:
        (h, w, 3) float32, PyTorch3D camera frame, metres, NaN where invalid; the size is the depth map's.

    Raises:
        BadInputError: the depth map has no valid pixel.
    """
    height, width = depth.shape
    x = ((np.arange(width) + 0.5) * (photo_size[0] / width) - K[0, 2]) / K[0, 0]
    y = ((np.arange(height) + 0.5) * (photo_size[1] / height) - K[1, 2]) / K[1, 1]
    z = torch.from_numpy(np.array(depth, dtype=np.float32)).to(device)
    z.masked_fill_(~(torch.isfinite(z) & (z > 0)), torch.nan)
    if bool(torch.isnan(z).all()):
        raise BadInputError("The depth map has no valid pixel: all are zero, negative or not finite. Give another one.")
    points = torch.empty((height, width, 3), dtype=torch.float32, device=device)
    torch.mul(z, torch.tensor(-x, dtype=torch.float32, device=device), out=points[..., 0])
    torch.mul(z, torch.tensor(-y, dtype=torch.float32, device=device)[:, None], out=points[..., 1])
    points[..., 2] = z
    return points


def pixel_intrinsics(normalised: Tensor, photo_size: tuple[int, int]) -> np.ndarray:
    """(3, 3) intrinsics in units of the image sides, as MoGe gives them, -> float64 pixels.

    Both put the corner of the top-left pixel at the origin, so that only the units change.
    """
    sides = np.array([photo_size[0], photo_size[1], 1.0])
    return np.asarray(normalised.detach().cpu().double().numpy() * sides[:, None], dtype=np.float64)


def resize(points: Tensor, height: int, width: int) -> Tensor:
    """(h, w, 3) -> (height, width, 3) by nearest neighbour; a mean of points across an edge would be on no surface."""
    if tuple(points.shape[:2]) == (height, width):
        return points
    rows = nearest(points.shape[0], height).to(points.device)
    columns = nearest(points.shape[1], width).to(points.device)
    return points[rows[:, None], columns]


@lru_cache(maxsize=64)
def nearest(source: int, target: int) -> Tensor:
    """(target,) int64 on the CPU: which of `source` pixels torch's nearest-neighbour resize picks for each target."""
    positions = torch.arange(source, dtype=torch.float32)  # exact below 2**24
    return F.interpolate(positions[None, None], size=target, mode="nearest")[0, 0].long()
