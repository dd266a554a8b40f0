"""Occupancy logits to the voxels that stage 2 fills: threshold, keep the surface, shrink objects that are too large.

Voxels are (N, 3) int32 (x, y, z) of one object, in [0, resolution), in lexicographic order. Counting them makes the
host wait for the device; that happens once, at the end of each function.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

VOXEL_LIMIT = 42_000
SHRINK = 2  # what `downsample` divides the object's extent by


def occupied(logits: Tensor) -> Tensor:
    """(1, 1, R, R, R) logits -> voxels whose logit is above zero."""
    return torch.argwhere(_grid(logits)).int()


def surface(logits: Tensor) -> Tensor:
    """(1, 1, R, R, R) logits -> `prune(occupied(logits))`, with one wait for the device instead of two."""
    grid = _grid(logits)
    return torch.argwhere(grid & ~_interior(grid)).int()


def prune(coords: Tensor, resolution: int) -> Tensor:
    """Drop the voxels whose 26 neighbours are all occupied. Outside the grid nothing is, so border voxels stay."""
    x, y, z = coords.long().unbind(1)
    return coords[~_interior(_fill(coords, resolution))[x, y, z]]


def downsample(coords: Tensor, resolution: int, limit: int = VOXEL_LIMIT) -> tuple[Tensor, int]:
    """More than `limit` voxels: shrink them by two about the middle of their box -> (voxels, factor 1 or 2).

    The object becomes half as large in the grid; its pose must compensate. A second shrink is never tried: half
    of a 64^3 grid holds 32,768 voxels. Most positions land exactly between two voxels, so the float32 rounding of each
    step decides where they go; the order of operations is the trained model's and must stay.
    """
    if len(coords) <= limit:
        return coords, 1
    points = coords.float()
    low, high = points.amin(0), points.amax(0)
    size = high - low + 1
    new_size = size / SHRINK
    start = (size - new_size) / 2
    new_low, new_high = low + start, low + start + new_size - 1
    unit = (points - low) / (high - low).clamp(min=1)  # an axis with one layer is not moved
    moved = torch.round(unit * (new_size - 1) + new_low).int()
    first = new_low.int()
    moved = torch.clamp(moved, first, torch.maximum(new_high.int(), first))
    return torch.argwhere(_fill(moved, resolution)).int(), SHRINK


def _grid(logits: Tensor) -> Tensor:
    if logits.shape[:2] != (1, 1):
        raise ValueError(f"logits have shape {tuple(logits.shape)}, expected (1, 1, R, R, R)")
    return logits[0, 0] > 0


def _fill(coords: Tensor, resolution: int) -> Tensor:
    """(N, 3) voxels -> (R, R, R) bool."""
    grid = torch.zeros((resolution,) * 3, dtype=torch.bool, device=coords.device)
    x, y, z = coords.long().unbind(1)
    grid[x, y, z] = True
    return grid


def _interior(grid: Tensor) -> Tensor:
    """(R, R, R) bool -> True where the whole 3x3x3 neighbourhood is: one axis after the other."""
    full = F.pad(grid, (1,) * 6)
    full = full[:-2] & full[1:-1] & full[2:]
    full = full[:, :-2] & full[:, 1:-1] & full[:, 2:]
    return full[:, :, :-2] & full[:, :, 1:-1] & full[:, :, 2:]
