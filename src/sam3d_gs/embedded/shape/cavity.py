"""Cavities between front and back of an object: which are open to the outside, and the colours of their walls."""

from __future__ import annotations

import numpy as np

from sam3d_gs.embedded.shape.ray_shell import Shell, blurred_inside

COLOUR_REACH = 0.04  # of the crop's side: how far from an opening colours of the inside are taken
MIN_OPENING = 0.1  # minimum share of a cavity's border that is open to the outside
_NEIGHBOURS = ((1, 0), (-1, 0), (1, 1), (-1, 1))  # step and axis of np.roll for each neighbour


def open_cavities(
    inside: np.ndarray,
    front: np.ndarray,
    back: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    cavity: np.ndarray,
    min_opening: float,
) -> np.ndarray:
    """`cavity` (G, G) bool without closed cavities: they are invisible, and their thin walls only look ragged.

    Depths, (G, G) each, in one unit: `front` and `back` of the object, the cavity from `begin` to `end`. An opening is
    wider than `min_opening`.
    """
    from scipy.ndimage import label

    labels, count = label(cavity)
    border, opening = np.zeros(count + 1), np.zeros(count + 1)
    for step, axis in _NEIGHBOURS:
        rim = cavity & (np.roll(labels, step, axis) != labels)
        neighbour_front, neighbour_back = np.roll(front, step, axis), np.roll(back, step, axis)
        visible = np.minimum(neighbour_front, end) - begin > min_opening  # in front of the neighbour
        visible |= end - np.maximum(neighbour_back, begin) > min_opening  # or behind it
        border += np.bincount(labels[rim], minlength=count + 1)
        opening += np.bincount(labels[rim & (visible | ~np.roll(inside, step, axis))], minlength=count + 1)
    return cavity & (opening > MIN_OPENING * border)[labels]


def cavity_colours(shell: Shell, there: np.ndarray, front_rgb: np.ndarray) -> np.ndarray | None:
    """(G, G, 3) colours of the walls of the cavity `there`, from what its openings show; None when they show nothing.

    A cup shows its far inner wall above the near rim, where the cavity begins.
    """
    from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter

    assert shell.cavity is not None
    visible = np.zeros_like(there)
    for step, axis in _NEIGHBOURS:
        boundary = np.roll(shell.inside & ~there, step, axis) & there
        behind = np.roll(shell.front, step, axis) > shell.cavity.mean(axis=0)  # if not deeper, it may be the same slope
        visible |= np.roll(boundary & behind, -step, axis)
    if not visible.any():
        return None
    reach = max(2, round(COLOUR_REACH * len(there)))
    shown = binary_dilation(visible, iterations=reach, mask=shell.inside & ~there)
    known = gaussian_filter(shown.astype(np.float32), reach) > 0.05
    mean = blurred_inside(front_rgb, shown, (reach, reach))
    return np.asarray(mean[tuple(distance_transform_edt(~known, return_distances=False, return_indices=True))])
