"""Occupied voxels of one or several objects, and convolution, pooling and spreading over them.

A missing neighbour or child is the index one past the last row, where callers keep a row of zeros; so every
operation is a gather, a product and a sum, the same on every device and in the same order on every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sam3d_gs.sam3d_torch import ops

OFFSETS = 27  # of a 3 x 3 x 3 kernel, x-major
GATHER_BYTES = 256 << 20  # neighbours gathered at a time: large enough for a product that fills a GPU


@dataclass(frozen=True)
class Level:
    """The voxels of all objects at one resolution, object after object."""

    coords: Tensor  # (N, 3) int64
    lengths: tuple[int, ...]  # voxels an object
    neighbours: Tensor  # (N, 27) int64; N where there is none

    def __len__(self) -> int:
        return len(self.coords)


@dataclass(frozen=True)
class Halving:
    """The links between a fine level and the level of half its resolution."""

    parent: Tensor  # (N,) int64: coarse row of each fine voxel
    children: Tensor  # (n, 8) int64: fine rows of each coarse voxel; N where there is none


def level(coords: Sequence[Tensor], resolution: int) -> Level:
    """Find the neighbours of every voxel within its own object.

    Args:
        coords: for each object (N, 3) integer coordinates in 0..resolution-1, without duplicates.
        resolution: voxels along each axis.
    """
    joined = torch.cat([c.long() for c in coords])
    device, total, lengths = joined.device, len(joined), tuple(len(c) for c in coords)
    side = resolution + 2  # a border of empty cells, so that no index leaves the grid
    start = torch.arange(len(lengths), device=device).repeat_interleave(torch.tensor(lengths, device=device))
    strides = torch.tensor([side * side, side, 1], device=device)
    cells = start * side**3 + ((joined + 1) * strides).sum(1)
    grid = torch.full((len(lengths) * side**3,), total, dtype=torch.int64, device=device)
    grid[cells] = torch.arange(total, device=device)
    step = torch.arange(-1, 2, device=device)
    shifts = (torch.cartesian_prod(step, step, step) * strides).sum(1)
    return Level(joined, lengths, grid[cells[:, None] + shifts])


def halve(fine: Level, resolution: int) -> tuple[Level, Halving]:
    """Join the voxels of each 2 x 2 x 2 cell; coarse voxels come object after object, in the order of x, y, z."""
    device, half = fine.coords.device, resolution // 2
    number = torch.arange(len(fine.lengths), device=device).repeat_interleave(torch.tensor(fine.lengths, device=device))
    cell = fine.coords // 2
    key = ((number * half + cell[:, 0]) * half + cell[:, 1]) * half + cell[:, 2]
    unique, parent = torch.unique(key, return_inverse=True)
    coords = torch.stack([unique // (half * half) % half, unique // half % half, unique % half], dim=1)
    lengths = torch.bincount(unique // half**3, minlength=len(fine.lengths)).tolist()
    slot = ((fine.coords % 2) * torch.tensor([4, 2, 1], device=device)).sum(1)
    children = torch.full((len(unique), 8), len(fine), dtype=torch.int64, device=device)
    children[parent, slot] = torch.arange(len(fine), device=device)
    return level(list(coords.split(lengths)), half), Halving(parent, children)


def repeated(index: Tensor, rows: int, times: int) -> Tensor:
    """An index into `rows` rows (and the zero row after them) for `times` copies of the rows, one after another."""
    if times == 1:
        return index
    return torch.cat([torch.where(index == rows, times * rows, index + i * rows) for i in range(times)])


def convolve(padded: Tensor, neighbours: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A 3 x 3 x 3 convolution over the occupied voxels only (Graham et al. 2018, "submanifold").

    Args:
        padded: (N + 1, Cin), the last row zero.
        neighbours: (M, 27) rows of `padded`.
        weight: (Cout, 3, 3, 3, Cin) over x, y, z.
        bias: (Cout,).

    Returns:
        (M, Cout).
    """
    flat = weight.flatten(1)
    rows = max(1, GATHER_BYTES // (flat.shape[1] * padded.element_size()))
    parts = [F.linear(ops.gather_rows(padded, part), flat, bias) for part in neighbours.split(rows)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def convolve_spread(padded: Tensor, parents: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The same convolution where the fine rows are copies of coarse ones: multiply once per coarse row, then gather.

    Args:
        padded: (n + 1, Cin) coarse rows, the last one zero.
        parents: (N, 27) coarse row of each neighbour of each fine voxel; n where there is no neighbour.
        weight: (Cout, 3, 3, 3, Cin).
        bias: (Cout,).

    Returns:
        (N, Cout).
    """
    by_offset = weight.flatten(1, 3).permute(1, 0, 2).flatten(0, 1)  # (27 Cout, Cin)
    products = (padded @ by_offset.t()).view(len(padded) * OFFSETS, -1)
    rows = parents * OFFSETS + torch.arange(OFFSETS, device=parents.device)
    return sum_rows(products, rows) + bias


def pool(features: Tensor, children: Tensor) -> Tensor:
    """Sum of each coarse voxel's fine rows over their number *plus one*: (N, C) to (n, C).

    Upstream takes a mean that counts the zero it starts from; the networks were trained with it.
    """
    padded = F.pad(features, (0, 0, 0, 1))
    count = (children < len(features)).sum(1, keepdim=True)
    return (sum_rows(padded, children) / (count + 1)).to(features.dtype)


def sum_rows(table: Tensor, rows: Tensor) -> Tensor:
    """(R, C) table and (M, K) row numbers to (M, C): the sum of each row's K rows of the table."""
    if table.device.type in ("cpu", "cuda"):
        return F.embedding_bag(rows, table, mode="sum")
    return sum_rows_in_turn(table, rows)


def sum_rows_in_turn(table: Tensor, rows: Tensor) -> Tensor:
    """`sum_rows` for devices on which PyTorch may lack the fused form."""
    total = table[rows[:, 0]]
    for column in rows[:, 1:].unbind(1):
        total = total + table[column]
    return total
