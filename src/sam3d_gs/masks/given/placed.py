"""Masks from files brought to the photo: turned as it is, at its size, and looked at for what is probably a mistake."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image, ImageDraw

from sam3d_gs.errors import BadInputError
from sam3d_gs.masks.given.agreement import PhotoEdges
from sam3d_gs.masks.given.found import Found
from sam3d_gs.masks.rules import Overlaps, background, outline_contact
from sam3d_gs.photo import UPRIGHT, turn_upright
from sam3d_gs.types import Photo

log = logging.getLogger("sam3d_gs")

SAME_IOU = 0.95  # two masks that overlap more are one object given twice
_NAMED_PAIRS = 5  # of equal masks; the rest are counted
_MOST_OF_A_PHOTO = 0.8
_LINE_PX = 5  # at most: the width of outlines that programs draw
_AGREE, _CLEARLY = 2.0, 1.5  # agreement with the edges, at least, and by how much more than the other way round


def on_photo(found: Sequence[Found], photo: Photo, orientation: int) -> tuple[list[Found], list[str]]:
    """The masks at the photo's size, and warnings.

    orientation: of the photo's file, in EXIF. Masks that were drawn on its pixels as they are stored are turned with
    it; where the size does not tell, the edges in the photo do. Raises BadInputError for a mask of another shape.
    """
    if orientation == UPRIGHT:
        return [_sized(item, photo) for item in found], []
    raw = [replace(item, mask=turn_upright(item.mask, orientation)) for item in found]
    about = f"the photo has EXIF orientation {orientation}"
    must_turn = [not _fits(a.mask, photo) and _fits(b.mask, photo) for a, b in zip(found, raw, strict=True)]
    if any(must_turn):
        chosen = [b if must else a for a, b, must in zip(found, raw, must_turn, strict=True)]
        warning = f"{sum(must_turn)} of {len(found)} masks were drawn on the unturned photo ({about}): turned with it."
        return [_sized(item, photo) for item in chosen], [warning]
    if not all(_fits(item.mask, photo) for item in raw):
        return [_sized(item, photo) for item in found], []
    upright, other = [_sized(item, photo) for item in found], [_sized(item, photo) for item in raw]
    edges = PhotoEdges(photo.rgb)
    as_is = edges.agreement([item.mask for item in upright])
    if_turned = edges.agreement([item.mask for item in other])
    if if_turned > max(_AGREE, as_is + _CLEARLY):
        return other, [f"The masks fit the unturned photo much better ({about}): they were turned with it."]
    if as_is > max(_AGREE, if_turned + _CLEARLY):
        return upright, []
    return upright, [
        f"The masks may have been drawn on the unturned photo ({about}), and their size does not tell. They are "
        "used as they are: compare overlay.png."
    ]


def _fits(mask: np.ndarray, photo: Photo) -> bool:
    """Whether the mask has the photo's shape, but for rounding."""
    height, width = mask.shape
    size = (photo.width_px, photo.height_px)
    return abs(width * size[1] - height * size[0]) <= max(width, height) + max(size)


def _sized(item: Found, photo: Photo) -> Found:
    if item.mask.shape == (photo.height_px, photo.width_px):
        return replace(item, mask=np.ascontiguousarray(item.mask))
    if not _fits(item.mask, photo):
        height, width = item.mask.shape
        hint = " It fits when turned by 90 degrees." if _fits(item.mask.T, photo) else ""
        raise BadInputError(
            f"{item.source} has {width} x {height} pixels, the photo {photo.width_px} x {photo.height_px}.{hint} "
            "Masks must cover the whole upright photo, not a crop of it."
        )
    grey = Image.fromarray(item.mask.astype(np.uint8) * np.uint8(255))
    share = np.asarray(grey.resize((photo.width_px, photo.height_px), Image.Resampling.BOX))
    half = min(127, int(share.max()) // 2)  # thin and small ones do not vanish
    return replace(item, mask=share > half)


def not_inverted(found: Sequence[Found]) -> tuple[list[Found], list[str]]:
    """The masks, inverted if all of them are dark objects on white, and a warning that says so.

    One object may fill a photo to its edges, but not several at once, nor one that leaves a hole.
    """
    used = [item for item in found if item.mask.any()]
    contact = 0.9 if len(used) == 1 else 0.6
    shares = [np.count_nonzero(item.mask) / item.mask.size for item in used]
    inverted = [
        0.5 < share < 1 and outline_contact(item.mask) >= contact for item, share in zip(used, shares, strict=True)
    ]
    if not used or not all(inverted):
        return list(found), []
    whom = "The mask covers" if len(used) == 1 else f"All {len(used)} masks cover"
    return (
        [replace(item, mask=~item.mask) if item.mask.any() else item for item in found],
        [f"{whom} the borders of the photo, so black is taken for the object and white for the background: inverted."],
    )


def doubts(found: Sequence[Found]) -> list[str]:
    """Warnings of masks that are probably not meant: background, and the same object twice."""
    used = [item for item in found if item.mask.any()]
    warnings = []
    twice = 0
    for item in used:
        if reason := background(item.mask):
            warnings.append(f"{item.source} looks like {reason}. Is it an object?")
        elif (share := np.count_nonzero(item.mask) / item.mask.size) > _MOST_OF_A_PHOTO:
            warnings.append(f"{item.source} covers {share:.0%} of the photo. Is it an object?")
        elif _is_outline(item.mask):
            warnings.append(f"{item.source} is a thin line around an area. Is it an outline that should be filled?")
    overlaps = Overlaps.of([item.mask for item in used]) if len(used) > 1 else None
    for i in range(len(used) if overlaps else 0):
        for j in range(i):
            if overlaps and overlaps.iou(i, j) >= SAME_IOU:
                twice += 1
                if twice <= _NAMED_PAIRS:
                    pair = f"{used[j].source} and {used[i].source}"
                    warnings.append(f"{pair} are the same area: two objects in one place.")
    if twice > _NAMED_PAIRS:
        warnings.append(f"{twice - _NAMED_PAIRS} more pairs of masks are the same area.")
    return warnings


def _is_outline(mask: np.ndarray) -> bool:
    """Whether a mask, (H, W) bool with an object in it, is a line a few pixels wide around a larger area."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    crop = mask[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    line_px = min(_LINE_PX, min(crop.shape) // 16)
    if not line_px or crop.mean() > 0.3 or _is_thicker(crop, line_px):
        return False
    step = -(-max(crop.shape) // 128)  # the area is found on a small copy, in which the line stays closed
    rows, columns = (-(-side // step) for side in crop.shape)
    padded = np.zeros((rows * step, columns * step), dtype=bool)
    padded[: crop.shape[0], : crop.shape[1]] = crop
    small = np.pad(padded.reshape(rows, step, columns, step).any((1, 3)), 1)
    outside = Image.fromarray(small.astype(np.uint8)).copy()  # an image of an array cannot be drawn on
    ImageDraw.floodfill(outside, (0, 0), 2)
    return bool((np.asarray(outside) == 0).mean() > 0.2)


def _is_thicker(mask: np.ndarray, width_px: int) -> bool:
    """Whether a square of more than `width_px` pixels fits into a mask, (H, W) bool."""
    for axis in (0, 1):
        for _ in range(width_px):
            mask = mask[1:] & mask[:-1] if axis == 0 else mask[:, 1:] & mask[:, :-1]
    return bool(mask.any())
