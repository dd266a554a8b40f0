"""Plates whose ellipse is known, whole, cut and soiled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

from sam3d_gs.embedded.placement.plates import MAX_HEIGHT as PLATE_HEIGHT
from sam3d_gs.embedded.placement.plates import Plate, find_plates, flatten_plate
from sam3d_gs.embedded.shape.crops import crop_object
from sam3d_gs.embedded.shape.object_net import DepthLayers

MAX_HEIGHT, WIDTH = 240, 320
Y, X = np.mgrid[:MAX_HEIGHT, :WIDTH] + 0.5


def ellipse(u: float, v: float, half_width: float, half_height: float) -> np.ndarray:
    return np.asarray(((X - u) / half_width) ** 2 + ((Y - v) / half_height) ** 2 < 1)


def box(u: float, v: float, half: float) -> np.ndarray:
    return (np.abs(X - u) < half) & (np.abs(Y - v) < half)


def found(plate: np.ndarray, *carried: np.ndarray) -> Plate | None:
    masks = [plate & ~np.any(carried, axis=0), *carried] if carried else [plate]
    return find_plates(masks)[0]


def agrees(plate: Plate | None, half_width: float, half_height: float, tolerance: float = 0.03) -> bool:
    return plate is not None and np.allclose(
        (plate.half_width_px, plate.half_height_px), (half_width, half_height), rtol=tolerance, atol=0.5
    )


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(st.floats(140, 180), st.floats(100, 140), st.floats(60, 120), st.floats(0.3, 0.8), st.floats(-0.4, 0.4))
def test_a_plate_with_a_cup(u: float, v: float, half_width: float, aspect: float, aside: float) -> None:
    plate = ellipse(u, v, half_width, aspect * half_width)
    cup = box(u + aside * half_width, v, 0.15 * half_width)
    read = found(plate, cup)
    assert agrees(read, half_width, aspect * half_width)
    assert read is not None
    assert (read.inside & cup).sum() == cup.sum()
    assert read.elevation_deg == pytest.approx(np.degrees(np.arcsin(aspect)), abs=2.5)


def test_a_plate_is_no_block() -> None:
    """Rays cross it on a way that is its height over the sine of the elevation, 30 degrees here; thin parts stay."""
    mask = ellipse(160, 120, 100, 50)
    crop = crop_object(np.zeros((MAX_HEIGHT, WIDTH, 3), np.uint8), mask)
    plane = np.full((160, 160), 0.05, np.float32)
    plane[80:] = 1.7
    layers = DepthLayers(plane, plane, np.zeros((160, 160, 3), np.float32), plane)
    thickness_px = flatten_plate(layers, Plate(mask, 100, 50), crop).thickness * crop.half_px
    np.testing.assert_allclose(thickness_px[80:] * 0.5, PLATE_HEIGHT * 100, rtol=1e-5)
    np.testing.assert_array_equal(thickness_px[:80], plane[:80] * np.float32(crop.half_px))


def test_a_cup_that_reaches_over_the_rim() -> None:
    assert agrees(found(ellipse(160, 130, 100, 70), box(160, 75, 32)), 100, 70)


@pytest.mark.parametrize("v", [190.0, 45.0])
def test_the_photo_s_edge_cuts_it(v: float) -> None:
    assert agrees(found(ellipse(160, v, 100, 70), box(150, 150 if v > 100 else 70, 18)), 100, 70)


def test_a_shadow_beside_it_does_not_count() -> None:
    plate, cup = ellipse(160, 120, 100, 70), box(160, 110, 25)
    shadow = (X > 200) & (X < 250) & (Y > 150) & (Y < 185)
    assert agrees(found(plate | shadow, cup), 100, 70)


def test_what_is_no_plate() -> None:
    plate, cup = ellipse(160, 120, 100, 70), box(160, 120, 20)
    assert found(plate) is None, "a lone ellipse may be an egg"
    assert found(box(160, 120, 90), cup) is None, "a square"
    assert found(ellipse(160, 120, 90, 89), cup) is None, "a ball"
    assert found(ellipse(160, 120, 140, 8), box(160, 118, 4)) is None, "a slit"
    assert found(box(160, 120, 3), box(160, 120, 1)) is None, "too small to say"
    assert found(plate & (X < 150), box(100, 120, 20)) is None, "half a plate is as well something else"
    assert find_plates([np.zeros((MAX_HEIGHT, WIDTH), bool), cup])[0] is None
