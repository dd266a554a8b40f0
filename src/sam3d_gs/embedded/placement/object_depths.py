"""Estimate the depth of each object from its contact with the ground, its support, and occlusions.

An object's shape is already fixed along the rays of its pixels. The only unknown is one depth, which scales the whole
object about the camera and does not change its image. An object on the floor gets the depth of the ground where its
mask ends; an object on another one the depth of the surface under it; hanging or flying objects are put not far behind
the others. All depths then move towards the predicted ones, if any, the more the less certain the pitch is and the
flatter the ground is seen. Last, occluding objects are moved in front of what they hide. The pose is made of
the depth in `reconstruct.to_placed_object`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sam3d_gs.embedded.placement.pitch import Pitch
from sam3d_gs.embedded.placement.silhouette import Silhouette

TYPICAL_DEPTH = 3.0  # scene units, of the median object; viewers clip what is nearer than about 0.2
REACH_SHARE = 0.012  # of the photo's longer side: maximum gap between a foot and its support
CARRIED_SHARE = 0.5  # minimum share of the feet that have the support below them
BEHIND_RATIO = 1.03  # depth of an object cut off by the top edge of another one, over the depth of that edge
FAR_EXCESS = 0.8  # maximum depth is 1 + this many medians: objects off the floor only seem to be farther
FAR_SLOPE = 0.75  # initial slope of the compression of depths beyond the median
NEAR_RATIO = 0.3  # minimum depth over the median
OCCLUSION_RATIO = 0.99  # maximum depth of an occluding surface over the hidden one, at their common edge
MIN_CORRECTION = 0.75  # correcting an occlusion moves an object at most to this share of its depth
SUPPORTED_PREDICTION_WEIGHT = 0.25  # weight of the predicted depth of an object on a support
PREDICTION_STD = 0.25  # of the natural log of a predicted depth
MAX_PREDICTION_WEIGHT = 0.8  # maximum weight of the predicted depth of an object on the ground


def object_depths(
    objects: Sequence[Silhouette], K: np.ndarray, pitch: Pitch, predicted_log_depths: np.ndarray | None = None
) -> np.ndarray:
    """(N,) depth of each object in scene units, in the order of `objects`; the median is `TYPICAL_DEPTH`.

    K: (3, 3) px. pitch: its uncertainty sets the weight of the predicted depths. predicted_log_depths: (N,) natural log
    of predicted depths, up to a constant.
    """
    if not objects:
        return np.zeros(0)
    ground = np.array([_ground_depth_of(o, K, pitch.deg) for o in objects])
    supports = [_find_support(i, objects) for i in range(len(objects))]
    ground = _limit_ground_depths(ground, np.array([s is None for s in supports]))
    depths = ground / [float(np.median(o.depth_at(o.feet))) for o in objects]
    predicted = None if predicted_log_depths is None else _aligned_prediction(predicted_log_depths, depths, supports)
    order = sorted(range(len(objects)), key=lambda i: -objects[i].bottom_row)
    for i in order:  # lowest first: a support is placed before the objects on it
        support, share = supports[i], _prediction_weight(objects[i], K, pitch)
        if support is not None and support.index in order[: order.index(i)]:
            depths[i] = _depth_on_support(objects[i], objects[support.index], depths[support.index], support)
            share = SUPPORTED_PREDICTION_WEIGHT
        if predicted is not None:
            depths[i] *= (predicted[i] / depths[i]) ** share
    _enforce_occlusions(objects, supports, depths)
    return depths * (TYPICAL_DEPTH / float(np.median(depths)))


@dataclass(frozen=True)
class Support:
    index: int  # of the supporting object
    points: np.ndarray  # (M, 2) rows and columns in the support, directly below the feet
    extends_behind: bool  # it is visible beside and behind the feet too: they stand on it, not behind its edge


def ground_depth(rows: np.ndarray, zoom: float, K: np.ndarray, pitch_deg: float) -> np.ndarray:
    """Depth of the floor at pixel rows, in camera heights; inf at and above the horizon.

    A ray (x, y, 1) falls by ``y cos(pitch) + sin(pitch)`` per unit of depth, and the floor is 1 below the camera.
    """
    pitch = math.radians(pitch_deg)
    fall = _ray_y(np.asarray(rows, np.float64), zoom, K) * math.cos(pitch) + math.sin(pitch)
    return np.where(fall > 1e-6, 1 / np.maximum(fall, 1e-6), np.inf)


def _ray_y(rows: np.ndarray, zoom: float, K: np.ndarray) -> np.ndarray:
    """y of the rays (x, y, 1) through the lower edges of pixel rows at working size."""
    return np.asarray(((rows + 1) / zoom - K[1, 2]) / K[1, 1])


def _ground_depth_of(item: Silhouette, K: np.ndarray, pitch_deg: float) -> float:
    return float(ground_depth(np.array([item.bottom_row]), item.zoom, K, pitch_deg)[0])


def _prediction_weight(item: Silhouette, K: np.ndarray, pitch: Pitch) -> float:
    """Weight of the predicted depth against the ground's, by inverse variance.

    The depth of the ground is proportional to the cotangent of the angle of the object's foot below the horizon.
    """
    below = max(math.atan(_ray_y(np.array(item.bottom_row), item.zoom, K)) + math.radians(pitch.deg), 1e-3)
    variance = (math.radians(pitch.std_deg) / (math.sin(below) * math.cos(below))) ** 2
    return min(variance / (variance + PREDICTION_STD**2), MAX_PREDICTION_WEIGHT)


def _limit_ground_depths(ground: np.ndarray, on_floor: np.ndarray) -> np.ndarray:
    """Limit the ground depths, which are wrong for objects that hang, fly or stand on a table."""
    valid = ground[on_floor & np.isfinite(ground)]
    if not len(valid):
        valid = ground[np.isfinite(ground)]
    median = float(np.median(valid)) if len(valid) else 1.0
    excess = np.log(np.maximum(np.where(np.isfinite(ground), ground, 1e9) / median, 1.0))
    near = np.maximum(np.minimum(ground, median), NEAR_RATIO * median)
    return near * (1 + FAR_EXCESS * np.tanh(FAR_SLOPE / FAR_EXCESS * excess))


def _aligned_prediction(log_depths: np.ndarray, depths: np.ndarray, supports: Sequence[Support | None]) -> np.ndarray:
    """(N,) predicted depths, scaled so that the median ratio to `depths` is 1 for the objects on the floor."""
    on_floor = np.array([s is None for s in supports])
    ratio = np.log(depths) - log_depths
    return np.exp(log_depths + np.median(ratio[on_floor] if on_floor.any() else ratio))


def _find_support(index: int, objects: Sequence[Silhouette]) -> Support | None:
    """The object on which an object stands; None for the floor."""
    item = objects[index]
    height, width = item.mask.shape
    reach = max(2, round(REACH_SHARE * max(height, width)))
    feet = item.feet
    best: Support | None = None
    best_share = CARRIED_SHARE
    for j, other in enumerate(objects):
        if j == index or other.bottom_row < item.bottom_row or other.mask.sum() < 0.1 * item.mask.sum():
            continue
        if (other.bottom_row, j) <= (item.bottom_row, index) and other.mask.sum() <= item.mask.sum():
            continue
        rows = np.minimum(feet[:, :1] + np.arange(0, reach + 1), height - 1)
        hit = other.mask[rows, feet[:, 1:]]
        touching = hit.any(axis=1)
        share = float(touching.mean())
        if share > best_share:
            first = np.argmax(hit[touching], axis=1)
            points = np.stack([rows[touching, first], feet[touching, 1]], axis=1)
            best_share, best = share, Support(j, points, _extends_behind(item, other, reach))
    return best


def _extends_behind(item: Silhouette, other: Silhouette, reach: int) -> bool:
    """Whether `other` is visible left or right of the feet and above their line: a table top, not its edge."""
    height = item.mask.shape[0]
    top = max(item.bottom_row - 2 * reach, 0)
    columns = item.feet[:, 1]
    band = other.mask[top : min(item.bottom_row - reach // 2 + 1, height)]
    left = band[:, max(columns.min() - 3 * reach, 0) : columns.min()]
    right = band[:, columns.max() + 1 : columns.max() + 1 + 3 * reach]
    return bool(left.any() or right.any() or (other.mask & item.mask).any())


def _depth_on_support(item: Silhouette, below: Silhouette, depth_below: float, support: Support) -> float:
    """Depth at which the feet rest on the surface directly below them."""
    contact = float(np.median(below.depth_at(support.points))) * depth_below
    feet = float(np.median(item.depth_at(item.feet)))
    return contact / feet * (1.0 if support.extends_behind else BEHIND_RATIO)


def _enforce_occlusions(objects: Sequence[Silhouette], supports: Sequence[Support | None], depths: np.ndarray) -> None:
    """Move occluding objects, with everything on them, in front of what they hide. Changes `depths` in place."""
    supported: dict[int, list[int]] = {}
    for i, support in enumerate(supports):
        if support is not None:
            supported.setdefault(support.index, []).append(i)
    edges = _occlusion_pairs(objects, supports)
    nearest = MIN_CORRECTION * depths
    for _ in range(3):
        for front, back, front_at, back_at in sorted(edges, key=lambda e: -depths[e[1]]):
            near = float(np.median(objects[front].depth_at(front_at))) * depths[front]
            far = float(np.median(objects[back].depth_at(back_at))) * depths[back]
            if near > OCCLUSION_RATIO * far:
                for k in _with_supported(front, supported):
                    depths[k] = max(depths[k] * OCCLUSION_RATIO * far / near, nearest[k])


def _with_supported(index: int, supported: dict[int, list[int]]) -> set[int]:
    group, queue = {index}, [index]
    while queue:
        for child in supported.get(queue.pop(), []):
            if child not in group:
                group.add(child)
                queue.append(child)
    return group


def _occlusion_pairs(
    objects: Sequence[Silhouette], supports: Sequence[Support | None]
) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
    """(front, back, edge pixels of front, edge pixels of back) for all pairs of objects that touch in the image."""
    from scipy.ndimage import binary_dilation

    grown = [binary_dilation(o.mask, iterations=2) for o in objects]
    rims = [g & ~o.mask for g, o in zip(grown, objects, strict=True)]
    pairs = []
    for i in range(len(objects)):
        for j in range(i + 1, len(objects)):
            meets_i, meets_j = grown[j] & objects[i].mask, grown[i] & objects[j].mask
            if min(meets_i.sum(), meets_j.sum()) < 6:
                continue
            front = _occluding(i, j, objects, supports, rims)
            if front is None or objects[front].lies_flat:  # flat objects hide nothing
                continue
            edges = {i: np.argwhere(meets_i), j: np.argwhere(meets_j)}
            back = j if front == i else i
            pairs.append((front, back, edges[front], edges[back]))
    return pairs


def _occluding(
    i: int, j: int, objects: Sequence[Silhouette], supports: Sequence[Support | None], rims: Sequence[np.ndarray]
) -> int | None:
    """Which of two touching objects occludes the other; None when the image does not tell."""
    enclosed_i = (rims[i] & objects[j].mask).sum() / max(rims[i].sum(), 1)
    enclosed_j = (rims[j] & objects[i].mask).sum() / max(rims[j].sum(), 1)
    if max(enclosed_i, enclosed_j) > 0.5:
        return i if enclosed_i > enclosed_j else j
    for upper, lower in ((i, j), (j, i)):
        support = supports[upper]
        if support is not None and support.index == lower:
            return None if support.extends_behind else lower
    difference = objects[i].bottom_row - objects[j].bottom_row
    if abs(difference) < 0.02 * objects[i].mask.shape[0]:
        return None
    return i if difference > 0 else j
