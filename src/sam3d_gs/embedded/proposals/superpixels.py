"""A photo cut into superpixels, and an affinity tree grown over them: the candidates for object masks.

The net (`mask_net`) says for every coarse cell which other cells belong to the same object. Averaged over the
superpixels this becomes a matrix of mutual claims; greedy average-linkage merging of neighbouring superpixels turns
it into a binary tree whose nodes are regions of every size.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np
import scipy.sparse
import torch
from PIL import Image
from skimage.segmentation import felzenszwalb

from sam3d_gs.embedded.proposals.mask_net import STRIDE_PX, MaskNet, affinity

WORKING_PIXELS = 110_000  # superpixels are found on a picture of about this many pixels
_MOST_SUPERPIXELS = 1400  # the tree needs the square of this in memory
_DEPTH_POWER = 0.5  # affinity falls with the ratio of two depths to this power: what lies behind is seldom the same
_LONGEST_SIDE_PX = 1280  # of a picture for the net; very long photos are squeezed


@dataclass(frozen=True)
class Pass:
    """One look of the net at the photo; several, averaged, steady the claims."""

    pixels: int
    mirrored: bool


# Two sizes and the mirror image; one pass loses 4 points of recall, a fourth gains nothing (benchmarks/mask_recall.py).
PASSES = (Pass(240_000, False), Pass(160_000, False), Pass(160_000, True))  # the longest first: they share the cores


@dataclass(frozen=True)
class Tree:
    """R regions over n superpixels: the superpixels themselves first, then every merge in the order it happened."""

    members: np.ndarray  # (R, n) bool, which superpixels a region is made of
    area: np.ndarray  # (R,) float64, working pixels
    objectness: np.ndarray  # (R,) float64, mean of the net's
    cohesion: np.ndarray  # (R,) float64, mean mutual affinity inside the region
    kept_share: np.ndarray  # (R,) float64, share of the region's affinity that stays inside it
    join: np.ndarray  # (R,) float64, affinity to the region it was merged with; 0 for the last ones


def fitted_size(height: int, width: int, pixels: int) -> tuple[int, int]:
    """(height, width) of about `pixels` in all, near the photo's aspect, multiples of what the net needs."""
    ratio = (pixels / (height * width)) ** 0.5

    def side(length: int) -> int:
        fitted = round(length * ratio / STRIDE_PX) * STRIDE_PX
        return int(min(max(fitted, 3 * STRIDE_PX), _LONGEST_SIDE_PX))

    return side(height), side(width)


def resized(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """`rgb` (H, W, 3) uint8 at another size, area-averaged when it shrinks."""
    shrinks = height * width < rgb.shape[0] * rgb.shape[1]
    how = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(rgb).resize((width, height), how))


