"""What a file of masks holds, and the rules that tell one mask, several labels and a photo apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sam3d_gs.errors import BadInputError

MAX_OBJECTS = 500  # of one photo
_VOID_AMONG_IDS_BELOW = 65  # 255 beside class numbers up to here means "ignore", as in VOC and Cityscapes
_SOFT_SHARE = 0.1  # of pixels between the two values of a mask: more than the edges of an object have
_PHOTO_SHARE = 0.4  # of pixels between them: a mask no longer
_MANY_VALUES = 16  # more than that may be soft edges
_LOSSY_NOISE = 64  # of 255: what lossy compression makes of black


@dataclass(frozen=True)
class Found:
    """One object of a file."""

    name: str  # words for it, from the file
    mask: np.ndarray  # (H, W) bool, at the file's size
    source: str  # where it was found, for messages: a file name, and what part of it


@dataclass(frozen=True)
class Labels:
    """The regions of one picture or array: which values are objects."""

    masks: dict[str, np.ndarray]  # what tells an object from the others, e.g. "3"; "" if there is one -> (H, W) bool
    notes: tuple[str, ...] = ()  # what was assumed, each a clause about the file


def labels_of(values: np.ndarray, path: object, lossy: bool = False) -> Labels:
    """The objects in a picture of (H, W) grey levels or numbers, of any dtype without NaN.

    Two values are a mask, with the larger one as the object; so are two values and what lies between them along soft
    edges. More values that cover areas are labels, and 0 is none. Raises BadInputError, naming `path`, for what is
    neither.
    """
    if lossy:
        return _lossy(values, path)
    flat = np.unique(values)
    if len(flat) == 1:
        whole = np.full(values.shape, bool(flat[0]))
        return Labels({"": whole}, ("has one value everywhere",) if flat[0] else ())
    if len(flat) == 2:
        return Labels({"": values == flat[1]})
    areas = flat[_covers_areas(values, flat)]
    if len(flat) > _MANY_VALUES and not _has_flat_middle(values, areas, flat):
        return _soft_mask(values, flat, path)
    regions, void = _without_void(values, areas)
    if len(regions) > 2 or void is not None:
        return _label_map(values, regions, void, path)
    return _soft_mask(values, flat, path)


def _soft_mask(values: np.ndarray, flat: np.ndarray, path: object) -> Labels:
    low, high = float(flat[0]), float(flat[-1])
    share = float(_between(values, low, high).mean())
    if share > _PHOTO_SHARE:
        raise _no_mask(path, len(flat), values.dtype)
    note = f"is soft: {share:.0%} of it lies between its two values, and half way is the edge"
    return Labels({"": values > (low + high) / 2}, (note,) if share > _SOFT_SHARE else ())


def _between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """(H, W) bool: neither near the lowest nor near the highest value."""
    margin = 0.06 * (high - low)
    return np.asarray((values > low + margin) & (values < high - margin))


def _has_flat_middle(values: np.ndarray, areas: np.ndarray, flat: np.ndarray) -> bool:
    """Whether a value between the extremes fills more than a speck, as a label does."""
    middle = areas[_between(areas, float(flat[0]), float(flat[-1]))]
    return any(np.count_nonzero(values == value) >= 0.003 * values.size for value in middle[:MAX_OBJECTS])


def _covers_areas(values: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """(K,) bool: which of the values `flat` fill any 3 x 3 pixels. Blends along an edge do not; labels do."""
    inner = values[1:-1, 1:-1]
    same = np.ones(inner.shape, dtype=bool)
    height, width = values.shape
    for dy in (0, 1, 2):
        for dx in (0, 1, 2):
            same &= inner == values[dy : height - 2 + dy, dx : width - 2 + dx]
    return np.isin(flat, np.unique(inner[same]))


def _without_void(values: np.ndarray, regions: np.ndarray) -> tuple[np.ndarray, int | None]:
    """The values that cover areas, without the one for "unlabelled" beside class numbers; and that one."""
    for void in (255, 65535):
        labels = regions[(regions != 0) & (regions != void)]
        if (values == void).any() and len(labels) and 0 < labels.max() < _VOID_AMONG_IDS_BELOW:
            return regions[regions != void], void
    return regions, None


def _label_map(values: np.ndarray, regions: np.ndarray, void: int | None, path: object) -> Labels:
    known = regions if void is None else [*regions, void]
    between = ~np.isin(values, known)
    others = np.unique(values[between])  # small labels, which cover no 3 x 3 pixels; or blends along edges
    if len(others) > max(4, len(regions)) or between.mean() > 0.02:
        if len(regions) > 64:
            raise _no_mask(path, len(regions) + len(others), values.dtype)
        raise BadInputError(
            f"{path} has {len(regions)} flat values and {len(others)} others between them, as a label map that was "
            "scaled smoothly. Save it without smoothing, or one picture per object."
        )
    background = 0 if 0 in regions else _along_the_outline(values)
    ids = sorted(value for value in (*regions, *others) if value != background)
    if len(ids) > MAX_OBJECTS:
        raise BadInputError(f"{path} has {len(ids):,} labels, more than {MAX_OBJECTS}. Is it a map of labels?")
    masks = {str(int(value)) if value == int(value) else f"{value:g}": values == value for value in ids}
    notes = [_several(list(masks))] if len(masks) > 1 else []
    if void is not None:
        notes.append(f"has areas of {void}, which are taken for unlabelled")
    if background is None:
        notes.append("has no background, so every label is an object")
    elif background:
        notes.append(f"has no 0: {background:g}, along its outline, is the background")
    return Labels(masks if len(masks) > 1 else {"": next(iter(masks.values()))}, tuple(notes))


def _several(labels: Sequence[str]) -> str:
    some = ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")
    return f"holds {len(labels)} labels ({some}): one object each"


def _lossy(values: np.ndarray, path: object) -> Labels:
    """Grey levels of a JPEG or a lossy WebP, (H, W) uint8, whose values vary."""
    top = float(np.quantile(values, 0.9995))
    if values.max() < _LOSSY_NOISE:
        return Labels({"": np.zeros(values.shape, dtype=bool)}, ("is black but for noise of its compression",))
    if top < _LOSSY_NOISE:  # a speck
        top = float(values.max())
    middle = (values > 0.25 * top) & (values < 0.75 * top)
    levels = np.bincount((values[middle] >> 4), minlength=16)[int(top) >> 6 : 3 * int(top) >> 6] / values.size
    if middle.mean() > 1.5 * _SOFT_SHARE or levels.max() > max(0.004, 5 * float(np.median(levels))):
        raise BadInputError(
            f"{path} has grey levels that are neither black nor white: a photo, or a label map, which lossy "
            "compression damages. Save masks and label maps as PNG."
        )
    return Labels({"": values > top / 2})


def _no_mask(path: object, count: int, dtype: np.dtype) -> BadInputError:
    return BadInputError(
        f"{path} has {count:,} different values ({dtype}) and hardly an area of one: a photo or a depth map, not a "
        "mask. Take it out, or save a mask with two values, or a label map."
    )


def packed(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 colours as (H, W) int32, 0xRRGGBB."""
    wide = rgb.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


