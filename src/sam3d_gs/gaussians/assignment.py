"""Which object each Gaussian of a scene belongs to, after a user has edited the merged .ply.

Editors leave out Gaussians and may write the others in another order, but keep their positions to float rounding: a
Gaussian belongs to the object that has one there. One that was moved or is new belongs to the object in whose box it
is, or near to whose box it is, and otherwise to none.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NEAR = 0.1  # of a box's diagonal: as far from the box a new Gaussian may be and still belong to the object
_TOLERANCE = 1e-5  # of the coordinates: six digits, as editors print them in ASCII files
_CELLS = 1 << 20  # a key has 21 bits of an axis


@dataclass(frozen=True)
class Assignment:
    """The objects of N Gaussians."""

    object_index: np.ndarray  # (N,) int64; -1: of no object
    matched: np.ndarray  # (N,) bool: it is where one of the object's Gaussians was


def assign(means: np.ndarray, originals: Sequence[np.ndarray], boxes: Sequence[np.ndarray]) -> Assignment:
    """The object of each Gaussian.

    Args:
        means: (N, 3) of the edited scene.
        originals: (M, 3) of each object, in the same frame, as they were.
        boxes: (8, 3) corners of each object's box, ordered as in `box_corners`.
    """
    everything = np.concatenate(originals).astype(np.float64)
    owners = np.repeat(np.arange(len(originals)), [len(part) for part in originals])
    cell = 4 * _TOLERANCE * max(float(np.quantile(np.abs(everything), 0.99)), 1e-30)
    origin = np.median(everything, axis=0)
    keys, inside = _keys(everything, origin, cell)
    keys, first = np.unique(keys[inside], return_index=True)
    owners = owners[inside][first]

    object_index = np.full(len(means), -1, np.int64)
    points = means.astype(np.float64)
    for shift in ((0, 0, 0), *itertools.product((-1, 1), repeat=3)):  # the cell itself, then those within tolerance
        left = np.flatnonzero(object_index < 0)
        if not len(left) or not len(keys):
            break
        wanted, inside = _keys(points[left] + np.array(shift) * cell / 4, origin, cell)
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        found = inside & (keys[place] == wanted)
        object_index[left[found]] = owners[place[found]]
    matched = object_index >= 0
    left = np.flatnonzero(~matched)
    object_index[left] = _nearest_box(points[left], boxes)
    return Assignment(object_index, matched)


def _keys(points: np.ndarray, origin: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """(N,) int64 that names each point's cell of a grid, and (N,) bool whether it is within the grid."""
    cells = np.floor((points - origin) / cell)
    inside = (np.abs(cells) < _CELLS).all(axis=1)
    x, y, z = np.where(inside[:, None], cells + _CELLS, 0).astype(np.int64).T
    return (x << 42) | (y << 21) | z, inside


def _nearest_box(points: np.ndarray, boxes: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) index of the box that each point is in or near, by centre where boxes overlap; -1: none."""
    best, index = np.full(len(points), np.inf), np.full(len(points), -1, np.int64)
    for number, corners in enumerate(boxes):
        edges = corners[[4, 2, 1]] - corners[0]
        lengths2 = np.maximum((edges**2).sum(axis=1), 1e-30)
        local = (points - corners[0]) @ edges.T / lengths2  # 0..1 inside
        outside = local - np.clip(local, 0, 1)
        distance = np.sqrt((outside**2 * lengths2).sum(axis=1))
        off_centre = np.sqrt(((local - 0.5) ** 2).sum(axis=1))
        score = distance + 1e-6 * np.sqrt(lengths2.sum()) * off_centre
        near = (distance <= NEAR * np.sqrt(lengths2.sum())) & (score < best)
        best[near], index[near] = score[near], number
    return index
