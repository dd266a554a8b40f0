"""One channel of grey levels or numbers: the rules that tell a mask, a soft mask, a label map and a photo apart."""

from __future__ import annotations

import numpy as np

from sam3d_gs.errors import BadInputError
from sam3d_gs.masks.given.found import MAX_OBJECTS, Labels, no_mask, several
from sam3d_gs.masks.given.levels import Levels

_CLASS_NUMBERS_BELOW = 65  # 255 beside class numbers up to here means "ignore", as in VOC and Cityscapes
_SOFT_SHARE = 0.1  # of pixels between the two values of a mask: more than the edges of an object have
_PHOTO_SHARE = 0.4  # of pixels between them: a mask no longer
_FEW, _MANY = 4, 16  # values: with few, each is probably meant; with many, they may be soft edges
_AREA_SHARE = 0.2  # of the pixels between the extremes that lie inside areas: labels have more, soft edges less
_STEPS = 64, 0.7  # a gradient has more values than this, and where two meet, this share follow each other
_LOSSY_NOISE = 64  # of 255: what lossy compression makes of black


def labels_of(values: np.ndarray, path: object, lossy: bool = False) -> Labels:
    """The objects in a picture of (H, W) grey levels or numbers, of any dtype without NaN.

    Two values are a mask, with the larger one as the object; so are two values and what lies between them along soft
    edges. More values that cover areas are labels, and 0 is none. Raises BadInputError, naming `path`, for what is
    neither.
    """
    if lossy:
        return lossy_mask(values, path)
    levels = Levels.of(np.maximum(values, -1) if values.dtype.kind == "i" else values)
    low, high = levels.values[0], levels.values[-1]
    if len(levels) == 1:
        return Labels({"": np.full(values.shape, bool(low))}, ("has one value everywhere",) if low else ())
    if len(levels) == 2:
        dark = not low or 0 < low < 0.1 * high
        note = f"has no 0: of its two values, the larger one ({high:g}) is the object"
        return Labels({"": levels.index == 1}, () if dark else (note,))
    void = _void(levels)
    return _soft_mask(levels, path) if _is_soft(levels, void) else _label_map(levels, void, path)


def _is_soft(levels: Levels, void: int | None) -> bool:
    """Whether the values between the extremes are those of soft edges or of a gradient, and not labels."""
    regions = int(levels.areas.sum())
    if len(levels) <= _FEW or (len(levels) <= _MANY and _are_class_numbers(levels)):
        return regions <= 2 and void is None and bool(np.all(levels.blends() | levels.areas))
    if len(levels) <= _MANY:
        return regions <= 2 and void is None
    middle = _between(levels.values)
    pixels = int(levels.count[middle].sum())
    if levels.inner[middle].sum() <= _AREA_SHARE * pixels:
        return True
    many, following = _STEPS
    return len(levels) > many and levels.steps_by_one() > following


def _are_class_numbers(levels: Levels) -> bool:
    return levels.values.dtype.kind in "ui" and bool(levels.values[-1] < _CLASS_NUMBERS_BELOW)


def _soft_mask(levels: Levels, path: object) -> Labels:
    share = levels.share(_between(levels.values))
    if share > _PHOTO_SHARE:
        raise no_mask(path, f"{len(levels):,}", levels.values.dtype)
    half = (float(levels.values[0]) + float(levels.values[-1])) / 2
    note = f"is soft: {share:.0%} of it lies between its two values, and half way is the edge"
    return Labels({"": (levels.values > half)[levels.index]}, (note,) if share > _SOFT_SHARE else ())


def _between(values: np.ndarray) -> np.ndarray:
    """(K,) bool of sorted values: neither near the lowest nor near the highest."""
    low, high = float(values[0]), float(values[-1])
    margin = 0.06 * (high - low)
    return np.asarray((values > low + margin) & (values < high - margin))


def _void(levels: Levels) -> int | None:
    """The value for "unlabelled" beside class numbers, if there is one."""
    for void in (255, 65535):
        labels = levels.values[levels.areas & (levels.values > 0) & (levels.values != void)]
        if levels.values[-1] == void and len(labels) and labels.max() < _CLASS_NUMBERS_BELOW:
            return void
    return None


def _label_map(levels: Levels, void: int | None, path: object) -> Labels:
    regions = int(levels.areas.sum())
    blends = levels.blends()
    if blends.sum() > max(_FEW, regions) or levels.share(~levels.areas) > 0.02:
        if regions > _STEPS[0]:
            raise no_mask(path, f"{len(levels):,}", levels.values.dtype)
        raise BadInputError(
            f"{path} has {regions} flat values and {int((~levels.areas).sum())} others between them, as a label map "
            "that was scaled smoothly. Save it without smoothing, or one picture per object."
        )
    background, notes = _background(levels)
    if void is not None:
        notes.append(f"has areas of {void}, which are taken for unlabelled")
    ids = [k for k, value in enumerate(levels.values) if value not in (void, background, -1)]
    if len(ids) > MAX_OBJECTS:
        raise BadInputError(f"{path} has {len(ids):,} labels, more than {MAX_OBJECTS}. Is it a map of labels?")
    if len(ids) == 1:
        return Labels({"": levels.index == ids[0]}, tuple(notes))
    masks = {f"{levels.values[k]:.10g}": levels.index == k for k in ids}
    return Labels(masks, (several(list(masks)), *notes))


def _background(levels: Levels) -> tuple[float | None, list[str]]:
    """The value that is no object, and notes. Numbers below 0 never are one; 0 is one if they surround it."""
    outline = levels.along_the_outline()
    around = None if outline is None else levels.values[outline]
    if levels.values[0] < 0:
        if around is not None and around < 0:
            return None, ["has numbers below 0 along its outline: they are the background, and 0 is an object"]
        return 0, ["has numbers below 0, which are taken for unlabelled"]
    if not levels.values[0]:
        return 0, []
    if around is None:
        return None, ["has no background, so every label is an object"]
    return float(around), [f"has no 0: {around:g}, along its outline, is the background"]


def lossy_mask(values: np.ndarray, path: object) -> Labels:
    """The object in the grey levels of a JPEG or a lossy WebP, (H, W) uint8, whose values vary."""
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
