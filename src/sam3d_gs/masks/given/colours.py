"""Pictures in colour: label maps, whose flat colours are objects, and masks in one colour."""

from __future__ import annotations

from functools import reduce
from itertools import combinations

import numpy as np

from sam3d_gs.errors import BadInputError
from sam3d_gs.masks.given.found import MAX_OBJECTS, Labels, no_mask, several
from sam3d_gs.masks.given.greys import lossy_mask
from sam3d_gs.masks.given.levels import Levels

_BLENDS_SHARE = 0.1  # of pixels between flat colours: a photo has more
_FEW_COLOURS = 16  # flat colours of a label map on a transparent background, whatever their areas
_SAME_COLOUR = 64  # of 255: how much a colour may vary in a lossy file
_PHOTO_COLOURS = 4000  # in a sample: flat colours and their blends are fewer
_BLACK, _WHITE, _TRANSPARENT = 0x000000, 0xFFFFFF, 0x1000000
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
_VOC_BORDER = 0xE0E0C0  # the colour of "unlabelled" in the palette of Pascal VOC


def packed(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 colours as (H, W) int32, 0xRRGGBB."""
    wide = rgb.astype(np.int32)
    return np.asarray(wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2])


def flat_cutouts(rgb: np.ndarray, opaque: np.ndarray) -> Labels | None:
    """The objects in a label map whose background is transparent; None for a cut-out of a photo, which is one object.

    rgb: (H, W, 3) uint8. opaque: (H, W) bool.
    """
    if _is_photo(rgb):
        return None
    values = packed(rgb)
    values[~opaque] = _TRANSPARENT
    levels = Levels.of(values)
    colours = levels.values != _TRANSPARENT
    regions = levels.areas & colours
    if not 2 <= colours.sum() <= MAX_OBJECTS or regions.sum() < 2:
        return None
    pixels = levels.count[colours].sum()
    many = colours.sum() > _FEW_COLOURS
    if levels.count[regions].sum() < 0.98 * pixels or (many and levels.inner[regions].sum() < 0.5 * pixels):
        return None
    masks = {_colour(int(levels.values[k])): levels.index == k for k in np.flatnonzero(colours)}
    return Labels(masks, (several(list(masks)),))


def colour_labels(rgb: np.ndarray, path: object) -> Labels:
    """The objects in a picture of flat colours, (H, W, 3) uint8: each colour but the background's is one.

    The background is black, else white, else the colour along most of the outline. Raises BadInputError for a photo.
    """
    if _is_photo(rgb):
        raise no_mask(path, f"more than {_PHOTO_COLOURS:,}", rgb.dtype)
    values = packed(rgb)
    border = values == _VOC_BORDER
    is_void = bool(border.any() and not (border | (values == _BLACK)).all())
    levels = Levels.of(np.where(border, _BLACK, values) if is_void else values)
    own = np.ones(len(levels), dtype=bool) if len(levels) == 2 else _own_regions(levels, path, rgb.dtype)
    index = levels.index if own.all() else _nearest(levels.values, own).astype(levels.index.dtype)[levels.index]
    background, notes = _background(levels, own)
    if is_void:
        notes.append(f"has areas of {_colour(_VOC_BORDER)}, which are taken for unlabelled")
    ids = [k for k in np.flatnonzero(own) if levels.values[k] != background]
    if len(ids) == 1:
        return Labels({"": index == ids[0]}, tuple(notes))
    masks = {_colour(int(levels.values[k])): index == k for k in ids}
    return Labels(masks, (*notes, several(list(masks)), *_overlaps({int(levels.values[k]) for k in ids})))


def _is_photo(rgb: np.ndarray) -> bool:
    """Whether a sample of (H, W, 3) colours has more than any label map."""
    return len(np.unique(packed(_thinned(rgb)))) > _PHOTO_COLOURS


def _own_regions(levels: Levels, path: object, dtype: np.dtype) -> np.ndarray:
    """(K,) bool: the colours that are no blends. Raises BadInputError for a photo and for a smoothed label map."""
    regions = int(levels.areas.sum())
    if regions < 2 or regions > MAX_OBJECTS or levels.share(~levels.areas) > _BLENDS_SHARE:
        raise no_mask(path, f"{len(levels):,}", dtype)
    blends = levels.blends()
    specks = ~blends & ~levels.areas
    if specks.sum() > max(4, regions):  # ends of thin lines, drawn smoothly
        blends, specks = blends | specks, np.zeros_like(specks)
    if regions > 2 and (levels.share(blends) > 0.02 or blends.sum() > 4):
        raise BadInputError(
            f"{path} has {regions} flat colours and blends of them, as a label map that was scaled smoothly "
            "or is lossy. Save it as PNG without smoothing, or one picture per object."
        )
    return levels.areas | specks


def _nearest(colours: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(K,) for each colour, the number of the nearest one of those that are regions, `own` (K,) bool."""
    channels = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], -1).astype(np.int64)
    found = np.arange(len(colours))
    regions = found[own]
    for k in found[~own]:
        found[k] = regions[((channels[regions] - channels[k]) ** 2).sum(-1).argmin()]
    return found


