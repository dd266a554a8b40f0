"""What lies under other objects: painted from what is seen of the same object."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from sam3d_gs.embedded.placement.plates import find_plates
from sam3d_gs.embedded.shape.mask_repair import INPAINT_SIDE_PX, complete_plate, remove_specks


@pytest.mark.slow
@pytest.mark.parametrize("zoom", [0.4, 4.0])  # of the size at which colours are invented
def test_a_plate_goes_on_in_its_own_colours(zoom: float) -> None:
    """Its colour changes from left to right; the blue cup on it leaves no trace, nor does the green shadow beside."""
    width = round(1.5 * zoom * INPAINT_SIDE_PX)
    y, x = (np.mgrid[: width * 2 // 3, :width] + 0.5) / width
    plate = ((x - 0.5) / 0.33) ** 2 + ((y - 0.33) / 0.25) ** 2 < 1
    cup = (np.abs(x - 0.5) < 0.1) & (np.abs(y - 0.3) < 0.12)
    colours = np.stack([250 * x, 120 + 0 * x, 60 + 0 * x], axis=-1)
    rgb = np.where(plate[..., None], colours, [0, 200, 0])
    rgb[cup] = 0, 0, 255
    masks = [plate & ~cup, cup]
    found = find_plates(masks)[0]
    assert found is not None
    painted, mask = complete_plate(rgb.astype(np.uint8), 0, masks, found)
    assert mask[cup].all()
    assert np.abs(painted[cup].astype(float) - colours[cup]).mean(axis=0).max() < 8
    np.testing.assert_array_equal(painted[~cup], rgb.astype(np.uint8)[~cup])


def test_specks_go() -> None:
    mask = np.zeros((60, 60), bool)
    mask[10:40, 10:40] = True
    noisy = mask.copy()
    noisy[55, 55] = True
    np.testing.assert_array_equal(remove_specks(noisy), mask)
