"""From overlapping proposals to a set of separate objects, with a reason for every proposal that is left out.

Proposals are nested: the truck, its half, its wheel. Best first, each is compared with what is already kept. A part
goes, unless it stands out from its whole (a cup on a saucer, a person on a chair): then both stay, and the whole
gives the pixels up. A whole whose pixels have nearly all gone to its parts is left out in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sam3d_gs.embedded.language.colours import colour_shares, likeness
from sam3d_gs.embedded.proposals.edges import tidy
from sam3d_gs.embedded.proposals.regions import Proposal
from sam3d_gs.masks.rules import COMPARED_SIDE_PX, Overlaps, edge_contact, unfit
from sam3d_gs.options import MaskOptions

_INSIDE = 0.7  # share of a mask inside another from which it counts as its part
_OVERLAP = 0.4  # share of the smaller of two masks that may be shared when neither is a part of the other
_RIVAL_SCORE = 0.5  # a part that stands for itself scores at least this share of its whole
_RIVAL_LIKENESS = 0.5  # and has at most this much of its colours in common with the rest of it
_RIVAL_AREA = 0.55  # and is at most this share of it: more is the whole again, without its rim
_RIVAL_EMBEDDED = 0.5  # and at least this share of its outline lies against it: a cup on a saucer, not a sleeve
_REMAINDER = 0.4  # a whole that keeps less than this share of its area is left out in favour of its parts
_UNLIKELY = 0.25  # proposals below this share of the best score are fragments, by experience on real photos
_CUT, _CUT_UNLIKELY = 0.1, 0.5  # what the photo's edge cuts (`edge_contact` above the first) needs a better score
_THIN = 0.12  # thickness over the square root of the area; a disc has 1.13


@dataclass(frozen=True)
class Choice:
    """What became of one proposal. References to other proposals are their positions in the list given to `select`."""

    proposal: int
    mask: np.ndarray  # (H, W) bool; of a kept one only the pixels that no other kept one has
    score: float
    dropped: str | None = None  # the reason, which goes on with what `because_of` names
    because_of: tuple[int, ...] = ()
    measure: str = ""  # added to the reason in brackets


def select(proposals: Sequence[Proposal], rgb: np.ndarray, options: MaskOptions = MaskOptions()) -> list[Choice]:
    """Kept objects best first, then the proposals left out, best first; together exactly the proposals given.

    `proposals` best first for the photo `rgb`, (H, W, 3) uint8. Kept masks share no pixel.
    """
    if not proposals:
        return []
    masks = [proposal.mask for proposal in proposals]
    scores = [proposal.score for proposal in proposals]
    overlaps = Overlaps.of(masks)
    shared, area = overlaps.shared, overlaps.area

    choices: dict[int, Choice] = {}
    kept: list[int] = []
    for number, proposal in enumerate(proposals):
        reason = _unfit(proposal, max(scores), options)
        choice = Choice(number, proposal.mask, proposal.score, reason)
        if reason is None:
            choice = _compared(choice, kept, shared, area, masks, scores, rgb, options)
        if choice.dropped is None:
            kept.append(number)
        choices[number] = choice
    _share_out(choices, kept, options)

    for number in [n for n in sorted(choices) if choices[n].dropped is None][options.max_objects :]:
        choices[number] = replace(choices[number], dropped=f"beyond the {options.max_objects} best objects")
    return sorted(choices.values(), key=lambda c: (c.dropped is not None, c.proposal))


def _unfit(proposal: Proposal, best_score: float, options: MaskOptions) -> str | None:
    """Why a proposal is no object by itself, whatever the others are; None when it may be one."""
    mask, score = proposal.mask, proposal.score
    reason = unfit(mask, score, options.score_threshold, options)
    if reason is not None:
        return reason
    if _thickness(mask) < _THIN:
        return "thin fragment"
    cut = options.border_filter and edge_contact(mask) > _CUT
    if score < (_CUT_UNLIKELY if cut else _UNLIKELY) * best_score:
        return f"unlikely to be an object: score {score:.2f}, best {best_score:.2f}"
    return None


def _thickness(mask: np.ndarray) -> float:
    """Diameter of the largest disc inside a mask over the square root of the mask's area."""
    from scipy.ndimage import distance_transform_edt

    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    step = max(1, round(max(np.ptp(rows), np.ptp(columns)) / 128))
    part = mask[rows[0] : rows[-1] + 1 : step, columns[0] : columns[-1] + 1 : step]
    # The distance is to the centre of the nearest pixel outside: half a pixel too much on either side.
    return float((2 * distance_transform_edt(np.pad(part, 1)).max() - 1) / max(part.sum(), 1) ** 0.5)


