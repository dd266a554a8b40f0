"""Inflation has analytic answers on a disc and on a strip."""

from __future__ import annotations

import numpy as np
import pytest

from sam3d_gs.embedded.shape.crops import CROP_PX, crop_object
from sam3d_gs.embedded.shape.inflate import dome_height, inflate


def grid(size: int = CROP_PX) -> tuple[np.ndarray, np.ndarray]:
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(axis, axis)
    return x, y


def test_a_disc_becomes_a_hemisphere() -> None:
    x, y = grid()
    distance = np.hypot(x, y)
    height = dome_height(distance < 0.8)
    well_inside = distance < 0.7
    np.testing.assert_allclose(height[well_inside], np.sqrt(0.64 - distance[well_inside] ** 2), atol=0.02)
    assert (height[distance >= 0.8] == 0).all()


def test_a_long_strip_becomes_an_elliptic_vault() -> None:
    x, _ = grid()
    middle = dome_height(np.abs(x) < 0.2)[CROP_PX // 2]
    assert middle.max() == pytest.approx(np.sqrt(2) * 0.2, rel=0.05)


def test_two_parts_do_not_feel_each_other() -> None:
    x, y = grid()
    left, right = np.hypot(x + 0.5, y) < 0.3, np.hypot(x - 0.5, y) < 0.3
    np.testing.assert_allclose(dome_height(left | right), dome_height(left) + dome_height(right), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (2, 2)])
def test_tiny_masks_are_sane(shape: tuple[int, int]) -> None:
    mask = np.zeros((60, 60), bool)
    mask[5 : 5 + shape[0], 5 : 5 + shape[1]] = True
    layers = inflate(crop_object(np.full((60, 60, 3), 90, np.uint8), mask))
    assert np.isfinite(layers.front).all() and (layers.thickness > 0).all()
    assert layers.front.max() < 1.2
    assert np.isfinite(layers.back_rgb).all()
