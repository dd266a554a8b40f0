"""What of an object lies behind others: where to expect it, and how it is added to the photo and to the mask.

Only a network that says where the whole object is (`TwoLayers.whole`) makes use of this.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sam3d_gs.embedded.shape.crops import CROP_MARGIN, Crop, box_of
from sam3d_gs.embedded.shape.mask_repair import spread_colours

WIDEST_MARGIN = 1.4  # of a crop; training has 1.8, but what a net finds falls with the size at which it sees the object
TOUCH_SHARE = 0.01  # of the object's longer side: masks this near touch, and the gap between them is hidden as well
INSIDE_SHARE = 0.6  # of a mask within the box of another: it lies on it
LEAST_SHARE = 0.01  # of the mask; less is not worth a change
TORN = 0.5  # crop half-sides: what has to go back farther than this, to be hidden, is torn off the rest
PROBABLE = 0.3  # the network does not see what hides the object; that something does makes it likelier

_Box = tuple[slice, slice]


def occluders(index: int, masks: Sequence[np.ndarray]) -> list[int]:
    """The masks, (H, W) bool each, that touch mask `index` and lie in front: they reach lower, or lie on it.

    What reaches lower in the photo stands nearer on the same floor.
    """
    from scipy.ndimage import binary_dilation

    mask = masks[index]
    box = box_of(mask)
    reach = _touch_px(box)
    around = _grown(box, reach + 1, mask.shape)
    near = binary_dilation(mask[around], iterations=reach)
    found = []
    for j, other in enumerate(masks):
        if j == index or not (other[around] & near).any():
            continue
        area = np.count_nonzero(other)
        lies_on = np.count_nonzero(other[box]) > INSIDE_SHARE * area and area < np.count_nonzero(mask)
        if lies_on or box_of(other)[0].stop > box[0].stop + reach:
            found.append(j)
    return found


def crop_margin(mask: np.ndarray, in_front: Sequence[np.ndarray]) -> float:
    """Crop side over the longer side of the mask's box: the usual one, wider to hold what may hide the object."""
    own = box_of(mask)
    half = max(s.stop - s.start for s in own) / 2
    margin = CROP_MARGIN
    for other in in_front:
        for s, o in zip(own, box_of(other), strict=True):
            middle = (s.start + s.stop) / 2
            margin = max(margin, (middle - o.start) / half, (o.stop - middle) / half)
    return min(margin, WIDEST_MARGIN)


def continued(
    rgb: np.ndarray, mask: np.ndarray, crop: Crop, whole: np.ndarray, in_front: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Photo and mask with the object continued below the masks `in_front` where it probably is.

    rgb: (H, W, 3) uint8. mask, in_front: (H, W) bool. whole: (R, R) probability on the crop. The colours there are
    spread from what is seen of the object. Parts that do not hang together with the mask are left out.
    """
    from scipy.ndimage import binary_closing, label

    box = _grown(box_of(mask), round(crop.half_px), mask.shape)
    own = mask[box]
    covered = np.any([m[box] for m in in_front], axis=0)
    closed = np.pad(own | covered, (width := _touch_px(box_of(mask))))
    covered |= binary_closing(closed, iterations=width)[width:-width, width:-width]
    labels, _ = label(own | (covered & (_in_photo(whole, crop, box) > PROBABLE)))
    added = np.isin(labels, np.unique(labels[own])) & (labels > 0) & ~own
    if np.count_nonzero(added) < LEAST_SHARE * np.count_nonzero(own):
        return rgb, mask
    hidden = np.zeros_like(mask)
    hidden[box] = added
    return spread_colours(rgb, mask, hidden), mask | hidden


def without_torn(mask: np.ndarray, visible: np.ndarray, crop: Crop, moved_back: np.ndarray) -> np.ndarray:
    """The mask (H, W) without invented parts that were moved too far back, (R, R) crop half-sides, to be hidden."""
    rows, columns = box_of(mask)
    kept = mask.copy()
    torn = _in_photo(moved_back, crop, (rows, columns)) > TORN
    kept[rows, columns] &= visible[rows, columns] | ~torn
    return kept


def _in_photo(plane: np.ndarray, crop: Crop, box: _Box) -> np.ndarray:
    """The crop's plane (R, R) at the photo's pixels of a box, linear; 0 outside the crop."""
    from scipy.ndimage import map_coordinates

    at = []
    for s, middle in zip(box, crop.center_px[::-1], strict=True):
        offset = (np.arange(s.start, s.stop) + 0.5 - middle) / crop.half_px
        at.append((offset + 1) / 2 * len(plane) - 0.5)
    return np.asarray(map_coordinates(plane, np.meshgrid(*at, indexing="ij"), order=1, cval=0.0))


def _touch_px(box: _Box) -> int:
    return max(2, round(TOUCH_SHARE * max(s.stop - s.start for s in box)))


def _grown(box: _Box, by_px: int, shape: tuple[int, ...]) -> _Box:
    rows, columns = (slice(max(s.start - by_px, 0), min(s.stop + by_px, n)) for s, n in zip(box, shape, strict=True))
    return rows, columns
