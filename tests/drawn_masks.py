"""Masks of a small photo, drawn."""

from __future__ import annotations

import numpy as np

HEIGHT, WIDTH = 150, 200


def box(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y1:y2, x1:x2] = True
    return mask


def disc(x: int, y: int, radius: int) -> np.ndarray:
    yy, xx = np.mgrid[:HEIGHT, :WIDTH]
    return (yy - y) ** 2 + (xx - x) ** 2 < radius**2
