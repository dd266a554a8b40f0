"""Fewer Gaussians that look the same: for pictures, web pages and viewers. The files always hold all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np

from sam3d_gs.gaussians.zcurve import morton_order
from sam3d_gs.types import Gaussians

SLACK = 1.15  # extra width, as the kept ones lie unevenly: at 1 walls behind show in specks, at 1.2 edges blur
MAX_GROWTH = 2.0  # of a deviation when others are left out, over what the average grows


def thin(gaussians: Gaussians, keep: int) -> Gaussians:
    """At most `keep` Gaussians, chosen evenly over the surfaces and widened so that these stay closed.

    See `Thinning`, which thins the same Gaussians several times.
    """
    return Thinning(gaussians).keep(keep)


class Thinning:
    """Thins the same Gaussians to several numbers; their order in space and their areas are computed once.

    A Gaussian is kept with a probability p that grows with the area it covers, up to 1, and those kept cover 1 / p
    times theirs: many small ones are joined into few of the size of the large ones, which stay as they are. They are
    drawn one after another along a curve through space (systematic sampling), which leaves no large holes as
    independent draws would. Their spacing still varies more than that of a grid, so that a wall behind would show in
    specks: where p < 1 they are wider by another SLACK, or by another 1 / sqrt(p) where that is less.
    """

    def __init__(self, gaussians: Gaussians) -> None:
        self.gaussians = gaussians

    def keep(self, count: int) -> Gaussians:
        """At most `count` of them; all of them, unchanged, when there are no more."""
        gaussians, n = self.gaussians, len(self.gaussians)
        if n <= count:
            return gaussians
        if count <= 0:
            return gaussians.take(slice(0))
        odds = _probabilities(self._areas, count)
        counted = np.floor(np.cumsum(odds[self._order]) * (count / odds.sum()) + 1e-9)
        chosen = np.sort(self._order[np.diff(counted, prepend=0) > 0])
        limit = MAX_GROWTH * np.sqrt(n / count)  # a needle must not become a lance
        joined = -0.5 * np.log(odds[chosen])
        grow = np.minimum(joined + np.minimum(joined, np.log(SLACK)), np.log(limit)).astype(np.float32)
        kept = gaussians.take(chosen)
        return replace(kept, log_scales=kept.log_scales + grow[:, None])

    @cached_property
    def _areas(self) -> np.ndarray:
        """(N,) float64, object units squared: product of the two longer deviations."""
        log_scales = self.gaussians.log_scales
        return np.exp((log_scales.sum(axis=1) - log_scales.min(axis=1)).astype(np.float64))

    @cached_property
    def _order(self) -> np.ndarray:
        return morton_order(self.gaussians.means)


def _probabilities(area: np.ndarray, keep: int) -> np.ndarray:
    """(N,) float64 probabilities that add up to `keep` < N: proportional to the areas (N,), but at most 1."""
    area = np.maximum(area, 1e-9 * area.max()) if area.max() > 0 else np.ones_like(area)
    odds = np.minimum(1.0, area * keep / area.sum())
    for _ in range(30):  # what is cut off at 1 is dealt to the others
        free = odds < 1.0
        missing = keep - odds.sum()
        if missing < 0.5 or not free.any():
            break
        odds[free] = np.minimum(1.0, odds[free] * (1 + missing / odds[free].sum()))
    return np.asarray(odds)


def share(counts: Sequence[int], total: int, least: int = 500) -> list[int]:
    """How many of each object's `counts` Gaussians to keep so that about `total` remain, none below `least`."""
    everything = sum(counts)
    if everything <= total:
        return list(counts)
    return [min(count, max(least, count * total // everything)) for count in counts]
