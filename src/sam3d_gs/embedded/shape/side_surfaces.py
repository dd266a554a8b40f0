"""The side surfaces of a shell, which close it along the outline and at depth discontinuities.

A side starts with the colour of its edge, continues with the mean colours around it, and repeats the front's fine
detail mirrored at the edge: detail at a distance from the edge on the front appears at that distance on the side.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from sam3d_gs.embedded.shape.ray_shell import DISCONTINUITY, MAX_OPACITY, Shell, blend_by_depth, smoothstep
from sam3d_gs.embedded.shape.surfels import Surfels, concatenate

MAX_SIDE_SURFELS = 16_000
OUTLINE_ALPHA = 0.6  # discs extend beyond their centres, so the contour lies slightly inside the mask
EDGE_REACH = 2  # samples over which the edge's colour fades into the mean
MIRROR_REACH = 24  # samples of the front that are mirrored, back and forth


@dataclass(frozen=True)
class SideKind:
    """A side of a shell: of the `solid`th of `Shell.solid_intervals`, towards the cavity or the outside."""

    solid: int
    to_cavity: bool = False


@dataclass(frozen=True)
class SideColours:
    """Source colours of the sides, on the shell's grid, (G, G, 3) each."""

    front: np.ndarray
    back: np.ndarray
    smooth: np.ndarray  # the front's around each sample
    detail: np.ndarray  # of the front, to be added
    inside: np.ndarray | None  # of the walls of the cavity; None where the photo does not show them

    def mirrored_front(self, place: np.ndarray, inward: np.ndarray, behind: np.ndarray) -> np.ndarray:
        """(N, 3) colours of the side, `behind` (N,) samples behind the edge.

        place: (N, 2) row and column of the edge. inward: (N, 2) unit steps away from it on the front.
        """
        away = MIRROR_REACH - np.abs(behind % (2 * MIRROR_REACH) - MIRROR_REACH)
        at = np.clip(np.rint(place + inward * away[:, None]).astype(int), 0, len(self.front) - 1)
        row, column = place.T
        share = smoothstep(behind, 0.0, EDGE_REACH)[:, None]
        side = np.clip(self.smooth[row, column] + self.detail[at[:, 0], at[:, 1]], 0, 1)
        return np.asarray((1 - share) * self.front[row, column] + share * side)

    def at(self, shell: Shell, kind: SideKind, place: np.ndarray, inward: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(N, 3) colours at depths z (N,) of the sides of a solid interval; place and inward as for `mirrored_front`.

        They fade from the front's to the back's, or to and from the cavity's where the photo shows its sides.
        """
        row, column = place.T
        inner = None if self.inside is None else self.inside[row, column]
        if inner is not None and kind.to_cavity:
            return inner
        front, back, last = shell.front[row, column], shell.back[row, column], self.back[row, column]
        first = self.mirrored_front(place, inward, (z - front) / shell.step(z))
        if inner is None:
            return blend_by_depth(first, last, front, back, z)
        near, far = (plane[row, column] for plane in shell.solid_intervals[kind.solid])
        return blend_by_depth(
            first if kind.solid == 0 else inner, np.where((far < back)[:, None], inner, last), near, far, z
        )


def discontinuity_surfaces(shell: Shell, colours: SideColours) -> list[Surfels]:
    """Side surfaces between neighbouring samples where one is solid and the other is not."""
    inside = shell.inside
    sides = []
    for row_step, column_step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        other = (-row_step, -column_step)
        pair = inside & np.roll(inside, other, (0, 1))
        step = np.array([column_step, row_step, 0.0]) * shell.pixel
        beside = [(np.roll(a, other, (0, 1)), np.roll(b, other, (0, 1))) for a, b in shell.solid_intervals]
        for solid, layer in enumerate(shell.solid_intervals):
            for number, (start, end) in enumerate(subtract_intervals(layer, beside)):
                where = pair & (end - start > DISCONTINUITY * shell.step(start))
                place = np.argwhere(where)
                across = np.broadcast_to(np.abs(step[[1, 0, 2]]), (len(place), 3))
                inward = np.broadcast_to((-row_step, -column_step), place.shape)
                rays = shell.rays[where] + 0.5 * step
                interval = start[where], end[where]
                kind = SideKind(solid, to_cavity=0 < number < len(beside))  # between the neighbour's intervals
                sides.append(
                    _extrude(shell, colours, kind, place, inward, rays, across, interval, MAX_SIDE_SURFELS // 8)
                )
    return sides


def subtract_intervals(
    solid: tuple[np.ndarray, np.ndarray], beside: list[tuple[np.ndarray, np.ndarray]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The intervals `solid` without the neighbours' intervals `beside`, nearest first."""
    start, end = solid
    intervals = [(start, np.minimum(beside[0][0], end))]
    intervals += [
        (np.maximum(start, first[1]), np.minimum(second[0], end)) for first, second in itertools.pairwise(beside)
    ]
    return [*intervals, (np.maximum(beside[-1][1], start), end)]


def outline_surface(shell: Shell, colours: SideColours) -> Surfels:
    """The side surface along the outline, on a smoothed sub-pixel contour without pixel steps."""
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
    sides = [
        _extrude(
            shell,
            colours,
            SideKind(solid),
            place,
            inward,
            rays,
            along * shell.pixel,
            (start[row, column], end[row, column]),
            MAX_SIDE_SURFELS,
        )
        for solid, (start, end) in enumerate(shell.solid_intervals)
    ]
    return concatenate(sides)


def _extrude(
    shell: Shell,
    colours: SideColours,
    kind: SideKind,
    place: np.ndarray,
    inward: np.ndarray,
    rays: np.ndarray,
    across: np.ndarray,
    interval: tuple[np.ndarray, np.ndarray],
    limit: int,
) -> Surfels:
    """Place surfels on the path of each ray over a depth interval, begin and end (N,), about `limit` at most.

    kind, place, inward: as in `SideColours.at`. rays, across: (N, 3); across is the step to the next ray.
    """
    start, end = interval
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
        step_a=across[which] * np.minimum(z, shell.parallel_depth)[:, None],
        step_b=(gap / count)[which][:, None] * shell.direction(rays[which], z),
        rgb=colours.at(shell, kind, place[which], inward[which], z),
        opacity=np.full(len(which), MAX_OPACITY),
    )


_NONE = np.zeros((0, 3))
_EMPTY = Surfels(_NONE, _NONE, _NONE, _NONE, np.zeros(0))
