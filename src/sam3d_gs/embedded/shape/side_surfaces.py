"""The sides of a shell: where a sample is solid and its neighbour, or what lies beyond the outline, is not.

A side begins with the colour of its edge, goes on with the mean colours around there, and repeats the front's fine
detail as a fold would: what lies at some distance from the edge on the front comes as far behind it on the side.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from sam3d_gs.embedded.shape.ray_shell import JUMP, OPAQUE, Shell, faded, smoothstep
from sam3d_gs.embedded.shape.surfels import Surfels, join

MAX_WALL_SURFELS = 16_000
OUTLINE_ALPHA = 0.6  # discs reach a little over their centres, so the outline lies a little inside the mask's edge
EDGE_REACH = 2  # samples over which the edge's own colour is left
FOLD_REACH = 24  # samples: the front is folded over that far, then back again


@dataclass(frozen=True)
class Faced:
    """Which side of a shell: that of the `solid`th of `Shell.solids`, to the air inside or to what is around."""

    solid: int
    to_air: bool = False


@dataclass(frozen=True)
class Paint:
    """The colours that sides are made of, on the shell's grid, (G, G, 3) each."""

    front: np.ndarray
    back: np.ndarray
    smooth: np.ndarray  # the front's around each sample
    detail: np.ndarray  # of the front, to be added
    inside: np.ndarray | None  # of the walls around the air inside, where the photo shows any of it

    def folded(self, place: np.ndarray, inward: np.ndarray, behind: np.ndarray) -> np.ndarray:
        """(N, 3) colours of the side at `behind` (N,) samples behind the edge.

        place: (N, 2) row and column of the edge. inward: (N, 2) unit steps away from it on the front.
        """
        away = FOLD_REACH - np.abs(behind % (2 * FOLD_REACH) - FOLD_REACH)
        at = np.clip(np.rint(place + inward * away[:, None]).astype(int), 0, len(self.front) - 1)
        row, column = place.T
        share = smoothstep(behind, 0.0, EDGE_REACH)[:, None]
        side = np.clip(self.smooth[row, column] + self.detail[at[:, 0], at[:, 1]], 0, 1)
        return np.asarray((1 - share) * self.front[row, column] + share * side)

    def side(self, shell: Shell, faced: Faced, place: np.ndarray, inward: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(N, 3) colours at depths z (N,) of the sides of a stretch of solid; the others as for `folded`.

        They fade from the front's to the back's, or to and from those of the inside where the photo shows any of it.
        """
        row, column = place.T
        inner = None if self.inside is None else self.inside[row, column]
        if inner is not None and faced.to_air:
            return inner
        front, back, last = shell.front[row, column], shell.back[row, column], self.back[row, column]
        first = self.folded(place, inward, (z - front) / shell.step(z))
        if inner is None:
            return faded(first, last, front, back, z)
        near, far = (plane[row, column] for plane in shell.solids[faced.solid])
        return faded(first if faced.solid == 0 else inner, np.where((far < back)[:, None], inner, last), near, far, z)


def jump_walls(shell: Shell, paint: Paint) -> list[Surfels]:
    """Walls between neighbouring samples where one is solid and the other is not, built on the solid one."""
    inside = shell.inside
    walls = []
    for row_step, column_step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        other = (-row_step, -column_step)
        pair = inside & np.roll(inside, other, (0, 1))
        step = np.array([column_step, row_step, 0.0]) * shell.pixel
        beside = [(np.roll(a, other, (0, 1)), np.roll(b, other, (0, 1))) for a, b in shell.solids]
        for solid, layer in enumerate(shell.solids):
            for number, (start, end) in enumerate(left_over(layer, beside)):
                where = pair & (end - start > JUMP * shell.step(start))
                place = np.argwhere(where)
                across = np.broadcast_to(np.abs(step[[1, 0, 2]]), (len(place), 3))
                inward = np.broadcast_to((-row_step, -column_step), place.shape)
                rays = shell.rays[where] + 0.5 * step
                stretch = start[where], end[where]
                faced = Faced(solid, to_air=0 < number < len(beside))  # between the neighbour's stretches
                walls.append(_wall(shell, paint, faced, place, inward, rays, across, stretch, MAX_WALL_SURFELS // 8))
    return walls


def left_over(
    solid: tuple[np.ndarray, np.ndarray], beside: list[tuple[np.ndarray, np.ndarray]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What is left of the stretches `solid` when the neighbours' stretches, near one first, are taken away."""
    start, end = solid
    stretches = [(start, np.minimum(beside[0][0], end))]
    stretches += [
        (np.maximum(start, first[1]), np.minimum(second[0], end)) for first, second in itertools.pairwise(beside)
    ]
    return [*stretches, (np.maximum(beside[-1][1], start), end)]


def outline_wall(shell: Shell, paint: Paint) -> Surfels:
    """The wall along the outline, on a smoothed sub-pixel contour so that it shows no stairs."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter, gaussian_filter1d
    from skimage.measure import find_contours

    side = shell.inside.shape[0]
    nearest = distance_transform_edt(~shell.inside, return_distances=False, return_indices=True)
    contours = find_contours(np.pad(shell.alpha, 1), OUTLINE_ALPHA)
    outlines = [contour[:-1] - 1 for contour in contours if len(contour) > 4]
    if not outlines:
        return _EMPTY
    outlines = [gaussian_filter1d(outline, 1.5, axis=0, mode="wrap") for outline in outlines]
    at = np.concatenate(outlines)
    tangent = np.concatenate([(np.roll(o, -1, 0) - np.roll(o, 1, 0)) / 2 for o in outlines])
    pixel = np.clip(np.rint(at).astype(int), 0, side - 1)
    row, column = nearest[:, pixel[:, 0], pixel[:, 1]]
    offset = np.stack([at[:, 1] - column, at[:, 0] - row, np.zeros(len(at))], axis=1)
    along = np.stack([tangent[:, 1], tangent[:, 0], np.zeros(len(at))], axis=1)
    slope = np.stack(np.gradient(gaussian_filter(shell.inside.astype(np.float32), 3.0)), axis=-1)[row, column]
    inward = slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-6)
    place, rays = np.stack([row, column], axis=1), shell.rays[row, column] + offset * shell.pixel
    walls = [
        _wall(
            shell,
            paint,
            Faced(solid),
            place,
            inward,
            rays,
            along * shell.pixel,
            (start[row, column], end[row, column]),
            MAX_WALL_SURFELS,
        )
        for solid, (start, end) in enumerate(shell.solids)
    ]
    return join(walls)


def _wall(
    shell: Shell,
    paint: Paint,
    faced: Faced,
    place: np.ndarray,
    inward: np.ndarray,
    rays: np.ndarray,
    across: np.ndarray,
    stretch: tuple[np.ndarray, np.ndarray],
    limit: int,
) -> Surfels:
    """Fill the way of each ray from one depth to another, `stretch`, (N,) each, with about `limit` surfels at most.

    faced, place, inward: as in `Paint.side`. rays, across: (N, 3), across being the step to the next ray.
    """
    start, end = stretch
    if not len(rays):
        return _EMPTY
    gap = end - start
    spacing = np.maximum(np.linalg.norm(across, axis=1) * start, 1e-9)
    spacing = spacing * max(1.0, float(np.sum(gap / spacing)) / limit)
    count = np.maximum(np.ceil(gap / spacing).astype(int), 1)
    which = np.repeat(np.arange(len(rays)), count)
    rank = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    z = start[which] + gap[which] * (rank + 0.5) / count[which]
    return Surfels(
        points=shell.points(rays[which], z),
        step_a=across[which] * np.minimum(z, shell.turn)[:, None],
        step_b=(gap / count)[which][:, None] * shell.way(rays[which], z),
        rgb=paint.side(shell, faced, place[which], inward[which], z),
        opacity=np.full(len(which), OPAQUE),
    )


_NONE = np.zeros((0, 3))
_EMPTY = Surfels(_NONE, _NONE, _NONE, _NONE, np.zeros(0))
