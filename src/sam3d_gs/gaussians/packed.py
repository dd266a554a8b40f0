"""Gaussians for a web page, quantised to 17 bytes each instead of 68.

report/templates/splats.js reads them; it is the only other place that knows the layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sam3d_gs.types import Gaussians

BYTES_PER_SPLAT = 17


class Packed(NamedTuple):
    """Quantised Gaussians: their bytes, and what a reader needs to undo it (JSON-ready)."""

    data: bytes
    header: Mapping[str, object]

    @property
    def splat_count(self) -> int:
        return len(self.data) // BYTES_PER_SPLAT


def quantise(gaussians: Gaussians) -> Packed:
    """Quantise finite Gaussians, as `read_pt` and `read_ply` guarantee them.

    Layout, one array after the other: means uint16 (N, 3) within `mean_min`..`mean_max`, log scales uint8 (N, 3)
    within `log_scale_min`..`log_scale_max`, quaternions int8 (N, 4) wxyz times 127, RGBA uint8 (N, 4).
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
    return Packed(b"".join(part.tobytes() for part in parts), header)


def _levels(values: np.ndarray, low: np.ndarray | float, high: np.ndarray | float, levels: int) -> np.ndarray:
    span = np.maximum(np.asarray(high, np.float32) - np.asarray(low, np.float32), 1e-12)
    return np.clip(np.rint((values - low) / span * levels), 0, levels)
