"""Sparse operations against dense ones on the same grid."""

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sam3d_gs.sam3d_torch import sparse

RESOLUTION = 8


def blob(seed, resolution=RESOLUTION, filled=0.4):
    generator = torch.Generator().manual_seed(seed)
    coords = torch.argwhere(torch.rand((resolution,) * 3, generator=generator) < filled)
    return coords if len(coords) else torch.zeros(1, 3, dtype=torch.int64)


def dense(features, coords, resolution=RESOLUTION):
    """(N, C) features to (1, C, R, R, R), zero elsewhere."""
    grid = torch.zeros(resolution, resolution, resolution, features.shape[1], dtype=features.dtype)
    grid[tuple(coords.t())] = features
    return grid.permute(3, 0, 1, 2)[None]


def pick(grid, coords):
    return grid[0].permute(1, 2, 3, 0)[tuple(coords.t())]


def kernel(out_channels, channels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(out_channels, 3, 3, 3, channels, generator=generator, dtype=torch.float64)
    return draw, torch.randn(out_channels, generator=generator, dtype=torch.float64)


def features(count, channels, seed=0):
    return torch.randn(count, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 10_000), st.floats(0.02, 1.0))
@settings(max_examples=30, deadline=None)
def test_convolution_is_the_dense_one_at_the_occupied_voxels(seed, filled):
    coords = blob(seed, filled=filled)
    h, (weight, bias) = features(len(coords), 5, seed), kernel(4, 5, seed)
    level = sparse.level([coords], RESOLUTION)
    ours = sparse.convolve(F.pad(h, (0, 0, 0, 1)), level.neighbours, weight, bias)
    theirs = F.conv3d(dense(h, coords), weight.permute(0, 4, 1, 2, 3), bias, padding=1)
    torch.testing.assert_close(ours, pick(theirs, coords))


def test_convolution_in_parts_is_the_whole_one(monkeypatch):
    level, (weight, bias) = sparse.level([blob(5)], RESOLUTION), kernel(4, 5)
    padded = F.pad(features(len(level), 5), (0, 0, 0, 1))
    whole = sparse.convolve(padded, level.neighbours, weight, bias)
    monkeypatch.setattr(sparse, "GATHER_BYTES", 7 * 27 * 5 * 8)  # seven rows at a time
    torch.testing.assert_close(sparse.convolve(padded, level.neighbours, weight, bias), whole)


def test_objects_of_a_batch_are_no_neighbours():
    coords = [blob(1), blob(2)]
    together = sparse.level(coords, RESOLUTION)
    alone = [sparse.level([c], RESOLUTION) for c in coords]
    first, total = len(coords[0]), len(together)
    second = torch.where(alone[1].neighbours == len(coords[1]), total, alone[1].neighbours + first)
    assert torch.equal(together.neighbours[first:], second)
    assert torch.equal(
        together.neighbours[:first], torch.where(alone[0].neighbours == first, total, alone[0].neighbours)
    )


@given(st.integers(0, 10_000), st.floats(0.02, 1.0))
@settings(max_examples=30, deadline=None)
def test_halving_knows_parents_and_children(seed, filled):
    coords = blob(seed, filled=filled)
    fine = sparse.level([coords], RESOLUTION)
    coarse, halving = sparse.halve(fine, RESOLUTION)
    assert torch.equal(coarse.coords, torch.unique(coords // 2, dim=0))  # unique sorts by x, then y, then z
    assert torch.equal(coarse.coords[halving.parent], coords // 2)
    for cell, children in zip(coarse.coords, halving.children, strict=True):
        mine = children[children < len(fine)]
        assert torch.equal(mine.sort().values, torch.where((coords // 2 == cell).all(1))[0])


def test_halving_keeps_objects_apart():
    coords = [blob(3), blob(4), blob(3)]
    coarse, halving = sparse.halve(sparse.level(coords, RESOLUTION), RESOLUTION)
    alone = [sparse.halve(sparse.level([c], RESOLUTION), RESOLUTION)[0] for c in coords]
    assert coarse.lengths == tuple(len(level) for level in alone)
    assert torch.equal(coarse.coords, torch.cat([level.coords for level in alone]))
    starts = torch.tensor(coarse.lengths).cumsum(0)
    assert halving.parent[: len(coords[0])].max() < starts[0] <= halving.parent[len(coords[0])]


def test_pooling_divides_by_one_more_than_the_count():
    coords = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 1], [4, 4, 4]])
    fine = sparse.level([coords], RESOLUTION)
    _, halving = sparse.halve(fine, RESOLUTION)
    pooled = sparse.pool(torch.tensor([[1.0], [2.0], [6.0], [8.0]]), halving.children)
    assert pooled.tolist() == [[9 / 4], [8 / 2]]


@given(st.integers(0, 10_000), st.floats(0.02, 1.0))
@settings(max_examples=20, deadline=None)
def test_multiplying_before_spreading_changes_nothing(seed, filled):
    """The first convolution after the resolution doubles works on copies: one product per coarse voxel is enough."""
    coords = blob(seed, filled=filled)
    fine = sparse.level([coords], RESOLUTION)
    coarse, halving = sparse.halve(fine, RESOLUTION)
    h, (weight, bias) = features(len(coarse), 6, seed), kernel(3, 6, seed)
    parent = torch.cat([halving.parent, torch.tensor([len(coarse)])])
    ours = sparse.convolve_spread(F.pad(h, (0, 0, 0, 1)), parent[fine.neighbours], weight, bias)
    spread = F.pad(h[halving.parent], (0, 0, 0, 1))
    torch.testing.assert_close(ours, sparse.convolve(spread, fine.neighbours, weight, bias))


def test_an_index_repeated_for_two_groups():
    index = torch.tensor([[0, 2], [1, 0]])  # of two rows; 2 is the row of zeros
    assert sparse.repeated(index, 2, 2).tolist() == [[0, 4], [1, 0], [2, 4], [3, 2]]
    assert sparse.repeated(index, 2, 1) is index


def test_rows_summed_in_turn():
    table, rows = features(9, 4), torch.randint(0, 9, (6, 5), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(sparse.sum_rows_in_turn(table, rows), sparse.sum_rows(table, rows))
