"""Plain rules about masks, whoever made them: what is no object by itself, and how much masks share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sam3d_gs.options import MaskOptions

COMPARED_SIDE_PX = 512  # overlaps are measured on masks thinned out to this size
_BACKGROUND_CONTACT = 0.25  # share of the photo's outline that only walls, floors and skies take up
_BACKGROUND_AREA, _BACKGROUND_SIDES = 0.2, 3
_CUT_OFF_CONTACT = 0.5  # length along the photo's outline over the square root of the area
_CUT_OFF_AREA = 0.12


def unfit(mask: np.ndarray, score: float, score_threshold: float, options: MaskOptions) -> str | None:
    """Why a mask, (H, W) bool, is no object whatever the others are; None when it may be one."""
    share = np.count_nonzero(mask) / mask.size
    if score < score_threshold:
        return f"score {score:.2f} below the threshold {score_threshold:.2f}"
    if share * 100 < options.min_area_percent:
        return f"tiny: {share:.2%} of the photo, limit {options.min_area_percent}%"
    return _at_the_border(mask, share) if options.border_filter else None


def _at_the_border(mask: np.ndarray, share: float) -> str | None:
    height, width = mask.shape
    sides = [int(side.sum()) for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1])]
    contact = sum(sides)
    touched = sum(length > 0.02 * max(height, width) for length in sides)
    if contact > _BACKGROUND_CONTACT * 2 * (height + width) or (
        touched >= _BACKGROUND_SIDES and share > _BACKGROUND_AREA
    ):
        return f"background: {share:.0%} of the photo along {touched} of its borders"
    if share < _CUT_OFF_AREA and contact > _CUT_OFF_CONTACT * (share * mask.size) ** 0.5:
        return "border fragment: cut off by the edge of the photo"
    return None


@dataclass(frozen=True)
class Overlaps:
    """What N masks of one photo have in common, counted on masks thinned out to COMPARED_SIDE_PX."""

    area: np.ndarray  # (N,) float32, at least 1
    shared: np.ndarray  # (N, N) float32, in the same unit

    @staticmethod
    def of(masks: Sequence[np.ndarray]) -> Overlaps:
        """`masks`: one or more (H, W) bool."""
        step = max(1, round(max(masks[0].shape) / COMPARED_SIDE_PX))
        thin = np.stack([mask[step // 2 :: step, step // 2 :: step].ravel() for mask in masks]).astype(np.float32)
        return Overlaps(np.maximum(thin.sum(1), 1), thin @ thin.T)

    def iou(self, one: int, other: int) -> float:
        both = self.shared[one, other]
        return float(both / (self.area[one] + self.area[other] - both))

    def inside(self, one: int, other: int) -> float:
        """Share of `one` that lies in `other`."""
        return float(self.shared[one, other] / self.area[one])
