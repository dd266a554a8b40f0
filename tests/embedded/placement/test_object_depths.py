"""Placement: the ground reading, supports, order, and what must not change the scene."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.embedded.placement.camera import GravityAlignment, apply_alignment, gravity_up
from sam3d_gs.embedded.placement.object_depths import (
    MAX_PREDICTION_WEIGHT,
    TYPICAL_DEPTH,
    ground_depth,
    object_depths,
)
from sam3d_gs.embedded.placement.pitch import Pitch
from sam3d_gs.embedded.placement.silhouette import Silhouette
from sam3d_gs.embedded.shape.crops import crop_object
from sam3d_gs.embedded.shape.inflate import inflate
from sam3d_gs.photo import intrinsics

WIDTH, HEIGHT = 320, 240
PITCH_DEG = 15.0
Box = tuple[float, float, float, float]  # x1, y1, x2, y2 in a 320 x 240 photo


def mask_of(box: Box, zoom: int = 1, holes: tuple[Box, ...] = ()) -> np.ndarray:
    y, x = (np.mgrid[: HEIGHT * zoom, : WIDTH * zoom] + 0.5) / zoom
    mask = (x > box[0]) & (x < box[2]) & (y > box[1]) & (y < box[3])
    for hole in holes:
        mask &= ~((x > hole[0]) & (x < hole[2]) & (y > hole[1]) & (y < hole[3]))
    return np.asarray(mask)


def depths_of(masks: list[np.ndarray], pitch_deg: float = PITCH_DEG, flat: bool = True) -> np.ndarray:
    """Place cards (no relief), or balloons with flat=False."""
    height, width = masks[0].shape
    K = intrinsics(width, height, None, 55.0)
    objects = []
    for mask in masks:
        crop = crop_object(np.zeros((height, width, 3), np.uint8), mask, side_px=48)  # to inflate quickly
        relative = np.ones((48, 48)) if flat else 1 - inflate(crop).front * crop.half_px / K[0, 0]
        objects.append(Silhouette.of(mask, crop, relative))
    return object_depths(objects, K, Pitch(pitch_deg, 3.0))


def test_focal_comes_from_exif_else_from_the_longer_side() -> None:
    assert intrinsics(400, 300, 500.0, 55.0)[0, 0] == 500.0
    assert intrinsics(300, 400, None, 90.0)[1, 1] == pytest.approx(200.0)
    assert intrinsics(300, 400, float("nan"), 90.0)[1, 1] == pytest.approx(200.0)
    np.testing.assert_array_equal(intrinsics(300, 400, None, 90.0)[:2, 2], [150, 200])


@pytest.mark.parametrize("pitch_deg", [0.0, 10.0, 60.0])
def test_up_is_against_gravity(pitch_deg: float) -> None:
    up = gravity_up(pitch_deg)
    assert np.linalg.norm(up) == pytest.approx(1.0)
    assert up[1] < 0 and up[0] == 0
    assert up[2] == pytest.approx(-np.sin(np.radians(pitch_deg)))  # looking down, the floor's normal comes closer


def test_ground_depth_is_the_ray_floor_intersection() -> None:
    K = intrinsics(WIDTH, HEIGHT, None, 55.0)
    for row in (150, 200, 239):
        z = ground_depth(np.array([row]), 1.0, K, PITCH_DEG)[0]
        point = z * np.array([0.0, (row + 1 - K[1, 2]) / K[1, 1], 1.0])
        assert point @ -gravity_up(PITCH_DEG) == pytest.approx(1.0)
    assert np.isinf(ground_depth(np.array([0]), 1.0, K, 5.0)[0])


def test_lower_in_the_picture_is_nearer() -> None:
    depths = depths_of([mask_of((20, 60, 60, 130)), mask_of((120, 90, 170, 180)), mask_of((220, 100, 300, 230))])
    assert depths[0] > depths[1] > depths[2]


def test_floor_depth_ratio_follows_the_ground_plane() -> None:
    masks = [mask_of((20, 60, 60, 200)), mask_of((220, 100, 300, 230))]
    K = intrinsics(WIDTH, HEIGHT, None, 55.0)
    far, near = ground_depth(np.array([199, 229]), 1.0, K, PITCH_DEG)
    far_over_near = np.divide(*depths_of(masks))
    assert 1 < far_over_near <= far / near + 0.02


def test_what_stands_on_a_table_takes_its_depth_not_the_floor_behind() -> None:
    table, cup = mask_of((80, 120, 240, 220), holes=((140, 90, 170, 150),)), mask_of((140, 90, 170, 150))
    depths = depths_of([table, cup])
    assert depths[1] == pytest.approx(depths[0], rel=0.05)
    alone = depths_of([mask_of((20, 120, 60, 220)), mask_of((140, 90, 170, 150))])
    assert alone[1] > 1.1 * alone[0]


def test_what_is_cut_by_an_object_below_stands_behind_it() -> None:
    monitor, person = mask_of((100, 100, 220, 200)), mask_of((130, 40, 190, 100))
    depths = depths_of([monitor, person])
    assert depths[1] > depths[0]


def test_what_cuts_another_is_nearer() -> None:
    hole = (150.0, 100.0, 190.0, 150.0)
    wall, clock = mask_of((60, 40, 280, 230), holes=(hole,)), mask_of(hole)
    depths = depths_of([wall, clock], flat=False)
    assert depths[1] < depths[0]


def test_hung_and_flying_things_stay_near_the_others() -> None:
    floor = [mask_of((20, 100, 80, 200)), mask_of((120, 100, 200, 220))]
    depths = depths_of([*floor, mask_of((220, 5, 300, 30)), mask_of((100, 20, 130, 40))])
    assert depths.max() / depths.min() < 4
    assert (depths[2:] > depths[:2].max()).all()


boxes = st.tuples(st.floats(2, 250), st.floats(2, 180), st.floats(8, 60), st.floats(8, 50)).map(
    lambda b: (round(b[0]), round(b[1]), round(b[0] + b[2]), round(b[1] + b[3]))
)


@pytest.mark.slow
@given(st.lists(boxes, min_size=1, max_size=5, unique=True), st.floats(2, 65))
@settings(max_examples=12, deadline=None)
def test_any_scene_is_finite_bounded_and_of_typical_depth(scene: list[Box], pitch_deg: float) -> None:
    depths = depths_of([mask_of(box) for box in scene], pitch_deg, flat=False)
    assert np.isfinite(depths).all() and (depths > 0).all()
    assert depths.max() / depths.min() < 20
    assert np.median(depths) == pytest.approx(TYPICAL_DEPTH)


@given(st.lists(boxes, min_size=2, max_size=3, unique=True))
@settings(max_examples=6, deadline=None)
def test_a_mirrored_photo_gives_the_same_depths(scene: list[Box]) -> None:
    masks = [mask_of(box) for box in scene]
    np.testing.assert_allclose(depths_of([m[:, ::-1] for m in masks]), depths_of(masks), rtol=0.02)


def test_a_larger_photo_gives_the_same_scene() -> None:
    scene: list[Box] = [(20, 60, 60, 130), (120, 90, 170, 180), (220, 100, 300, 230)]
    small, large = depths_of([mask_of(b) for b in scene]), depths_of([mask_of(b, zoom=3) for b in scene])
    np.testing.assert_allclose(large, small, rtol=0.03)


def test_tilting_adds_a_ramp_about_the_object() -> None:
    mask = mask_of((100, 40, 220, 200))
    crop = crop_object(np.zeros((HEIGHT, WIDTH, 3), np.uint8), mask)
    layers = inflate(crop)
    change = apply_alignment(crop, layers, GravityAlignment(0.5)).front - layers.front
    assert change[-1, 0] - change[0, 0] == pytest.approx(1.0, abs=0.01)
    assert change[crop.coverage > 0.5].mean() == pytest.approx(0, abs=1e-4)


def said_depths_of(masks: list[np.ndarray], said: list[float], std_deg: float = 3.0) -> tuple[np.ndarray, np.ndarray]:
    """Depths of place cards without and with a network that says these; the pitch is known to `std_deg`."""
    height, width = masks[0].shape
    K = intrinsics(width, height, None, 55.0)
    crops = [crop_object(np.zeros((height, width, 3), np.uint8), mask) for mask in masks]
    objects = [Silhouette.of(mask, crop, np.ones((160, 160))) for mask, crop in zip(masks, crops, strict=True)]
    pitch = Pitch(PITCH_DEG, std_deg)
    return object_depths(objects, K, pitch), object_depths(objects, K, pitch, np.log(said))


def test_a_network_that_agrees_changes_nothing_whatever_its_unit() -> None:
    masks = [mask_of((20, 100, 60, 150)), mask_of((100, 100, 150, 180)), mask_of((220, 90, 280, 215))]
    without, _ = said_depths_of(masks, [1, 1, 1])
    _, with_it = said_depths_of(masks, [40 * depth for depth in without])
    np.testing.assert_allclose(with_it, without, rtol=1e-6)


def test_a_network_moves_what_the_ground_cannot_tell() -> None:
    """Two things that reach equally low: one of them may hang, and only the network can know."""
    masks = [mask_of((20, 60, 60, 120)), mask_of((120, 100, 160, 190)), mask_of((240, 60, 280, 120))]
    without, with_it = said_depths_of(masks, [6, 3, 3])
    assert without[0] == pytest.approx(without[2])
    assert with_it[0] > 1.1 * with_it[2]
    assert with_it[0] < 2 * with_it[2]  # it is not believed altogether


def test_the_less_sure_the_pitch_the_more_the_network_counts() -> None:
    """More so for what is far: a degree there is a long way along the ground."""
    far, middle, near = (mask_of((x, y - 30, x + 40, y)) for x, y in ((20, 110), (120, 150), (220, 200)))
    moved = []
    for std_deg in (0.5, 3.0, 9.0, 40.0):
        without, with_it = said_depths_of([far, middle, near], [1, 1, 1], std_deg)
        moved.append(np.log(without / with_it)[[0, 2]] / np.log(without / without[1])[[0, 2]])
    shares = np.array(moved)
    assert (np.diff(shares, axis=0) > -1e-9).all()
    assert shares[0].max() < 0.05
    assert shares[2][0] > shares[2][1]
    assert shares[-1] == pytest.approx(MAX_PREDICTION_WEIGHT, abs=0.02)
