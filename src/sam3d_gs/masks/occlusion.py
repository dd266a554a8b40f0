"""Where the other objects of a photo are: the union of all masks but one, without a union for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class OtherMasks:
    """Unions of all masks but one. Counts once how many masks cover each pixel: N masks cost N passes, not N^2."""

    def __init__(self, masks: Sequence[np.ndarray]) -> None:
        """`masks`: N of one shape, (H, W) bool; they may overlap."""
        self._masks = masks
        self._count = np.zeros(masks[0].shape if masks else (0, 0), np.min_scalar_type(len(masks)))
        for mask in masks:
            self._count += mask

    def without(self, index: int) -> np.ndarray:
        """(H, W) bool: the pixels of any mask other than `masks[index]`, including those that it shares."""
        return self._count > self._masks[index]