def superpixels(rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The photo at working size, (h, w, 3) uint8, and its superpixel numbers, (h, w) int from 0 without gaps."""
    small = resized(rgb, *fitted_size(rgb.shape[0], rgb.shape[1], WORKING_PIXELS))
    smallest = 24
    while True:
        labels = felzenszwalb(small, scale=18, sigma=0.6, min_size=smallest)
        if labels.max() < _MOST_SUPERPIXELS:
            return small, labels
        smallest *= 2  # noise and foliage shatter


@dataclass(frozen=True)
class Claims:
    """What one look says of n superpixels."""

    mutual: np.ndarray  # (n, n) float32 in 0..1, how much superpixel i claims superpixel j
    objectness: np.ndarray  # (n,) float32
    log_depth: np.ndarray  # (n,) float32, natural log of the depth up to a constant; 0 where the net says nothing


def claims(net: MaskNet, rgb: np.ndarray, labels: np.ndarray, look: Pass) -> Claims:
    if look.mirrored:
        rgb, labels = rgb[:, ::-1], labels[:, ::-1]
    picture = resized(np.ascontiguousarray(rgb), *fitted_size(rgb.shape[0], rgb.shape[1], look.pixels))
    said = affinity(net, torch.from_numpy(picture.copy()).permute(2, 0, 1).float().div_(255))

    # shares[cell, superpixel]: how much of the superpixel lies in the cell; columns sum to 1
    rows, columns = said.grid
    height, width = labels.shape
    cell = (np.arange(height) * rows // height)[:, None] * columns + (np.arange(width) * columns // width)
    counts = np.ones(labels.size, np.float32) / np.bincount(labels.ravel()).astype(np.float32)[labels.ravel()]
    shares = scipy.sparse.csr_matrix((counts, (cell.ravel(), labels.ravel())), shape=(rows * columns, labels.max() + 1))

    objectness = said.objectness.numpy()
    trust = objectness * np.maximum(said.quality.numpy(), 0.05) + 1e-4  # confident cells speak for their superpixel
    speakers = (shares.multiply(trust[:, None])).tocsr().T
    mutual = (speakers @ said.belongs.numpy()) @ shares / (shares.T @ trust)[:, None]
    depth = np.zeros_like(objectness) if said.log_depth is None else said.log_depth.numpy()
    return Claims(mutual, shares.T @ objectness, shares.T @ depth)


def region_tree(net: MaskNet, rgb: np.ndarray, labels: np.ndarray, passes: Sequence[Pass] = PASSES) -> Tree:
    """Merge the superpixels `labels` of the photo `rgb` into a tree of regions by the net's claims."""
    looks = _looks(net, rgb, labels, passes)
    mutual: np.ndarray = np.mean([look.mutual for look in looks], axis=0)
    objectness: np.ndarray = np.mean([look.objectness for look in looks], axis=0)
    log_depth: np.ndarray = np.mean([look.log_depth for look in looks], axis=0)
    area = np.bincount(labels.ravel()).astype(np.float64)
    strength = np.sqrt(mutual * mutual.T) * np.sqrt(np.outer(objectness, objectness))
    strength *= np.exp(-_DEPTH_POWER * np.abs(np.subtract.outer(log_depth, log_depth)))
    return _grown((strength * np.outer(area, area)).astype(np.float64), objectness, area, _neighbours(labels))


def _looks(net: MaskNet, rgb: np.ndarray, labels: np.ndarray, passes: Sequence[Pass]) -> list[Claims]:
    """`claims` of every pass, side by side: threads that share one convolution wait for each other at its end.

    On a machine that is busy with other work these waits are long.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(passes))
    if workers < 2:
        return [claims(net, rgb, labels, look) for look in passes]
    share = threads // workers
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,)) as pool:
        try:
            return list(pool.map(lambda look: claims(net, rgb, labels, look), passes))
        finally:
            torch.set_num_threads(threads)  # new threads take over what was set last


def _neighbours(labels: np.ndarray) -> np.ndarray:
    """(n, n) bool, symmetric: which superpixels touch along an edge."""
    touching = np.zeros((labels.max() + 1,) * 2, bool)
    for first, second in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])):
        touching[first, second] = touching[second, first] = True
    np.fill_diagonal(touching, False)
    return touching


def _grown(summed: np.ndarray, objectness: np.ndarray, area: np.ndarray, touching: np.ndarray) -> Tree:
    """The tree from `summed` (n, n), the affinity summed over all pixel pairs of two superpixels."""
    n = len(area)
    total = summed.sum(1)
    own = np.diag(summed).copy()
    pairs, joins, inside = merge_order(summed, area.copy(), touching)

    count = n + len(pairs)
    members = np.zeros((count, n), bool)
    members[np.arange(n), np.arange(n)] = True
    join = np.zeros(count)
    for region, (left, right) in enumerate(pairs, start=n):
        members[region] = members[left] | members[right]
        join[left] = join[right] = joins[region - n]
    areas = members @ area
    inside = np.concatenate((own, inside))
    return Tree(
        members=members,
        area=areas,
        objectness=members @ (objectness * area) / areas,
        cohesion=inside / areas**2,
        kept_share=np.minimum(inside / np.maximum(members @ total, 1e-6), 1.0),
        join=np.minimum(join, 1.0),
    )


@numba.njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def merge_order(
    summed: np.ndarray, area: np.ndarray, touching: np.ndarray, stop: float = 0.03
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Greedy average-linkage: always merge the two touching regions with the highest mean affinity, down to `stop`.

    Overwrites its arguments: a merged region takes over the row of one of its parts. Returns for every merge
    the two regions, (M, 2) int64, numbered as in `Tree`; their affinity, (M,); and the summed affinity inside the new
    region, (M,). Every row remembers its best partner, so a merge costs O(n) and not O(n^2).
    """
    n = len(area)
    name = np.arange(n)  # row -> region
    alive = np.ones(n, np.bool_)
    partner = np.full(n, -1)
    best = np.full(n, -1.0)
    pairs = np.empty((max(n - 1, 0), 2), np.int64)
    joins = np.empty(max(n - 1, 0))
    inside = np.empty(max(n - 1, 0))
    for i in range(n):
        for j in range(n):
            if touching[i, j]:
                value = summed[i, j] / (area[i] * area[j])
                if value > best[i]:
                    best[i], partner[i] = value, j
    made = 0
    while made < n - 1:
        i = int(np.argmax(best))
        value = best[i]
        if value < stop:
            break
        j = partner[i]
        pairs[made, 0], pairs[made, 1] = name[i], name[j]
        joins[made] = value
        inside[made] = summed[i, i] + summed[j, j] + 2 * summed[i, j]
        summed[i] += summed[j]
        summed[:, i] = summed[i]
        summed[i, i] = inside[made]
        area[i] += area[j]
        name[i] = n + made
        alive[j] = False
        best[j] = -1.0
        for k in range(n):
            touches = touching[j, k] or touching[i, k]
            touching[i, k] = touching[k, i] = touches and alive[k] and k != i
            touching[j, k] = touching[k, j] = False
        best[i] = -1.0
        for k in range(n):
            if not touching[i, k]:
                continue
            link = summed[i, k] / (area[i] * area[k])
            if link > best[i]:
                best[i], partner[i] = link, k
            if partner[k] == i or partner[k] == j:  # its best partner has changed: look again at all
                best[k] = -1.0
                for m in range(n):
                    if touching[k, m]:
                        other = summed[k, m] / (area[k] * area[m])
                        if other > best[k]:
                            best[k], partner[k] = other, m
            elif link > best[k]:
                best[k], partner[k] = link, i
        made += 1
    return pairs[:made], joins[:made], inside[:made]
