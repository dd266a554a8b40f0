"""Superpixels of a photo, and a tree of regions built from them: the candidates for object masks.

The mask network predicts for every coarse cell which other cells belong to the same object. Averaged over superpixels,
this gives an affinity matrix. Greedy average-linkage merging of neighbouring superpixels turns it into a binary tree
whose nodes are regions of every size.
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

WORKING_PIXELS = 110_000  # size of the image on which superpixels are computed
_MAX_SUPERPIXELS = 1400  # memory grows with its square
_DEPTH_POWER = 0.5  # affinity falls with this power of the ratio of depths: objects rarely span a large step in depth
_LONGEST_SIDE_PX = 1280  # of the network's input; very long photos are squeezed


@dataclass(frozen=True)
class Pass:
    """One run of the network over the photo. Averaging several makes the affinities more stable."""

    pixels: int
    mirrored: bool


# Two sizes and a mirror image: one pass loses 4 points of recall, a fourth gains nothing (benchmarks/mask_recall.py).
PASSES = (Pass(240_000, False), Pass(160_000, False), Pass(160_000, True))  # the slowest first: they run in parallel


@dataclass(frozen=True)
class Tree:
    """R regions over n superpixels: the superpixels themselves, then the merged regions in the order of merging."""

    members: np.ndarray  # (R, n) bool, the superpixels of each region
    area: np.ndarray  # (R,) float64, pixels at working size
    objectness: np.ndarray  # (R,) float64, mean over the region
    cohesion: np.ndarray  # (R,) float64, mean mutual affinity inside the region
    internal_share: np.ndarray  # (R,) float64, share of the region's affinity that stays inside it
    merge_affinity: np.ndarray  # (R,) float64, affinity to the region it was merged with; 0 for the last ones


def fitted_size(height: int, width: int, pixels: int) -> tuple[int, int]:
    """(height, width) with about `pixels` pixels, near the photo's aspect ratio, in multiples of STRIDE_PX."""
    ratio = (pixels / (height * width)) ** 0.5

    def side(length: int) -> int:
        fitted = round(length * ratio / STRIDE_PX) * STRIDE_PX
        return int(min(max(fitted, 3 * STRIDE_PX), _LONGEST_SIDE_PX))

    return side(height), side(width)


def resized(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """`rgb` (H, W, 3) uint8 at another size: box filter to shrink, bilinear to enlarge."""
    shrinks = height * width < rgb.shape[0] * rgb.shape[1]
    how = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(rgb).resize((width, height), how))


def superpixels(rgb: np.ndarray, pixels: int = WORKING_PIXELS) -> tuple[np.ndarray, np.ndarray]:
    """The photo at about `pixels` pixels, (h, w, 3) uint8, and its superpixels, (h, w) int from 0 without gaps."""
    small = resized(rgb, *fitted_size(rgb.shape[0], rgb.shape[1], pixels))
    smallest = 24
    while True:
        labels = felzenszwalb(small, scale=18, sigma=0.6, min_size=smallest)
        if labels.max() < _MAX_SUPERPIXELS:
            return small, labels
        smallest *= 2  # noise and foliage give too many


@dataclass(frozen=True)
class PassAffinity:
    """Predictions of one pass for n superpixels."""

    affinity: np.ndarray  # (n, n) float32 in 0..1, [i, j]: probability that j belongs to the object at i
    objectness: np.ndarray  # (n,) float32
    log_depth: np.ndarray  # (n,) float32, natural log of the depth up to a constant; 0 without the geometry head


def pass_affinity(net: MaskNet, rgb: np.ndarray, labels: np.ndarray, setting: Pass) -> PassAffinity:
    """Run the network over the photo `rgb` (H, W, 3) uint8 and average over the superpixels `labels` (h, w)."""
    if setting.mirrored:
        rgb, labels = rgb[:, ::-1], labels[:, ::-1]
    picture = resized(np.ascontiguousarray(rgb), *fitted_size(rgb.shape[0], rgb.shape[1], setting.pixels))
    cells = affinity(net, torch.from_numpy(picture.copy()).permute(2, 0, 1).float().div_(255))

    # shares[cell, superpixel]: how much of the superpixel lies in the cell; columns sum to 1
    rows, columns = cells.grid
    height, width = labels.shape
    cell = (np.arange(height) * rows // height)[:, None] * columns + (np.arange(width) * columns // width)
    counts = np.ones(labels.size, np.float32) / np.bincount(labels.ravel()).astype(np.float32)[labels.ravel()]
    shares = scipy.sparse.csr_matrix((counts, (cell.ravel(), labels.ravel())), shape=(rows * columns, labels.max() + 1))

    objectness = cells.objectness.numpy()
    trust = objectness * np.maximum(cells.quality.numpy(), 0.05) + 1e-4  # confident cells count more
    weighted = (shares.multiply(trust[:, None])).tocsr().T
    mutual = (weighted @ cells.belongs.numpy()) @ shares / (shares.T @ trust)[:, None]
    depth = np.zeros_like(objectness) if cells.log_depth is None else cells.log_depth.numpy()
    return PassAffinity(mutual, shares.T @ objectness, shares.T @ depth)


def region_tree(net: MaskNet, rgb: np.ndarray, labels: np.ndarray, passes: Sequence[Pass] = PASSES) -> Tree:
    """Merge the superpixels `labels` of the photo `rgb` into a tree of regions, by the predicted affinities."""
    results = _run_passes(net, rgb, labels, passes)
    mutual: np.ndarray = np.mean([result.affinity for result in results], axis=0)
    objectness: np.ndarray = np.mean([result.objectness for result in results], axis=0)
    log_depth: np.ndarray = np.mean([result.log_depth for result in results], axis=0)
    area = np.bincount(labels.ravel()).astype(np.float64)
    strength = np.sqrt(mutual * mutual.T) * np.sqrt(np.outer(objectness, objectness))
    strength *= np.exp(-_DEPTH_POWER * np.abs(np.subtract.outer(log_depth, log_depth)))
    return _build_tree((strength * np.outer(area, area)).astype(np.float64), objectness, area, _neighbours(labels))


def _run_passes(net: MaskNet, rgb: np.ndarray, labels: np.ndarray, passes: Sequence[Pass]) -> list[PassAffinity]:
    """`pass_affinity` of every pass, in parallel threads.

    Threads inside one convolution wait for each other at its end, which takes long on a busy machine.
    """
    threads = torch.get_num_threads()
    workers = min(threads, len(passes))
    if workers < 2:
        return [pass_affinity(net, rgb, labels, setting) for setting in passes]
    share = threads // workers
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,)) as pool:
        try:
            return list(pool.map(lambda setting: pass_affinity(net, rgb, labels, setting), passes))
        finally:
            torch.set_num_threads(threads)  # new threads inherit the value that was set last


