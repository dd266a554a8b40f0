"""Outlines moved off background rims and shadows, and left alone where colours say nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from sam3d_gs.embedded.proposals import outline
from sam3d_gs.embedded.proposals.outline import refine_outlines

HEIGHT, WIDTH = 240, 320
YY, XX = np.mgrid[:HEIGHT, :WIDTH].astype(np.float64)
BALL = (YY - 120) ** 2 + (XX - 150) ** 2 < 55**2
SHADOW = ((YY - 170) / 16) ** 2 + ((XX - 195) / 70) ** 2 < 1


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def grown(mask: np.ndarray, by_px: int) -> np.ndarray:
    return np.asarray(ndimage.distance_transform_edt(~mask) <= by_px)


def on_a_floor(colours: np.ndarray, shadow: np.ndarray | None = None) -> np.ndarray:
    """`colours` (H, W, 3), NaN where there is no object, on brown boards with grain and a little camera noise."""
    rng = np.random.default_rng(0)
    grain = ndimage.gaussian_filter(rng.normal(0, 1, (HEIGHT, WIDTH)), (1, 5))
    boards = 1 + 0.4 * grain + 0.06 * (YY // 30 % 2)
    floor = np.array((170.0, 130.0, 90.0)) * boards[..., None]
    if shadow is not None:
        floor *= 1 - 0.55 * ndimage.gaussian_filter(shadow.astype(float), 2)[..., None]
    rgb = np.where(np.isnan(colours), floor, colours) + rng.normal(0, 2, (HEIGHT, WIDTH, 3))
    return rgb.clip(0, 255).astype(np.uint8)


def ball(colour: tuple[float, float, float]) -> np.ndarray:
    """Lit from the upper left."""
    light = 0.85 - 0.004 * ((XX - 150) + (YY - 120))
    return np.where(BALL[..., None], np.array(colour) * light[..., None], np.nan)


@pytest.fixture(scope="module")
def red_ball() -> np.ndarray:
    return on_a_floor(ball((200, 40, 50)), SHADOW)


def test_a_rim_of_background_goes(red_ball: np.ndarray) -> None:
    generous = grown(BALL, 7)
    (better,) = refine_outlines(red_ball, [generous])
    assert iou(generous, BALL) < 0.8
    assert iou(better, BALL) > 0.95


def test_a_cast_shadow_goes(red_ball: np.ndarray) -> None:
    with_shadow = BALL | SHADOW
    (better,) = refine_outlines(red_ball, [with_shadow])
    assert iou(with_shadow, BALL) < 0.85
    assert iou(better, BALL) > 0.9


def test_a_lost_rim_comes_back(red_ball: np.ndarray) -> None:
    mean = ndimage.distance_transform_edt(BALL) > 3
    (better,) = refine_outlines(red_ball, [mean])
    assert iou(better, BALL) > iou(mean, BALL) + 0.03


def test_a_dark_foot_stays() -> None:
    """A blue block on black feet: dark parts at the bottom that are no shadow."""
    block = (abs(XX - 150) < 50) & (abs(YY - 100) < 50)
    feet = (abs(abs(XX - 150) - 30) < 14) & (abs(YY - 165) < 16)
    colours = np.full((HEIGHT, WIDTH, 3), np.nan)
    colours[block], colours[feet] = (60, 90, 170), (26, 26, 29)
    rgb = on_a_floor(colours)
    (better,) = refine_outlines(rgb, [grown(block | feet, 4)])
    assert better[feet].mean() > 0.97
    assert iou(better, block | feet) > 0.95


def test_white_on_white_stays_as_it_is() -> None:
    rgb = np.full((HEIGHT, WIDTH, 3), 247.0) + np.random.default_rng(1).normal(0, 1.5, (HEIGHT, WIDTH, 3))
    (same,) = refine_outlines(rgb.clip(0, 255).astype(np.uint8), [BALL])
    np.testing.assert_array_equal(same, BALL)


def test_no_bite_is_taken_out_where_the_object_looks_like_the_wall() -> None:
    """A blue ball with a white band, whose shaded side has the colour of the wall behind."""
    light = np.clip(1 - 0.002 * (XX - 120), 0, 1.02)
    band = (np.abs(YY - 110) < 24)[..., None]
    painted = np.where(band, (225.0, 220.0, 212.0), (60.0, 90.0, 190.0)) * light[..., None]
    behind = np.where((YY < 140)[..., None], (200.0, 200.0, 196.0), (170.0, 130.0, 90.0))
    noise = np.random.default_rng(0).normal(0, 2, (HEIGHT, WIDTH, 3))
    rgb = (np.where(BALL[..., None], painted, behind) + noise).clip(0, 255).astype(np.uint8)
    (better,) = refine_outlines(rgb, [grown(BALL, 2)])
    assert iou(better, BALL) > 0.945


def test_a_notch_of_plain_background_is_opened() -> None:
    notch = (np.abs(XX - 150) < 10) & (YY < 125)
    horseshoe = BALL & ~notch
    rgb = on_a_floor(np.where(horseshoe[..., None], np.array((200.0, 40.0, 50.0)), np.nan))
    (better,) = refine_outlines(rgb, [BALL])
    assert iou(BALL, horseshoe) < 0.89
    assert iou(better, horseshoe) > 0.92


def test_outlined_drawings_stay_as_they_are() -> None:
    ring = np.abs(np.hypot(YY - 120, XX - 150) - 55) < 1.5
    rgb = np.where((ring | (YY.astype(int) % 60 == 0))[..., None], 20, 255).astype(np.uint8).repeat(3, -1)
    (same,) = refine_outlines(rgb, [BALL])
    assert iou(same, BALL) > 0.95


def test_masks_that_share_no_pixel_share_none_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outline, "_refine_one", lambda rgb, mask, others: grown(mask, 5))
    masks = [BALL & (XX < 148), BALL & (XX >= 152)]
    better = refine_outlines(on_a_floor(ball((200, 40, 50))), masks)
    assert not (better[0] & better[1]).any()
    assert all((new & old).sum() == old.sum() < new.sum() for new, old in zip(better, masks, strict=True))


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (60, 80)])
def test_odd_masks_come_back_whole(shape: tuple[int, int]) -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (*shape, 3), dtype=np.uint8)
    everything, corner = np.ones(shape, bool), np.zeros(shape, bool)
    corner[0, 0] = True
    for mask in (everything, corner):
        (same,) = refine_outlines(rgb, [mask])
        np.testing.assert_array_equal(same, mask)
    assert refine_outlines(rgb, []) == []


def test_another_object_is_no_background() -> None:
    """A cup whose foot has the colour of the saucer it stands on keeps its foot."""
    saucer = ((YY - 170) / 40) ** 2 + ((XX - 150) / 110) ** 2 < 1
    cup = (abs(XX - 150) < 45) & (YY > 50) & (YY < 160)
    foot = cup & (YY > 135)
    colours = np.full((HEIGHT, WIDTH, 3), np.nan)
    colours[saucer], colours[cup], colours[foot] = (150, 30, 25), (235, 225, 210), (120, 24, 20)
    cup_mask, _ = refine_outlines(on_a_floor(colours), [cup, saucer & ~cup])
    assert cup_mask[foot].mean() > 0.97
