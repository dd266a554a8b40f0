"""The camera's pitch, from surfaces and plates whose true pitch is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sam3d_gs.embedded.placement.camera import angle_below_axis_deg
from sam3d_gs.embedded.placement.pitch import (
    PRIOR_PITCH_DEG,
    TRAINING_PITCH_DEG,
    _log_likelihood_of_slopes,
    _quartiles,
    estimate_pitch,
)
from sam3d_gs.embedded.placement.plates import find_plates
from sam3d_gs.embedded.shape.crops import Crop, crop_object
from sam3d_gs.embedded.shape.object_net import DepthLayers
from sam3d_gs.photo import intrinsics

WIDTH, HEIGHT = 320, 240
K = intrinsics(WIDTH, HEIGHT, None, 55.0)


def blank(crop: Crop) -> DepthLayers:
    """Flat layers, whose front or up direction the tests replace."""
    ones = np.ones(crop.coverage.shape, np.float32)
    return DepthLayers(0 * ones, ones, crop.rgb, ones)


def estimate_pitch_deg(*evidence: Any) -> float:
    return estimate_pitch(*evidence).deg


def square_mask(center_row: int = 120, half: int = 40) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[center_row - half : center_row + half, 160 - half : 160 + half] = True
    return mask


def crop_of(mask: np.ndarray) -> Crop:
    return crop_object(np.zeros((HEIGHT, WIDTH, 3), np.uint8), mask)


def block_from(elevation_deg: float, crop: Crop, noise: float = 0.0) -> DepthLayers:
    """What the network should say of a block's top and one side, turned by 30 degrees, seen from this elevation."""
    elevation, yaw = np.radians(elevation_deg), np.radians(30)
    x, y = np.meshgrid(np.linspace(-1, 1, 160), np.linspace(-1, 1, 160))
    along, down, near = np.sin(yaw), np.cos(yaw) * np.sin(elevation), np.cos(yaw) * np.cos(elevation)
    side = -(along * x + down * y) / near  # the plane whose normal is the side's
    top = (y - 0.2) / np.tan(elevation)
    front = np.where(y < 0.2, top, side) if elevation_deg > 10 else side
    front = front + noise * np.random.default_rng(0).normal(size=front.shape)
    return replace(blank(crop), front=front.astype(np.float32))


@pytest.mark.parametrize("pitch_deg", [5.0, 20.0, 33.0, 47.0])
@pytest.mark.parametrize("center_row", [80, 120, 190])
def test_tops_and_sides_tell_the_pitch_wherever_the_object_is(pitch_deg: float, center_row: int) -> None:
    mask = square_mask(center_row)
    crop = crop_of(mask)
    elevation_deg = pitch_deg + angle_below_axis_deg(crop, K)
    layers = block_from(elevation_deg, crop, noise=0.001)
    assert estimate_pitch_deg([crop], [layers], [None], K) == pytest.approx(max(pitch_deg, 2), abs=3)


def test_a_lid_alone_tells_the_pitch() -> None:
    crop = crop_of(square_mask())
    rows = np.linspace(-1, 1, 160)[:, None] * np.ones((1, 160))
    lid = replace(blank(crop), front=(rows / np.tan(np.radians(45))).astype(np.float32))
    assert estimate_pitch_deg([crop], [lid], [None], K) == pytest.approx(45, abs=2)


@pytest.mark.slow
def test_the_likelihood_is_a_density_over_what_is_seen() -> None:
    """Seen from anywhere it integrates to one over the picture of a ball, so no pitch is favoured beforehand."""
    x, y = np.meshgrid((np.arange(80) - 39.5) / 40, (np.arange(80) - 39.5) / 40)
    inside = x**2 + y**2 < 0.998
    x, y = x[inside], y[inside]
    z = np.sqrt(1 - x**2 - y**2)
    elevations_deg = np.array([0.0, 20.0, 45.0, 70.0])
    slopes = zip(x / z, y / z, strict=True)
    density = np.exp([_log_likelihood_of_slopes(np.array([a]), np.array([b]), elevations_deg) for a, b in slopes])
    np.testing.assert_allclose(density.mean(axis=0), 1.0, rtol=0.08)


def test_one_misread_object_does_not_outvote_the_others() -> None:
    masks = [square_mask(80), square_mask(120), square_mask(190)]
    crops = [crop_of(mask) for mask in masks]
    layers = [block_from(e + angle_below_axis_deg(c, K), c, 0.003) for e, c in zip((40, 40, 12), crops, strict=True)]
    assert estimate_pitch_deg(crops, layers, [None] * len(crops), K) == pytest.approx(40, abs=4)


def test_larger_objects_count_for_more() -> None:
    masks = [square_mask(120, 60), square_mask(120, 20)]
    crops = [crop_of(mask) for mask in masks]
    layers = [block_from(e, c, 0.003) for e, c in zip((35, 15), crops, strict=True)]
    assert estimate_pitch_deg(crops, layers, [None] * len(crops), K) == pytest.approx(35, abs=4)


