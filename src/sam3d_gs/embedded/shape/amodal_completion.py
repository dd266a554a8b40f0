"""Amodal completion: the hidden parts of an object, added to photo and mask and placed behind their occluders.

Needs a network that predicts the amodal mask (`DepthLayers.amodal`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sam3d_gs.embedded.placement.silhouette import Silhouette
from sam3d_gs.embedded.shape.crops import CROP_MARGIN, Crop, bounding_slices
from sam3d_gs.embedded.shape.mask_repair import inpaint_colours
from sam3d_gs.embedded.shape.object_net import MIN_THICKNESS, DepthLayers

MAX_MARGIN = 1.4  # of a crop; up to 1.8 in training, but predictions get worse the smaller the object is in its crop
CONTACT_SHARE = 0.01  # of the object's longer side: masks this close touch, and the gap between them counts as hidden
ON_TOP_SHARE = 0.6  # share of a mask inside the box of another one from which it is in front of it
MIN_ADDED_SHARE = 0.01  # of the mask's area: smaller additions are ignored
MAX_DISPLACEMENT = 0.5  # crop half-sides: parts that would have to move farther to be hidden are removed
AMODAL_THRESHOLD = 0.3  # of the amodal probability; low, since the network does not see that something hides the object
CLEARANCE = 1.02  # minimum depth of a completed surface over that of its occluder

_Box = tuple[slice, slice]


def occluders(index: int, masks: Sequence[np.ndarray]) -> list[int]:
    """Indices of the masks, (H, W) bool each, that touch mask `index` and are in front of it.

    Those are masks that reach lower in the photo, being nearer on the same floor, and those that lie on it.
    """
    from scipy.ndimage import binary_dilation

    mask = masks[index]
    box = bounding_slices(mask)
    reach = _contact_px(box)
    around = _expanded(box, reach + 1, mask.shape)
    near = binary_dilation(mask[around], iterations=reach)
    found = []
    for j, other in enumerate(masks):
        if j == index or not (other[around] & near).any():
            continue
        area = np.count_nonzero(other)
        lies_on = np.count_nonzero(other[box]) > ON_TOP_SHARE * area and area < np.count_nonzero(mask)
        if lies_on or bounding_slices(other)[0].stop > box[0].stop + reach:
            found.append(j)
    return found


def crop_margin(mask: np.ndarray, in_front: Sequence[np.ndarray]) -> float:
    """Crop side over the longer side of the mask's box: `CROP_MARGIN`, or more to include the masks `in_front`."""
    own = bounding_slices(mask)
    half = max(s.stop - s.start for s in own) / 2
    margin = CROP_MARGIN
    for other in in_front:
        for s, o in zip(own, bounding_slices(other), strict=True):
            middle = (s.start + s.stop) / 2
            margin = max(margin, (middle - o.start) / half, (o.stop - middle) / half)
    return min(margin, MAX_MARGIN)


def complete_behind_occluders(
    rgb: np.ndarray, mask: np.ndarray, crop: Crop, amodal: np.ndarray, in_front: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Photo and mask with the object continued behind the masks `in_front`, where its amodal probability is high.

    rgb: (H, W, 3) uint8. mask, in_front: (H, W) bool. amodal: (R, R) probability on the crop. Colours are inpainted
    from the visible part. Parts that are not connected with the mask are ignored.
    """
    from scipy.ndimage import binary_closing, label

    box = _expanded(bounding_slices(mask), round(crop.half_px), mask.shape)
    own = mask[box]
    covered = np.any([m[box] for m in in_front], axis=0)
    closed = np.pad(own | covered, (width := _contact_px(bounding_slices(mask))))
    covered |= binary_closing(closed, iterations=width)[width:-width, width:-width]
    labels, _ = label(own | (covered & (_sampled_at_pixels(amodal, crop, box) > AMODAL_THRESHOLD)))
    added = np.isin(labels, np.unique(labels[own])) & (labels > 0) & ~own
    if np.count_nonzero(added) < MIN_ADDED_SHARE * np.count_nonzero(own):
        return rgb, mask
    hidden = np.zeros_like(mask)
    hidden[box] = added
    return inpaint_colours(rgb, mask, hidden), mask | hidden


def remove_detached_parts(mask: np.ndarray, visible: np.ndarray, crop: Crop, moved_back: np.ndarray) -> np.ndarray:
    """The mask (H, W) bool without completed parts that were moved back by more than `MAX_DISPLACEMENT`.

    visible: (H, W) bool. moved_back: (R, R) distance in crop half-sides.
    """
    rows, columns = bounding_slices(mask)
    kept = mask.copy()
    too_far = _sampled_at_pixels(moved_back, crop, (rows, columns)) > MAX_DISPLACEMENT
    kept[rows, columns] &= visible[rows, columns] | ~too_far
    return kept


def push_behind_occluders(
    crop: Crop, layers: DepthLayers, focal_px: float, depth: float, others: Sequence[tuple[Silhouette, float]]
) -> DepthLayers:
    """The layers with the front pushed behind the objects that hide it, each given with its depth.

    Otherwise the middle of a saucer, for example, may show through the floor of a deep cup.
    """
    from scipy.ndimage import maximum_filter

    size = layers.front.shape[0]
    offset = ((np.arange(size) + 0.5) / size * 2 - 1) * crop.half_px
    v, u = np.meshgrid(crop.center_px[1] + offset, crop.center_px[0] + offset, indexing="ij")
    nearest = np.zeros(layers.front.shape)
    for other, other_depth in others:
        height, width = other.mask.shape
        at = np.stack([v.ravel() * other.zoom, u.ravel() * other.zoom], axis=1).astype(int).clip(0)
        at = np.minimum(at, [height - 1, width - 1])
        covered = other.mask[at[:, 0], at[:, 1]]
        values = np.where(covered, other.depth_at(at) * other_depth * CLEARANCE, 0)
        nearest = np.maximum(nearest, values.reshape(nearest.shape))
    around = maximum_filter(nearest, size=5)  # a depth step lies at slightly different pixels of the two grids
    nearest = np.where(nearest > 0, around, 0)
    front_limit = (1 - nearest / depth) * (focal_px / crop.half_px)
    front = np.minimum(layers.front, front_limit).astype(np.float32)
    thickness = np.maximum(layers.thickness - (layers.front - front), MIN_THICKNESS)
    return replace(layers, front=front, thickness=thickness)


def _sampled_at_pixels(plane: np.ndarray, crop: Crop, box: _Box) -> np.ndarray:
    """A plane (R, R) of the crop, interpolated at the photo's pixels in a box; 0 outside the crop."""
    from scipy.ndimage import map_coordinates

    at = []
    for s, middle in zip(box, crop.center_px[::-1], strict=True):
        offset = (np.arange(s.start, s.stop) + 0.5 - middle) / crop.half_px
        at.append((offset + 1) / 2 * len(plane) - 0.5)
    return np.asarray(map_coordinates(plane, np.meshgrid(*at, indexing="ij"), order=1, cval=0.0))


def _contact_px(box: _Box) -> int:
    return max(2, round(CONTACT_SHARE * max(s.stop - s.start for s in box)))


def _expanded(box: _Box, by_px: int, shape: tuple[int, ...]) -> _Box:
    rows, columns = (slice(max(s.start - by_px, 0), min(s.stop + by_px, n)) for s, n in zip(box, shape, strict=True))
    return rows, columns
