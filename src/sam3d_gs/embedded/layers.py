"""Layers of depth -> a closed shell of surfels in the camera frame, at the photo's resolution.

Front points lie on the rays of their pixels, and so does everything down to the deepest front point: nothing of the
shell can come before what the photo shows. Behind that the shell goes on along the object's own viewing direction,
since the network was trained on parallel rays: sides of a box stay parallel instead of opening like a fan. Walls
close the shell at the outline and wherever a layer jumps. Where the net says that there is air between front and
back, a pixel holds two stretches of solid instead of one, and the air gets its two surfaces and its walls.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from sam3d_gs.embedded.appearance import back_colours, front_colours, soft_alpha
from sam3d_gs.embedded.object_net import CROP_MARGIN, Crop, TwoLayers
from sam3d_gs.embedded.surfels import Surfels, join

FRONT_SIDE = round(320 * CROP_MARGIN)  # samples along the crop: 320 along the object
BACK_SIDE = 140  # 130 along the object: the predicted back holds no finer detail
LEAST_SIDE = 64  # a tiny object is sampled finer than its pixels, for a smooth outline
JUMP = 2.5  # steeper than this many steps between neighbours is an edge, not a slope
FILLET = 0.05  # largest rounding of an edge, as a share of the crop's side
MAX_WALL_SURFELS = 16_000
THICKNESS_PER_WIDTH = 1.5  # no object is thicker than this many of its widest inner circle
NEAREST_SHARE = 0.4  # no point comes nearer to the camera than this share of the object's depth
OPAQUE = 0.97
OUTLINE_ALPHA = 0.6  # discs reach a little over their centres, so the outline lies a little inside the mask's edge
SOFT_ALPHA = (0.35, 0.95)  # the edge fades between these
HOLLOW = 0.5  # probability from which on there is air between front and back
LEAST_AIR = 0.03  # crop half-sides; nearer walls are one
MAX_SPILL = 0.015  # share of the mask by which the back may show beyond it, through holes and bays


@dataclass(frozen=True)
class Shell:
    """The layers sampled on a square grid over the crop, in the camera frame."""

    inside: np.ndarray  # (G, G) bool
    alpha: np.ndarray  # (G, G) 0..1
    rays: np.ndarray  # (G, G, 3) with z = 1
    front: np.ndarray  # (G, G) depth
    back: np.ndarray  # (G, G) depth, > front
    air: np.ndarray | None  # (2, G, G) depths between which there is air, equal where there is none; None: nowhere
    axis: np.ndarray  # (3,) ray of the crop's centre, with z = 1
    turn: float  # depth at which the shell leaves the pixels' rays for `axis`
    pixel: float  # width of a sample over its depth

    @property
    def solids(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The stretches of solid of every sample, near one first: depths (G, G) where they begin and end."""
        if self.air is None:
            return [(self.front, self.back)]
        return [(self.front, self.air[0]), (self.air[1], self.back)]

    def points(self, rays: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(N, 3) points at depth z (N,) on the way that starts along rays (N, 3)."""
        on_ray = np.minimum(z, self.turn)[:, None]
        return np.asarray(rays * on_ray + self.axis * (z[:, None] - on_ray))

    def step(self, z: np.ndarray) -> np.ndarray:
        """Distance between neighbouring samples at depth z."""
        return np.asarray(self.pixel * np.minimum(z, self.turn))

    def way(self, rays: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(N, 3) direction of the way at depth z, with z = 1."""
        return np.where((z < self.turn)[:, None], rays, self.axis)


def build_surfels(
    rgb: np.ndarray, mask: np.ndarray, crop: Crop, layers: TwoLayers, K: np.ndarray, depth: float, seed: int
) -> Surfels:
    """The closed shell of one object whose mean depth is `depth` (scene units), in the camera frame.

    rgb: (H, W, 3) uint8. mask: (H, W) bool. seed: of the grain on the unseen side.
    """
    side = int(np.clip(np.ceil(2 * crop.half_px), LEAST_SIDE, FRONT_SIDE))
    front = _sample_shell(mask, crop, layers, K, depth, side)
    front_rgb = front_colours(rgb, mask, crop, side)
    back_rgb = back_colours(layers, crop, front_rgb, front.inside, seed)
    parts = [
        _layer(front, front.front, front_rgb),
        *_jump_walls(front, front_rgb, back_rgb),
        _outline_wall(front, front_rgb, back_rgb),
    ]
    if side > BACK_SIDE:
        back = _sample_shell(mask, crop, layers, K, depth, BACK_SIDE)
        parts.append(_layer(back, back.back, _resize(back_rgb, BACK_SIDE)))
    else:
        back = front
        parts.append(_layer(front, front.back, back_rgb))
    if back.air is not None:
        parts += _air_layers(back, _resize(front_rgb, len(back.front)), _resize(back_rgb, len(back.front)))
    return join([part for part in parts if len(part)])


def relative_depth(crop: Crop, layers: TwoLayers, K: np.ndarray) -> np.ndarray:
    """(R, R) depth of the front over the object's mean depth, on the network's grid."""
    return np.maximum(1 - layers.front * (crop.half_px / K[0, 0]), NEAREST_SHARE)


def _sample_shell(mask: np.ndarray, crop: Crop, layers: TwoLayers, K: np.ndarray, depth: float, side: int) -> Shell:
    from scipy.ndimage import distance_transform_edt

    alpha = soft_alpha(mask, crop, side)
    inside = alpha > 0.5
    if not inside.any():
        inside = alpha >= alpha.max()
    known = crop.coverage > 0.5
    if not known.any():
        known = crop.coverage >= crop.coverage.max()
    relief = _upsample(layers.front, known, side)
    widest = 2 * float(distance_transform_edt(known).max()) * 2 / known.shape[0]
    thickness = np.minimum(_upsample(layers.thickness, known, side), THICKNESS_PER_WIDTH * widest)
    relief, thickness = _round_edges(relief, thickness, inside)

    focal, half = K[0, 0], crop.half_px
    pixel = 2 * half / side
    u = crop.center_px[0] - half + (np.arange(side) + 0.5) * pixel
    v = crop.center_px[1] - half + (np.arange(side) + 0.5) * pixel
    x, y = np.meshgrid((u - K[0, 2]) / focal, (v - K[1, 2]) / focal)
    z = depth * np.maximum(1 - relief * (half / focal), NEAREST_SHARE)
    back = z + thickness * (depth * half / focal)
    return Shell(
        inside=inside,
        alpha=alpha,
        rays=np.stack([x, y, np.ones_like(x)], axis=-1),
        front=z,
        back=back,
        air=_air(layers, known, side, z, back, LEAST_AIR * depth * half / focal),
        axis=np.array([(crop.center_px[0] - K[0, 2]) / focal, (crop.center_px[1] - K[1, 2]) / focal, 1.0]),
        turn=_turn(z, back, inside),
        pixel=pixel / focal,
    )


def _air(
    layers: TwoLayers, known: np.ndarray, side: int, front: np.ndarray, back: np.ndarray, least: float
) -> np.ndarray | None:
    """(2, G, G) depths between which the air lies, the back twice where there is less than `least`; None: nowhere."""
    if layers.cavity is None:
        return None
    hollow, near, far = (
        _upsample(plane, known, side)
        for plane in (layers.cavity.hollow, layers.cavity.near_share, layers.cavity.far_share)
    )
    begin, end = front + near * (back - front), back - far * (back - front)
    there = (hollow > HOLLOW) & (end - begin > least)
    return np.where(there, np.stack([begin, end]), back) if there.any() else None


def _turn(front: np.ndarray, back: np.ndarray, inside: np.ndarray) -> float:
    """Depth at which the shell leaves the rays: behind the deepest front point, later if the back would show.

    Beyond that depth t a back point at depth b is seen t / b as far from the crop's centre as its pixel is.
    """
    deepest, end = float(front[inside].max()), float(back[inside].max())
    side = inside.shape[0]
    rows, columns = np.nonzero(inside)
    for turn in np.linspace(deepest, end, 4):
        shrink = np.minimum(turn / back[inside], 1.0)
        row = ((rows + 0.5 - side / 2) * shrink + side / 2).astype(int)
        column = ((columns + 0.5 - side / 2) * shrink + side / 2).astype(int)
        if np.mean(~inside[row, column]) <= MAX_SPILL:
            return float(turn)
    return end


def _upsample(plane: np.ndarray, known: np.ndarray, side: int) -> np.ndarray:
    """(R, R) -> (side, side), linear between alike neighbours; across a jump a sample keeps to its nearest pixel."""
    from scipy.ndimage import distance_transform_edt

    size = plane.shape[0]
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    plane = plane[tuple(nearest)]
    at = np.clip((np.arange(side) + 0.5) * size / side - 0.5, 0, size - 1)
    low = np.minimum(at.astype(int), size - 2)
    share = (at - low).astype(np.float32)
    reference = plane[np.ix_(np.rint(at).astype(int), np.rint(at).astype(int))]
    tolerance = JUMP * 2 / size
    total, weights = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
    for row, row_weight in ((low, 1 - share), (low + 1, share)):
        for column, column_weight in ((low, 1 - share), (low + 1, share)):
            value = plane[np.ix_(row, column)]
            weight = np.outer(row_weight, column_weight) * np.exp(-(((value - reference) / tolerance) ** 2)) + 1e-9
            total += weight * value
            weights += weight
    return total / weights


def _round_edges(relief: np.ndarray, thickness: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round both edges of the outline with a quarter circle, so that the side does not look cut out of cardboard."""
    from scipy.ndimage import distance_transform_edt

    step = 2 / relief.shape[0]
    distance = np.maximum(distance_transform_edt(inside) - 0.5, 0) * step
    radius = np.minimum(0.45 * thickness, 2 * FILLET)
    missing = np.clip(radius - distance, 0, None)
    drop = radius - np.sqrt(np.maximum(radius**2 - missing**2, 0))
    return relief - drop, np.maximum(thickness - 2 * drop, 0.25 * step)


def _layer(shell: Shell, z: np.ndarray, rgb: np.ndarray, where: np.ndarray | None = None) -> Surfels:
    """One surface of the shell, at depths z (G, G), or the part of it `where` (G, G)."""
    keep = (shell.alpha > SOFT_ALPHA[0]) | shell.inside
    if where is not None:
        keep &= where
    step = shell.step(z)
    depth_x = _gentlest_difference(z, keep, 1, JUMP * step)[keep][:, None]
    depth_y = _gentlest_difference(z, keep, 0, JUMP * step)[keep][:, None]
    z, step, rays = z[keep], step[keep][:, None], shell.rays[keep]
    way = shell.way(rays, z)
    opacity = OPAQUE * _smoothstep(shell.alpha[keep], *SOFT_ALPHA)
    return Surfels(
        points=shell.points(rays, z),
        step_a=step * [1.0, 0.0, 0.0] + depth_x * way,
        step_b=step * [0.0, 1.0, 0.0] + depth_y * way,
        rgb=rgb[keep],
        opacity=np.where(shell.inside[keep], np.maximum(opacity, 0.3), opacity),
    )


def _air_layers(shell: Shell, front_rgb: np.ndarray, back_rgb: np.ndarray) -> list[Surfels]:
    """The two surfaces of the air inside, coloured between front and back as the walls are."""
    assert shell.air is not None
    there = shell.air[1] > shell.air[0]
    surfaces = []
    for z in shell.air:
        fade = _smoothstep((z - shell.front) / np.maximum(shell.back - shell.front, 1e-9), 0.0, 1.0)[..., None]
        surfaces.append(_layer(shell, z, (1 - fade) * front_rgb + fade * back_rgb, there))
    return surfaces


def _gentlest_difference(z: np.ndarray, keep: np.ndarray, axis: int, limit: np.ndarray) -> np.ndarray:
    """Depth change to the next sample, from the side on which it changes least; 0 next to nothing."""
    forward = np.full(z.shape, np.inf)
    ahead = [slice(None)] * 2
    here = [slice(None)] * 2
    ahead[axis], here[axis] = slice(1, None), slice(None, -1)
    both = keep[tuple(ahead)] & keep[tuple(here)]
    forward[tuple(here)] = np.where(both, z[tuple(ahead)] - z[tuple(here)], np.inf)
    backward = np.full(z.shape, np.inf)
    backward[tuple(ahead)] = forward[tuple(here)]
    least = np.where(np.abs(forward) <= np.abs(backward), forward, backward)
    return np.clip(np.where(np.isfinite(least), least, 0), -limit, limit)


def _jump_walls(shell: Shell, front_rgb: np.ndarray, back_rgb: np.ndarray) -> list[Surfels]:
    """Walls between neighbouring samples where one is solid and the other is not, built on the solid one."""
    inside = shell.inside
    walls = []
    for row_step, column_step in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        other = (-row_step, -column_step)
        pair = inside & np.roll(inside, other, (0, 1))
        step = np.array([column_step, row_step, 0.0]) * shell.pixel
        beside = [(np.roll(a, other, (0, 1)), np.roll(b, other, (0, 1))) for a, b in shell.solids]
        for start, end in [stretch for solid in shell.solids for stretch in _left_over(solid, beside)]:
            where = pair & (end - start > JUMP * shell.step(start))
            across = np.broadcast_to(np.abs(step[[1, 0, 2]]), (int(where.sum()), 3))
            walls.append(
                _wall(
                    shell,
                    shell.rays[where] + 0.5 * step,
                    across,
                    start[where],
                    end[where],
                    (shell.front[where], shell.back[where]),
                    front_rgb[where],
                    back_rgb[where],
                    MAX_WALL_SURFELS // 8,
                )
            )
    return walls


def _left_over(
    solid: tuple[np.ndarray, np.ndarray], beside: list[tuple[np.ndarray, np.ndarray]]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """What is left of the stretches `solid` when the neighbours' stretches, near one first, are taken away."""
    start, end = solid
    stretches = [(start, np.minimum(beside[0][0], end))]
    stretches += [
        (np.maximum(start, first[1]), np.minimum(second[0], end)) for first, second in itertools.pairwise(beside)
    ]
    return [*stretches, (np.maximum(beside[-1][1], start), end)]


def _outline_wall(shell: Shell, front_rgb: np.ndarray, back_rgb: np.ndarray) -> Surfels:
    """The wall along the outline, on a smoothed sub-pixel contour so that it shows no stairs."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter1d
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
    front, back = shell.front[row, column], shell.back[row, column]
    walls = [
        _wall(
            shell,
            shell.rays[row, column] + offset * shell.pixel,
            along * shell.pixel,
            start[row, column],
            end[row, column],
            (front, back),
            front_rgb[row, column],
            back_rgb[row, column],
            MAX_WALL_SURFELS,
        )
        for start, end in shell.solids
    ]
    return join(walls)


def _wall(
    shell: Shell,
    rays: np.ndarray,
    across: np.ndarray,
    start: np.ndarray,
    end: np.ndarray,
    layers: tuple[np.ndarray, np.ndarray],
    front_rgb: np.ndarray,
    back_rgb: np.ndarray,
    limit: int,
) -> Surfels:
    """Fill the way of each ray from depth `start` to `end` with about `limit` surfels at most.

    rays, across: (N, 3), across being the step to the next ray. layers: depths (N,) of front and back, between which
    the colours fade.
    """
    if not len(rays):
        return _EMPTY
    gap = end - start
    spacing = np.maximum(np.linalg.norm(across, axis=1) * start, 1e-9)
    spacing = spacing * max(1.0, float(np.sum(gap / spacing)) / limit)
    count = np.maximum(np.ceil(gap / spacing).astype(int), 1)
    which = np.repeat(np.arange(len(rays)), count)
    rank = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
    z = start[which] + gap[which] * (rank + 0.5) / count[which]
    front, back = layers[0][which], layers[1][which]
    fade = _smoothstep((z - front) / np.maximum(back - front, 1e-9), 0.0, 1.0)[:, None]
    return Surfels(
        points=shell.points(rays[which], z),
        step_a=across[which] * np.minimum(z, shell.turn)[:, None],
        step_b=(gap / count)[which][:, None] * shell.way(rays[which], z),
        rgb=(1 - fade) * front_rgb[which] + fade * back_rgb[which],
        opacity=np.full(len(which), OPAQUE),
    )


def _smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def _resize(rgb: np.ndarray, side: int) -> np.ndarray:
    from PIL import Image

    planes = [Image.fromarray(np.ascontiguousarray(rgb[..., c], np.float32)) for c in range(3)]
    return np.stack([np.asarray(p.resize((side, side), Image.Resampling.BILINEAR)) for p in planes], axis=-1)


_NONE = np.zeros((0, 3))
_EMPTY = Surfels(_NONE, _NONE, _NONE, _NONE, np.zeros(0))
