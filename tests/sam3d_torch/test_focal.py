"""The camera fit: recovers what made the points, ignores what is masked, and says so when there is no camera."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.sam3d_torch.focal import fit, normalized_focal, recover_focal_shift, view_plane


def seen_by(focal, shift, height, width, seed=0, noise=0.0):
    """Points, without the shift, that a camera sees at the centres of the pixels."""
    generator = torch.Generator().manual_seed(seed)
    z = 1 + 2 * torch.rand(height, width, 1, generator=generator, dtype=torch.float64)
    xy = view_plane(height, width).double() * z / focal
    points = torch.cat([xy, z - shift], dim=-1)
    return points + noise * torch.randn(points.shape, generator=generator, dtype=torch.float64)


def whole(height, width):
    return torch.ones(height, width, dtype=torch.bool)


@settings(max_examples=40, deadline=None)
@given(
    focal=st.floats(0.4, 4),
    shift=st.floats(-1, 0.8),
    height=st.integers(3, 150),
    width=st.integers(3, 150),
    seed=st.integers(0, 99),
)
def test_recovers_the_camera(focal, shift, height, width, seed):
    found = recover_focal_shift(seen_by(focal, shift, height, width, seed), whole(height, width))
    assert found == pytest.approx((focal, shift), abs=1e-5)


@pytest.mark.parametrize("noise", [0.01, 0.05, 0.2])
def test_stops_at_the_minimum(noise):
    points = seen_by(1.1, 0.3, 64, 64, noise=noise)
    uv, xyz = view_plane(64, 64).double().reshape(-1, 2), points.reshape(-1, 3)
    focal, shift = fit(uv, xyz)

    def cost(focal, shift):
        return float((focal * xyz[:, :2] / (xyz[:, 2:] + shift) - uv).square().sum())

    best = cost(focal, shift)
    for step in (1e-4, -1e-4):
        assert cost(focal + step, shift) > best
        assert cost(focal, shift + step) > best


def test_masked_and_missing_points_do_not_count():
    points, mask = seen_by(1.3, 0.4, 50, 70), whole(50, 70)
    mask[10:30, 20:40] = False
    points[10:30, 20:40] = 77.0
    points[40:, :5] = math.inf
    points[0, 0, 1] = math.nan
    assert recover_focal_shift(points, mask) == pytest.approx((1.3, 0.4), abs=1e-6)


def test_too_few_points_leave_the_map_as_it_is():
    points, mask = seen_by(1.3, 0.4, 64, 64), torch.zeros(64, 64, dtype=torch.bool)
    assert recover_focal_shift(points, mask) == (1.0, 0.0)
    mask[7, 7] = True
    assert recover_focal_shift(points, mask) == (1.0, 0.0)


def test_points_that_no_camera_sees_give_no_camera():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(60, 60, 3, generator=generator)
    for points in (noise, torch.zeros(60, 60, 3), torch.ones(60, 60, 3), noise * torch.tensor([0.0, 0.0, 1.0])):
        focal, shift = recover_focal_shift(points, whole(60, 60))
        assert math.isfinite(focal)
        assert abs(focal) <= 1e4
        assert math.isfinite(shift)


@pytest.mark.parametrize(("height", "width"), [(4, 4), (3, 8), (9, 2), (1, 5)])
def test_view_plane_ends_half_a_pixel_inside_the_unit_circle(height, width):
    plane = view_plane(height, width).double()
    assert plane.shape == (height, width, 2)
    diagonal = math.hypot(height, width)
    corner = torch.tensor([(width - 1) / diagonal, (height - 1) / diagonal], dtype=torch.float64)
    torch.testing.assert_close(plane[-1, -1], corner, atol=1e-6, rtol=0)
    torch.testing.assert_close(plane[0, 0], -corner, atol=1e-6, rtol=0)
    torch.testing.assert_close(plane.flip(0, 1), -plane, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (500, 500)])
def test_normalised_focal_lengths_are_one_length_in_pixels(height, width):
    fx, fy = normalized_focal(1.4, width / height)
    assert fx * width == pytest.approx(fy * height)
    assert fx * width == pytest.approx(1.4 * math.hypot(height, width) / 2)
