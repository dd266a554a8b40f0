"""Refine the outlines of the selected masks: remove strips of background and cast shadows, recover lost rims.

A region made of superpixels often includes a strip of wall or the shadow on the table. Local colour histograms of the
object and of its surroundings give log odds for every pixel; the surroundings are also modelled in shadow, darker and a
little cooler (Finlayson et al. 2006). As in GrabCut (Rother et al. 2004), but by smoothing instead of a graph cut, the
odds move the outline within a band. It moves only where the photo's edge at the new place is about as strong as at the
old one, or where the removed part is clearly shadow. Where colours do not separate object and background (white on
white) the odds are even and the outline stays; where the new edge is hardly stronger, no notch is cut into the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from sam3d_gs.embedded.proposals.edges import clean_mask

# Lengths are shares of the object's size (the square root of its area) unless the name ends in a unit.
_WORKING_SIDE_PX = 224  # objects are processed at this size at most
_SMALLEST_SIZE_PX = 8  # smaller objects stay as they are
_SURROUNDINGS = 0.2  # width of the band of background around the object
_BAND = 0.08  # distance from the outline over which the prior of the old mask grows to its full weight
_OUTWARD = 0.04  # maximum outward move of the outline
_INWARD = 0.4  # maximum inward move
_CORE = 0.3  # depth inside the mask at which pixels count fully for the object's colours; at the rim they count 0
_PALETTE_SIZE = 96
_COLOUR_STD = 5.0  # CIELAB units: bandwidth of the smoothing of histograms over colours
_CELL_PX = 6  # at working size: side of the cells of the local histograms
_HISTOGRAM_STD = 0.2  # standard deviation of the window of a local histogram
_AROUND_PX, _ALL_PX = 5.0, 15.0  # weight, in pixels, of the global histogram of background and object in a local one
_RARE = 0.004  # frequency below which a colour gives no evidence
_SHADE_AT_FOOT = 0.9  # prior share of shadow in the surroundings at the object's foot; falls to 0 at its top
_SHADE_FAINTEST, _SHADE_DEEPEST = 0.12, 3.0  # natural log of the factor by which a shadow is darker
_SHADE_COOLER = 0.4  # maximum cooling of a shadow by sky light: log ratio of red to blue, over sqrt 2
_SHADE_TINT = 0.08  # tolerance on log ratios of linear colours
_CERTAIN, _GAIN = 3.0, 1.5  # limit of a pixel's log odds, and their weight relative to the prior of the old mask
_ROUNDS = 2  # alternations of estimating the object's colours and its pixels
_EDGE_WINDOW = 0.07  # standard deviation of the window in which the old and new edges are compared
_EDGE_FLAT = 1.0  # 8-bit levels per pixel, added to the median gradient: the strength of no edge
_EDGE_BONUS = 0.1  # log ratio by which the edge at the new outline may be weaker
_EDGE_AFAR = 1e-3  # weight, in pixels, of the mean over the whole outline in a local mean
_SMOOTH_PX = 1.5  # at working size: final blur; a blur of 2 would remove parts three pixels wide
_SHADOW_ODDS = 1.0  # log odds from which a pixel in shadow is removed whatever the edges
_OVERHANG = 0.05  # with more of the object than this below it, a pixel is no shadow on the ground
_NOTCH_RADIUS = 0.5  # of a closing: wider gaps belong to the object's shape
_NOTCH_GAIN = 0.3  # log ratio of edge strengths from which a notch is real
_THREADS = 2  # SciPy and Pillow release the GIL
_MIN_AREA_RATIO, _MAX_AREA_RATIO = 0.5, 1.3  # a mask that would change more stays as it is


@dataclass(frozen=True)
class _WorkingCrop:
    """One object and its surroundings at working size (h, w)."""

    rgb: np.ndarray  # (h, w, 3) uint8
    inside: np.ndarray  # (h, w) bool, the mask
    others: np.ndarray  # (h, w) bool, other selected objects: neither object nor background
    depth: np.ndarray  # (h, w) float32, px inside the outline, negative outside
    size: float  # px, square root of the mask's area


def refine_outlines(rgb: np.ndarray, masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The `masks` (H, W) bool of the photo `rgb`, (H, W, 3) uint8, with refined outlines, in the same order.

    Disjoint masks stay disjoint, and none becomes empty.
    """
    taken = np.zeros(rgb.shape[:2], bool)
    for mask in masks:
        taken |= mask
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda mask: _refine_one(rgb, mask, taken & ~mask), masks))
    result = []
    for mask, new in zip(masks, found, strict=True):
        free = ~taken | mask
        new = clean_mask(new & free) & free
        result.append(new if new.any() else mask)
        taken |= result[-1]
    return result


