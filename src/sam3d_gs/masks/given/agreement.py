"""How well masks agree with the edges in a photo, to tell in which orientation they were drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_SIDE_PX = 512  # photo and masks are compared at about this size, at which hand-drawn outlines lie on the edges
_SHIFTS_PX = (4, 8, 12)


class PhotoEdges:
    """The edges of a photo, (H, W, 3) uint8."""

    def __init__(self, rgb: np.ndarray) -> None:
        self._step = max(1, round(max(rgb.shape[:2]) / _SIDE_PX))
        values = rgb[self._step // 2 :: self._step, self._step // 2 :: self._step].astype(np.int16)
        change = np.zeros(values.shape[:2], np.float32)
        change[:, 1:] = np.abs(np.diff(values, axis=1)).max(-1)
        change[1:] = np.maximum(change[1:], np.abs(np.diff(values, axis=0)).max(-1))
        for axis in (0, 1):  # a pixel to either side is close enough
            change = np.maximum(change, np.maximum(np.roll(change, 1, axis), np.roll(change, -1, axis)))
        self._change: np.ndarray = change

    def agreement(self, masks: Sequence[np.ndarray]) -> float:
        """How much stronger the edges along the outlines of (H, W) bool masks are than a few pixels beside them.

        In standard deviations of the places beside them, so texture counts for nothing: about 0 for masks that lie
        anywhere, 2 and more for those that lie on objects.
        """
        ys, xs = np.divmod(np.flatnonzero(self._outlines(masks)), self._change.shape[1])
        if not len(ys):
            return 0.0
        angles = np.arange(8) * np.pi / 4
        beside = [self._mean(ys + round(r * np.sin(a)), xs + round(r * np.cos(a))) for r in _SHIFTS_PX for a in angles]
        spread = float(np.std(beside)) + 0.02 * float(np.mean(beside)) + 0.3  # a flat photo has no spread
        return (self._mean(ys, xs) - float(np.mean(beside))) / spread

    def _outlines(self, masks: Sequence[np.ndarray]) -> np.ndarray:
        along = np.zeros(self._change.shape, dtype=bool)
        for mask in masks:
            small = mask[self._step // 2 :: self._step, self._step // 2 :: self._step]
            along[:, 1:] |= small[:, 1:] != small[:, :-1]
            along[1:] |= small[1:] != small[:-1]
        return along

    def _mean(self, ys: np.ndarray, xs: np.ndarray) -> float:
        height, width = self._change.shape
        inside = (ys >= 0) & (ys < height) & (xs >= 0) & (xs < width)
        return float(self._change[ys[inside], xs[inside]].mean()) if inside.any() else 0.0