_COLOURS = {
    0x000000: "black",
    0xFFFFFF: "white",
    0xFF0000: "red",
    0x00FF00: "green",
    0x0000FF: "blue",
    0xFFFF00: "yellow",
    0x00FFFF: "cyan",
    0xFF00FF: "magenta",
    0xFFA500: "orange",
    0x800080: "purple",
    0x808080: "grey",
    0x800000: "dark red",
    0x008000: "dark green",
    0x000080: "dark blue",
    0x808000: "olive",
    0x008080: "teal",
}
VOC_BORDER = 0xE0E0C0  # the colour of "unlabelled" in the palette of Pascal VOC


def flat_cutouts(rgb: np.ndarray, opaque: np.ndarray) -> Labels | None:
    """The objects in a label map whose background is transparent; None for a cut-out of a photo, which is one object.

    rgb: (H, W, 3) uint8. opaque: (H, W) bool.
    """
    values = np.where(opaque, packed(rgb), -1)
    flat = np.unique(values[opaque])
    if not 2 <= len(flat) <= _MANY_VALUES:
        return None
    regions = flat[_covers_areas(values, flat)]
    if len(regions) < 2 or np.isin(values[opaque], regions).mean() < 0.98:
        return None
    masks = {_colour(int(c)): values == c for c in flat}
    return Labels(masks, (_several(list(masks)),))