def _refine_one(rgb: np.ndarray, mask: np.ndarray, others: np.ndarray) -> np.ndarray:
    if mask.sum() < _SMALLEST_SIZE_PX**2:
        return mask
    margin = round(_SURROUNDINGS * float(mask.sum()) ** 0.5) + 4
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    here = np.s_[
        max(rows[0] - margin, 0) : rows[-1] + 1 + margin,
        max(columns[0] - margin, 0) : columns[-1] + 1 + margin,
    ]
    view = _working_crop(rgb[here], mask[here], others[here])
    if view is None:
        return mask
    log_odds, shadow = _object_log_odds(view)
    shadow *= _object_free_below(log_odds, view)
    level, gain = _snapped_to_edges(log_odds, shadow, view)
    level = _within_band(level, view)
    level = np.where(_doubtful_notches(level > 0, gain, shadow, view), np.float32(1), level)
    share = (level > 0).sum() / view.inside.sum()
    if not _MIN_AREA_RATIO < share < _MAX_AREA_RATIO:
        return mask
    height, width = mask[here].shape
    result = np.zeros_like(mask)
    result[here] = np.asarray(Image.fromarray(level).resize((width, height), Image.Resampling.BILINEAR)) > 0
    return result


def _working_crop(rgb: np.ndarray, mask: np.ndarray, others: np.ndarray) -> _WorkingCrop | None:
    ratio = min(1.0, _WORKING_SIDE_PX / max(mask.shape))
    size = max(1, round(mask.shape[1] * ratio)), max(1, round(mask.shape[0] * ratio))
    small = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BOX))
    inside, elsewhere = (
        np.asarray(Image.fromarray(part.astype(np.float32)).resize(size, Image.Resampling.BOX)) > 0.5
        for part in (mask, others)
    )
    area = int(inside.sum())
    if area < _SMALLEST_SIZE_PX**2 or area == inside.size:
        return None
    distance = ndimage.distance_transform_edt
    depth = np.where(inside, distance(inside) - 0.5, 0.5 - distance(~inside)).astype(np.float32)
    return _WorkingCrop(small, inside, elsewhere, depth, float(area) ** 0.5)


