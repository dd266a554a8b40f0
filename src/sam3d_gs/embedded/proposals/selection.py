"""From overlapping proposals to a set of separate objects, with a reason for every proposal that is dropped.

Proposals are nested: the truck, its half, its wheel. A part of a better proposal is dropped, unless it stands out from
its whole (a cup on a saucer, a person on a chair): then both stay, and the whole gives up the pixels of the part. The
steps that all engines share are in masks/selection.py; here is what proposals without phrases need beyond them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sam3d_gs.embedded.language.colours import colour_shares, histogram_intersection
from sam3d_gs.embedded.proposals.edges import clean_mask
from sam3d_gs.embedded.proposals.regions import Proposal
from sam3d_gs.masks.rules import COMPARED_SIDE_PX, Overlaps, edge_contact, unfit
from sam3d_gs.masks.selection import PART, Choice, Policy, Verdict, choose, duplicate
from sam3d_gs.options import MaskOptions

__all__ = ["Choice", "select"]

_INSIDE = 0.7  # share of a mask inside another from which it counts as its part
# Share of the smaller of two masks that may be shared when neither is a part of the other. In 32 bits, as the share
# that is compared with it, so that an exact tie is not above it.
_OVERLAP = np.float32(0.4)
_RIVAL_SCORE = 0.5  # a part is an object of its own when it scores at least this share of its whole,
_RIVAL_LIKENESS = 0.5  # has at most this much of its colours in common with the rest of it,
_RIVAL_AREA = 0.55  # is at most this share of it (more is the whole again, without its rim),
_RIVAL_EMBEDDED = 0.5  # and has at least this share of its outline against it: a cup on a saucer, not a sleeve
_NAMED = 0.5  # a dissolved whole names the objects of which more than this share lies in it
_UNLIKELY = 0.25  # proposals below this share of the best score are fragments, by experience on real photos
_CUT, _CUT_UNLIKELY = 0.1, 0.5  # what the photo's edge cuts (`edge_contact` above the first) needs a better score
_THIN = 0.12  # thickness over the square root of the area; a disc has 1.13


def select(proposals: Sequence[Proposal], rgb: np.ndarray, options: MaskOptions = MaskOptions()) -> list[Choice]:
    """One choice per proposal for the photo `rgb`, (H, W, 3) uint8: kept ones first, each best first.

    Kept masks share no pixel.
    """
    best_score = max((proposal.score for proposal in proposals), default=0.0)

    def same_object(overlaps: Overlaps, new: int, kept: int) -> Verdict | None:
        iou = overlaps.iou(new, kept)
        return duplicate(iou) if iou > np.float32(options.duplicate_iou) else None

    def part(overlaps: Overlaps, new: int, kept: int) -> Verdict | None:
        share = overlaps.inside(new, kept)
        if share <= _INSIDE or _stands_out(proposals[new], proposals[kept], rgb):
            return None
        return Verdict(PART, f"{share:.0%}")

    policy = Policy(
        unfit=lambda number: _unfit(proposals[number], best_score, options),
        rules=(same_object, part, _overlapping),
        max_objects=options.max_objects,
        remainder=_tidy_remainder,
        least_px=options.min_area_percent / 100 * (rgb.shape[0] * rgb.shape[1]),
        named_share=_NAMED,
        tells_lost_share=False,  # islands count as lost, too
        part_returns=_INSIDE,
    )
    return choose(proposals, policy)


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


def _overlapping(overlaps: Overlaps, new: int, kept: int) -> Verdict | None:
    """The rule for two masks of which neither is a part of the other."""
    share = max(overlaps.inside(new, kept), overlaps.inside(kept, new))
    return Verdict("overlaps", f"{share:.0%}") if _OVERLAP < share <= _INSIDE else None


def _stands_out(part: Proposal, whole: Proposal, rgb: np.ndarray) -> bool:
    """Whether a part is an object of its own: likely, of other colours than the rest, and in front of it.

    An object on or in front of another shares a long outline with it, parts of one thing (shirt and trousers) a short
    one.
    """
    if part.score < _RIVAL_SCORE * whole.score or part.mask.sum() > _RIVAL_AREA * whole.mask.sum():
        return False
    rest = whole.mask & ~part.mask
    return (
        _embedded(part.mask, rest) > _RIVAL_EMBEDDED
        and histogram_intersection(colour_shares(rgb, part.mask), colour_shares(rgb, rest)) < _RIVAL_LIKENESS
    )


def _embedded(part: np.ndarray, rest: np.ndarray) -> float:
    """Share of the outline of `part` that lies against `rest`."""
    from scipy.ndimage import binary_dilation

    step = max(1, round(max(part.shape) / COMPARED_SIDE_PX))
    part, rest = part[::step, ::step], rest[::step, ::step]
    around = binary_dilation(part, iterations=3) & ~binary_dilation(part)
    return float((rest & around).sum() / max(around.sum(), 1))


def _tidy_remainder(mask: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """The pixels of `mask` that are not `taken`, (H, W) bool, without islands and pinholes."""
    return clean_mask(mask & ~taken) & ~taken
