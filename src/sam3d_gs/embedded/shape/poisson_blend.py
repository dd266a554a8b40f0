"""Blend the back's colours into the front's along the outline, where the two meet.

The network predicts a blurred back without the photo's lighting, which would leave a seam. The difference along the
outline is therefore spread over the back, fading with distance, by a screened Poisson equation: Pérez et al. 2003,
"Poisson image editing", and Bhat et al. 2008, "Fourier analysis of the 2D screened Poisson equation".
"""

from __future__ import annotations

import numpy as np

from sam3d_gs.embedded.shape.ray_shell import blurred_inside, resized

GRID = 96  # side of the grid of the equation, unless that of the colours is smaller
REACH = 0.2  # of the grid's side: distance over which the difference falls by a factor e
RIM_BLUR = 1.5  # grid steps over which the difference is averaged, against noisy edge pixels


def blend_along_outline(back_rgb: np.ndarray, front_rgb: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(S, S, 3) float32 0..1: `back_rgb` blended into `front_rgb`, (S, S, 3) each, along the outline.

    inside: (S, S) bool, not empty. Samples outside follow the nearest one inside.
    """
    from scipy.ndimage import binary_erosion, distance_transform_edt

    side = len(inside)
    size = min(GRID, side)
    share = resized(inside[..., None].astype(np.float32), size)
    within = share[..., 0] > min(0.5, 0.99 * float(share.max()))
    difference = resized((front_rgb - back_rgb) * inside[..., None], size) / np.maximum(share, 1e-3)
    rim = within & ~binary_erosion(within)
    spread = solve_screened_poisson(blurred_inside(difference, within, (RIM_BLUR, RIM_BLUR)), rim, within, REACH * size)
    nearest = distance_transform_edt(~within, return_distances=False, return_indices=True)
    return np.asarray(np.clip(back_rgb + resized(spread[tuple(nearest)], side), 0, 1), np.float32)


def solve_screened_poisson(values: np.ndarray, fixed: np.ndarray, within: np.ndarray, reach: float) -> np.ndarray:
    """(H, W, C): `values` where `fixed`, decaying over the rest of `within` (H, W), 0 elsewhere.

    Solves laplace(x) = x / reach^2 with x given at `fixed`, a part of `within`, and no flow across the
    border of `within`. reach: in grid steps, inf for no decay.
    """
    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import splu

    result = np.where(fixed[..., None], values, 0.0)
    free = within & ~fixed
    count = int(free.sum())
    if not count or not fixed.any():
        return result
    number = np.full(free.shape, -1)
    number[free] = np.arange(count)
    row, column = np.nonzero(free)
    diagonal = np.full(count, 1 / reach**2)
    known = np.zeros((count, values.shape[-1]))
    entries = []
    for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        r, c = row + down, column + right
        there = (r >= 0) & (r < len(free)) & (c >= 0) & (c < free.shape[1])
        there[there] = within[r[there], c[there]]
        diagonal += there
        at = np.flatnonzero(there)
        neighbour = number[r[at], c[at]]
        entries.append((at[neighbour >= 0], neighbour[neighbour >= 0]))
        given = at[neighbour < 0]
        known[given] += values[r[given], c[given]]
    rows, columns = (np.concatenate([e[k] for e in entries] + [np.arange(count)]) for k in (0, 1))
    coefficients = np.concatenate([np.full(len(rows) - count, -1.0), diagonal])
    result[free] = splu(csc_matrix((coefficients, (rows, columns)), shape=(count, count))).solve(known)
    return result