def _object_log_odds(view: _WorkingCrop) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) float32 each: log odds of object over background, and probability of shadow if background."""
    picture = Image.fromarray(view.rgb).quantize(_PALETTE_SIZE, Image.Quantize.MEDIANCUT)
    labels = np.asarray(picture).astype(np.int64)
    count = int(labels.max()) + 1
    palette = np.array(picture.getpalette(), np.uint8)[: 3 * count].reshape(count, 3)
    kernel = _colour_kernel(palette)
    height, width = labels.shape
    grid = -(-height // _CELL_PX), -(-width // _CELL_PX)
    rows, columns = np.mgrid[:height, :width]
    cell = (labels * grid[0] + rows // _CELL_PX) * grid[1] + columns // _CELL_PX
    places = [labels, (rows + 0.5) / _CELL_PX - 0.5, (columns + 0.5) / _CELL_PX - 0.5]

    def frequencies(weights: np.ndarray, overall_px: float) -> np.ndarray:
        """Local histograms of the palette colours, (count, *grid), sum 1 over the colours."""
        counts = np.bincount(cell.ravel(), weights.ravel(), count * grid[0] * grid[1]).reshape(count, *grid)
        near = _HISTOGRAM_STD * view.size / _CELL_PX
        counts = ndimage.gaussian_filter(counts.astype(np.float32), (0, near, near), truncate=3, mode="constant")
        overall = counts.sum((1, 2)) / max(float(counts.sum()), 1e-6)
        shares = (counts + overall_px * overall[:, None, None]) / (counts.sum(0) + overall_px)
        return np.asarray((kernel @ shares.reshape(count, -1)).reshape(shares.shape))

    around = (view.depth < -1) & (view.depth > -_SURROUNDINGS * view.size) & ~view.others
    background = frequencies(around, _AROUND_PX)
    shaded = (_shadow_colours(palette) @ background.reshape(count, -1)).reshape(background.shape)
    top, bottom = np.flatnonzero(view.inside.any(1))[[0, -1]]
    # Objects cast shadows on the ground; higher up, a dark patch is more likely a part of the object.
    fall = np.clip(((np.arange(grid[0]) + 0.5) * _CELL_PX - top) / max(bottom - top, 1), 0, 1) ** 2
    in_shade = (_SHADE_AT_FOOT * fall).astype(np.float32)[None, :, None]
    background, shaded = (1 - in_shade) * background + in_shade * shaded, in_shade * shaded

    core = np.clip(view.depth / (_CORE * view.size), 0, 1) ** 2
    trust = np.clip(view.depth / (_BAND * view.size), -1, 1)
    weights = core
    for _ in range(_ROUNDS):
        odds = np.log((frequencies(weights, _ALL_PX) + _RARE) / (background + _RARE))
        local_odds = ndimage.map_coordinates(odds, places, order=1, mode="nearest")
        log_odds = ndimage.gaussian_filter(_GAIN * np.clip(local_odds, -_CERTAIN, _CERTAIN) + trust, 0.8)
        weights = core / (1 + np.exp(-2 * log_odds))
    shadow = ndimage.map_coordinates(shaded / np.maximum(background, 1e-6), places, order=1, mode="nearest")
    return np.asarray(log_odds, np.float32), np.asarray(shadow, np.float32)


def _colour_kernel(palette: np.ndarray) -> np.ndarray:
    """(K, K) float32, columns sum to 1: the kernel that smooths a histogram over similar colours."""
    from skimage.color import rgb2lab

    lab = rgb2lab(palette[None])[0]
    near = np.exp(-((lab[:, None] - lab[None]) ** 2).sum(-1) / (2 * _COLOUR_STD**2))
    return np.asarray(near / near.sum(0), np.float32)


def _shadow_colours(palette: np.ndarray) -> np.ndarray:
    """(K, K) float32, columns sum to 1 or are 0: column c is the distribution of colour c in shadow."""
    brightness = np.log(_linear(palette) + 0.004)
    change = brightness[:, None] - brightness[None]  # [shaded, lit]
    darker = -change.mean(-1)
    tint = change + darker[..., None]
    warmer = (tint[..., 0] - tint[..., 2]) / 2**0.5
    elsewise = (tint**2).sum(-1) - warmer**2
    off = warmer - np.clip(warmer, -_SHADE_COOLER, 0)
    fits = np.exp(-(off**2 + elsewise) / (2 * _SHADE_TINT**2)) * (darker > _SHADE_FAINTEST) * (darker < _SHADE_DEEPEST)
    return np.asarray(fits / np.maximum(fits.sum(0), 1e-6), np.float32)


def _linear(rgb: np.ndarray) -> np.ndarray:
    """8-bit sRGB -> linear light in 0..1 (IEC 61966-2-1)."""
    value = rgb.astype(np.float32) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _snapped_to_edges(log_odds: np.ndarray, shadow: np.ndarray, view: _WorkingCrop) -> tuple[np.ndarray, np.ndarray]:
    """(h, w) float32 each: a level set in -1..1 and the log ratio of the new outline's edge strength to the old one's.

    The level follows `log_odds` where its outline lies on the stronger edges, else the old mask.
    """
    channels = ndimage.gaussian_filter(np.sqrt(_linear(view.rgb)) * 255, (0.7, 0.7, 0))
    slopes = ndimage.sobel(channels, 0) ** 2 + ndimage.sobel(channels, 1) ** 2
    strength = ndimage.maximum_filter(np.sqrt(slopes.sum(-1)) / 8, 3)

    candidate = _within_band(log_odds, view) > 0
    before, after = _boundary(view.inside), _boundary(candidate)

    def along(line: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Local mean of the edge strength along `line`; far from it, the mean of its parts away from `other`."""
        near = _EDGE_WINDOW * view.size
        apart = line & ~ndimage.binary_dilation(other, iterations=2)
        overall = strength[apart if apart.any() else line].mean()
        length = ndimage.gaussian_filter(line.astype(np.float32), near, truncate=2)
        found = ndimage.gaussian_filter(line * strength, near, truncate=2)
        return np.asarray((found + _EDGE_AFAR * overall) / (length + _EDGE_AFAR))

    rough = _EDGE_FLAT + np.median(strength)
    old, new = along(before, after), along(after, before)
    gain = np.log((new + rough) / (old + rough))
    better = np.clip(0.5 + 2 * (gain + _EDGE_BONUS), 0, 1)
    better *= np.clip(2 * (new / rough - 1), 0, 1)
    # The edge of a shadow can be the stronger one; the fourth power keeps only what is very likely shadow.
    better = np.maximum(better, shadow**4 * np.clip(-log_odds - _SHADOW_ODDS, 0, 1))
    level = better * np.clip(log_odds, -1.5, 1.5) + (1 - better) * np.clip(view.depth / 2, -1.5, 1.5)
    return np.asarray(ndimage.gaussian_filter(np.clip(level, -1, 1), _SMOOTH_PX), np.float32), gain


