"""Class-agnostic object proposals: the regions of the affinity tree that are most likely whole objects."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam3d_gs.embedded.proposals.edges import Guide, refine_mask
from sam3d_gs.embedded.proposals.mask_net import WEIGHTS, load_mask_net
from sam3d_gs.embedded.proposals.plain_shapes import plain_shapes
from sam3d_gs.embedded.proposals.superpixels import Tree, region_tree, superpixels
from sam3d_gs.masks.rules import Overlaps
from sam3d_gs.types import Photo

MAX_PROPOSALS = 30
_SMALLEST_SHARE, _LARGEST_SHARE = 0.002, 0.7  # of the photo
_REPULSION = 2  # exponent of the soft suppression of overlapping proposals
_DUPLICATE_IOU = 0.85  # regions that overlap more are duplicates
_MAX_CANDIDATES = 500  # best regions considered
_RELEVANT_SCORE = 0.1  # proposals of the network below this score do not count as having found something
_THREADS = 2  # SciPy and Pillow release the GIL
_FLAT_RANGE = 6  # 8-bit levels: a photo with a smaller range shows nothing


@dataclass(frozen=True)
class Proposal:
    """A region of the photo that may be one object."""

    mask: np.ndarray  # (H, W) bool, at photo size
    score: float  # 0..1, comparable within one photo


def propose(rgb: np.ndarray, limit: int = MAX_PROPOSALS, weights: Path = WEIGHTS) -> list[Proposal]:
    """At most `limit` proposals for the photo `rgb`, (H, W, 3) uint8, best first; none for an empty photo."""
    if min(rgb.shape[:2]) < 2 or int(np.ptp(rgb)) <= _FLAT_RANGE:
        return []
    small, labels = superpixels(rgb)
    tree = region_tree(load_mask_net(weights), rgb, labels)
    scores = region_scores(tree)
    coarse = [(tree.members[region][labels], float(scores[region])) for region in select_regions(tree, scores, limit)]
    coarse = sorted(coarse + _not_covered(plain_shapes(small), coarse), key=lambda entry: -entry[1])[:limit]
    guide = Guide.of(rgb, small)
    with ThreadPoolExecutor(_THREADS) as pool:
        masks = list(pool.map(lambda entry: refine_mask(guide, entry[0]), coarse))
    proposals = [Proposal(mask, score) for mask, (_, score) in zip(masks, coarse, strict=True)]
    return _without_duplicates([proposal for proposal in proposals if proposal.mask.any()])


def _without_duplicates(proposals: list[Proposal]) -> list[Proposal]:
    """Drop all but the best of proposals that became the same mask when their edges were refined."""
    if not proposals:
        return []
    overlaps = Overlaps.of([proposal.mask for proposal in proposals])
    kept: list[int] = []
    for number in range(len(proposals)):
        if all(overlaps.iou(number, other) < _DUPLICATE_IOU for other in kept):
            kept.append(number)
    return [proposals[number] for number in kept]


def _not_covered(
    shapes: list[tuple[np.ndarray, float]], found: list[tuple[np.ndarray, float]]
) -> list[tuple[np.ndarray, float]]:
    """The `shapes` of which more than half lies outside everything of relevant score in `found`."""
    relevant = [mask for mask, score in found if score >= _RELEVANT_SCORE]
    if not relevant:
        return shapes
    covered = np.any(relevant, axis=0)
    return [(mask, score) for mask, score in shapes if covered[mask].mean() < 0.5]


_CACHE_SIZE = 2  # photos; the phrases and masks stages of one run need the same proposals
_cache: OrderedDict[tuple[str, int, int], list[Proposal]] = OrderedDict()


def find_proposals(photo: Photo) -> list[Proposal]:
    """`propose` for a photo; the last two photos are cached."""
    key = photo.sha256, photo.height_px, photo.width_px
    if key not in _cache:
        _cache[key] = propose(photo.rgb)
        while len(_cache) > _CACHE_SIZE:
            _cache.popitem(last=False)
    return _cache[key]


def region_scores(tree: Tree) -> np.ndarray:
    """(R,) score of each region as one whole object, 0..1.

    High when the region lies on an object, is coherent, has little affinity to the outside, and had little affinity to
    the region it was merged with; otherwise it is part of something larger. The exponents were chosen on 93 photos with
    375 masks and also help on 97 others (`weights/MASKS_CARD.md`).
    """
    return tree.objectness**0.7 * tree.cohesion**0.65 * tree.internal_share**1.2 * (1 - tree.merge_affinity) ** 1.3


def select_regions(tree: Tree, scores: np.ndarray, limit: int) -> list[int]:
    """At most `limit` regions of plausible size, in the order of selection.

    Soft non-maximum suppression (Bodla et al. 2017): a selected region multiplies the score of one that overlaps
    it by IoU x with (1 - x)^2. A hard limit on the IoU lost good outlines to bad ones of slightly better score.
    """
    weights = tree.area[: tree.members.shape[1]]
    photo = weights.sum()
    plausible = (tree.area > _SMALLEST_SHARE * photo) & (tree.area < _LARGEST_SHARE * photo)
    ranked = np.flatnonzero(plausible)
    ranked = ranked[np.argsort(-scores[ranked], kind="stable")][:_MAX_CANDIDATES]
    members = tree.members[ranked].astype(np.float32)
    shared = (members * weights.astype(np.float32)) @ members.T
    area = tree.area[ranked]
    iou = shared / (area[:, None] + area[None] - shared)
    candidate_scores, covered = scores[ranked], np.zeros(len(ranked))  # covered: largest IoU with a selected region
    kept: list[int] = []
    while len(kept) < limit and (covered < _DUPLICATE_IOU).any():
        best = int(np.argmax(np.where(covered < _DUPLICATE_IOU, candidate_scores * (1 - covered) ** _REPULSION, -1.0)))
        kept.append(int(ranked[best]))
        covered = np.maximum(covered, iou[best])  # its own is 1
    return kept
