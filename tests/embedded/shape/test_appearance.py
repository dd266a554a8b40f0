"""Colours of the unseen side: the front's texture comes back, its prints and foreign colours do not."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from sam3d_gs.embedded.shape.appearance import MAX_GRAIN, FineDetail, back_colours
from sam3d_gs.embedded.shape.crops import CROP_PX, Crop
from sam3d_gs.embedded.shape.object_net import DepthLayers

SIDE = 2 * CROP_PX
Y, X = np.mgrid[:SIDE, :SIDE] / SIDE * 2 - 1
INSIDE = np.hypot(X, Y) < 0.9
INNER = np.hypot(X, Y) < 0.3  # where the colours along the outline do not reach
STRIPES = 0.04 * np.sign(np.sin(X * 100))
BROWN = np.array([0.5, 0.35, 0.2])


def back_of(front_rgb: np.ndarray, predicted: np.ndarray = BROWN) -> np.ndarray:
    """(SIDE, SIDE) grey of the back when the net says one colour."""
    coverage = np.ones((CROP_PX, CROP_PX), np.float32)
    rgb = np.broadcast_to(predicted.astype(np.float32), (CROP_PX, CROP_PX, 3))
    crop = Crop(rgb, coverage, (80.0, 80.0), 80.0)
    layers = DepthLayers(coverage, coverage, rgb, coverage)
    front_rgb = front_rgb.astype(np.float32)
    detail = FineDetail.of(front_rgb, INSIDE, SIDE / CROP_PX)
    return back_colours(layers, crop, front_rgb, INSIDE, detail, seed=0).mean(axis=-1)


def contrast(plane: np.ndarray, pattern: np.ndarray, where: np.ndarray = INSIDE) -> float:
    """How strongly a pattern is in a picture: 1 as in the pattern itself."""
    pattern = pattern - pattern[where].mean()
    return float((plane * pattern)[where].sum() / np.square(pattern)[where].sum())


@pytest.mark.slow
def test_a_texture_goes_on() -> None:
    assert contrast(back_of(BROWN + STRIPES[..., None]), STRIPES) > 0.7


@pytest.mark.slow
def test_another_material_gets_none_of_it() -> None:
    blue = np.array([0.1, 0.2, 0.8])
    assert abs(contrast(back_of(BROWN + STRIPES[..., None], blue), STRIPES, INNER)) < 0.02


@pytest.mark.slow
def test_a_print_does_not_come_back() -> None:
    """Lettering on one quarter of an object that is else plain, or has a fine texture."""
    lettering = 0.2 * np.sign(np.sin(X * 60) * np.sin(Y * 60)) * ((np.abs(X) < 0.4) & (np.abs(Y) < 0.4))
    fine = 0.02 * np.random.default_rng(1).choice([-1.0, 1.0], X.shape)
    for ground in (0 * X, fine):
        back = back_of(BROWN + (ground + lettering)[..., None])
        assert abs(contrast(back, lettering)) < 0.03
    assert contrast(back, fine) > 0.4


@pytest.mark.slow
def test_a_plain_front_gives_a_plain_back() -> None:
    assert back_of(BROWN + 0 * X[..., None])[INSIDE].std() < 1e-6
    edge = BROWN * np.where(X < 0, 0.4, 1.0)[..., None]
    back = back_of(edge)
    row, column = np.nonzero(INNER & (np.abs(X) < 0.05))
    steps = np.abs(np.diff(back, axis=1))[row, column]
    assert steps.max() < MAX_GRAIN  # no edge, only a slope between the two sides of the outline