def _object_free_below(log_odds: np.ndarray, view: _WorkingCrop) -> np.ndarray:
    """(h, w) bool: pixels with hardly any of the object below them, where its shadow may be."""
    object_px = ((log_odds > 0) & view.inside).astype(np.int64)
    return np.asarray(np.cumsum(object_px[::-1], axis=0)[::-1] <= _OVERHANG * view.size)


def _doubtful_notches(kept: np.ndarray, gain: np.ndarray, shadow: np.ndarray, view: _WorkingCrop) -> np.ndarray:
    """(h, w) bool: pixels removed from the old mask in narrow gaps, without a clearly stronger edge or a shadow."""
    doubtful = view.inside & ~kept & (gain < _NOTCH_GAIN) & (shadow <= 0.5)
    if not (doubtful.any() and kept.any()):
        return np.zeros_like(kept)
    radius = _NOTCH_RADIUS * view.size
    margin = int(radius) + 2
    grown = ndimage.distance_transform_edt(~np.pad(kept, margin)) <= radius
    closed = ndimage.distance_transform_edt(grown) > radius
    return np.asarray(closed[margin:-margin, margin:-margin] & doubtful)


def _boundary(mask: np.ndarray) -> np.ndarray:
    """The pixels of the mask along its outline."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask, border_value=1))


def _within_band(level: np.ndarray, view: _WorkingCrop) -> np.ndarray:
    """`level` with the sign of the old mask outside the band, and without new holes inside the mask."""
    level = np.where(view.depth < -_OUTWARD * view.size, -1, np.where(view.depth > _INWARD * view.size, 1, level))
    parts, _ = ndimage.label(level <= 0)
    open_parts = np.unique(parts[(view.depth < 0) & (level <= 0)])
    reached = np.isin(parts, open_parts[open_parts > 0])
    return np.asarray(np.where(reached, level, np.maximum(level, 0.1)), np.float32)
