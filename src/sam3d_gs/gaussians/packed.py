"""Gaussians for a web page: thinned to a number a browser draws smoothly, 17 bytes each instead of 68.

Read by templates/splats.js, which is the only other place that knows the layout.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sam3d_gs.types import Gaussians

BYTES_PER_SPLAT = 17


def thin(gaussians: Gaussians, keep: int, seed: int = 0) -> Gaussians:
    """At most `keep` Gaussians, chosen at random and widened so that surfaces stay closed.

    Gaussians of an object lie on surfaces, so each of the kept ones has to cover ``n / keep`` times the area:
    its standard deviations grow by the square root of that.
    """
    n = len(gaussians)
    if n <= keep:
        return gaussians
    chosen = np.sort(np.random.default_rng(seed).choice(n, size=keep, replace=False))
    grow = np.float32(0.5 * np.log(n / keep)) if keep else np.float32(0)
    return Gaussians(
        means=gaussians.means[chosen],
        quats=gaussians.quats[chosen],
        log_scales=gaussians.log_scales[chosen] + grow,
        opacity_logits=gaussians.opacity_logits[chosen],
        sh0=gaussians.sh0[chosen],
    )


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