def test_without_a_reading_of_the_surfaces_the_pitch_is_the_usual_one() -> None:
    assert estimate_pitch_deg([crop_of(square_mask())], None, [None], K) == PRIOR_PITCH_DEG
    speck = square_mask(half=1)
    thin = replace(crop_of(speck), coverage=np.zeros((160, 160), np.float32))
    said = estimate_pitch_deg([thin], [blank(crop_of(speck))], [None], K)
    assert said == pytest.approx(PRIOR_PITCH_DEG, abs=0.1)


def disc_photo(aspect: float, center_row: int = 120) -> list[np.ndarray]:
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    plate = ((x - 160) / 80) ** 2 + ((y - center_row) / (80 * aspect)) ** 2 < 1
    cup = (np.abs(x - 160) < 20) & (np.abs(y - center_row + 10) < 20)
    return [plate & ~cup, cup]


@pytest.mark.parametrize("center_row", [90, 120, 150])
def test_a_plate_tells_the_pitch(center_row: int) -> None:
    masks = disc_photo(0.7, center_row)
    crops = [crop_of(mask) for mask in masks]
    expected = np.degrees(np.arcsin(0.7)) - angle_below_axis_deg(crops[0], K)
    assert estimate_pitch_deg(crops, None, find_plates(masks), K) == pytest.approx(expected, abs=1.5)


@pytest.mark.parametrize("center_row", [60, 120, 180])
def test_a_network_that_says_up_is_believed(center_row: int) -> None:
    """Its answer holds along the ray of the crop's middle; the surer object counts more."""
    mask = square_mask(center_row, 30)
    crop = crop_of(mask)
    below = angle_below_axis_deg(crop, K)

    def saying(pitch_deg: float, sureness: float) -> DepthLayers:
        elevation = np.radians(pitch_deg + below)
        return replace(blank(crop), up=sureness * np.array([0.0, np.cos(elevation), np.sin(elevation)]))

    def pitch_deg(*layers: DepthLayers) -> float:
        return estimate_pitch_deg([crop] * len(layers), list(layers), [None] * len(layers), K)

    assert pitch_deg(saying(25.0, 300.0)) == pytest.approx(25, abs=3)
    assert PRIOR_PITCH_DEG < pitch_deg(saying(25.0, 30.0)) < 23  # a guess is only a hint
    assert 19 < pitch_deg(saying(20.0, 270.0), saying(40.0, 30.0)) < 25
    for sure_and_wrong in (-30.0, 60.0):
        voices = [saying(sure_and_wrong, 1000.0), *[saying(20.0, 200.0)] * 3]
        assert pitch_deg(*voices) == pytest.approx(20, abs=2)


def test_a_crowd_that_knows_nothing_does_not_count() -> None:
    """What is said without evidence is the usual view of the training, however often."""
    crop = crop_of(square_mask())
    below = angle_below_axis_deg(crop, K)
    for count in (1, 8):
        angle = np.radians(TRAINING_PITCH_DEG + below)
        unsure = replace(blank(crop), up=8.0 * np.array([0.0, np.cos(angle), np.sin(angle)]))
        said = estimate_pitch_deg([crop] * count, [unsure] * count, [None] * count, K)
        assert said == pytest.approx(PRIOR_PITCH_DEG, abs=6)


def test_the_horizon_counts_where_the_objects_are_unsure() -> None:
    mask = square_mask(120, 30)
    crop = crop_of(mask)

    def saying(sureness: float) -> DepthLayers:
        elevation = np.radians(20.0 + angle_below_axis_deg(crop, K))
        return replace(blank(crop), up=sureness * np.array([0.0, np.cos(elevation), np.sin(elevation)]))

    nothing, hint, sure = (estimate_pitch_deg([crop], [saying(s)], [None], K, 30.0) for s in (0.0, 30.0, 3000.0))
    assert PRIOR_PITCH_DEG < nothing < hint < 25  # networks see the horizon badly in photos
    assert sure < 24


def test_a_crowd_may_be_misled_together() -> None:
    """Eight objects that agree on an unusual view are one photo misread, when the horizon speaks against it."""
    crop = crop_of(square_mask(120, 30))

    def said_of_eight(pitch_deg: float, horizon_deg: float) -> float:
        elevation = np.radians(pitch_deg + angle_below_axis_deg(crop, K))
        layers = replace(blank(crop), up=100.0 * np.array([0.0, np.cos(elevation), np.sin(elevation)]))
        return estimate_pitch_deg([crop] * 8, [layers] * 8, [None] * 8, K, horizon_deg)

    assert said_of_eight(65.0, 5.0) < 25
    assert said_of_eight(40.0, 5.0) == pytest.approx(40, abs=3)


def test_the_spread_is_that_of_the_larger_opinion() -> None:
    at = np.arange(-40.0, 70.1, 0.5)
    bell = np.exp(-0.5 * ((at - 40) / 4) ** 2)
    elsewhere = np.exp(-0.5 * ((at - 5) / 4) ** 2)
    for share, std_deg in ((0.0, 4.0), (0.2, 8.0)):
        low, middle, high = _quartiles(at, np.log(bell + share / (1 - share) * elsewhere + 1e-12))
        assert middle == pytest.approx(40, abs=1.5)
        assert 3.9 < (high - low) / 1.349 <= std_deg + 0.1
