"""Layers of depth -> a closed shell of surfels in the camera frame, at the photo's resolution.

Front points lie on the rays of their pixels, and so does everything down to the deepest front point: nothing of the
shell can come before what the photo shows. Behind that the shell goes on along the object's own viewing direction,
since the network was trained on parallel rays: sides of a box stay parallel instead of opening like a fan. Walls
close the shell at the outline and wherever a layer jumps. Where the net says that there is air between front and
back, a pixel holds two stretches of solid instead of one, and the air gets its two surfaces and its walls.
"""

from __future__ import annotations

import numpy as np

from sam3d_gs.embedded.shape.appearance import FineDetail, back_colours, front_colours, side_colours, soft_alpha
from sam3d_gs.embedded.shape.cavity import inside_colours, open_air
from sam3d_gs.embedded.shape.crops import CROP_MARGIN, Crop
from sam3d_gs.embedded.shape.object_net import TwoLayers
from sam3d_gs.embedded.shape.ray_shell import JUMP, OPAQUE, Shell, blurred_inside, faded, resized, smoothstep
from sam3d_gs.embedded.shape.side_surfaces import Paint, jump_walls, outline_wall
from sam3d_gs.embedded.shape.surfels import Surfels, join

FRONT_SIDE = round(320 * CROP_MARGIN)  # samples along the crop: 320 along the object
BACK_SIDE = 140  # 130 along the object: the predicted back holds no finer detail, but the front's may be repeated on it
BACK_LOSS = 0.006  # mean change of the back's colours at that size from which on it is sampled as finely as the front
LEAST_SIDE = 64  # a tiny object is sampled finer than its pixels, for a smooth outline
FILLET = 0.05  # largest rounding of an edge, as a share of the crop's side
THIN = (0.05, 0.07)  # crop half-sides: parts narrower than this are as thick as wide; it fades between these
TALL = (0.1, 0.16)  # the same for parts that are upright and longer than wide by the next factor: legs, posts
TALL_SHAPE = 4
THICKNESS_PER_WIDTH = 1.5  # no object is thicker than this many of its widest inner circle
NEAREST_SHARE = 0.4  # no point comes nearer to the camera than this share of the object's depth
SOFT_ALPHA = (0.35, 0.95)  # the edge fades between these
UNSURE = (0.1, 0.5)  # expected error in crop half-sides: opacity falls between these
LEAST_OPACITY = 0.75  # share of its opacity that the least certain surfel keeps; neighbours overlap, so no hole opens
HOLLOW = 0.5  # probability from which on there is air between front and back
LEAST_AIR = 0.03  # crop half-sides; nearer walls are one
MAX_SPILL = 0.015  # share of the mask by which the back may show beyond it, through holes and bays


def build_surfels(
    rgb: np.ndarray, mask: np.ndarray, crop: Crop, layers: TwoLayers, K: np.ndarray, depth: float, seed: int
) -> Surfels:
    """The closed shell of one object whose mean depth is `depth` (scene units), in the camera frame.

    rgb: (H, W, 3) uint8. mask: (H, W) bool. seed: of the grain on the unseen side.
    """
    side = int(np.clip(np.ceil(2 * crop.half_px), LEAST_SIDE, FRONT_SIDE))
    front = _sample_shell(mask, crop, layers, K, depth, side)
    front_rgb = front_colours(rgb, mask, crop, side)
    zoom = side / len(layers.front)
    detail = FineDetail.of(front_rgb, front.inside, zoom)
    back_rgb = back_colours(layers, crop, front_rgb, front.inside, detail, seed)
    inside_rgb = None if front.air is None else inside_colours(front, front.air[1] > front.air[0], front_rgb)
    paint = Paint(front_rgb, back_rgb, *side_colours(front_rgb, front.inside, detail, zoom), inside_rgb)
    parts = [
        _layer(front, front.front, front_rgb, trust=_trust(layers, crop, 0, side)),
        *jump_walls(front, paint),
        outline_wall(front, paint),
    ]
    coarse_rgb = resized(back_rgb, BACK_SIDE)
    if side > BACK_SIDE and _loss(back_rgb, coarse_rgb, front.inside) < BACK_LOSS:
        back = _sample_shell(mask, crop, layers, K, depth, BACK_SIDE)
        parts.append(_layer(back, back.back, coarse_rgb, trust=_trust(layers, crop, 1, BACK_SIDE)))
    else:
        back = front
        parts.append(_layer(front, front.back, back_rgb, trust=_trust(layers, crop, 1, side)))
    if back.air is not None:
        size = len(back.front)
        inner = None if inside_rgb is None else resized(inside_rgb, size)
        parts += _air_layers(back, inner, resized(front_rgb, size), resized(back_rgb, size))
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
    relief, thickness = _round_edges(*_slender(relief, thickness, inside), inside)

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
        air=_air(layers, known, inside, z, back, LEAST_AIR * depth * half / focal),
        axis=np.array([(crop.center_px[0] - K[0, 2]) / focal, (crop.center_px[1] - K[1, 2]) / focal, 1.0]),
        turn=_turn(z, back, inside),
        pixel=pixel / focal,
    )