def _compared(
    choice: Choice,
    kept: Sequence[int],
    shared: np.ndarray,
    area: np.ndarray,
    masks: Sequence[np.ndarray],
    scores: Sequence[float],
    rgb: np.ndarray,
    options: MaskOptions,
) -> Choice:
    """`choice`, left out if one of the proposals kept so far has its place."""
    new = choice.proposal
    inside = [k for k in kept if shared[new, k] > _INSIDE * area[new]]
    around = [k for k in kept if k not in inside and shared[new, k] > _INSIDE * area[k]]
    for k in kept:
        iou = shared[new, k] / (area[new] + area[k] - shared[new, k])
        if iou > options.duplicate_iou:
            return replace(choice, dropped="duplicate of", because_of=(k,), measure=f"IoU {iou:.2f}")
    for k in inside:
        if not _stands_out(masks[new], scores[new], masks[k], scores[k], rgb):
            return replace(choice, dropped="part of", because_of=(k,), measure=f"{shared[new, k] / area[new]:.0%}")
    for k in kept:
        overlap = shared[new, k] / min(area[new], area[k])
        if k not in inside and k not in around and overlap > _OVERLAP:
            return replace(choice, dropped="overlaps", because_of=(k,), measure=f"{overlap:.0%}")
    return choice


def _stands_out(part: np.ndarray, part_score: float, whole: np.ndarray, whole_score: float, rgb: np.ndarray) -> bool:
    """Whether a part is an object of its own: likely, of other colours than the rest, and in front of it.

    Things that lie on or before each other share a long outline; parts grown together (shirt and trousers) a short one.
    """
    if part_score < _RIVAL_SCORE * whole_score or part.sum() > _RIVAL_AREA * whole.sum():
        return False
    rest = whole & ~part
    return (
        _embedded(part, rest) > _RIVAL_EMBEDDED
        and likeness(colour_shares(rgb, part), colour_shares(rgb, rest)) < _RIVAL_LIKENESS
    )


def _embedded(part: np.ndarray, rest: np.ndarray) -> float:
    """Share of the outline of `part` that lies against `rest`."""
    from scipy.ndimage import binary_dilation

    step = max(1, round(max(part.shape) / COMPARED_SIDE_PX))
    part, rest = part[::step, ::step], rest[::step, ::step]
    around = binary_dilation(part, iterations=3) & ~binary_dilation(part)
    return float((rest & around).sum() / max(around.sum(), 1))


def _share_out(choices: dict[int, Choice], kept: Sequence[int], options: MaskOptions) -> None:
    """Give every pixel to one kept object, smaller ones first; leave out those that keep too little."""
    taken = np.zeros_like(choices[0].mask)
    owners: list[int] = []
    for number in sorted(kept, key=lambda n: (int(choices[n].mask.sum()), n)):
        mask = choices[number].mask
        own = _free(mask, taken)
        if own.sum() < max(_REMAINDER * mask.sum(), options.min_area_percent / 100 * mask.size, 1):
            parts = tuple(k for k in owners if (choices[k].mask & mask).sum() > 0.5 * choices[k].mask.sum())
            choices[number] = replace(choices[number], dropped="contains", because_of=parts or tuple(owners))
            continue
        choices[number] = replace(choices[number], mask=own)
        taken |= own
        owners.append(number)
    # Where a whole has dissolved, a part of it that nothing else covers (the cup's handle) comes back.
    for number, choice in choices.items():
        if choice.dropped == "part of" and choices[choice.because_of[0]].dropped == "contains":
            own = _free(choice.mask, taken)
            if own.sum() >= max(_INSIDE * choice.mask.sum(), options.min_area_percent / 100 * own.size, 1):
                choices[number] = replace(choice, mask=own, dropped=None, because_of=(), measure="")
                taken |= own


def _free(mask: np.ndarray, taken: np.ndarray) -> np.ndarray:
    return tidy(mask & ~taken) & ~taken
