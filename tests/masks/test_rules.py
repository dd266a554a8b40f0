"""What the photo's edge may do to a mask: objects it cuts stay, strips and corners of the background go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sam3d_gs.masks.rules import Overlaps, edge_contact, unfit
from sam3d_gs.options import MaskOptions
from tests.drawn_masks import HEIGHT, WIDTH, box, disc


def corner(side: int) -> np.ndarray:
    yy, xx = np.mgrid[:HEIGHT, :WIDTH]
    return xx + yy < side


@pytest.mark.parametrize(
    "mask",
    [
        disc(100, 75, 25),
        disc(100, 5, 25),  # two fifths of it are above the photo
        disc(195, 80, 20),
        box(20, 110, 50, 150),  # a vase that stands on the edge
        box(0, 90, 80, 150),  # large, and in a corner: a sofa
    ],
)
def test_objects_stay_that_the_edge_cuts(mask: np.ndarray) -> None:
    assert unfit(mask, 0.9, 0.5, MaskOptions()) is None


@pytest.mark.parametrize(
    "mask",
    [
        disc(100, -8, 25),  # more than half of it is outside
        box(60, 0, 120, 20),  # the foot of something, or a strip of wall
        box(0, 120, 60, 150),
        corner(40),
    ],
)
def test_what_is_mostly_outside_goes_unless_the_filter_is_off(mask: np.ndarray) -> None:
    assert "border fragment" in (unfit(mask, 0.9, 0.5, MaskOptions()) or "")
    assert unfit(mask, 0.9, 0.5, replace(MaskOptions(), border_filter=False)) is None


def test_the_contact_is_a_share_of_the_boxs_outline() -> None:
    assert edge_contact(np.zeros((4, 5), bool)) == edge_contact(box(1, 1, 20, 30)) == 0
    assert edge_contact(box(0, 10, 30, 40)) == pytest.approx(1 / 4)
    assert edge_contact(box(0, 0, 30, 30)) == pytest.approx(1 / 2)
    assert edge_contact(np.ones((7, 9), bool)) == 1


def test_an_empty_mask_is_no_object() -> None:
    assert (
        unfit(np.zeros((HEIGHT, WIDTH), bool), 0.9, 0.5, replace(MaskOptions(), min_area_percent=0.0)) == "empty mask"
    )


def test_overlaps_are_those_of_the_whole_masks() -> None:
    one, other = box(0, 0, 40, 50), box(20, 0, 100, 50)
    overlaps = Overlaps.of([one, other, np.zeros((HEIGHT, WIDTH), bool)])
    assert overlaps.iou(0, 1) == pytest.approx(20 / 100)
    assert overlaps.inside(0, 1) == pytest.approx(20 / 40)
    assert overlaps.inside(1, 0) == pytest.approx(20 / 80)
    assert overlaps.iou(0, 2) == overlaps.inside(2, 0) == 0