def _air(
    layers: TwoLayers, known: np.ndarray, inside: np.ndarray, front: np.ndarray, back: np.ndarray, least: float
) -> np.ndarray | None:
    """(2, G, G) depths between which the air lies, the back twice where there is less than `least`; None: nowhere."""
    if layers.cavity is None:
        return None
    hollow, near, far = (
        _upsample(plane, known, len(inside))
        for plane in (layers.cavity.hollow, layers.cavity.near_share, layers.cavity.far_share)
    )
    begin, end = front + near * (back - front), back - far * (back - front)
    there = open_air(inside, front, back, begin, end, (hollow > HOLLOW) & (end - begin > least), least)
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


def _slender(relief: np.ndarray, thickness: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Make poles and legs no thicker than they are wide, about the middle that the network gives them.

    They are a few of its pixels wide, and it takes them for blades: on held-out shapes thickness over width is 0.8 to
    1.0 in the median of parts narrower than 0.05, and 1.8 to 3 by the network.
    """
    from scipy.ndimage import distance_transform_edt, maximum_filter

    step = 2 / relief.shape[0]
    radius = np.maximum(distance_transform_edt(inside) - 0.5, 0.5)
    width = 2 * step * maximum_filter(radius, size=2 * int(np.ceil(THIN[1] / 2 / step)) + 1)
    tall = inside & (_column_runs(inside) * step > TALL_SHAPE * width)
    believed = np.where(tall, smoothstep(width, *TALL), smoothstep(width, *THIN))
    slender = np.minimum(thickness, thickness**believed * width ** (1 - believed))
    middle = relief - thickness / 2
    straight = blurred_inside(middle, tall, (TALL[1] / step, TALL[1] / 2 / step))
    middle = np.where(tall, believed * middle + (1 - believed) * straight, middle)
    return middle + slender / 2, slender


def _column_runs(inside: np.ndarray) -> np.ndarray:
    """(G, G) int, how many samples of its column hang together with each one inside; 0 outside."""
    index = np.arange(len(inside))[:, None]
    above = np.maximum.accumulate(np.where(inside, -1, index), axis=0)  # the last one outside
    below = np.minimum.accumulate(np.where(inside, len(inside), index)[::-1], axis=0)[::-1]
    return np.asarray(below - above - 1).clip(0)


def _round_edges(relief: np.ndarray, thickness: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round both edges of the outline with a quarter circle, so that the side does not look cut out of cardboard."""
    from scipy.ndimage import distance_transform_edt

    step = 2 / relief.shape[0]
    distance = np.maximum(distance_transform_edt(inside) - 0.5, 0) * step
    radius = np.minimum(0.45 * thickness, 2 * FILLET)
    missing = np.clip(radius - distance, 0, None)
    drop = radius - np.sqrt(np.maximum(radius**2 - missing**2, 0))
    return relief - drop, np.maximum(thickness - 2 * drop, 0.25 * step)


def _trust(layers: TwoLayers, crop: Crop, surface: int, side: int) -> np.ndarray | None:
    """(side, side) share of its opacity that the front (0) or back (1) keeps, by its expected error; None: all."""
    if layers.scale is None:
        return None
    error = _upsample(layers.scale[..., surface], crop.coverage > min(0.5, float(crop.coverage.max()) / 2), side)
    return np.asarray(1 - (1 - LEAST_OPACITY) * smoothstep(error, *UNSURE))


def _layer(
    shell: Shell, z: np.ndarray, rgb: np.ndarray, where: np.ndarray | None = None, trust: np.ndarray | None = None
) -> Surfels:
    """One surface of the shell, at depths z (G, G), or the part of it `where` (G, G); `trust` thins it, (G, G) 0..1."""
    keep = (shell.alpha > SOFT_ALPHA[0]) | shell.inside
    if where is not None:
        keep &= where
    step = shell.step(z)
    depth_x = _gentlest_difference(z, keep, 1, JUMP * step)[keep][:, None]
    depth_y = _gentlest_difference(z, keep, 0, JUMP * step)[keep][:, None]
    z, step, rays = z[keep], step[keep][:, None], shell.rays[keep]
    way = shell.way(rays, z)
    opacity = OPAQUE * smoothstep(shell.alpha[keep], *SOFT_ALPHA)
    if trust is not None:
        opacity *= trust[keep]
    return Surfels(
        points=shell.points(rays, z),
        step_a=step * [1.0, 0.0, 0.0] + depth_x * way,
        step_b=step * [0.0, 1.0, 0.0] + depth_y * way,
        rgb=rgb[keep],
        opacity=np.where(shell.inside[keep], np.maximum(opacity, 0.3), opacity),
    )


def _air_layers(
    shell: Shell, inside_rgb: np.ndarray | None, front_rgb: np.ndarray, back_rgb: np.ndarray
) -> list[Surfels]:
    """The two surfaces of the air inside, coloured as what the photo shows of the inside.

    Where it shows nothing of it, between front and back as the walls are.
    """
    assert shell.air is not None
    there = shell.air[1] > shell.air[0]
    surfaces = []
    for z in shell.air:
        rgb = faded(front_rgb, back_rgb, shell.front, shell.back, z) if inside_rgb is None else inside_rgb
        surfaces.append(_layer(shell, z, rgb, there))
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


def _loss(rgb: np.ndarray, coarse_rgb: np.ndarray, inside: np.ndarray) -> float:
    """Mean difference of colours (G, G, 3) to the same ones on a coarser grid, within `inside` (G, G)."""
    return float(np.abs(resized(coarse_rgb, len(rgb)) - rgb)[inside].mean())
