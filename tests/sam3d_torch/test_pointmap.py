"""Pointmaps from depth and intrinsics, their frame and their size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sam3d_gs.errors import BadInputError
from sam3d_gs.sam3d_torch import pointmap

K = np.array([[50.0, 0, 20], [0, 60, 15], [0, 0, 1]])


def test_to_pytorch3d_flips_two_axes_and_drops_half_valid_points() -> None:
    points = torch.tensor([[1.0, 2, 3], [math.inf, 2, 3], [1, math.nan, 3], [1, 2, -math.inf]])
    before = points.clone()
    flipped = pointmap.to_pytorch3d(points)
    assert flipped[0].tolist() == [-1, -2, 3]
    assert bool(flipped[1:].isnan().all())
    assert torch.equal(points.nan_to_num(9.0), before.nan_to_num(9.0))


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(2, 30))
def test_points_project_to_the_centres_of_their_pixels(width: int, height: int) -> None:
    depth = np.random.default_rng(0).uniform(0.5, 9, (height, width))
    points = -pointmap.from_depth(depth, K, (width, height)).double().numpy()
    points[..., 2] *= -1  # PyTorch3D to OpenCV
    pixels = points @ K.T
    pixels = pixels[..., :2] / pixels[..., 2:]
    np.testing.assert_allclose(pixels[..., 0], np.broadcast_to(np.arange(width) + 0.5, depth.shape), atol=1e-4)
    np.testing.assert_allclose(
        pixels[..., 1], np.broadcast_to(np.arange(height)[:, None] + 0.5, depth.shape), atol=1e-4
    )
    np.testing.assert_allclose(points[..., 2], depth, rtol=1e-6)


def test_a_smaller_depth_map_covers_the_same_view() -> None:
    small = pointmap.from_depth(np.full((15, 20), 2.0), K, (40, 30))
    large = pointmap.from_depth(np.full((30, 40), 2.0), K, (40, 30))
    torch.testing.assert_close(small, (large[::2, ::2] + large[1::2, 1::2]) / 2)


def test_invalid_depth_becomes_nan() -> None:
    depth = np.array([[1.0, 0.0, -1.0], [math.nan, math.inf, 2.0]])
    points = pointmap.from_depth(depth, K, (3, 2))
    assert points.isnan().any(-1).tolist() == [[False, True, True], [True, True, False]]
    assert points.isnan().all(-1).tolist() == [[False, True, True], [True, True, False]]
    assert torch.equal(pointmap.from_depth(depth[::-1], K, (3, 2))[..., 2].isnan(), points[..., 2].flip(0).isnan())
    with pytest.raises(BadInputError, match="no valid pixel"):
        pointmap.from_depth(np.zeros((2, 3)), K, (3, 2))


def test_moge_intrinsics_become_pixels() -> None:
    normalised = torch.tensor([[0.8, 0, 0.5], [0, 1.1, 0.5], [0, 0, 1]])
    wanted = [[80, 0, 50], [0, 66, 30], [0, 0, 1]]
    np.testing.assert_allclose(pointmap.pixel_intrinsics(normalised, (100, 60)), wanted, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_resize_is_torchs_nearest(source: int, height: int, width: int) -> None:
    points = torch.rand(source, source + 3, 3)
    wanted = F.interpolate(points.permute(2, 0, 1)[None], size=(height, width), mode="nearest")[0].permute(1, 2, 0)
    assert torch.equal(pointmap.resize(points, height, width), wanted)
