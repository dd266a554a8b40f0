"""How far each object of a photo is: from where its mask meets the ground, what carries it, and what it hides.

The shape of an object is already fixed along the rays of its pixels, so the only unknown is one depth, which scales
the whole object about the camera and leaves its picture as it is. The ground reading gives that depth for what stands
on the floor. What stands on another object takes the depth of the surface below it. Hung or flying things are put
not far behind the others. Where a network says how far things look, all that is moved part of the way there: farther
the less sure the pitch and the flatter the view of the ground. Last, what hides something is moved in front of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sam3d_gs.embedded.placement.pitch import Pitch
from sam3d_gs.embedded.shape.crops import Crop

WORK_PX = 384  # masks are compared at this size along the longer side
TYPICAL_DEPTH = 3.0  # scene units: the median object; splat viewers cut away what is nearer than about 0.2
FOOT_SHARE = 0.08  # of an object's height: lowest parts this close to the lowest point touch what is below
REACH_SHARE = 0.012  # of the photo's longer side: how far below a foot its support may begin
CARRIED_SHARE = 0.5  # of the feet that must have the same object below
BEHIND = 1.03  # what is cut off by the top edge of another object stands this much behind it
FAR_EXCESS = 0.8  # nothing is farther than 1 + this many medians: hung and desktop things only seem to be
FAR_SLOPE = 0.75  # how much of a floor depth beyond the median is believed at first
NEAR_RATIO = 0.3  # nothing is nearer than this share of the median
GAP = 0.99  # depth of a hiding surface over the hidden one at their common edge
MAX_PULL = 0.75  # correcting the order moves an object at most to this share of its depth
SAID_SHARE = 0.25  # of the way to the depth that the network says, for what a support tells
SAID_ERROR = 0.25  # of the natural log of what the network says
MOST_SAID = 0.8  # share of the way for what the ground tells, however unsure the pitch


@dataclass(frozen=True)
class Silhouette:
    """One object as the placement sees it."""

    mask: np.ndarray  # (h, w) bool at working size
    zoom: float  # working pixels per photo pixel
    crop: Crop
    relative_depth: np.ndarray  # (R, R) depth of the front over the object's depth, on the crop
    lies_flat: bool = False  # a plate or a rug

    @cached_property
    def feet(self) -> np.ndarray:
        """(M, 2) int rows and columns of the lowest pixels, those that can touch a support."""
        columns = np.flatnonzero(self.mask.any(0))
        lowest = self.mask.shape[0] - 1 - np.argmax(self.mask[::-1, columns], axis=0)
        top = int(np.flatnonzero(self.mask.any(1))[0])
        near = lowest >= lowest.max() - max(1.0, FOOT_SHARE * (lowest.max() - top))
        return np.stack([lowest[near], columns[near]], axis=1)

    @cached_property
    def bottom_row(self) -> int:
        return int(self.feet[:, 0].max())

    @cached_property
    def _filled(self) -> np.ndarray:
        """`relative_depth` with every pixel off the object given the value of the nearest one on it."""
        from scipy.ndimage import distance_transform_edt

        inside = self.crop.coverage > 0.5
        if not inside.any():
            inside = self.crop.coverage >= self.crop.coverage.max()
        nearest = distance_transform_edt(~inside, return_distances=False, return_indices=True)
        return np.asarray(self.relative_depth[tuple(nearest)])

    def depth_at(self, points: np.ndarray) -> np.ndarray:
        """(M, 2) rows and columns at working size -> (M,) relative depth, of the nearest pixel of the object."""
        size = self.relative_depth.shape[0]
        (u, v), half = self.crop.center_px, self.crop.half_px
        photo = (points + 0.5) / self.zoom
        row = ((photo[:, 0] - v + half) / (2 * half) * size).astype(int).clip(0, size - 1)
        column = ((photo[:, 1] - u + half) / (2 * half) * size).astype(int).clip(0, size - 1)
        return np.asarray(self._filled[row, column])


def silhouette(mask: np.ndarray, crop: Crop, relative_depth: np.ndarray, lies_flat: bool = False) -> Silhouette:
    """mask: (H, W) bool at photo size, not empty."""
    height, width = mask.shape
    zoom = min(1.0, WORK_PX / max(height, width))
    if zoom == 1.0:
        return Silhouette(mask, zoom, crop, relative_depth, lies_flat)
    rows = np.minimum(((np.arange(round(height * zoom) or 1) + 0.5) / zoom).astype(int), height - 1)
    columns = np.minimum(((np.arange(round(width * zoom) or 1) + 0.5) / zoom).astype(int), width - 1)
    small = mask[np.ix_(rows, columns)]
    if not small.any():  # smaller than a working pixel: keep the one it is in
        at = np.argwhere(mask)[0]
        small[min(int(at[0] * zoom), len(rows) - 1), min(int(at[1] * zoom), len(columns) - 1)] = True
    return Silhouette(small, zoom, crop, relative_depth, lies_flat)


def place(
    objects: Sequence[Silhouette], K: np.ndarray, pitch: Pitch, said_log_depths: np.ndarray | None = None
) -> np.ndarray:
    """(N,) depth of each object in scene units, in the order of `objects`; the median is `TYPICAL_DEPTH`.

    pitch: of the camera; the less sure, the more the network's depths count, where there are any. said_log_depths: (N,)
    natural log of the depths as a network says, up to a constant.
    """
    if not objects:
        return np.zeros(0)
    ground = np.array([_foot_ground_depth(o, K, pitch.deg) for o in objects])
    supports = [_support(i, objects) for i in range(len(objects))]
    ground = _plausible(ground, np.array([s is None for s in supports]))
    depths = ground / [float(np.median(o.depth_at(o.feet))) for o in objects]
    said = None if said_log_depths is None else _said(said_log_depths, depths, supports)
    order = sorted(range(len(objects)), key=lambda i: -objects[i].bottom_row)
    for i in order:  # lowest first, so that a support is placed before what it carries
        support, share = supports[i], _said_share(objects[i], K, pitch)
        if support is not None and support.by in order[: order.index(i)]:
            depths[i] = _depth_on_support(objects[i], objects[support.by], depths[support.by], support)
            share = SAID_SHARE
        if said is not None:
            depths[i] *= (said[i] / depths[i]) ** share
    _enforce_order(objects, supports, depths)
    return depths * (TYPICAL_DEPTH / float(np.median(depths)))


@dataclass(frozen=True)
class Support:
    by: int  # index of the object below
    points: np.ndarray  # (M, 2) rows and columns in the support, right below the feet
    surrounds: bool  # it is seen beside and behind the feet too: they stand on it, not behind its edge


def ground_depth(rows: np.ndarray, zoom: float, K: np.ndarray, pitch_deg: float) -> np.ndarray:
    """Depth of the floor in camera heights where pixel rows meet it; inf at and above the horizon.

    A ray (x, y, 1) falls by ``y cos(pitch) + sin(pitch)`` per unit of depth, and the floor is 1 below the camera.
    """
    pitch = math.radians(pitch_deg)
    fall = _down(np.asarray(rows, np.float64), zoom, K) * math.cos(pitch) + math.sin(pitch)
    return np.where(fall > 1e-6, 1 / np.maximum(fall, 1e-6), np.inf)


def _down(rows: np.ndarray, zoom: float, K: np.ndarray) -> np.ndarray:
    """y of the rays (x, y, 1) through the lower edges of pixel rows at working size."""
    return np.asarray(((rows + 1) / zoom - K[1, 2]) / K[1, 1])


def _foot_ground_depth(item: Silhouette, K: np.ndarray, pitch_deg: float) -> float:
    return float(ground_depth(np.array([item.bottom_row]), item.zoom, K, pitch_deg)[0])


def _said_share(item: Silhouette, K: np.ndarray, pitch: Pitch) -> float:
    """How far to trust the network rather than the ground, by their variances.

    The ground's depth goes with the cotangent of the angle at which its foot is seen below the horizon.
    """
    below = max(math.atan(_down(np.array(item.bottom_row), item.zoom, K)) + math.radians(pitch.deg), 1e-3)
    variance = (math.radians(pitch.spread_deg) / (math.sin(below) * math.cos(below))) ** 2
    return min(variance / (variance + SAID_ERROR**2), MOST_SAID)


def _plausible(ground: np.ndarray, on_floor: np.ndarray) -> np.ndarray:
    """Bring doubtful floor depths near the others: hung and flying things have no foot on the floor."""
    sound = ground[on_floor & np.isfinite(ground)]
    if not len(sound):
        sound = ground[np.isfinite(ground)]
    median = float(np.median(sound)) if len(sound) else 1.0
    excess = np.log(np.maximum(np.where(np.isfinite(ground), ground, 1e9) / median, 1.0))
    near = np.maximum(np.minimum(ground, median), NEAR_RATIO * median)
    return near * (1 + FAR_EXCESS * np.tanh(FAR_SLOPE / FAR_EXCESS * excess))


def _said(log_depths: np.ndarray, depths: np.ndarray, supports: Sequence[Support | None]) -> np.ndarray:
    """(N,) depths that a network says, in the unit of `depths`: the medians of what stands on the floor agree."""
    on_floor = np.array([s is None for s in supports])
    ratio = np.log(depths) - log_depths
    return np.exp(log_depths + np.median(ratio[on_floor] if on_floor.any() else ratio))


def _support(index: int, objects: Sequence[Silhouette]) -> Support | None:
    """What the feet of an object stand on, or None for the floor."""
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
            best_share, best = share, Support(j, points, _surrounds(item, other, reach))
    return best


def _surrounds(item: Silhouette, other: Silhouette, reach: int) -> bool:
    """Whether `other` is seen left or right of the feet, above their line: a table top rather than its edge."""
    height = item.mask.shape[0]
    top = max(item.bottom_row - 2 * reach, 0)
    columns = item.feet[:, 1]
    band = other.mask[top : min(item.bottom_row - reach // 2 + 1, height)]
    left = band[:, max(columns.min() - 3 * reach, 0) : columns.min()]
    right = band[:, columns.max() + 1 : columns.max() + 1 + 3 * reach]
    return bool(left.any() or right.any() or (other.mask & item.mask).any())


def _depth_on_support(item: Silhouette, below: Silhouette, depth_below: float, support: Support) -> float:
    """Depth at which the feet rest on the surface seen right below them."""
    contact = float(np.median(below.depth_at(support.points))) * depth_below
    feet = float(np.median(item.depth_at(item.feet)))
    return contact / feet * (1.0 if support.surrounds else BEHIND)


def _enforce_order(objects: Sequence[Silhouette], supports: Sequence[Support | None], depths: np.ndarray) -> None:
    """Move what hides another object in front of it, with all that it carries. Changes `depths` in place."""
    carried: dict[int, list[int]] = {}
    for i, support in enumerate(supports):
        if support is not None:
            carried.setdefault(support.by, []).append(i)
    edges = _hiding_pairs(objects, supports)
    nearest = MAX_PULL * depths
    for _ in range(3):
        for front, back, front_at, back_at in sorted(edges, key=lambda e: -depths[e[1]]):
            near = float(np.median(objects[front].depth_at(front_at))) * depths[front]
            far = float(np.median(objects[back].depth_at(back_at))) * depths[back]
            if near > GAP * far:
                for k in _with_all_carried(front, carried):
                    depths[k] = max(depths[k] * GAP * far / near, nearest[k])


def _with_all_carried(index: int, carried: dict[int, list[int]]) -> set[int]:
    group, queue = {index}, [index]
    while queue:
        for child in carried.get(queue.pop(), []):
            if child not in group:
                group.add(child)
                queue.append(child)
    return group


def _hiding_pairs(
    objects: Sequence[Silhouette], supports: Sequence[Support | None]
) -> list[tuple[int, int, np.ndarray, np.ndarray]]:
    """(front, back, edge pixels of front, edge pixels of back) for every two objects that touch in the picture."""
    from scipy.ndimage import binary_dilation

    grown = [binary_dilation(o.mask, iterations=2) for o in objects]
    rims = [g & ~o.mask for g, o in zip(grown, objects, strict=True)]
    pairs = []
    for i in range(len(objects)):
        for j in range(i + 1, len(objects)):
            meets_i, meets_j = grown[j] & objects[i].mask, grown[i] & objects[j].mask
            if min(meets_i.sum(), meets_j.sum()) < 6:
                continue
            front = _front_of(i, j, objects, supports, rims)
            if front is None or objects[front].lies_flat:  # what lies flat hides nothing
                continue
            edges = {i: np.argwhere(meets_i), j: np.argwhere(meets_j)}
            back = j if front == i else i
            pairs.append((front, back, edges[front], edges[back]))
    return pairs


def _front_of(
    i: int, j: int, objects: Sequence[Silhouette], supports: Sequence[Support | None], rims: Sequence[np.ndarray]
) -> int | None:
    """Which of two touching objects hides the other; None when the picture does not say."""
    enclosed_i = (rims[i] & objects[j].mask).sum() / max(rims[i].sum(), 1)
    enclosed_j = (rims[j] & objects[i].mask).sum() / max(rims[j].sum(), 1)
    if max(enclosed_i, enclosed_j) > 0.5:
        return i if enclosed_i > enclosed_j else j
    for upper, lower in ((i, j), (j, i)):
        support = supports[upper]
        if support is not None and support.by == lower:
            return None if support.surrounds else lower
    difference = objects[i].bottom_row - objects[j].bottom_row
    if abs(difference) < 0.02 * objects[i].mask.shape[0]:
        return None
    return i if difference > 0 else j
