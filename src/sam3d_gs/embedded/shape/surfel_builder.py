"""Turn the depth layers of an object into a closed shell of surfels in the camera frame, at the photo's resolution.

Points down to the deepest front point lie on the rays of their pixels, so nothing of the shell can occlude what the
photo shows. Behind that depth the shell continues along the object's viewing direction, since the network was trained
on parallel rays: the sides of a box stay parallel instead of widening with the perspective. Side surfaces close the
shell at the outline and at depth discontinuities. Where the network predicts a cavity, a pixel has two solid intervals,
and the cavity gets its two surfaces and its sides.
"""

from __future__ import annotations

import numpy as np

from sam3d_gs.embedded.shape.appearance import FineDetail, back_colours, front_colours, side_colours, soft_alpha
from sam3d_gs.embedded.shape.cavity import cavity_colours, open_cavities
from sam3d_gs.embedded.shape.crops import CROP_MARGIN, Crop
from sam3d_gs.embedded.shape.object_net import DepthLayers
from sam3d_gs.embedded.shape.ray_shell import (
    DISCONTINUITY,
    MAX_OPACITY,
    Shell,
    blend_by_depth,
    blurred_inside,
    resized,
    smoothstep,
)
from sam3d_gs.embedded.shape.side_surfaces import SideColours, discontinuity_surfaces, outline_surface
from sam3d_gs.embedded.shape.surfels import Surfels, concatenate

FRONT_SIDE = round(320 * CROP_MARGIN)  # samples along the crop: 320 along the object
BACK_SIDE = 140  # 130 along the object: the predicted back has no finer detail of its own
MAX_BACK_ERROR = 0.006  # mean colour error of that resampling from which the back is sampled like the front
MIN_SIDE = 64  # tiny objects are sampled finer than their pixels, for a smooth outline
MAX_FILLET = 0.05  # largest rounding of an edge, as a share of the crop's side
THIN_WIDTH = (0.05, 0.07)  # crop half-sides: narrower parts are as thick as wide, blending out between these
UPRIGHT_WIDTH = (0.1, 0.16)  # the same for upright parts with at least the next aspect ratio: legs, posts
UPRIGHT_ASPECT = 4
THICKNESS_PER_WIDTH = 1.5  # maximum thickness over the diameter of the widest inscribed circle
MIN_DEPTH_RATIO = 0.4  # minimum depth of a point over the object's depth
SOFT_ALPHA = (0.35, 0.95)  # coverage between which the opacity of an edge fades
ERROR_FADE = (0.1, 0.5)  # expected depth error in crop half-sides: opacity falls between these
MIN_OPACITY = 0.75  # opacity factor of the least certain surfels; neighbours overlap, so there are no holes
HOLLOW_THRESHOLD = 0.5  # probability from which there is a cavity
MIN_CAVITY = 0.03  # minimum depth of a cavity in crop half-sides
MAX_SPILL = 0.015  # maximum share of the back that shows outside the mask, through holes and concavities


def build_surfels(
    rgb: np.ndarray, mask: np.ndarray, crop: Crop, layers: DepthLayers, K: np.ndarray, depth: float, seed: int
) -> Surfels:
    """The closed shell of one object whose mean depth is `depth` (scene units), in the camera frame.

    rgb: (H, W, 3) uint8. mask: (H, W) bool. seed: of the noise on the unseen side.
    """
    side = int(np.clip(np.ceil(2 * crop.half_px), MIN_SIDE, FRONT_SIDE))
    front = _sample_shell(mask, crop, layers, K, depth, side)
    front_rgb = front_colours(rgb, mask, crop, side)
    zoom = side / len(layers.front)
    detail = FineDetail.of(front_rgb, front.inside, zoom)
    back_rgb = back_colours(layers, crop, front_rgb, front.inside, detail, seed)
    inside_rgb = None if front.cavity is None else cavity_colours(front, front.cavity[1] > front.cavity[0], front_rgb)
    colours = SideColours(front_rgb, back_rgb, *side_colours(front_rgb, front.inside, detail, zoom), inside_rgb)
    parts = [
        _surface_surfels(front, front.front, front_rgb, opacity_factor=_error_opacity(layers, crop, 0, side)),
        *discontinuity_surfaces(front, colours),
        outline_surface(front, colours),
    ]
    coarse_rgb = resized(back_rgb, BACK_SIDE)
    if side > BACK_SIDE and _resampling_error(back_rgb, coarse_rgb, front.inside) < MAX_BACK_ERROR:
        back = _sample_shell(mask, crop, layers, K, depth, BACK_SIDE)
        parts.append(
            _surface_surfels(back, back.back, coarse_rgb, opacity_factor=_error_opacity(layers, crop, 1, BACK_SIDE))
        )
    else:
        back = front
        parts.append(
            _surface_surfels(front, front.back, back_rgb, opacity_factor=_error_opacity(layers, crop, 1, side))
        )
    if back.cavity is not None:
        size = len(back.front)
        inner = None if inside_rgb is None else resized(inside_rgb, size)
        parts += _cavity_surfels(back, inner, resized(front_rgb, size), resized(back_rgb, size))
    return concatenate([part for part in parts if len(part)])


