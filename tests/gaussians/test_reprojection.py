from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sam3d_gs.gaussians.reprojection import MaskFit, reprojection_iou
from sam3d_gs.types import Gaussians, InstanceMask, PlacedObject, Pose

WIDTH, HEIGHT = 240, 180
K = np.array([[200.0, 0.0, 130.0], [0.0, 210.0, 80.0], [0.0, 0.0, 1.0]])
CENTRE, RADIUS_PX, DEPTH = (110.0, 95.0), 40.0, 2.5


def disc_gaussians(centre_px: tuple[float, float] = CENTRE) -> Gaussians:
    """A dense disc facing the camera that K projects to the circle of RADIUS_PX about `centre_px`."""
    step = 0.7  # px
    u, v = np.meshgrid(*[np.arange(-RADIUS_PX, RADIUS_PX, step)] * 2)
    inside = np.hypot(u, v) < RADIUS_PX - 0.3
    pixels = np.stack([u[inside] + centre_px[0], v[inside] + centre_px[1], np.ones(inside.sum())], 1)
    n = len(pixels)
    return Gaussians(
        means=(DEPTH * pixels @ np.linalg.inv(K).T).astype(np.float32),
        quats=np.tile(np.float32([1, 0, 0, 0]), (n, 1)),
        log_scales=np.full((n, 3), np.log(0.5 * DEPTH / 200), np.float32),
        opacity_logits=np.full(n, 5, np.float32),
        sh0=np.zeros((n, 3), np.float32),
    )


def disc_mask(centre_px: tuple[float, float] = CENTRE, times: int = 1) -> np.ndarray:
    x, y = np.meshgrid(np.arange(WIDTH * times) + 0.5, np.arange(HEIGHT * times) + 0.5)
    return np.hypot(x / times - centre_px[0], y / times - centre_px[1]) < RADIUS_PX


def test_a_disc_in_its_place_is_one() -> None:
    assert reprojection_iou(disc_gaussians(), K, disc_mask()) > 0.96


def test_a_large_photo_is_compared_smaller_in_the_same_place() -> None:
    times = 7  # 1680 x 1260, reduced to 512 x 384
    large_K = np.diag([times, times, 1]) @ K
    assert reprojection_iou(disc_gaussians(), large_K, disc_mask(times=times)) > 0.96


def test_a_shift_costs_what_geometry_says() -> None:
    shift = 20.0
    # Lens of two circles of radius r at distance d.
    r, d = RADIUS_PX, shift
    lens = 2 * r**2 * np.arccos(d / (2 * r)) - d / 2 * np.sqrt(4 * r**2 - d**2)
    expected = lens / (2 * np.pi * r**2 - lens)
    moved = disc_mask((CENTRE[0] + shift, CENTRE[1]))
    assert reprojection_iou(disc_gaussians(), K, moved) == pytest.approx(expected, abs=0.02)


def test_apart_is_zero() -> None:
    assert reprojection_iou(disc_gaussians(), K, disc_mask((215.0, 20.0)) & ~disc_mask()) == 0.0


def test_nothing_is_zero() -> None:
    disc = disc_gaussians()
    none = Gaussians(*(getattr(disc, name)[:0] for name in disc.__dataclass_fields__))
    empty = np.zeros((HEIGHT, WIDTH), bool)
    assert reprojection_iou(none, K, empty) == 0.0
    assert reprojection_iou(none, K, disc_mask()) == 0.0
    assert reprojection_iou(disc, K, empty) == 0.0


def test_an_object_in_front_does_not_count_against_the_one_behind() -> None:
    in_front = np.zeros((HEIGHT, WIDTH), bool)
    in_front[:, 105:] = True
    visible = disc_mask() & ~in_front
    assert reprojection_iou(disc_gaussians(), K, visible) < 0.5
    assert reprojection_iou(disc_gaussians(), K, visible, ignore=in_front) > 0.95
    # Ignoring the object's own mask changes nothing.
    assert reprojection_iou(disc_gaussians(), K, disc_mask(), ignore=disc_mask()) > 0.95


def test_masks_are_checked() -> None:
    with pytest.raises(ValueError, match="expected bool"):
        reprojection_iou(disc_gaussians(), K, np.zeros((4, 4), np.uint8))


def placed(object_id: str) -> PlacedObject:
    """`disc_gaussians` with a pose that leaves them in place."""
    pose = Pose(np.array([1.0, 0, 0, 0]), np.zeros(3), 1.0)
    return PlacedObject(object_id, "disc", disc_gaussians(), pose, K, (WIDTH, HEIGHT))


def test_only_masks_of_other_kept_objects_are_ignored() -> None:
    in_front = disc_mask((CENTRE[0] + 30, CENTRE[1]))
    visible = disc_mask() & ~in_front
    mine, other = InstanceMask("mine", "disc", visible, 1.0), InstanceMask("other", "disc", in_front, 1.0)
    overlapping = replace(mine, mask=disc_mask())
    alone, hidden = reprojection_iou(disc_gaussians(), K, visible), 0.95
    assert MaskFit([mine]).iou(placed("mine")) == alone < 0.5
    assert (MaskFit([mine, other]).iou(placed("mine")) or 0) > hidden
    assert MaskFit([mine, replace(other, dropped="same as 1")]).iou(placed("mine")) == alone
    assert (MaskFit([overlapping, other]).iou(placed("mine")) or 0) > hidden, "its own mask always counts"
    assert MaskFit([other]).iou(placed("mine")) is None
    assert MaskFit([]).iou(placed("mine")) is None
