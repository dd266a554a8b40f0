"""Objects that stand on one that has to move go along with it."""

from __future__ import annotations

import numpy as np
import pytest

from sam3d_gs.embedded.placement.object_depths import object_depths
from sam3d_gs.embedded.placement.pitch import Pitch
from sam3d_gs.embedded.placement.silhouette import Silhouette
from sam3d_gs.embedded.shape.crops import crop_object
from sam3d_gs.photo import intrinsics

WIDTH, HEIGHT = 160, 120


def silhouette(mask: np.ndarray, left_third: float = 1.0) -> Silhouette:
    """Flat, but for its left third, which is as much farther away."""
    crop = crop_object(np.zeros((HEIGHT, WIDTH, 3), np.uint8), mask, side_px=48)
    columns = crop.coverage.max(axis=0).nonzero()[0]
    relative = np.ones((48, 48))
    relative[:, : columns[0] + len(columns) // 3] = left_third
    return Silhouette.of(mask, crop, relative)


@pytest.mark.parametrize("recedes", [1.0, 1.25])
def test_a_cup_moves_with_its_table(recedes: float) -> None:
    """The table hides a chest on its left and is moved in front of it when its own left end lies too far back."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    cup = (np.abs(x - 105) < 6) & (y > 50) & (y < 76)
    table = (x > 60) & (x < 140) & (y > 68) & (y < 110) & ~cup
    chest = (x > 25) & (x <= 60) & (y > 60) & (y < 104)
    objects = [silhouette(table, recedes), silhouette(cup), silhouette(chest)]
    depths = object_depths(objects, intrinsics(WIDTH, HEIGHT, None, 55.0), Pitch(25.0, 3.0))
    if recedes > 1:
        assert depths[0] * recedes == pytest.approx(0.99 * depths[2], rel=1e-3), "the table's left end is in front"
    assert depths[1] == pytest.approx(depths[0], rel=1e-6)