def _background(levels: Levels, own: np.ndarray) -> tuple[int | None, list[str]]:
    for colour in (_BLACK, _WHITE):
        if colour in levels.values[own]:
            return colour, []
    outline = levels.along_the_outline()
    if outline is None:
        return None, ["has no background, so every colour is an object"]
    colour = int(levels.values[outline])
    return colour, [f"has neither black nor white: {_colour(colour)}, along its outline, is the background"]


def _overlaps(colours: set[int]) -> list[str]:
    """A note on full colours that are the sum of two others, as where masks in separate channels overlap."""
    if not colours <= {red | green | blue for red in (0, 0xFF0000) for green in (0, 0xFF00) for blue in (0, 0xFF)}:
        return []
    for one, other in combinations(sorted(colours), 2):
        if not one & other and one | other in colours:
            return [
                f"has {_colour(one | other)}, which may be where {_colour(one)} and {_colour(other)} overlap: save "
                "masks that overlap as one file each"
            ]
    return []


def lossy_colour_mask(rgb: np.ndarray, path: object) -> Labels:
    """The object in a JPEG or lossy WebP of two colours, (H, W, 3) uint8. Raises BadInputError for more colours.

    The colour along the outline is the background.
    """
    outline = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    background = np.median(outline, axis=0).astype(np.uint8)
    some = _thinned(rgb)
    far = _distance(some, background)
    core = some[far > 0.6 * max(float(np.quantile(far, 0.9995)), 1.0)]
    spread = np.quantile(core, 0.95, axis=0) - np.quantile(core, 0.05, axis=0) if len(core) else np.zeros(3)
    if spread.max() > _SAME_COLOUR:
        raise BadInputError(
            f"{path} has several colours, blurred by lossy compression: a photo, or a label map. Save masks and "
            "label maps as PNG."
        )
    away = _distance(rgb, background)
    labels = lossy_mask(away, path)
    if background.max() < _SAME_COLOUR:
        return labels
    name = _colour(int(packed(background[None, None])[0, 0]))
    return Labels(labels.masks, (*labels.notes, f"is in colour: {name}, along its outline, is the background"))


def _thinned(rgb: np.ndarray) -> np.ndarray:
    """About 300,000 pixels of (H, W, 3) colours, which say enough about what they are."""
    step = max(1, round((rgb.shape[0] * rgb.shape[1] / 3e5) ** 0.5))
    return rgb[::step, ::step]


def _distance(rgb: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """(H, W) uint8: the largest difference in any channel."""
    channels = (np.maximum(rgb[..., c], v) - np.minimum(rgb[..., c], v) for c, v in enumerate(colour))
    return np.asarray(reduce(np.maximum, channels))


def _colour(value: int) -> str:
    return _COLOURS.get(value, f"#{value:06x}")
