"""Class-agnostic object proposals: the regions of the affinity tree that look most like whole objects."""

from __future__ import annotations

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam3d_gs.embedded.proposals.edges import Guide, refined
from sam3d_gs.embedded.proposals.mask_net import WEIGHTS, load_mask_net
from sam3d_gs.embedded.proposals.plain_shapes import plain_shapes
from sam3d_gs.embedded.proposals.superpixels import Tree, region_tree, superpixels
from sam3d_gs.masks.rules import Overlaps
from sam3d_gs.types import Photo

MOST_PROPOSALS = 30
_SMALLEST_SHARE, _LARGEST_SHARE = 0.002, 0.7  # of the photo
_REPULSION = 2  # how strongly proposals avoid overlapping each other
_DOUBLE_IOU = 0.85  # regions that overlap more are versions of the same mask: one is enough
_RANKED = 500  # regions that enter the choice
_WEIGHTY = 0.1  # a net's proposal below this score says little
_THREADS = 2  # edges are found by SciPy and Pillow, which let other threads run
_FLAT_RANGE = 6  # 8-bit levels: a photo that varies less shows nothing


@dataclass(frozen=True)
class Proposal:
    """A region of the photo that may be one object."""

    mask: np.ndarray  # (H, W) bool, at photo size
    score: float  # 0..1, comparable within one photo


def propose(rgb: np.ndarray, limit: int = MOST_PROPOSALS, weights: Path = WEIGHTS) -> list[Proposal]:
    """At most `limit` proposals for the photo `rgb`, (H, W, 3) uint8, best first; none for an empty picture."""
    if min(rgb.shape[:2]) < 2 or int(np.ptp(rgb)) <= _FLAT_RANGE:
        return []
    small, labels = superpixels(rgb)
    tree = region_tree(load_mask_net(weights), rgb, labels)
    scores = region_scores(tree)
    coarse = [(tree.members[region][labels], float(scores[region])) for region in best_regions(tree, scores, limit)]
    coarse = sorted(coarse + _overlooked(plain_shapes(small), coarse), key=lambda entry: -entry[1])[:limit]
    guide = Guide.of(rgb, small)
    with ThreadPoolExecutor(_THREADS) as pool:
        masks = list(pool.map(lambda entry: refined(guide, entry[0]), coarse))
    proposals = [Proposal(mask, score) for mask, (_, score) in zip(masks, coarse, strict=True)]
    return _without_doubles([proposal for proposal in proposals if proposal.mask.any()])


def _without_doubles(proposals: list[Proposal]) -> list[Proposal]:
    """Different regions may have become the same mask on the photo's edges: the better one stays."""
    if not proposals:
        return []
    overlaps = Overlaps.of([proposal.mask for proposal in proposals])
    kept: list[int] = []
    for number in range(len(proposals)):
        if all(overlaps.iou(number, other) < _DOUBLE_IOU for other in kept):
            kept.append(number)
    return [proposals[number] for number in kept]


def _overlooked(
    shapes: list[tuple[np.ndarray, float]], found: list[tuple[np.ndarray, float]]
) -> list[tuple[np.ndarray, float]]:
    """The `shapes` that lie for the most part where nothing of any weight was found."""
    weighty = [mask for mask, score in found if score >= _WEIGHTY]
    if not weighty:
        return shapes
    covered = np.any(weighty, axis=0)
    return [(mask, score) for mask, score in shapes if covered[mask].mean() < 0.5]


_REMEMBERED = 2  # photos; the phrases and the masks stage of one run ask for the same proposals
_memory: OrderedDict[tuple[str, int, int], list[Proposal]] = OrderedDict()


def proposals_of(photo: Photo) -> list[Proposal]:
    """`propose` for a photo, computed once while the process works on it."""
    key = photo.sha256, photo.height_px, photo.width_px
    if key not in _memory:
        _memory[key] = propose(photo.rgb)
        while len(_memory) > _REMEMBERED:
            _memory.popitem(last=False)
    return _memory[key]


def region_scores(tree: Tree) -> np.ndarray:
    """How much each region looks like one whole object, (R,) in 0..1.

    It must lie on an object, hold together, keep its claims inside (else it is a part), and not have been wanted by
    the region it was merged with (else, again, it is a part). The exponents were chosen on 93 real photos with 375
    masks and help on 97 others, too (card of the masks).
    """
    return tree.objectness**0.7 * tree.cohesion**0.65 * tree.kept_share**1.2 * (1 - tree.join) ** 1.3


def best_regions(tree: Tree, scores: np.ndarray, limit: int) -> list[int]:
    """At most `limit` regions of sensible size, in the order of choice: many objects before second versions of one.

    Each choice makes what overlaps it by IoU x worth (1 - x)^2 of its score (soft suppression, Bodla et al. 2017, with
    a power). A hard limit on the overlap lost good outlines to slightly better scored bad ones.
    """
    weights = tree.area[: tree.members.shape[1]]
    photo = weights.sum()
    sensible = (tree.area > _SMALLEST_SHARE * photo) & (tree.area < _LARGEST_SHARE * photo)
    ranked = np.flatnonzero(sensible)
    ranked = ranked[np.argsort(-scores[ranked], kind="stable")][:_RANKED]
    members = tree.members[ranked].astype(np.float32)
    shared = (members * weights.astype(np.float32)) @ members.T
    area = tree.area[ranked]
    iou = shared / (area[:, None] + area[None] - shared)
    worth, covered = scores[ranked], np.zeros(len(ranked))  # covered: largest IoU with what is chosen
    kept: list[int] = []
    while len(kept) < limit and (covered < _DOUBLE_IOU).any():
        best = int(np.argmax(np.where(covered < _DOUBLE_IOU, worth * (1 - covered) ** _REPULSION, -1.0)))
        kept.append(int(ranked[best]))
        covered = np.maximum(covered, iou[best])  # its own is 1
    return kept
