"""Choose among the scored masks of one photo: one mask per object, no pixel twice, a reason for each mask dropped.

Best first, each proposal is judged by itself (`Policy.unfit`), then against every better one that was kept
(`Policy.rules`). Kept masks may still overlap: a cup stands on a tray. Each shared pixel goes to the smaller mask, and
a mask that loses most of its pixels is dropped: it was a group, or a whole that its parts cover. Of what remains the
best `Policy.max_objects` stay.

All mask engines choose here; they differ in their `Policy` alone: masks/detections.py has that of SAM 3,
embedded/proposals/selection.py that of the embedded engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from sam3d_gs.masks.rules import Overlaps

DUPLICATE, PART, GROUP = "duplicate of", "part of", "contains"  # why a proposal is dropped in favour of others
_REMAINDER = 0.4  # a mask that keeps less than this share of its pixels is dropped in favour of those that took them


class ScoredMask(Protocol):
    """What an engine proposes."""

    @property
    def mask(self) -> np.ndarray: ...  # (H, W) bool, at photo size

    @property
    def score(self) -> float: ...  # 0..1


@dataclass(frozen=True)
class Verdict:
    """Why a proposal is dropped in favour of one that is kept."""

    reason: str
    measure: str = ""


Rule = Callable[[Overlaps, int, int], Verdict | None]  # (overlaps, new, kept): None when both may stay


def without(mask: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """The pixels of `mask` that are not `taken`, (H, W) bool; `mask` itself when that is all of them."""
    return mask & ~taken if (mask & taken).any() else mask


@dataclass(frozen=True)
class Policy:
    """How one engine judges its proposals, which are named by their positions in the list given to `choose`."""

    unfit: Callable[[int], str | None]  # why a proposal is no object, whatever the others are; None: it may be one
    rules: Sequence[Rule]  # each is tried against all kept proposals before the next one is
    max_objects: int
    remainder: Callable[[np.ndarray, np.ndarray], np.ndarray] = without  # (mask, taken): what a mask keeps
    least_px: float = 1  # a mask that keeps fewer pixels is dropped
    named_share: float = 0.0  # the reason of a dropped group names the masks that lie in it by more than this share
    tells_lost_share: bool = True  # and says which share of the group they took
    part_returns: float | None = None  # free share of a part from which it returns when its whole is dropped


@dataclass(frozen=True)
class Choice:
    """What became of one proposal."""

    proposal: int  # position in the list given to `choose`
    mask: np.ndarray  # (H, W) bool; of a kept one only the pixels that no other kept one has
    score: float
    dropped: str | None = None  # the reason, which continues with the names of `because_of`
    because_of: tuple[int, ...] = ()  # the proposals that are in its place
    measure: str = ""  # added to the reason in brackets

    def reason(self, name: Callable[[int], str]) -> str | None:
        """The whole reason, e.g. "duplicate of 01-mug-0 (IoU 0.95)"; None when kept. `name`: of a proposal."""
        if self.dropped is None:
            return None
        others = ", ".join(name(other) for other in self.because_of)
        return " ".join(part for part in (self.dropped, others, self.measure and f"({self.measure})") if part)


def duplicate(iou: float) -> Verdict:
    """The verdict on a mask that shows the same object as a better one."""
    return Verdict(DUPLICATE, f"IoU {iou:.2f}")


def choose(proposals: Sequence[ScoredMask], policy: Policy) -> list[Choice]:
    """One choice per proposal: the kept ones, best first, then the dropped ones, best first. Kept masks are disjoint.

    Of equal scores the first in the list counts as the better one.
    """
    if not proposals:
        return []
    overlaps = Overlaps.of([proposal.mask for proposal in proposals])
    choices: dict[int, Choice] = {}  # in order of score
    kept: list[int] = []
    for number in sorted(range(len(proposals)), key=lambda n: -proposals[n].score):
        choice = Choice(number, proposals[number].mask, proposals[number].score, policy.unfit(number))
        if choice.dropped is None:
            choice = _compared(choice, kept, overlaps, policy.rules)
        if choice.dropped is None:
            kept.append(number)
        choices[number] = choice
    taken = _share_out(choices, kept, policy)
    if policy.part_returns is not None:
        _return_parts(choices, taken, policy.part_returns, policy)
    left = [number for number, choice in choices.items() if choice.dropped is None]
    for number in left[policy.max_objects :]:
        choices[number] = replace(choices[number], dropped=f"beyond the {policy.max_objects} best objects")
    return sorted(choices.values(), key=lambda choice: choice.dropped is not None)  # stable: best first


def _compared(choice: Choice, kept: Sequence[int], overlaps: Overlaps, rules: Sequence[Rule]) -> Choice:
    """`choice`, dropped if a rule gives its place to one of the proposals kept so far."""
    for rule in rules:
        for better in kept:
            verdict = rule(overlaps, choice.proposal, better)
            if verdict is not None:
                return replace(choice, dropped=verdict.reason, because_of=(better,), measure=verdict.measure)
    return choice


def _share_out(choices: dict[int, Choice], kept: Sequence[int], policy: Policy) -> np.ndarray:
    """Give each pixel to one kept mask, the smallest first, and drop those that keep too little.

    Returns the pixels given away, (H, W) bool.
    """
    areas = {number: int(np.count_nonzero(choices[number].mask)) for number in kept}
    taken = np.zeros_like(next(iter(choices.values())).mask)
    owners: list[int] = []
    for number in sorted(kept, key=lambda n: areas[n]):  # stable: of equal sizes the better one
        mask, area = choices[number].mask, areas[number]
        own = policy.remainder(mask, taken)
        own_px = int(np.count_nonzero(own))
        if own_px < max(_REMAINDER * area, policy.least_px, 1):
            members = tuple(n for n in owners if _lies_in(choices[n].mask, mask, policy.named_share)) or tuple(owners)
            lost = f"{1 - own_px / max(area, 1):.0%}" if policy.tells_lost_share else ""
            choices[number] = replace(choices[number], dropped=GROUP, because_of=members, measure=lost)
            continue
        choices[number] = replace(choices[number], mask=own)
        taken |= own
        owners.append(number)
    return taken


def _lies_in(mask: np.ndarray, other: np.ndarray, share: float) -> bool:
    """Whether more than `share` of `mask` lies in `other`."""
    return bool(np.count_nonzero(mask & other) > share * np.count_nonzero(mask))


def _return_parts(choices: dict[int, Choice], taken: np.ndarray, share: float, policy: Policy) -> None:
    """Where a whole was dropped for its parts, keep also those parts (a cup's handle) that nothing else covers."""
    for number, choice in choices.items():
        if choice.dropped == PART and choices[choice.because_of[0]].dropped == GROUP:
            own = policy.remainder(choice.mask, taken)
            if np.count_nonzero(own) >= max(share * np.count_nonzero(choice.mask), policy.least_px, 1):
                choices[number] = replace(choice, mask=own, dropped=None, because_of=(), measure="")
                taken |= own
