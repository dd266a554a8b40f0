"""The distinct values of a picture, how much each covers, and whether it fills areas or only blends others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_FEW = 4  # values, for which as many comparisons are faster still
_TABLE = 1 << 25  # spans of values up to here are counted in a table, which is many times faster than sorting


@dataclass(frozen=True)
class Levels:
    """The K distinct values of an (H, W) array, in ascending order."""

    values: np.ndarray  # (K,), in the array's dtype
    index: np.ndarray  # (H, W) unsigned: the number of each pixel's value
    count: np.ndarray  # (K,) pixels of each
    inner: np.ndarray  # (K,) those whose eight neighbours have the same value: labels have them, blends do not

    @staticmethod
    def of(array: np.ndarray) -> Levels:
        """Of an (H, W) array without NaN."""
        values, index = _distinct(array)
        size = len(values)
        inner = np.bincount(index[1:-1, 1:-1][_flat(index)], minlength=size) if min(array.shape) > 2 else None
        count = np.bincount(index.ravel(), minlength=size)
        return Levels(values, index, count, count if inner is None else inner)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def areas(self) -> np.ndarray:
        """(K,) bool: which values fill any 3 x 3 pixels."""
        return self.inner > 0

    def share(self, chosen: np.ndarray) -> float:
        """Share of the picture that the values `chosen`, (K,) bool, cover."""
        return float(self.count[chosen].sum() / self.index.size)

    def blends(self) -> np.ndarray:
        """(K,) bool: values that fill no area and mostly lie between two that do, as along a smooth edge."""
        if self.areas.all():
            return ~self.areas
        rows, columns = np.nonzero(~self.areas[self.index])
        padded = np.pad(self.index, 1, mode="edge")
        lowest = np.full(len(rows), len(self), np.int64)
        highest = np.full(len(rows), -1, np.int64)
        for dy in range(3):
            for dx in range(3):
                near = padded[rows + dy, columns + dx].astype(np.int64)
                area = self.areas[near]
                lowest = np.where(area, np.minimum(lowest, near), lowest)
                highest = np.where(area, np.maximum(highest, near), highest)
        between = np.bincount(self.index[rows, columns], weights=highest > lowest, minlength=len(self))
        return ~self.areas & (between > self.count / 2)

    def steps_by_one(self) -> float:
        """Of all places where two values above the lowest meet, the share where they follow each other."""
        met, next_to = 0, 0
        for one, other in ((self.index[1:], self.index[:-1]), (self.index[:, 1:], self.index[:, :-1])):
            meet = (one != other) & (one > 0) & (other > 0)
            met += int(meet.sum())
            next_to += int((np.abs(one[meet].astype(np.int64) - other[meet]) == 1).sum())
        return next_to / met if met else 0.0

    def along_the_outline(self) -> int | None:
        """The number of the value along most of the outline; None if there is none."""
        index = self.index
        counts = np.bincount(np.concatenate([index[0], index[-1], index[:, 0], index[:, -1]]))
        return int(counts.argmax()) if counts.max() > 0.6 * counts.sum() else None


def _distinct(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sorted values, and for each pixel which of them it has."""
    low, high = array.min(), array.max()
    if array.dtype.kind in "ui" and int(high) - int(low) < _TABLE:
        offset = array if not low else array - low if array.dtype.kind == "u" else array.astype(np.int64) - int(low)
        counts = np.bincount(offset.ravel())
        present = np.flatnonzero(counts)
        table = np.zeros(len(counts), np.min_scalar_type(len(present)))
        table[present] = np.arange(len(present))
        return (present + int(low)).astype(array.dtype), table[offset]
    few = np.unique(array[::7, ::7])
    if len(few) <= _FEW:  # most of the float arrays that are masks; sorting takes seconds
        quick = np.full(array.shape, len(few), np.uint8)
        for number, value in enumerate(few):
            quick[array == value] = number
        if quick.max() < len(few):
            return few, quick
    values, index = np.unique(array, return_inverse=True)
    return values, index.reshape(array.shape).astype(np.min_scalar_type(len(values)))


def _flat(index: np.ndarray) -> np.ndarray:
    """(H - 2, W - 2) bool: pixels that have the value of their eight neighbours."""
    right = index[:, 1:] == index[:, :-1]
    rows = right[:, 1:] & right[:, :-1]
    below = (index[1:] == index[:-1])[:, 1:-1]
    return np.asarray(rows[1:-1] & rows[:-2] & rows[2:] & below[1:] & below[:-1])
