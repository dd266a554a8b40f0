"""Voxel functions against brute force over sets and single voxels."""

from itertools import product

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.sam3d_torch.voxels import VOXEL_LIMIT, downsample, occupied, prune, surface

RESOLUTION = 7


@st.composite
def grids(draw, resolution=RESOLUTION):
    """A random occupancy grid, often with a solid block in it, never empty."""
    seed, density = draw(st.integers(0, 2**31)), draw(st.sampled_from((0.02, 0.3, 0.8, 0.97, 1.0)))
    grid = torch.rand((resolution,) * 3, generator=torch.Generator().manual_seed(seed)) < density
    low = draw(st.tuples(*[st.integers(0, resolution - 1)] * 3))
    side = draw(st.integers(1, resolution))
    grid[tuple(slice(start, start + side) for start in low)] = True
    return grid


def logits_of(grid):
    return torch.where(grid, 1e-6, 0.0)[None, None]  # zero itself is not occupied


@given(grids())
@settings(max_examples=60, deadline=None)
def test_surface_is_every_voxel_with_a_neighbour_missing(grid):
    everything = {tuple(voxel) for voxel in grid.nonzero().tolist()}
    assert [tuple(v) for v in occupied(logits_of(grid)).tolist()] == sorted(everything)
    around = list(product((-1, 0, 1), repeat=3))
    expected = sorted(
        (x, y, z) for x, y, z in everything if any((x + i, y + j, z + k) not in everything for i, j, k in around)
    )
    assert [tuple(v) for v in surface(logits_of(grid)).tolist()] == expected
    pruned = prune(occupied(logits_of(grid)), RESOLUTION)
    assert torch.equal(pruned, surface(logits_of(grid))) and pruned.dtype == torch.int32


def test_prune_keeps_the_order_it_was_given():
    coords = torch.argwhere(torch.ones((5,) * 3)).int()
    shuffled = coords[torch.randperm(len(coords), generator=torch.Generator().manual_seed(0))]
    inner = ((shuffled > 0) & (shuffled < 4)).all(1)
    assert torch.equal(prune(shuffled, 5), shuffled[~inner])


@pytest.mark.slow
@given(grids(resolution=11), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_downsample_moves_every_voxel_towards_the_middle_of_the_box(grid, limit):
    coords = torch.argwhere(grid).int()
    shrunk, factor = downsample(coords, 11, limit)
    if len(coords) <= limit:
        assert factor == 1 and shrunk is coords
        return
    one, two = np.float32(1), np.float32(2)
    points = coords.numpy().astype(np.float32)
    expected = set()
    for point in points:
        moved = []
        for axis in range(3):
            low, high = points[:, axis].min(), points[:, axis].max()
            size = high - low + one
            start = low + (size - size / two) / two
            end = start + size / two - one
            if high == low:
                moved.append(int(low))
                continue
            value = np.rint((point[axis] - low) / (high - low) * (size / two - one) + start)
            moved.append(int(min(max(value, np.trunc(start)), np.trunc(end))))
        expected.add(tuple(moved))
    assert factor == 2 and shrunk.dtype == torch.int32
    assert [tuple(v) for v in shrunk.tolist()] == sorted(expected)


def test_a_full_grid_comes_down_to_an_eighth():
    coords = torch.argwhere(torch.ones((64,) * 3, dtype=torch.bool)).int()
    shrunk, factor = downsample(coords, 64)
    assert len(coords) > VOXEL_LIMIT >= len(shrunk) == 32**3 and factor == 2
    assert shrunk.min() == 16 and shrunk.max() == 47


def test_a_sheet_one_voxel_thick_stays_where_it_is():
    sheet = torch.zeros(9, 9, 9, dtype=torch.bool)
    sheet[:, 5] = True
    shrunk, factor = downsample(torch.argwhere(sheet).int(), 9, limit=1)
    assert factor == 2 and shrunk[:, 1].tolist() == [5] * len(shrunk)
    assert shrunk[:, [0, 2]].min() == 2 and shrunk[:, [0, 2]].max() == 5  # 9 voxels wide, now 4


def test_logits_of_several_objects_are_refused():
    with pytest.raises(ValueError, match="expected \\(1, 1, R, R, R\\)"):
        occupied(torch.zeros(2, 1, 4, 4, 4))