def relative_depth(crop: Crop, layers: DepthLayers, K: np.ndarray) -> np.ndarray:
    """(R, R) depth of the front over the object's mean depth, on the network's grid."""
    return np.maximum(1 - layers.front * (crop.half_px / K[0, 0]), MIN_DEPTH_RATIO)


def _sample_shell(mask: np.ndarray, crop: Crop, layers: DepthLayers, K: np.ndarray, depth: float, side: int) -> Shell:
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
    relief, thickness = _round_edges(*_limit_thin_parts(relief, thickness, inside), inside)

    focal, half = K[0, 0], crop.half_px
    pixel = 2 * half / side
    u = crop.center_px[0] - half + (np.arange(side) + 0.5) * pixel
    v = crop.center_px[1] - half + (np.arange(side) + 0.5) * pixel
    x, y = np.meshgrid((u - K[0, 2]) / focal, (v - K[1, 2]) / focal)
    z = depth * np.maximum(1 - relief * (half / focal), MIN_DEPTH_RATIO)
    back = z + thickness * (depth * half / focal)
    return Shell(
        inside=inside,
        alpha=alpha,
        rays=np.stack([x, y, np.ones_like(x)], axis=-1),
        front=z,
        back=back,
        cavity=_cavity_depths(layers, known, inside, z, back, MIN_CAVITY * depth * half / focal),
        axis=np.array([(crop.center_px[0] - K[0, 2]) / focal, (crop.center_px[1] - K[1, 2]) / focal, 1.0]),
        parallel_depth=_parallel_depth(z, back, inside),
        pixel=pixel / focal,
    )


def _cavity_depths(
    layers: DepthLayers, known: np.ndarray, inside: np.ndarray, front: np.ndarray, back: np.ndarray, min_depth: float
) -> np.ndarray | None:
    """(2, G, G) depths where the cavity begins and ends, equal where it is below `min_depth` deep; None: nowhere."""
    if layers.cavity is None:
        return None
    hollow, near, far = (
        _upsample(plane, known, len(inside))
        for plane in (layers.cavity.hollow, layers.cavity.near_share, layers.cavity.far_share)
    )
    begin, end = front + near * (back - front), back - far * (back - front)
    there = open_cavities(
        inside, front, back, begin, end, (hollow > HOLLOW_THRESHOLD) & (end - begin > min_depth), min_depth
    )
    return np.where(there, np.stack([begin, end]), back) if there.any() else None


def _parallel_depth(front: np.ndarray, back: np.ndarray, inside: np.ndarray) -> float:
    """Depth from which the shell continues in parallel: the deepest front point, or more if the back would show.

    With depth t, a back point at depth b appears at t / b of its pixel's distance from the crop's centre.
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
    """(R, R) -> (side, side), bilinear within surfaces; at depth discontinuities, the value of the nearest pixel."""
    from scipy.ndimage import distance_transform_edt

    size = plane.shape[0]
    nearest = distance_transform_edt(~known, return_distances=False, return_indices=True)
    plane = plane[tuple(nearest)]
    at = np.clip((np.arange(side) + 0.5) * size / side - 0.5, 0, size - 1)
    low = np.minimum(at.astype(int), size - 2)
    share = (at - low).astype(np.float32)
    reference = plane[np.ix_(np.rint(at).astype(int), np.rint(at).astype(int))]
    tolerance = DISCONTINUITY * 2 / size
    total, weights = np.zeros((side, side), np.float32), np.zeros((side, side), np.float32)
    for row, row_weight in ((low, 1 - share), (low + 1, share)):
        for column, column_weight in ((low, 1 - share), (low + 1, share)):
            value = plane[np.ix_(row, column)]
            weight = np.outer(row_weight, column_weight) * np.exp(-(((value - reference) / tolerance) ** 2)) + 1e-9
            total += weight * value
            weights += weight
    return total / weights


def _limit_thin_parts(relief: np.ndarray, thickness: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Limit the thickness of poles and legs to their width, around the predicted middle.

    They are a few pixels wide in the network's input, and it predicts blades: on held-out shapes, parts narrower than
    0.05 have a median thickness over width of 0.8 to 1.0, and of 1.8 to 3 as predicted.
    """
    from scipy.ndimage import distance_transform_edt, maximum_filter

    step = 2 / relief.shape[0]
    radius = np.maximum(distance_transform_edt(inside) - 0.5, 0.5)
    width = 2 * step * maximum_filter(radius, size=2 * int(np.ceil(THIN_WIDTH[1] / 2 / step)) + 1)
    tall = inside & (_vertical_run_lengths(inside) * step > UPRIGHT_ASPECT * width)
    weight = np.where(tall, smoothstep(width, *UPRIGHT_WIDTH), smoothstep(width, *THIN_WIDTH))
    slender = np.minimum(thickness, thickness**weight * width ** (1 - weight))
    middle = relief - thickness / 2
    smoothed = blurred_inside(middle, tall, (UPRIGHT_WIDTH[1] / step, UPRIGHT_WIDTH[1] / 2 / step))
    middle = np.where(tall, weight * middle + (1 - weight) * smoothed, middle)
    return middle + slender / 2, slender


