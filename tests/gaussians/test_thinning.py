"""Thinning: fewer Gaussians, the same surfaces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.gaussians.pose import quat_to_matrix
from sam3d_gs.gaussians.render import Camera, render
from sam3d_gs.gaussians.thinning import SLACK, Thinning, share, thin
from sam3d_gs.types import SH_C0, Gaussians
from tests.gaussians.helpers import assert_same
from tests.gaussians.test_packed import random_gaussians

TURN = np.array([0.77, 0.34, -0.17, 0.51]) / np.linalg.norm([0.77, 0.34, -0.17, 0.51])


def areas(gaussians: Gaussians) -> np.ndarray:
    return np.sort(gaussians.scales.astype(np.float64), axis=1)[:, 1:].prod(axis=1)


def test_thinning_keeps_the_covered_area_and_a_little_more() -> None:
    gaussians = random_gaussians(4000, 1)
    gaussians = replace(gaussians, log_scales=gaussians.log_scales * np.float32(0.15))
    kept = thin(gaussians, 1000)
    assert 990 <= len(kept) <= 1000
    assert areas(kept).sum() == pytest.approx(SLACK**2 * areas(gaussians).sum(), rel=0.05)
    assert thin(gaussians, 4000) is gaussians
    np.testing.assert_array_equal(thin(gaussians, 1000).means, kept.means)
    assert len(thin(gaussians, 0)) == 0


@pytest.mark.parametrize("counts", [(900, 300), (300, 900), (2000, 10)])
def test_thinning_several_times_gives_what_thinning_once_gives(counts: tuple[int, int]) -> None:
    gaussians = random_gaussians(1000, 6)
    several = Thinning(gaussians)
    for count in counts:
        assert_same(several.keep(count), thin(gaussians, count))


def test_large_ones_stay_as_they_are_and_small_ones_are_joined() -> None:
    gaussians = random_gaussians(3000, 2)
    sizes = np.where(np.arange(3000) < 300, np.log(0.5), np.log(0.05)).astype(np.float32)
    kept = thin(replace(gaussians, log_scales=np.repeat(sizes[:, None], 3, axis=1)), 1200)
    large = kept.scales[:, 0] > 0.4
    assert large.sum() == 300
    np.testing.assert_allclose(kept.scales[large], 0.5, rtol=1e-5)
    np.testing.assert_allclose(kept.scales[~large], 0.05 * SLACK * np.sqrt(2700 / 900), rtol=0.01)


def test_few_left_out_widen_the_others_little() -> None:
    gaussians = replace(random_gaussians(4000, 5), log_scales=np.full((4000, 3), np.log(0.1), np.float32))
    np.testing.assert_allclose(thin(gaussians, 3960).scales, 0.1 / 0.99, rtol=1e-3)


def test_no_needle_becomes_a_lance() -> None:
    gaussians = random_gaussians(2000, 3)
    log_scales = np.full((2000, 3), np.log(0.1), np.float32)
    log_scales[:1000] = np.log([0.1, 1e-6, 1e-7])
    kept = thin(replace(gaussians, log_scales=log_scales), 1500)
    assert kept.scales.max() < 0.1 * 2.01 * np.sqrt(2000 / 1500)


def test_a_thinned_surface_has_no_holes() -> None:
    """Half a sphere finely, half coarsely sampled: every point of it stays within reach of a kept Gaussian."""
    rng = np.random.default_rng(4)
    points = rng.normal(size=(30_000, 3))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    points = points[(points[:, 0] > 0) | (np.arange(30_000) % 4 == 0)]
    spread = np.where(points[:, 0] > 0, 0.02, 0.04).astype(np.float32)
    gaussians = replace(
        random_gaussians(len(points), 4),
        means=points.astype(np.float32),
        log_scales=np.log(np.repeat(spread[:, None], 3, axis=1)),
    )
    kept = thin(gaussians, len(points) // 2)
    cKDTree = pytest.importorskip("scipy.spatial").cKDTree
    distance, nearest = cKDTree(kept.means).query(points)
    assert np.quantile(distance / kept.scales[nearest, 0], 0.999) < 1.5


def two_walls(side: int, apart: float) -> Gaussians:
    """A red wall, 2 x 2, before a blue one, each of side x side discs as the embedded engine makes them.

    They stand across the axes; the camera of `specks` looks straight at the red one.
    """
    across = np.linspace(-1, 1, side)
    walls = np.stack(np.meshgrid(across, across, [0.0, apart], indexing="ij"), axis=-1).reshape(-1, 3)
    deviation = 0.62 * 2 / side
    return Gaussians(
        means=(walls @ quat_to_matrix(TURN).T).astype(np.float32),
        quats=np.tile(TURN, (len(walls), 1)).astype(np.float32),
        log_scales=np.tile(np.log([deviation, deviation, 0.12 * deviation]), (len(walls), 1)).astype(np.float32),
        opacity_logits=np.full(len(walls), 3.5, np.float32),
        sh0=np.where(walls[:, 2:] > 0, [-0.5, -0.5, 0.5], [0.5, -0.5, -0.5]).astype(np.float32) / np.float32(SH_C0),
    )


def specks(gaussians: Gaussians) -> float:
    """Share of the pixels, all within the red wall, that are blue for more than three tenths."""
    T_camera_world = np.eye(4)
    T_camera_world[:3, :3] = quat_to_matrix(TURN).T
    T_camera_world[2, 3] = 4.0
    camera = Camera(np.array([[800.0, 0, 160], [0, 800.0, 160], [0, 0, 1]]), 320, 320, T_camera_world)
    return float((render(gaussians, camera, backend="numba").rgb[..., 2] > 0.3).mean())


@pytest.mark.parametrize("apart", [0.03, 0.1])
def test_a_wall_hides_the_one_behind_when_both_are_thinned(apart: float) -> None:
    pytest.importorskip("numba")
    gaussians = two_walls(100, apart)
    assert specks(gaussians) == 0
    assert specks(thin(gaussians, len(gaussians) // 4)) < 0.001


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 10_000_000), min_size=1, max_size=40), total=st.integers(20_000, 1_000_000))
def test_every_object_gets_its_share(counts: list[int], total: int) -> None:
    shares = share(counts, total)
    assert all(1 <= got <= count for got, count in zip(shares, counts, strict=True))
    assert sum(shares) <= max(total, 0) + 500 * len(counts)
    if sum(counts) <= total:
        assert shares == counts