def _neighbours(labels: np.ndarray) -> np.ndarray:
    """(n, n) bool, symmetric: which superpixels touch along an edge."""
    touching = np.zeros((labels.max() + 1,) * 2, bool)
    for first, second in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])):
        touching[first, second] = touching[second, first] = True
    np.fill_diagonal(touching, False)
    return touching


def _build_tree(summed: np.ndarray, objectness: np.ndarray, area: np.ndarray, touching: np.ndarray) -> Tree:
    """The tree from `summed` (n, n), the affinity summed over all pairs of pixels of two superpixels."""
    n = len(area)
    total = summed.sum(1)
    own = np.diag(summed).copy()
    pairs, affinities, inside = merge_order(summed, area.copy(), touching)

    count = n + len(pairs)
    members = np.zeros((count, n), bool)
    members[np.arange(n), np.arange(n)] = True
    merge_affinity = np.zeros(count)
    for region, (left, right) in enumerate(pairs, start=n):
        members[region] = members[left] | members[right]
        merge_affinity[left] = merge_affinity[right] = affinities[region - n]
    areas = members @ area
    inside = np.concatenate((own, inside))
    return Tree(
        members=members,
        area=areas,
        objectness=members @ (objectness * area) / areas,
        cohesion=inside / areas**2,
        internal_share=np.minimum(inside / np.maximum(members @ total, 1e-6), 1.0),
        merge_affinity=np.minimum(merge_affinity, 1.0),
    )


@numba.njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def merge_order(
    summed: np.ndarray, area: np.ndarray, touching: np.ndarray, stop: float = 0.03
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Greedy average linkage: merge the two touching regions of highest mean affinity, until it is below `stop`.

    Overwrites its arguments: a merged region takes the row of one of its parts. Returns for every merge the two
    regions, (M, 2) int64, numbered as in `Tree`; their affinity, (M,); and the summed affinity inside the new region,
    (M,). Every row remembers its best partner, so a merge costs O(n), not O(n^2).
    """
    n = len(area)
    region = np.arange(n)  # of each row
    alive = np.ones(n, np.bool_)
    partner = np.full(n, -1)
    best = np.full(n, -1.0)
    pairs = np.empty((max(n - 1, 0), 2), np.int64)
    affinities = np.empty(max(n - 1, 0))
    inside = np.empty(max(n - 1, 0))
    for i in range(n):
        best[i], partner[i] = _best_partner(i, summed, area, touching)
    merges = 0
    while merges < n - 1:
        i = int(np.argmax(best))
        if best[i] < stop:
            break
        j = partner[i]
        pairs[merges, 0], pairs[merges, 1] = region[i], region[j]
        affinities[merges] = best[i]
        inside[merges] = summed[i, i] + summed[j, j] + 2 * summed[i, j]
        summed[i] += summed[j]
        summed[:, i] = summed[i]
        summed[i, i] = inside[merges]
        area[i] += area[j]
        region[i] = n + merges
        alive[j] = False
        best[j] = -1.0
        for k in range(n):
            touches = touching[j, k] or touching[i, k]
            touching[i, k] = touching[k, i] = touches and alive[k] and k != i
            touching[j, k] = touching[k, j] = False
        best[i], partner[i] = _best_partner(i, summed, area, touching)
        for k in range(n):
            if not touching[i, k]:
                continue
            link = summed[i, k] / (area[i] * area[k])
            if partner[k] == i or partner[k] == j:  # its best partner has changed
                best[k], partner[k] = _best_partner(k, summed, area, touching)
            elif link > best[k]:
                best[k], partner[k] = link, i
        merges += 1
    return pairs[:merges], affinities[:merges], inside[:merges]


@numba.njit(cache=True)  # type: ignore[untyped-decorator, unused-ignore]
def _best_partner(i: int, summed: np.ndarray, area: np.ndarray, touching: np.ndarray) -> tuple[float, int]:
    """Highest mean affinity of row i to a row that it touches, and that row; -1 and -1 when it touches none."""
    best, partner = -1.0, -1
    for j in range(len(area)):
        if touching[i, j]:
            affinity_ij = summed[i, j] / (area[i] * area[j])
            if affinity_ij > best:
                best, partner = affinity_ij, j
    return best, partner