def colour_labels(rgb: np.ndarray, path: object) -> Labels:
    """The objects in a picture of flat colours, (H, W, 3) uint8: each colour but the background's is one.

    The background is black, else white, else the colour along most of the outline. Raises BadInputError for a photo.
    """
    values = packed(rgb)
    border = values == VOC_BORDER
    if border.any() and not (border | (values == 0)).all():
        values = np.where(border, 0, values)
    flat = np.unique(values)
    regions = flat[_covers_areas(values, flat)] if len(flat) > 2 else flat
    between = ~np.isin(values, regions)
    if len(regions) < 2 or len(regions) > MAX_OBJECTS or between.mean() > _SOFT_SHARE:
        raise _no_mask(path, len(flat), rgb.dtype)
    notes: list[str] = []
    if between.any():
        if len(regions) > 2 and (between.mean() > 0.02 or len(np.unique(values[between])) > 4):
            raise BadInputError(
                f"{path} has {len(regions)} flat colours and blends of them, as a label map that was scaled smoothly "
                "or is lossy. Save it as PNG without smoothing, or one picture per object."
            )
        values = _nearest(values, regions)
    background = 0 if 0 in regions else 0xFFFFFF if 0xFFFFFF in regions else _along_the_outline(values)
    if background is None:
        notes.append("has no background, so every colour is an object")
    elif background not in (0, 0xFFFFFF):
        notes.append(f"has neither black nor white: {_colour(background)}, along its outline, is the background")
    if border.any() and VOC_BORDER not in flat:
        notes.append(f"has areas of {_colour(VOC_BORDER)}, which are taken for unlabelled")
    masks = {_colour(c): values == c for c in map(int, regions) if c != background}
    if len(masks) > 1:
        notes.append(_several(list(masks)))
    return Labels(masks if len(masks) != 1 else {"": next(iter(masks.values()))}, tuple(notes))


def _nearest(values: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """Each colour replaced by the nearest of `regions`."""
    flat, inverse = np.unique(values, return_inverse=True)
    channels = [np.stack([v >> 16, v >> 8 & 255, v & 255], -1).astype(np.int64) for v in (flat, regions)]
    distance = ((channels[0][:, None] - channels[1][None]) ** 2).sum(-1)
    return np.asarray(regions[distance.argmin(1)][inverse].reshape(values.shape))


def _along_the_outline(values: np.ndarray) -> int | None:
    """The value along most of the outline; None if there is none."""
    outline = np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]])
    found, counts = np.unique(outline, return_counts=True)
    return int(found[counts.argmax()]) if counts.max() > 0.6 * len(outline) else None


def _colour(value: int) -> str:
    return _COLOURS.get(value, f"#{value:06x}")


def named(labels: Labels, name: str, source: str) -> list[Found]:
    """The objects of one picture or array; several have their label after the name."""
    return [
        Found(f"{name} {label}".strip(), mask, f"{source} ({label})" if label else source)
        for label, mask in labels.masks.items()
    ]


def check_count(found: Sequence[Found], path: object) -> None:
    """Raises BadInputError for more objects than a photo has."""
    if len(found) > MAX_OBJECTS:
        raise BadInputError(f"{path} has {len(found):,} objects, more than {MAX_OBJECTS}. Give those to lift.")
