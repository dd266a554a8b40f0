"""A soft shadow on the floor under an object, itself made of Gaussians, so that any renderer draws it."""

from __future__ import annotations

import numpy as np

from sam3d_gs.gaussians.pose import object_bounds, thinned
from sam3d_gs.types import SH_C0, Gaussians

CELLS = 40
DARKNESS = 0.4  # opacity right under a flat object
BORDER = 0.3  # of the object's width, for the soft edge
_BLUR_ROUNDS = 3


def with_floor_shadow(gaussians: Gaussians) -> Gaussians:
    """The object (object frame, Z up) with flat dark splats at the height of its lowest point.

    The lower the object is above a cell of the floor, the darker the cell; the grid is then blurred.
    """
    if not len(gaussians):
        return gaussians
    low, high = object_bounds(gaussians)
    size, height = float((high - low)[:2].max()), float(high[2] - low[2])
    if size <= 0.0:
        return gaussians
    origin = (low + high)[:2] / 2 - size * (0.5 + BORDER)
    cell = size * (1 + 2 * BORDER) / CELLS
    means = thinned(gaussians).means.astype(np.float64)
    column, row = np.clip((means[:, :2] - origin) / cell, 0, CELLS - 1).astype(int).T
    closeness = np.exp(-3.0 * np.clip(means[:, 2] - low[2], 0, None) / max(height, 0.3 * size))
    shade = np.zeros((CELLS + 2, CELLS + 2))
    np.maximum.at(shade, (row + 1, column + 1), closeness)
    for _ in range(_BLUR_ROUNDS):
        padded = np.pad(shade, 1)
        rows = padded[:-2] + padded[1:-1] + padded[2:]
        shade = (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9

    shade = DARKNESS * shade[1:-1, 1:-1]
    row, column = np.nonzero(shade > 0.01)
    n = len(row)
    flat = np.log(np.array([0.6 * cell, 0.6 * cell, 0.01 * cell]))
    # Neighbours overlap: splats with a deviation of 0.6 cells cover each point 2 pi 0.6^2 = 2.3 times.
    opacity = 1 - (1 - shade[row, column]) ** (1 / 2.3)
    shadow = Gaussians(
        means=np.stack(
            [origin[0] + (column + 0.5) * cell, origin[1] + (row + 0.5) * cell, np.full(n, low[2])], 1
        ).astype(np.float32),
        quats=np.tile(np.array([1, 0, 0, 0], np.float32), (n, 1)),
        log_scales=np.tile(flat.astype(np.float32), (n, 1)),
        opacity_logits=np.log(opacity / (1 - opacity)).astype(np.float32),
        sh0=np.full((n, 3), -0.45 / SH_C0, np.float32),
    )
    return Gaussians(
        *(np.concatenate([getattr(gaussians, name), getattr(shadow, name)]) for name in Gaussians.__dataclass_fields__)
    )
