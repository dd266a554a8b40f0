"""Select separate objects among overlapping proposals, with a reason for every proposal that is dropped.

Proposals are nested: the truck, half of it, its wheel. Best first, each is compared with those already kept. A part is
dropped unless it is an object of its own (a cup on a saucer, a person on a chair); then both are kept and the pixels
go to the part. A whole that loses most of its pixels to its parts is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sam3d_gs.embedded.language.colours import colour_shares, histogram_intersection
from sam3d_gs.embedded.proposals.edges import clean_mask
from sam3d_gs.embedded.proposals.regions import Proposal
from sam3d_gs.masks.rules import COMPARED_SIDE_PX, Overlaps, edge_contact, unfit
from sam3d_gs.options import MaskOptions

_INSIDE = 0.7  # minimum share of a mask inside another one to be a part of it
_OVERLAP = 0.4  # maximum overlap, as a share of the smaller mask, when neither is a part of the other
_SEPARATE_SCORE = 0.5  # a separate object scores at least this share of its whole
_SEPARATE_LIKENESS = 0.5  # and has at most this colour intersection with the rest of it
_SEPARATE_AREA = 0.55  # and is at most this share of it: a larger part is the whole without its rim
_SEPARATE_CONTACT = 0.5  # and at least this share of its outline touches it: a cup on a saucer, not a sleeve
_REMAINDER = 0.4  # a whole that keeps less than this share of its area is dropped in favour of its parts
_UNLIKELY = 0.25  # proposals below this share of the best score are mostly fragments, on real photos
_CUT, _CUT_UNLIKELY = 0.1, 0.5  # masks cut by the photo's edge (`edge_contact` above the first) need the second share
_THIN = 0.12  # thickness over the square root of the area; a disc has 1.13


@dataclass(frozen=True)
class Choice:
    """The decision about one proposal. Proposals are referred to by their index in the list given to `select`."""

    proposal: int
    mask: np.ndarray  # (H, W) bool; kept ones share no pixel
    score: float
    dropped: str | None = None  # the reason, completed by the proposals in `because_of`; None: kept
    because_of: tuple[int, ...] = ()
    measure: str = ""  # added to the reason in parentheses


def select(proposals: Sequence[Proposal], rgb: np.ndarray, options: MaskOptions = MaskOptions()) -> list[Choice]:
    """One choice per proposal: the kept objects best first, then the dropped ones best first.

    `proposals` of the photo `rgb`, (H, W, 3) uint8, best first. Kept masks share no pixel.
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
        reason = _rejection(proposal, max(scores), options)
        choice = Choice(number, proposal.mask, proposal.score, reason)
        if reason is None:
            choice = _compare_with_kept(choice, kept, shared, area, masks, scores, rgb, options)
        if choice.dropped is None:
            kept.append(number)
        choices[number] = choice
    _resolve_overlaps(choices, kept, options)

    for number in [n for n in sorted(choices) if choices[n].dropped is None][options.max_objects :]:
        choices[number] = replace(choices[number], dropped=f"beyond the {options.max_objects} best objects")
    return sorted(choices.values(), key=lambda c: (c.dropped is not None, c.proposal))


def _rejection(proposal: Proposal, best_score: float, options: MaskOptions) -> str | None:
    """Why a proposal is dropped whatever the others are; None when it may be an object."""
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
    # Distances go to the centre of the nearest pixel outside: half a pixel too much on either side.
    return float((2 * distance_transform_edt(np.pad(part, 1)).max() - 1) / max(part.sum(), 1) ** 0.5)


def _compare_with_kept(
    choice: Choice,
    kept: Sequence[int],
    shared: np.ndarray,
    area: np.ndarray,
    masks: Sequence[np.ndarray],
    scores: Sequence[float],
    rgb: np.ndarray,
    options: MaskOptions,
) -> Choice:
    """`choice`, dropped if it duplicates, belongs to or overlaps one of the proposals kept so far."""
    new = choice.proposal
    inside = [k for k in kept if shared[new, k] > _INSIDE * area[new]]
    around = [k for k in kept if k not in inside and shared[new, k] > _INSIDE * area[k]]
    for k in kept:
        iou = shared[new, k] / (area[new] + area[k] - shared[new, k])
        if iou > options.duplicate_iou:
            return replace(choice, dropped="duplicate of", because_of=(k,), measure=f"IoU {iou:.2f}")
    for k in inside:
        if not _is_separate(masks[new], scores[new], masks[k], scores[k], rgb):
            return replace(choice, dropped="part of", because_of=(k,), measure=f"{shared[new, k] / area[new]:.0%}")
    for k in kept:
        overlap = shared[new, k] / min(area[new], area[k])
        if k not in inside and k not in around and overlap > _OVERLAP:
            return replace(choice, dropped="overlaps", because_of=(k,), measure=f"{overlap:.0%}")
    return choice


def _is_separate(part: np.ndarray, part_score: float, whole: np.ndarray, whole_score: float, rgb: np.ndarray) -> bool:
    """Whether a part is a separate object: of similar score, of other colours than the rest, and in front of it.

    Objects on or in front of others share a long outline with them; adjoining parts (shirt and trousers) a short one.
    """
    if part_score < _SEPARATE_SCORE * whole_score or part.sum() > _SEPARATE_AREA * whole.sum():
        return False
    rest = whole & ~part
    return (
        _contact_share(part, rest) > _SEPARATE_CONTACT
        and histogram_intersection(colour_shares(rgb, part), colour_shares(rgb, rest)) < _SEPARATE_LIKENESS
    )


def _contact_share(part: np.ndarray, rest: np.ndarray) -> float:
    """Share of the outline of `part` that touches `rest`."""
    from scipy.ndimage import binary_dilation

    step = max(1, round(max(part.shape) / COMPARED_SIDE_PX))
    part, rest = part[::step, ::step], rest[::step, ::step]
    around = binary_dilation(part, iterations=3) & ~binary_dilation(part)
    return float((rest & around).sum() / max(around.sum(), 1))


def _resolve_overlaps(choices: dict[int, Choice], kept: Sequence[int], options: MaskOptions) -> None:
    """Assign every pixel to one kept object, smaller ones first; drop those that keep too little. Changes `choices`."""
    taken = np.zeros_like(choices[0].mask)
    owners: list[int] = []
    for number in sorted(kept, key=lambda n: (int(choices[n].mask.sum()), n)):
        mask = choices[number].mask
        own = _unclaimed(mask, taken)
        if own.sum() < max(_REMAINDER * mask.sum(), options.min_area_percent / 100 * mask.size, 1):
            parts = tuple(k for k in owners if (choices[k].mask & mask).sum() > 0.5 * choices[k].mask.sum())
            choices[number] = replace(choices[number], dropped="contains", because_of=parts or tuple(owners))
            continue
        choices[number] = replace(choices[number], mask=own)
        taken |= own
        owners.append(number)
    # Parts of a dropped whole that nothing else covers, such as the cup's handle, are kept again.
    for number, choice in choices.items():
        if choice.dropped == "part of" and choices[choice.because_of[0]].dropped == "contains":
            own = _unclaimed(choice.mask, taken)
            if own.sum() >= max(_INSIDE * choice.mask.sum(), options.min_area_percent / 100 * own.size, 1):
                choices[number] = replace(choice, mask=own, dropped=None, because_of=(), measure="")
                taken |= own


def _unclaimed(mask: np.ndarray, taken: np.ndarray) -> np.ndarray:
    return clean_mask(mask & ~taken) & ~taken
