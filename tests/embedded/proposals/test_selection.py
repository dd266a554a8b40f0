"""From proposals to separate objects, with reasons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.embedded.proposals.regions import Proposal
from sam3d_gs.embedded.proposals.selection import Choice, select
from sam3d_gs.options import MaskOptions
from tests.drawn_masks import HEIGHT, WIDTH, box, disc

RED, BLUE, GREY = (200, 20, 30), (20, 40, 200), (128, 128, 128)


def chosen(*scored: tuple[np.ndarray, float], rgb: np.ndarray | None = None, **options: float) -> dict[int, Choice]:
    picture = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8) if rgb is None else rgb
    found = select([Proposal(*s) for s in scored], picture, MaskOptions(**options))  # type: ignore[arg-type]
    assert sorted(choice.proposal for choice in found) == list(range(len(scored)))
    assert [c.dropped is not None for c in found] == sorted(c.dropped is not None for c in found)
    return {choice.proposal: choice for choice in found}


def test_nothing_in_nothing_out() -> None:
    assert select([], np.zeros((5, 5, 3), np.uint8)) == []


def test_separate_objects_are_all_kept_as_they_are() -> None:
    masks = box(20, 20, 60, 60), disc(140, 80, 30)
    found = chosen((masks[0], 0.9), (masks[1], 0.5))
    for number, mask in enumerate(masks):
        assert found[number].dropped is None
        np.testing.assert_array_equal(found[number].mask, mask)


def test_the_worse_of_two_duplicates_goes_with_its_iou() -> None:
    found = chosen((box(20, 20, 80, 80), 0.9), (box(20, 20, 80, 76), 0.8))
    assert found[0].dropped is None
    assert (found[1].dropped, found[1].because_of, found[1].measure) == ("duplicate of", (0,), "IoU 0.93")


def test_a_wheel_goes_and_the_truck_stays() -> None:
    rgb = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    truck, wheel = box(30, 30, 170, 110), disc(60, 100, 12)
    rgb[truck] = RED
    rgb[wheel] = (20, 20, 20)
    found = chosen((truck | wheel, 0.6), (wheel, 0.25), rgb=rgb)
    assert found[0].dropped is None
    assert (found[1].dropped, found[1].because_of) == ("part of", (0,))


def test_half_of_a_truck_in_one_colour_is_a_part_however_good() -> None:
    rgb = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    truck = box(30, 30, 170, 110)
    rgb[truck] = RED
    found = chosen((truck, 0.6), (box(30, 30, 95, 110), 0.59), rgb=rgb)
    assert found[1].dropped == "part of"


def test_shirt_and_trousers_stay_one_person() -> None:
    rgb = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    shirt, trousers = box(80, 20, 120, 70), box(80, 70, 120, 130)
    rgb[shirt], rgb[trousers] = RED, BLUE
    found = chosen((shirt | trousers, 0.5), (shirt, 0.4), (trousers, 0.35), rgb=rgb)
    assert found[0].dropped is None
    assert found[1].dropped == found[2].dropped == "part of"


@pytest.mark.parametrize("whole_first", [True, False])
def test_a_cup_on_a_saucer_stays_and_the_saucer_excludes_it(whole_first: bool) -> None:
    rgb = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    saucer, cup = disc(100, 75, 60), disc(100, 70, 30)
    rgb[saucer], rgb[cup] = RED, (240, 240, 240)
    if whole_first:
        found = chosen((saucer, 0.6), (cup, 0.5), rgb=rgb)
        whole, part = found[0], found[1]
    else:
        found = chosen((cup, 0.6), (saucer, 0.5), rgb=rgb)
        whole, part = found[1], found[0]
    assert whole.dropped is part.dropped is None
    assert not (whole.mask & part.mask).any()
    np.testing.assert_array_equal(whole.mask | part.mask, saucer)


def test_a_whole_that_is_nothing_but_its_parts_gives_way_to_them() -> None:
    rgb = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    shadow, saucer, cup = disc(100, 75, 65), disc(100, 75, 60), disc(100, 72, 43)
    rgb[saucer], rgb[cup] = RED, (240, 240, 240)
    beside = box(155, 60, 195, 100)  # a quarter of it lies in the shadow
    found = chosen((shadow, 0.6), (cup, 0.5), (saucer & ~cup, 0.45), (beside, 0.44), rgb=rgb)
    assert found[3].dropped is None
    assert (found[0].dropped, found[0].measure) == ("contains", "")
    assert set(found[0].because_of) == {1, 2}
    assert found[1].dropped is found[2].dropped is None


def striped(whole: np.ndarray, stripe: np.ndarray) -> np.ndarray:
    rgb = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    rgb[whole], rgb[stripe] = RED, BLUE
    return rgb


def test_an_island_that_an_object_in_front_cuts_off_goes() -> None:
    whole, stripe = box(20, 20, 120, 60), box(100, 20, 110, 60)
    found = chosen((whole, 0.6), (stripe, 0.5), rgb=striped(whole, stripe))
    assert found[0].dropped is found[1].dropped is None
    np.testing.assert_array_equal(found[0].mask, box(20, 20, 100, 60))


def test_a_whole_must_keep_the_smallest_area_of_an_object() -> None:
    whole, stripe = box(20, 20, 80, 70), box(40, 20, 71, 70)
    rgb = striped(whole, stripe)
    assert chosen((whole, 0.6), (stripe, 0.5), rgb=rgb, min_area_percent=4.8)[0].dropped is None
    assert chosen((whole, 0.6), (stripe, 0.5), rgb=rgb, min_area_percent=4.9)[0].dropped == "contains"


def test_partial_overlap_goes_to_the_better_one() -> None:
    found = chosen((box(20, 20, 80, 80), 0.9), (box(50, 20, 110, 80), 0.8))
    assert (found[1].dropped, found[1].measure) == ("overlaps", "50%")


@pytest.mark.parametrize(
    ("mask", "score", "options", "reason"),
    [
        (box(100, 100, 104, 104), 0.9, {}, "tiny"),
        (box(100, 100, 130, 130), 0.3, {"score_threshold": 0.4}, "below the threshold 0.40"),
        (box(0, 0, WIDTH, 60), 0.9, {}, "background"),
        (box(0, 20, WIDTH, HEIGHT), 0.9, {}, "background"),
        (box(0, 60, 8, 120), 0.9, {}, "border fragment"),
        (box(100, 40, 101, 140), 0.9, {"min_area_percent": 0.01}, "thin"),
        (box(100, 100, 130, 130), 0.05, {}, "unlikely"),
    ],
)
def test_what_is_no_object_goes_with_its_reason(
    mask: np.ndarray, score: float, options: dict[str, float], reason: str
) -> None:
    found = chosen((box(60, 70, 90, 100), 0.9), (mask, score), **options)
    assert found[0].dropped is None
    assert reason in (found[1].dropped or "")


def test_what_the_photos_edge_cuts_must_be_likelier() -> None:
    cut, inside = box(100, 0, 130, 30), box(100, 40, 130, 70)
    assert chosen((box(60, 70, 90, 100), 0.9), (inside, 0.4))[1].dropped is None
    assert "unlikely" in (chosen((box(60, 70, 90, 100), 0.9), (cut, 0.4))[1].dropped or "")
    assert chosen((box(60, 70, 90, 100), 0.9), (cut, 0.5))[1].dropped is None
    assert chosen((box(60, 70, 90, 100), 0.9), (cut, 0.4), border_filter=False)[1].dropped is None


def test_at_most_max_objects_the_best_ones() -> None:
    found = chosen(*((box(10 + 40 * n, 60, 35 + 40 * n, 90), 0.9 - 0.1 * n) for n in range(4)), max_objects=2)
    assert [found[n].dropped is None for n in range(4)] == [True, True, False, False]
    assert "2 best" in (found[3].dropped or "")


rectangles = st.tuples(st.integers(0, 150), st.integers(0, 110), st.integers(1, 120), st.integers(1, 90)).map(
    lambda r: box(r[0], r[1], r[0] + r[2], r[1] + r[3])
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(rectangles, max_size=9), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_kept_masks_share_no_pixel_and_every_other_has_a_reason(masks: list[np.ndarray], most: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (HEIGHT // 30, WIDTH // 40, 3), dtype=np.uint8).repeat(30, 0).repeat(40, 1)
    scores = sorted(rng.uniform(0.05, 1, len(masks)).tolist(), reverse=True)
    options = MaskOptions(max_objects=most)
    proposals = [Proposal(mask, score) for mask, score in zip(masks, scores, strict=True)]
    found = select(proposals, rgb, options)
    kept = [c for c in found if c.dropped is None]
    assert sorted(c.proposal for c in found) == list(range(len(masks)))
    assert len(kept) <= most
    assert sum(c.mask.astype(int) for c in kept).max(initial=0) <= 1 if kept else True  # type: ignore[union-attr]
    for choice in kept:
        assert choice.mask.mean() * 100 >= options.min_area_percent
        assert not (choice.mask & ~masks[choice.proposal]).sum() > 0.02 * choice.mask.sum()  # only pinholes filled
    for choice in found[len(kept) :]:
        assert choice.dropped
        assert choice.proposal not in choice.because_of
        if choice.dropped in ("duplicate of", "part of", "overlaps", "contains"):
            assert choice.because_of
    again = select(proposals, rgb, options)
    assert [(c.proposal, c.dropped) for c in again] == [(c.proposal, c.dropped) for c in found]


def test_a_piece_of_a_dissolved_whole_that_nothing_covers_comes_back() -> None:
    rgb = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    shadow, saucer, cup, handle = disc(100, 75, 65), disc(100, 75, 60), disc(100, 72, 43), disc(100, 124, 7)
    rgb[saucer], rgb[cup] = RED, (240, 240, 240)
    found = chosen((shadow, 0.6), (cup, 0.5), (saucer & ~cup & ~handle, 0.45), (handle, 0.2), rgb=rgb)
    assert found[0].dropped == "contains"
    assert found[3].dropped is None
    np.testing.assert_array_equal(found[3].mask, handle)
