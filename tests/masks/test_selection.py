"""The choice among scored masks that all engines share, under a policy as plain as can be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.masks.rules import Overlaps
from sam3d_gs.masks.selection import GROUP, PART, Choice, Policy, Verdict, choose, duplicate, without
from tests.drawn_masks import HEIGHT, WIDTH, box


@dataclass(frozen=True)
class Scored:
    mask: np.ndarray
    score: float


def same_object(overlaps: Overlaps, new: int, kept: int) -> Verdict | None:
    iou = overlaps.iou(new, kept)
    return duplicate(iou) if iou > 0.6 else None


def part(overlaps: Overlaps, new: int, kept: int) -> Verdict | None:
    return Verdict(PART) if overlaps.inside(new, kept) > 0.9 else None


POLICY = Policy(unfit=lambda number: None, rules=(same_object,), max_objects=12)


def chosen(*scored: tuple[np.ndarray, float], policy: Policy = POLICY) -> dict[int, Choice]:
    choices = choose([Scored(*one) for one in scored], policy)
    assert sorted(choice.proposal for choice in choices) == list(range(len(scored)))
    assert [c.dropped is not None for c in choices] == sorted(c.dropped is not None for c in choices)
    return {choice.proposal: choice for choice in choices}


def unfit_are(*numbers: int, reason: str = "blurred") -> Callable[[int], str | None]:
    return lambda number: reason if number in numbers else None


def test_no_proposals() -> None:
    assert choose([], POLICY) == []


def test_kept_and_dropped_come_best_first_whatever_the_order_given() -> None:
    places = [box(10 + 45 * n, 60, 35 + 45 * n, 90) for n in range(4)]
    scored = [Scored(places[n], score) for n, score in enumerate((0.2, 0.9, 0.5, 0.7))]
    found = choose(scored, replace(POLICY, max_objects=2))
    assert [choice.proposal for choice in found] == [1, 3, 2, 0]
    assert [choice.dropped for choice in found[2:]] == ["beyond the 2 best objects"] * 2


@pytest.mark.parametrize(("scores", "winner"), [((0.5, 0.9), 1), ((0.9, 0.5), 0), ((0.7, 0.7), 0)])
def test_the_better_of_two_duplicates_stays_and_the_first_of_equals(scores: tuple[float, float], winner: int) -> None:
    found = chosen((box(20, 20, 80, 80), scores[0]), (box(20, 20, 80, 76), scores[1]))
    assert found[winner].dropped is None
    loser = found[1 - winner]
    assert (loser.dropped, loser.because_of, loser.measure) == ("duplicate of", (winner,), "IoU 0.93")
    assert loser.reason("number {}".format) == f"duplicate of number {winner} (IoU 0.93)"
    assert found[winner].reason(str) is None


def test_an_unfit_proposal_does_not_suppress_a_fit_one() -> None:
    """Neither as a duplicate nor by taking pixels."""
    good, better = box(20, 20, 80, 80), box(20, 20, 80, 76)
    found = chosen((better, 0.9), (good, 0.5), policy=replace(POLICY, unfit=unfit_are(0)))
    assert found[0].dropped == "blurred"
    assert found[1].dropped is None
    assert np.array_equal(found[1].mask, good)


def test_an_unfit_proposal_keeps_its_own_reason() -> None:
    """It is not compared with the better one of which it is a duplicate."""
    found = chosen((box(20, 20, 80, 80), 0.9), (box(20, 20, 80, 76), 0.5), policy=replace(POLICY, unfit=unfit_are(1)))
    assert (found[1].dropped, found[1].because_of) == ("blurred", ())


def test_a_dropped_proposal_does_not_suppress_others() -> None:
    """The third duplicates the second alone, which is itself a duplicate."""
    masks = box(20, 20, 80, 80), box(20, 32, 80, 92), box(20, 44, 80, 104)
    found = chosen(*((mask, 0.9 - 0.1 * n) for n, mask in enumerate(masks)))
    assert [found[n].dropped for n in range(3)] == [None, "duplicate of", None]


def test_the_smaller_mask_gets_the_shared_pixels() -> None:
    tray, cup = box(20, 20, 120, 100), box(40, 40, 70, 70)
    found = chosen((tray, 0.9), (cup, 0.5))
    assert np.array_equal(found[0].mask, tray & ~cup)
    assert np.array_equal(found[1].mask, cup)


def test_a_group_is_dropped_for_its_members() -> None:
    left, right, elsewhere = box(20, 20, 70, 60), box(74, 20, 120, 60), box(20, 80, 60, 120)
    found = chosen((box(20, 20, 120, 60), 0.9), (left, 0.8), (right, 0.7), (elsewhere, 0.6))
    assert (found[0].dropped, found[0].because_of, found[0].measure) == (GROUP, (2, 1), "96%")
    assert found[0].mask.sum() == 100 * 40
    untold = chosen(
        (box(20, 20, 120, 60), 0.9), (left, 0.8), (right, 0.7), policy=replace(POLICY, tells_lost_share=False)
    )
    assert (untold[0].dropped, untold[0].measure) == (GROUP, "")


def test_a_group_names_the_masks_that_lie_in_it_by_the_policys_share() -> None:
    policy = replace(POLICY, rules=(), named_share=0.5)
    scored = (box(20, 20, 100, 60), 0.9), (box(20, 20, 70, 60), 0.8), (box(70, 20, 85, 100), 0.7)
    assert chosen(*scored, policy=policy)[0].because_of == (1,)
    assert chosen(*scored, policy=replace(policy, named_share=0.0))[0].because_of == (2, 1)


def test_a_mask_that_keeps_too_few_pixels_is_dropped() -> None:
    scored = (box(20, 20, 120, 100), 0.9), (box(20, 20, 72, 100), 0.8)
    assert chosen(*scored, policy=replace(POLICY, least_px=48 * 80))[0].dropped is None
    assert chosen(*scored, policy=replace(POLICY, least_px=48 * 80 + 1))[0].dropped == GROUP


def test_each_rule_is_tried_on_all_kept_before_the_next() -> None:
    """The last proposal is a part of the first and a duplicate of the second."""

    def part_of_first(overlaps: Overlaps, new: int, kept: int) -> Verdict | None:
        return Verdict(PART) if (new, kept) == (2, 0) else None

    scored = (box(20, 20, 120, 100), 0.9), (box(40, 40, 70, 70), 0.8), (box(40, 40, 70, 68), 0.7)
    found = chosen(*scored, policy=replace(POLICY, rules=(same_object, part_of_first)))
    assert (found[2].dropped, found[2].because_of) == ("duplicate of", (1,))
    found = chosen(*scored, policy=replace(POLICY, rules=(part_of_first, same_object)))
    assert (found[2].dropped, found[2].because_of) == (PART, (0,))


def test_a_part_returns_when_its_whole_is_dropped_and_nothing_else_covers_it() -> None:
    def handle_is_part(overlaps: Overlaps, new: int, kept: int) -> Verdict | None:
        return Verdict(PART, "100%") if new == 3 and kept == 0 else None

    cup, left, right, handle = box(20, 20, 130, 60), box(20, 20, 70, 60), box(70, 20, 120, 60), box(120, 20, 130, 60)
    scored = (cup, 0.9), (left, 0.8), (right, 0.7), (handle, 0.6)
    policy = replace(POLICY, rules=(handle_is_part,))
    assert chosen(*scored, policy=policy)[3].dropped == PART
    found = chosen(*scored, policy=replace(policy, part_returns=0.7))
    assert found[0].dropped == GROUP
    assert (found[3].dropped, found[3].because_of, found[3].measure) == (None, (), "")
    covered = chosen(*scored, (box(120, 20, 130, 40), 0.5), policy=replace(policy, part_returns=0.7))
    assert covered[3].dropped == PART


def test_a_part_of_a_kept_whole_does_not_return() -> None:
    def second_is_part(overlaps: Overlaps, new: int, kept: int) -> Verdict | None:
        return Verdict(PART) if (new, kept) == (1, 0) else None

    policy = replace(POLICY, rules=(second_is_part,), part_returns=0.7)
    assert chosen((box(20, 20, 60, 60), 0.9), (box(80, 20, 120, 60), 0.8), policy=policy)[1].dropped == PART


def test_of_two_versions_of_a_part_only_the_better_one_returns() -> None:
    def handles_are_parts(overlaps: Overlaps, new: int, kept: int) -> Verdict | None:
        return Verdict(PART) if new >= 3 and kept == 0 else None

    cup, left, right, handle = box(20, 20, 130, 60), box(20, 20, 70, 60), box(70, 20, 120, 60), box(120, 20, 130, 60)
    scored = (cup, 0.9), (left, 0.8), (right, 0.7), (handle, 0.6), (handle, 0.5)
    found = chosen(*scored, policy=replace(POLICY, rules=(handles_are_parts,), part_returns=0.7))
    assert [found[n].dropped for n in (3, 4)] == [None, PART]


def test_a_whole_covered_by_masks_that_mostly_lie_outside_names_them_all() -> None:
    scored = (box(60, 60, 100, 100), 0.9), (box(38, 60, 75, 100), 0.8), (box(85, 60, 122, 100), 0.7)
    found = chosen(*scored, policy=replace(POLICY, named_share=0.5))
    assert (found[0].dropped, found[0].because_of) == (GROUP, (1, 2))


def test_the_policys_remainder_is_what_a_mask_keeps() -> None:
    policy = replace(POLICY, remainder=lambda mask, taken: without(mask, taken) & ~box(20, 20, 30, 30))
    assert chosen((box(20, 20, 60, 60), 0.9), policy=policy)[0].mask.sum() == 40 * 40 - 10 * 10


def test_without_gives_the_mask_itself_when_nothing_is_taken() -> None:
    mask = box(20, 20, 60, 60)
    assert without(mask, box(100, 20, 120, 60)) is mask
    assert np.array_equal(without(mask, box(20, 20, 60, 40)), box(20, 40, 60, 60))


rectangles = st.tuples(st.integers(0, 150), st.integers(0, 110), st.integers(0, 120), st.integers(0, 90)).map(
    lambda r: box(r[0], r[1], r[0] + r[2], r[1] + r[3])
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(rectangles, st.floats(0, 1)), max_size=9), st.integers(0, 6), st.sets(st.integers(0, 8)))
def test_kept_masks_are_disjoint_fit_and_parts_of_their_proposals(
    scored: list[tuple[np.ndarray, float]], most: int, unfit: set[int]
) -> None:
    policy = Policy(unfit_are(*unfit), (same_object, part), most, part_returns=0.7)
    found = chosen(*scored, policy=policy)
    kept = [choice for choice in found.values() if choice.dropped is None]
    assert len(kept) <= most
    assert sum((choice.mask.astype(int) for choice in kept), np.zeros((HEIGHT, WIDTH), int)).max() <= 1
    for choice in kept:
        assert choice.proposal not in unfit
        assert choice.mask.any()
        assert not (choice.mask & ~scored[choice.proposal][0]).any()
    for choice in found.values():
        assert choice.proposal not in choice.because_of
        assert not unfit & set(choice.because_of)
        assert (choice.dropped == "blurred") == (choice.proposal in unfit)
