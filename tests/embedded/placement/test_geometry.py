"""The geometry head's answer: sizes, the horizon it implies, depths under masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sam3d_gs.embedded.placement.camera import gravity_up
from sam3d_gs.embedded.placement.geometry import (
    SIDE_PX,
    SceneGeometry,
    horizon_pitch_deg,
    median_log_depths,
    predict_geometry,
    shows_background,
)
from sam3d_gs.embedded.proposals.mask_net import GEOMETRY_STRIDE_PX, MaskNet, MaskNetConfig
from sam3d_gs.photo import intrinsics

SMALL = MaskNetConfig(widths=(8, 16, 16, 48, 64), embedding=8, query_width=16, geometry=True)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(900, 1200), (40, 30), (2, 700), (1, 1)])
def test_pictures_of_any_size_are_read(height: int, width: int) -> None:
    torch.manual_seed(1)
    rgb = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    said = predict_geometry(MaskNet(SMALL).eval(), rgb)
    assert said is not None
    assert said.log_depth.shape == said.sin_elevation.shape
    assert max(said.sin_elevation.shape) == SIDE_PX / GEOMETRY_STRIDE_PX
    assert (
        abs(said.sin_elevation.shape[0] / said.sin_elevation.shape[1] - height / width) < 0.2 or min(height, width) < 40
    )
    assert np.isfinite(said.log_depth).all()


def test_a_net_without_the_head_says_nothing() -> None:
    old = MaskNet(MaskNetConfig(widths=(8, 16, 16, 48, 64), embedding=8, query_width=16))
    assert predict_geometry(old, np.zeros((64, 64, 3), np.uint8)) is None


@pytest.mark.slow
@given(pitch_deg=st.floats(-30, 80), fov_deg=st.floats(20, 100), noise=st.floats(0, 0.05))
def test_the_horizon_gives_the_pitch(pitch_deg: float, fov_deg: float, noise: float) -> None:
    width, height = 640, 480
    K = intrinsics(width, height, None, fov_deg)
    up = gravity_up(pitch_deg)
    rows, columns = 60, 80
    u, v = np.meshgrid((np.arange(columns) + 0.5) * 8, (np.arange(rows) + 0.5) * 8)
    rays = np.stack([(u - K[0, 2]) / K[0, 0], (v - K[1, 2]) / K[1, 1], np.ones_like(u)], axis=-1)
    sin_elevation = rays @ up / np.linalg.norm(rays, axis=-1)
    sin_elevation += noise * np.random.default_rng(0).standard_normal(sin_elevation.shape)
    said = SceneGeometry(np.zeros_like(sin_elevation), sin_elevation.astype(np.float32))
    assert horizon_pitch_deg(said, K, (width, height)) == pytest.approx(pitch_deg, abs=0.01 + 40 * noise)


def test_depths_are_medians_under_the_masks() -> None:
    log_depth = np.full((30, 40), math.log(5.0), np.float32)
    log_depth[10:20, 10:20] = math.log(2.0)
    log_depth[12, 12] = 40  # one wild pixel
    near, far, tiny = np.zeros((3, 240, 320), bool)
    near[84:156, 84:156] = True
    far[0:60] = True
    tiny[130, 130] = True
    said = np.exp(median_log_depths(SceneGeometry(log_depth, log_depth), [near, far, tiny]))
    np.testing.assert_allclose(said, [2, 5, 2], rtol=1e-5)


def test_a_mirrored_photo_has_the_mirrored_geometry() -> None:
    torch.manual_seed(1)
    net, rgb = MaskNet(SMALL).eval(), np.random.default_rng(1).integers(0, 256, (240, 320, 3), np.uint8)
    straight, mirrored = predict_geometry(net, rgb), predict_geometry(net, np.ascontiguousarray(rgb[:, ::-1]))
    assert straight is not None and mirrored is not None
    np.testing.assert_allclose(mirrored.log_depth[:, ::-1], straight.log_depth, atol=1e-4)
    np.testing.assert_allclose(mirrored.sin_elevation[:, ::-1], straight.sin_elevation, atol=1e-4)


def test_a_cut_out_shows_nothing_around_its_object() -> None:
    mask = np.zeros((60, 80), bool)
    mask[10:50, 20:60] = True
    rgb = np.full((60, 80, 3), 255, np.uint8)
    rgb[mask] = 90
    rgb[9, 20:60] = 180  # the soft edge
    assert not shows_background(rgb, [mask])
    rgb[50:] = 60  # something to stand on
    assert shows_background(rgb, [mask])
    assert shows_background(rgb, [np.ones_like(mask)])  # nothing is left to judge by
