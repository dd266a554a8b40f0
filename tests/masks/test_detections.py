from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.masks.detections import Detection, select_objects, thresholds
from sam3d_gs.options import Sam3Options
from sam3d_gs.types import InstanceMask, Phrase

SHAPE = (120, 160)
OPTIONS = Sam3Options(score_threshold=0.5)
PHRASES = [Phrase(n, text) for n, text in enumerate(("cup", "mug", "tray", "spoon"))]
CUP, MUG, TRAY, SPOON = range(4)


def box(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(SHAPE, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def chosen(*found: tuple[int, float, np.ndarray], options: Sam3Options = OPTIONS) -> dict[str, InstanceMask]:
    made = select_objects([Detection(*one) for one in found], PHRASES, options)
    flags = [mask.dropped is not None for mask in made]
    assert flags == sorted(flags)  # kept ones first
    assert len(made) == len(found)  # nothing is lost
    return {mask.object_id: mask for mask in made}


def test_one_object_under_two_phrases_is_kept_once_with_its_alias() -> None:
    made = chosen((CUP, 0.8, box(10, 10, 50, 50)), (MUG, 0.9, box(11, 10, 50, 51)), (MUG, 0.7, box(80, 10, 120, 50)))
    assert [(name, mask.aliases) for name, mask in made.items() if mask.dropped is None] == [
        ("01-mug-0", ("cup",)),
        ("01-mug-1", ()),
    ]
    assert made["00-cup-0"].dropped == "duplicate of 01-mug-0 (IoU 0.95)"


def test_an_alias_is_another_phrase_and_given_once() -> None:
    made = chosen(
        (CUP, 0.9, box(10, 10, 50, 50)),
        (CUP, 0.8, box(10, 10, 50, 49)),
        (MUG, 0.7, box(11, 10, 50, 50)),
        (MUG, 0.6, box(10, 11, 50, 50)),
        (SPOON, 0.55, box(10, 12, 50, 50)),
    )
    assert made["00-cup-0"].aliases == ("mug", "spoon")


def test_most_of_another_is_the_same_object() -> None:
    """IoU .56, below the limit, but one lies in the other: a chair with and without its cushion."""
    made = chosen((CUP, 0.9, box(20, 20, 80, 80)), (MUG, 0.8, box(20, 20, 80, 54)))
    assert made["00-cup-0"].aliases == ("mug",)


def test_a_cup_on_a_tray_stays_and_the_tray_gives_its_pixels() -> None:
    made = chosen((TRAY, 0.9, box(10, 10, 110, 90)), (CUP, 0.8, box(40, 30, 70, 60)))
    assert {name: mask.dropped for name, mask in made.items()} == {"00-cup-0": None, "02-tray-0": None}
    assert made["02-tray-0"].area_px == 100 * 80 - 30 * 30
    assert not (made["00-cup-0"].mask & made["02-tray-0"].mask).any()


@pytest.mark.parametrize(("whole", "part", "reason"), [(0.9, 0.8, "part of"), (0.8, 0.9, "contains")])
def test_inside_the_same_phrase_the_better_one_counts(whole: float, part: float, reason: str) -> None:
    made = chosen((CUP, whole, box(10, 10, 110, 90)), (CUP, part, box(40, 30, 70, 60)))
    assert made["00-cup-0"].dropped is None
    assert made["00-cup-1"].dropped == f"{reason} 00-cup-0 (100%)"


def test_a_group_goes_when_its_members_are_kept() -> None:
    made = chosen(
        (TRAY, 0.95, box(10, 10, 110, 50)), (CUP, 0.8, box(10, 10, 55, 50)), (SPOON, 0.8, box(60, 10, 110, 50))
    )
    assert made["02-tray-0"].dropped == "contains 00-cup-0, 03-spoon-0 (95%)"


@pytest.mark.parametrize(
    ("score", "mask", "reason"),
    [
        (0.31, box(10, 10, 50, 50), "score 0.31 below the threshold 0.50"),
        (0.9, box(10, 10, 12, 12), "tiny: 0.02% of the photo, limit 0.15%"),
        (0.9, box(0, 0, 160, 60), "background: 50% of the photo along 3 of its borders"),
        (0.9, box(0, 30, 10, 80), "border fragment: more than half cut off by the edge of the photo"),
    ],
)
def test_what_is_no_object_is_dropped_with_the_reason(score: float, mask: np.ndarray, reason: str) -> None:
    assert chosen((CUP, score, mask))["00-cup-0"].dropped == reason


def test_the_border_filter_can_be_switched_off() -> None:
    options = Sam3Options(score_threshold=0.5, border_filter=False)
    assert chosen((CUP, 0.9, box(0, 0, 160, 60)), options=options)["00-cup-0"].dropped is None


def test_a_threshold_of_its_own_for_a_phrase() -> None:
    options = Sam3Options(score_threshold=0.5, phrase_thresholds=(("Spoon", 0.2),))
    assert thresholds(PHRASES, options) == [0.5, 0.5, 0.5, 0.2]
    made = chosen((CUP, 0.3, box(10, 10, 50, 50)), (SPOON, 0.3, box(80, 10, 120, 50)), options=options)
    assert made["03-spoon-0"].dropped is None
    assert made["00-cup-0"].dropped


def test_the_cap_keeps_the_best() -> None:
    options = Sam3Options(score_threshold=0.5, max_objects=1)
    made = chosen((CUP, 0.6, box(10, 10, 50, 50)), (SPOON, 0.9, box(80, 10, 120, 50)), options=options)
    assert made["03-spoon-0"].dropped is None
    assert made["00-cup-0"].dropped == "beyond the 1 best objects"


def test_nothing_found() -> None:
    assert select_objects([], PHRASES, OPTIONS) == []


rectangles = st.tuples(
    st.integers(0, 3), st.floats(0, 1), st.integers(0, 150), st.integers(0, 110), st.integers(0, 80), st.integers(0, 80)
)


@settings(max_examples=60, deadline=None)
@given(st.lists(rectangles, max_size=8))
def test_kept_masks_share_no_pixel_and_every_detection_comes_out(
    drawn: list[tuple[int, float, int, int, int, int]],
) -> None:
    found = [Detection(phrase, score, box(x, y, x + w, y + h)) for phrase, score, x, y, w, h in drawn]
    made = select_objects(found, PHRASES, OPTIONS)
    assert len({mask.object_id for mask in made}) == len(found)
    kept = [mask for mask in made if mask.dropped is None]
    assert all(mask.score >= 0.5 and mask.mask.any() for mask in kept)
    assert sum((mask.mask.astype(int) for mask in kept), np.zeros(SHAPE, int)).max() <= 1
