"""Order of points along a Z curve, for compression and even thinning."""

from __future__ import annotations

import numpy as np


def morton_order(means: np.ndarray) -> np.ndarray:
    """(N,) int64 order along a Z curve (Morton 1966) through the means (N, 3).

    Neighbours in this order are neighbours in space.
    """
    low = means.min(axis=0)
    size = np.maximum(means.max(axis=0) - low, np.finfo(np.float32).tiny)
    cells = np.minimum((means - low) / size * 1024.0, 1023.0).astype(np.uint32)  # 10 bits an axis
    code = np.zeros(len(means), dtype=np.uint32)
    for bit in range(10):
        for axis in range(3):
            code |= ((cells[:, axis] >> bit) & 1) << (3 * bit + axis)
    return np.argsort(code, kind="stable")
