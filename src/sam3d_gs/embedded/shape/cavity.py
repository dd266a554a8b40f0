"""The air inside an object: whether anybody can see into it, and which colours its walls have."""

from __future__ import annotations

import numpy as np

from sam3d_gs.embedded.shape.ray_shell import Shell, blurred_inside

INSIDE_REACH = 0.04  # of the crop's side: how far behind an opening the inside's colours are taken
OPENING = 0.1  # share of its border over which air must be open to the outside
_NEIGHBOURS = ((1, 0), (-1, 0), (1, 1), (-1, 1))  # step and axis by which each one comes to a sample's place


def open_air(
    inside: np.ndarray,
    front: np.ndarray,
    back: np.ndarray,
    begin: np.ndarray,
    end: np.ndarray,
    air: np.ndarray,
    least: float,
) -> np.ndarray:
    """`air` (G, G) bool without what is closed all around: nobody sees into it, and its thin walls only fray.

    Depths, (G, G) each, in one unit: `front` and `back` of the object, the air from `begin` to `end`; an opening is
    wider than `least`.
    """
    from scipy.ndimage import label

    labels, count = label(air)
    border, opening = np.zeros(count + 1), np.zeros(count + 1)
    for step, axis in _NEIGHBOURS:
        rim = air & (np.roll(labels, step, axis) != labels)
        beside_front, beside_back = np.roll(front, step, axis), np.roll(back, step, axis)
        seen = np.minimum(beside_front, end) - begin > least  # past what is beside it, in front of that
        seen |= end - np.maximum(beside_back, begin) > least  # or behind it
        border += np.bincount(labels[rim], minlength=count + 1)
        opening += np.bincount(labels[rim & (seen | ~np.roll(inside, step, axis))], minlength=count + 1)
    return air & (opening > OPENING * border)[labels]


def inside_colours(shell: Shell, there: np.ndarray, front_rgb: np.ndarray) -> np.ndarray | None:
    """(G, G, 3) colours of the walls around the air `there`, from what is seen through its openings; None: nothing.

    A cup shows its far inner wall above the rim of the near one. Beyond that rim lies the air: it begins there.
    """
    from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter

    assert shell.air is not None
    seen = np.zeros_like(there)
    for step, axis in _NEIGHBOURS:
        beside = np.roll(shell.inside & ~there, step, axis) & there
        behind = np.roll(shell.front, step, axis) > shell.air.mean(axis=0)  # less deep it may be the same slope
        seen |= np.roll(beside & behind, -step, axis)
    if not seen.any():
        return None
    reach = max(2, round(INSIDE_REACH * len(there)))
    shown = binary_dilation(seen, iterations=reach, mask=shell.inside & ~there)
    known = gaussian_filter(shown.astype(np.float32), reach) > 0.05
    mean = blurred_inside(front_rgb, shown, (reach, reach))
    return np.asarray(mean[tuple(distance_transform_edt(~known, return_distances=False, return_indices=True))])
