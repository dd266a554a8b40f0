"""Gaussians for a web page: thinned to a number a browser draws smoothly, 17 bytes each instead of 68.

Read by report/templates/splats.js, which is the only other place that knows the layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sam3d_gs.gaussians.zcurve import morton_order
from sam3d_gs.types import Gaussians

BYTES_PER_SPLAT = 17
SLACK = 1.15  # of a deviation, as those that stay lie unevenly: at 1 walls behind show in specks, at 1.2 edges blur
MOST_GROWTH = 2.0  # of a deviation when others are left out, over what the average grows


def thin(gaussians: Gaussians, keep: int) -> Gaussians:
    """At most `keep` Gaussians, chosen evenly over the surfaces and widened so that these stay closed.

    A Gaussian stays with a probability p that grows with the area it covers, up to 1, and those that stay cover 1 / p
    times theirs: many small ones are joined to few of the size of the large ones, which stay as they are. Drawn one
    after another along a curve through space (systematic sampling), they leave no large holes as a choice at random
    would. Their steps still differ more than those of a grid, so that a wall behind would show in specks: where p < 1
    they are wider by another SLACK, or by another 1 / sqrt(p) where that is less.
    """
    n = len(gaussians)
    if n <= keep:
        return gaussians
    if keep <= 0:
        return gaussians.take(slice(0))
    shortest = gaussians.log_scales.min(axis=1)
    area = np.exp((gaussians.log_scales.sum(axis=1) - shortest).astype(np.float64))
    odds = _probabilities(area, keep)
    order = morton_order(gaussians.means)
    counted = np.floor(np.cumsum(odds[order]) * (keep / odds.sum()) + 1e-9)
    chosen = np.sort(order[np.diff(counted, prepend=0) > 0])
    most = MOST_GROWTH * np.sqrt(n / keep)  # a needle must not become a lance
    joined = -0.5 * np.log(odds[chosen])
    grow = np.minimum(joined + np.minimum(joined, np.log(SLACK)), np.log(most)).astype(np.float32)
    kept = gaussians.take(chosen)
    return replace(kept, log_scales=kept.log_scales + grow[:, None])


def _probabilities(area: np.ndarray, keep: int) -> np.ndarray:
    """(N,) float64 probabilities, proportional to the areas (N,) where that is below 1, that add up to `keep` < N."""
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


def quantise(gaussians: Gaussians) -> tuple[bytes, dict[str, object]]:
    """17 bytes a splat, and what a reader needs to undo it (JSON-ready).

    Layout, one array after the other: means uint16 (N, 3) within `mean_min`..`mean_max`, log scales uint8 (N, 3)
    within `log_scale_min`..`log_scale_max`, quaternions int8 (N, 4) wxyz times 127, RGBA uint8 (N, 4).
    The values must be finite, as `read_ply` guarantees.
    """
    log_scale_max = float(gaussians.log_scales.max(initial=-np.inf)) if len(gaussians) else 0.0
    # A splat e^-10 as wide as the widest is a point; without this bound one such splat costs the others their levels.
    log_scales = np.maximum(gaussians.log_scales, log_scale_max - 10)
    log_scale_min = float(log_scales.min()) if len(gaussians) else 0.0
    mean_min = gaussians.means.min(0) if len(gaussians) else np.zeros(3)
    mean_max = gaussians.means.max(0) if len(gaussians) else np.zeros(3)
    with np.errstate(over="ignore"):  # a logit of -100 is an opacity of 0
        rgba = np.concatenate([gaussians.rgb, gaussians.opacities[:, None]], 1)
    parts = (
        _levels(gaussians.means, mean_min, mean_max, 65535).astype("<u2"),
        _levels(log_scales, log_scale_min, log_scale_max, 255).astype(np.uint8),
        np.rint(127 * gaussians.quats).astype(np.int8),
        np.rint(255 * rgba).astype(np.uint8),
    )
    header: dict[str, object] = {
        "n": len(gaussians),
        "mean_min": [float(value) for value in mean_min],
        "mean_max": [float(value) for value in mean_max],
        "log_scale_min": log_scale_min,
        "log_scale_max": log_scale_max,
    }
    return b"".join(part.tobytes() for part in parts), header


def _levels(values: np.ndarray, low: np.ndarray | float, high: np.ndarray | float, levels: int) -> np.ndarray:
    span = np.maximum(np.asarray(high, np.float32) - np.asarray(low, np.float32), 1e-12)
    return np.clip(np.rint((values - low) / span * levels), 0, levels)