def _vertical_run_lengths(inside: np.ndarray) -> np.ndarray:
    """(G, G) int: length of the vertical run that each inside sample belongs to; 0 outside."""
    index = np.arange(len(inside))[:, None]
    above = np.maximum.accumulate(np.where(inside, -1, index), axis=0)  # row of the last outside sample
    below = np.minimum.accumulate(np.where(inside, len(inside), index)[::-1], axis=0)[::-1]
    return np.asarray(below - above - 1).clip(0)


def _round_edges(relief: np.ndarray, thickness: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round the front and back edges of the outline with a quarter circle."""
    from scipy.ndimage import distance_transform_edt

    step = 2 / relief.shape[0]
    distance = np.maximum(distance_transform_edt(inside) - 0.5, 0) * step
    radius = np.minimum(0.45 * thickness, 2 * MAX_FILLET)
    missing = np.clip(radius - distance, 0, None)
    drop = radius - np.sqrt(np.maximum(radius**2 - missing**2, 0))
    return relief - drop, np.maximum(thickness - 2 * drop, 0.25 * step)


def _error_opacity(layers: DepthLayers, crop: Crop, surface: int, side: int) -> np.ndarray | None:
    """(side, side) opacity factor of the front (0) or back (1), from its expected depth error; None: 1."""
    if layers.depth_error is None:
        return None
    error = _upsample(layers.depth_error[..., surface], crop.coverage > min(0.5, float(crop.coverage.max()) / 2), side)
    return np.asarray(1 - (1 - MIN_OPACITY) * smoothstep(error, *ERROR_FADE))


def _surface_surfels(
    shell: Shell,
    z: np.ndarray,
    rgb: np.ndarray,
    where: np.ndarray | None = None,
    opacity_factor: np.ndarray | None = None,
) -> Surfels:
    """One surface of the shell, at depths z (G, G), or its part `where` (G, G) bool."""
    keep = (shell.alpha > SOFT_ALPHA[0]) | shell.inside
    if where is not None:
        keep &= where
    step = shell.step(z)
    depth_x = _smallest_difference(z, keep, 1, DISCONTINUITY * step)[keep][:, None]
    depth_y = _smallest_difference(z, keep, 0, DISCONTINUITY * step)[keep][:, None]
    z, step, rays = z[keep], step[keep][:, None], shell.rays[keep]
    direction = shell.direction(rays, z)
    opacity = MAX_OPACITY * smoothstep(shell.alpha[keep], *SOFT_ALPHA)
    if opacity_factor is not None:
        opacity *= opacity_factor[keep]
    return Surfels(
        points=shell.points(rays, z),
        step_a=step * [1.0, 0.0, 0.0] + depth_x * direction,
        step_b=step * [0.0, 1.0, 0.0] + depth_y * direction,
        rgb=rgb[keep],
        opacity=np.where(shell.inside[keep], np.maximum(opacity, 0.3), opacity),
    )


def _cavity_surfels(
    shell: Shell, inside_rgb: np.ndarray | None, front_rgb: np.ndarray, back_rgb: np.ndarray
) -> list[Surfels]:
    """The two surfaces of the cavity, in the colours that the photo shows of it, else between front and back."""
    assert shell.cavity is not None
    there = shell.cavity[1] > shell.cavity[0]
    surfaces = []
    for z in shell.cavity:
        rgb = blend_by_depth(front_rgb, back_rgb, shell.front, shell.back, z) if inside_rgb is None else inside_rgb
        surfaces.append(_surface_surfels(shell, z, rgb, there))
    return surfaces


def _smallest_difference(z: np.ndarray, keep: np.ndarray, axis: int, limit: np.ndarray) -> np.ndarray:
    """Depth difference to the neighbour of smaller difference along the axis, clipped; 0 without neighbours."""
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


def _resampling_error(rgb: np.ndarray, coarse_rgb: np.ndarray, inside: np.ndarray) -> float:
    """Mean difference within `inside` (G, G) between colours (G, G, 3) and the same on a coarser grid."""
    return float(np.abs(resized(coarse_rgb, len(rgb)) - rgb)[inside].mean())
