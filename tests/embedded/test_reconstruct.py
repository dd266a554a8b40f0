"""The assembly of the embedded reconstruction: each test fails when one of its wires is cut."""

from __future__ import annotations

from copy import copy

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from sam3d_gs.embedded import reconstruct
from sam3d_gs.embedded.placement.camera import gravity_up
from sam3d_gs.embedded.placement.geometry import SceneGeometry
from sam3d_gs.engines.objects_embedded import EmbeddedObjects
from sam3d_gs.options import EmbeddedObjectOptions
from sam3d_gs.types import SH_C0, PlacedObject
from tests.embedded.lifting import depth_map, lift, pitch_deg
from tests.embedded.photos import HEIGHT, WIDTH, Picture, street, table

Objects = dict[str, PlacedObject]


def test_every_object_covers_its_mask_and_nothing_far_from_it(street_objects: Objects) -> None:
    """Specks in the ball's mask do not become a part of it."""
    masks = street().masks
    for name, item in street_objects.items():
        shape = np.isfinite(depth_map(item))
        mask = masks[name].mask
        assert shape[binary_erosion(mask)].mean() > 0.98  # Gaussians lie less than a pixel apart
        allowed = mask | masks["ball"].mask if name == "crate" else mask
        assert not (shape & ~binary_dilation(allowed, iterations=2)).any()  # they end within 2 px of the outline


def test_the_crate_is_completed_behind_the_ball_in_its_own_colour(street_objects: Objects) -> None:
    crate, ball = street_objects["crate"], street_objects["ball"]
    hidden = binary_erosion(street().masks["ball"].mask)
    hidden[:, :80] = hidden[130:] = False  # where the painted crate is
    behind, before = depth_map(crate), depth_map(ball)
    assert np.isfinite(behind[hidden]).mean() > 0.9
    assert (behind[hidden] > before[hidden]).all()
    rgb = 0.5 + SH_C0 * crate.gaussians.sh0
    red, green, _ = rgb.mean(axis=0)
    assert red < 2 * green  # wood; the ball has four times as much red as green
    assert (rgb[:, 0] > 3 * rgb[:, 1]).mean() < 0.01


@pytest.mark.slow
def test_the_plate_is_completed_under_the_cup_and_stays_below_it(table_objects: Objects) -> None:
    picture = table()
    plate, cup = depth_map(table_objects["plate"]), depth_map(table_objects["cup"])
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    ellipse = np.hypot((x - 100) / 75, (y - 125) / 36) < 0.95
    hidden = binary_erosion(picture.masks["cup"].mask & ellipse)
    assert np.isfinite(plate[hidden]).mean() > 0.95
    both = hidden & np.isfinite(plate) & np.isfinite(cup)
    assert (plate[both] > cup[both]).all()


def test_the_plate_lies_flat(table_objects: Objects) -> None:
    width, depth, height = np.ptp(table_objects["plate"].gaussians.means, axis=0)
    assert 0.7 < width / depth < 1.3  # round, seen from above
    assert height < 0.27 * depth


@pytest.mark.slow
def test_an_inflated_plate_is_flat() -> None:
    """Without a network, a plate would be a balloon as thick as wide."""
    plate = lift(EmbeddedObjects(EmbeddedObjectOptions(), weights=None), table(), ["plate"])["plate"]
    _, depth, height = np.ptp(plate.gaussians.means, axis=0)
    assert height < 0.35 * depth


def test_depths_follow_the_ground(street_objects: Objects) -> None:
    depth = {name: float(item.pose.translation[2]) for name, item in street_objects.items()}
    assert depth["ball"] < 0.8 * depth["crate"]  # alone in the photo, each would be at the same depth
    assert depth["crate"] < 0.8 * depth["box"]


@pytest.mark.slow
def test_the_scene_networks_depths_and_horizon_count(
    engine: EmbeddedObjects, street_with_specks: Picture, street_objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a geometry head that sees a camera looking down by 20 degrees, and everything at the same depth."""
    y, x = np.mgrid[:60, :80]
    K = street_objects["ball"].K
    rays = np.stack([(3 * x + 1.5 - K[0, 2]) / K[0, 0], (3 * y + 1.5 - K[1, 2]) / K[1, 1], np.ones((60, 80))], axis=-1)
    elevation = rays @ gravity_up(20.0) / np.linalg.norm(rays, axis=-1)
    geometry = SceneGeometry(np.zeros((60, 80)), elevation)
    monkeypatch.setattr(reconstruct, "predict_geometry", lambda *_: geometry)
    made = lift(engine, street_with_specks, ["box", "ball"])
    assert pitch_deg(made["ball"]) > pitch_deg(street_objects["ball"]) + 1

    def far_over_near(objects: Objects) -> float:
        return float(objects["box"].pose.translation[2] / objects["ball"].pose.translation[2])

    assert far_over_near(made) < 0.7 * far_over_near(street_objects)


@pytest.mark.slow
def test_options_reach_the_objects(engine: EmbeddedObjects) -> None:
    picture = street()
    ball = Picture(picture.photo, {"ball": picture.masks["ball"]})

    def with_seed(seed: int) -> PlacedObject:
        other = copy(engine)  # which does not load the weights again
        other.options = EmbeddedObjectOptions(pitch_deg=35.0, seed=seed, fov_deg=40.0)
        return lift(other, ball)["ball"]

    first, second = with_seed(3), with_seed(4)
    assert pitch_deg(first) == pytest.approx(35.0, abs=1e-3)  # rounding of a quaternion
    assert np.degrees(2 * np.arctan(WIDTH / 2 / first.K[0, 0])) == pytest.approx(40.0)
    assert (first.seed, second.seed) == (3, 4)
    np.testing.assert_array_equal(first.gaussians.means, second.gaussians.means)
    assert np.abs(first.gaussians.sh0 - second.gaussians.sh0).max() > 0.01  # the noise on the unseen side
