"""What is expected behind other objects, with made answers of the network."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from sam3d_gs.embedded.shape.amodal_completion import (
    MAX_MARGIN,
    complete_behind_occluders,
    crop_margin,
    occluders,
    remove_detached_parts,
)
from sam3d_gs.embedded.shape.crops import CROP_MARGIN, crop_object

HEIGHT, WIDTH = 120, 160
Y, X = np.mgrid[:HEIGHT, :WIDTH] + 0.5
BALL = np.hypot(X - 70, Y - 50) < 30
BOX = (np.abs(X - 95) < 20) & (np.abs(Y - 75) < 25)  # reaches lower than the ball and hides a part of it
FAR = (np.abs(X - 140) < 8) & (np.abs(Y - 90) < 8)


def test_what_touches_and_reaches_lower_lies_in_front() -> None:
    masks = [BALL & ~BOX, BOX, FAR]
    assert [occluders(i, masks) for i in range(3)] == [[1], [], []]


def test_what_lies_on_it_hides_it_too() -> None:
    label = np.hypot(X - 70, Y - 40) < 8
    assert occluders(0, [BALL & ~label, label]) == [1]
    assert occluders(1, [BALL & ~label, label]) == [0], "seen through a hole: the network decides"


def test_a_crop_is_wider_only_to_hold_what_is_in_front() -> None:
    left = BALL & ~BOX
    assert crop_margin(left, []) == CROP_MARGIN
    small = (np.abs(X - 95) < 14) & (np.abs(Y - 70) < 20)
    assert CROP_MARGIN < crop_margin(left, [small]) < MAX_MARGIN
    assert crop_margin(left, [X > 90]) == MAX_MARGIN


def test_a_ball_goes_on_behind_a_box_in_its_own_colour() -> None:
    """The network is sure of the whole ball and errs beside it; the gap between the masks is filled, too."""
    left = BALL & ~BOX & ~np.roll(BOX, -2, axis=1)
    rgb = np.where(BALL[..., None] & ~BOX[..., None], [200, 40, 30], [20, 60, 250]).astype(np.uint8)
    crop = crop_object(rgb, left, 64, 1.4)
    v, u = (crop.center_px[k] - crop.half_px + (np.arange(64) + 0.5) / 64 * 2 * crop.half_px for k in (1, 0))
    whole = (np.hypot(u[None] - 70, v[:, None] - 50) < 30) | (u[None] < 42)
    painted, mask = complete_behind_occluders(rgb, left, crop, whole.astype(np.float32), [BOX])
    hidden = BALL & ~left
    assert (mask & hidden).sum() > 0.93 * hidden.sum()
    assert not (mask & ~BALL & ~BOX).any()
    assert (mask & ~BALL).sum() < 0.03 * BALL.sum()
    assert np.abs(painted[mask].astype(int) - [200, 40, 30]).mean() < 12
    np.testing.assert_array_equal(painted[~(mask & ~left)], rgb[~(mask & ~left)])


def test_nothing_expected_changes_nothing() -> None:
    left = BALL & ~BOX
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    crop = crop_object(rgb, left, 64, 1.4)
    painted, mask = complete_behind_occluders(rgb, left, crop, np.zeros((64, 64), np.float32), [BOX])
    assert painted is rgb and mask is left
    _, mask = complete_behind_occluders(rgb, left, crop, np.ones((64, 64), np.float32), [FAR])
    assert mask is left, "what is not connected"


def test_what_would_be_torn_off_is_given_up() -> None:
    left = BALL & ~BOX
    crop = crop_object(np.zeros((HEIGHT, WIDTH, 3), np.uint8), BALL, 64)
    np.testing.assert_array_equal(remove_detached_parts(BALL, left, crop, np.full((64, 64), 0.1)), BALL)
    np.testing.assert_array_equal(remove_detached_parts(BALL, left, crop, np.full((64, 64), 1.1)), left)
