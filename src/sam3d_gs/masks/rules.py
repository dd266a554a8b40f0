"""Rules that hold for the masks of every engine: what is no object by itself, and how much two masks share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sam3d_gs.options import MaskOptions

COMPARED_SIDE_PX = 512  # overlaps are measured on masks subsampled to about this size
# Walls, floors and skies take up more than this share of the photo's outline, or touch so many sides with such an area.
_BACKGROUND_CONTACT = 0.25
_BACKGROUND_SIDES, _BACKGROUND_AREA = 3, 0.2
# Half a disc has one third of its box's outline on the photo's edge, a strip or a corner nearly half.
_CUT_OFF_CONTACT = 1 / 3
_CUT_OFF_AREA = 0.12  # of the photo: a larger piece is kept however much of it is cut off


def unfit(mask: np.ndarray, score: float, score_threshold: float, options: MaskOptions) -> str | None:
    """Why a mask, (H, W) bool, is no object, whatever the others are; None when it may be one."""
    share = np.count_nonzero(mask) / mask.size
    if score < score_threshold:
        return f"score {score:.2f} below the threshold {score_threshold:.2f}"
    if share * 100 < options.min_area_percent:
        return f"tiny: {share:.2%} of the photo, limit {options.min_area_percent}%"
    if not share:
        return "empty mask"
    return _background_or_cut_off(mask, share) if options.border_filter else None


def background(mask: np.ndarray) -> str | None:
    """Why a mask, (H, W) bool, is a wall, a floor or the sky, and no object; None when it may be one."""
    height, width = mask.shape
    share = np.count_nonzero(mask) / mask.size
    touched = sum(length > 0.02 * max(height, width) for length in _sides(mask))
    if outline_contact(mask) > _BACKGROUND_CONTACT or (touched >= _BACKGROUND_SIDES and share > _BACKGROUND_AREA):
        return f"background: {share:.0%} of the photo along {touched} of its borders"
    return None


def outline_contact(mask: np.ndarray) -> float:
    """Share of the photo's outline that a mask, (H, W) bool, covers; 0..1."""
    return sum(_sides(mask)) / (2 * sum(mask.shape))


def _sides(mask: np.ndarray) -> list[int]:
    return [int(side.sum()) for side in (mask[0], mask[-1], mask[:, 0], mask[:, -1])]


def _background_or_cut_off(mask: np.ndarray, share: float) -> str | None:
    if reason := background(mask):
        return reason
    if share < _CUT_OFF_AREA and edge_contact(mask) > _CUT_OFF_CONTACT:
        return "border fragment: more than half cut off by the edge of the photo"
    return None


def edge_contact(mask: np.ndarray) -> float:
    """Share of the outline of a mask's box that the mask, (H, W) bool, has on the photo's edge; 0..1."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0.0
    outline = 2 * int(rows[-1] - rows[0] + columns[-1] - columns[0] + 2)
    return sum(_sides(mask)) / outline


@dataclass(frozen=True)
class Overlaps:
    """Areas and pairwise intersections of N masks, in pixels of masks subsampled to about COMPARED_SIDE_PX."""

    area: np.ndarray  # (N,) float32, at least 1
    shared: np.ndarray  # (N, N) float32

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
