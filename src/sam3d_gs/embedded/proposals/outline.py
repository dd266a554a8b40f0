"""Tighter outlines for the chosen masks: background rims and cast shadows out, lost rims in.

A region made of superpixels takes a strip of wall or the shadow on the table along. Here each mask is compared with its
own surroundings: every palette colour is counted inside and outside it, place by place, and the outside is also
expected in the shade, which is darker and a little cooler (Finlayson et al. 2006 describe shadows this way). The odds
of the two move the outline within a band, as in GrabCut (Rother et al. 2004) but smoothed and not cut, and only where
the photo shows about as strong an edge at the new place as at the old one, or what goes is plainly shadow. Where
colours do not tell object and background apart (white on white) the odds are even and the mask stays as it is; and
where the new edge is hardly stronger than the old one, no bite is taken out of the object.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from sam3d_gs.embedded.proposals.edges import tidy

# Lengths are shares of the object's size, the square root of its area, unless a unit says otherwise.
_WORKING_SIDE_PX = 224  # objects are looked at on pictures no larger than this
_SMALLEST_SIZE_PX = 8  # below this there is nothing to count
_SURROUNDINGS = 0.2  # how far around the object the background is looked at
_BAND = 0.08  # over this distance from the outline the belief in the old mask grows to its full weight
_OUTWARD = 0.04  # the outline moves out by no more than this
_INWARD = 0.4  # and in by no more than this
_CORE = 0.3  # pixels this deep inside count fully for the object's colours, those at the rim not at all
_PALETTE = 96  # colours
_ALIKE = 5.0  # CIELAB units within which palette colours lend each other their counts
_CELL_PX = 6  # of the working picture: colours are counted per square of this side
_NEAR = 0.2  # standard deviation of the window in which the counts hold
_AROUND_PX, _ALL_PX = 5.0, 15.0  # of evidence that all surroundings, and the whole object, are worth at any place
_RARE = 0.004  # colours rarer than this on both sides say nothing
_SHADE_AT_FOOT = 0.9  # share of the surroundings expected in the shade at the object's foot; falls to 0 at its top
_SHADE_FAINTEST, _SHADE_DEEPEST = 0.12, 3.0  # natural log of how many times darker
_SHADE_COOLER = 0.4  # log ratio of red to blue, over sqrt 2, by which the sky tints what the sun does not reach
_SHADE_TINT = 0.08  # tolerance on log ratios of linear colours
_CERTAIN, _GAIN = 3.0, 1.5  # limit of the log odds of a pixel, and their weight against the old mask, which has 1
_ROUNDS = 2  # of counting the object's colours and judging its pixels
_EDGE_WINDOW = 0.07  # standard deviation of the window in which old and new edges are compared
_EDGE_FLAT = 1.0  # 8-bit levels per pixel, added to the photo's own roughness: what counts as no edge
_EDGE_BONUS = 0.1  # log ratio of edge strengths that the new outline may lack
_EDGE_AFAR = 1e-3  # pixels of outline that the mean over all of it is worth where none is near
_SMOOTH_PX = 1.5  # of the working picture: standard deviation of the last blur; 2 would end parts three pixels wide
_SHADOW_ODDS = 1.0  # log odds from which a pixel is certain enough to be shadow to go whatever the edges
_OVERHANG = 0.05  # more of the object than this below a pixel, and the pixel is no shadow on the ground
_BITE = 0.5  # radius of a disc that does not fit into a bite: wider gaps are the object's own shape
_BITE_GAIN = 0.3  # log ratio of edge strengths from which a gap is there to be seen
_THREADS = 2  # the work is in SciPy and Pillow, which let other threads run
_LEAST_KEPT, _MOST_GROWN = 0.5, 1.3  # of the area; a mask that would change more stays as it is


@dataclass(frozen=True)
class _View:
    """One object and its surroundings at working size (h, w)."""

    rgb: np.ndarray  # (h, w, 3) uint8
    inside: np.ndarray  # (h, w) bool, the mask
    others: np.ndarray  # (h, w) bool, where other chosen objects are: neither the object's nor its background
    depth: np.ndarray  # (h, w) float32, px inside the outline, negative outside
    size: float  # px, square root of the mask's area


def outlined(rgb: np.ndarray, masks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The `masks` (H, W) bool of the photo `rgb`, (H, W, 3) uint8, with better outlines, in the same order.

    Masks that share no pixel share none afterwards. None becomes empty or grows into another one.
    """
    taken = np.zeros(rgb.shape[:2], bool)
    for mask in masks:
        taken |= mask
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda mask: _one_outlined(rgb, mask, taken & ~mask), masks))
    result = []
    for mask, new in zip(masks, found, strict=True):
        free = ~taken | mask
        new = tidy(new & free) & free
        result.append(new if new.any() else mask)
        taken |= result[-1]
    return result


def _one_outlined(rgb: np.ndarray, mask: np.ndarray, others: np.ndarray) -> np.ndarray:
    if mask.sum() < _SMALLEST_SIZE_PX**2:
        return mask
    margin = round(_SURROUNDINGS * float(mask.sum()) ** 0.5) + 4
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    here = np.s_[
        max(rows[0] - margin, 0) : rows[-1] + 1 + margin,
        max(columns[0] - margin, 0) : columns[-1] + 1 + margin,
    ]
    view = _view(rgb[here], mask[here], others[here])
    if view is None:
        return mask
    belief, shady = _belief(view)
    shady *= _nothing_below(belief, view)
    level, gain = _on_edges(belief, shady, view)
    level = _within_reach(level, view)
    level = np.where(_bites(level > 0, gain, shady, view), np.float32(1), level)
    share = (level > 0).sum() / view.inside.sum()
    if not _LEAST_KEPT < share < _MOST_GROWN:
        return mask
    height, width = mask[here].shape
    result = np.zeros_like(mask)
    result[here] = np.asarray(Image.fromarray(level).resize((width, height), Image.Resampling.BILINEAR)) > 0
    return result


def _view(rgb: np.ndarray, mask: np.ndarray, others: np.ndarray) -> _View | None:
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
    return _View(small, inside, elsewhere, depth, float(area) ** 0.5)


def _belief(view: _View) -> tuple[np.ndarray, np.ndarray]:
    """Two maps, (h, w) float32: rough log odds that a pixel is the object's; if not, how likely it is in the shade."""
    picture = Image.fromarray(view.rgb).quantize(_PALETTE, Image.Quantize.MEDIANCUT)
    labels = np.asarray(picture).astype(np.int64)
    count = int(labels.max()) + 1
    palette = np.array(picture.getpalette(), np.uint8)[: 3 * count].reshape(count, 3)
    alike = _alikeness(palette)
    height, width = labels.shape
    grid = -(-height // _CELL_PX), -(-width // _CELL_PX)
    rows, columns = np.mgrid[:height, :width]
    cell = (labels * grid[0] + rows // _CELL_PX) * grid[1] + columns // _CELL_PX
    places = [labels, (rows + 0.5) / _CELL_PX - 0.5, (columns + 0.5) / _CELL_PX - 0.5]

    def frequencies(weights: np.ndarray, overall_px: float) -> np.ndarray:
        """How often each palette colour occurs around each cell, (count, *grid), sums to 1 over the colours."""
        counts = np.bincount(cell.ravel(), weights.ravel(), count * grid[0] * grid[1]).reshape(count, *grid)
        near = _NEAR * view.size / _CELL_PX
        counts = ndimage.gaussian_filter(counts.astype(np.float32), (0, near, near), truncate=3, mode="constant")
        overall = counts.sum((1, 2)) / max(float(counts.sum()), 1e-6)
        shares = (counts + overall_px * overall[:, None, None]) / (counts.sum(0) + overall_px)
        return np.asarray((alike @ shares.reshape(count, -1)).reshape(shares.shape))

    around = (view.depth < -1) & (view.depth > -_SURROUNDINGS * view.size) & ~view.others
    background = frequencies(around, _AROUND_PX)
    shaded = (_shades(palette) @ background.reshape(count, -1)).reshape(background.shape)
    top, bottom = np.flatnonzero(view.inside.any(1))[[0, -1]]
    # Things cast their shadows on what they stand on; higher up a darker patch is more likely their own.
    fall = np.clip(((np.arange(grid[0]) + 0.5) * _CELL_PX - top) / max(bottom - top, 1), 0, 1) ** 2
    in_shade = (_SHADE_AT_FOOT * fall).astype(np.float32)[None, :, None]
    background, shaded = (1 - in_shade) * background + in_shade * shaded, in_shade * shaded

    core = np.clip(view.depth / (_CORE * view.size), 0, 1) ** 2
    trust = np.clip(view.depth / (_BAND * view.size), -1, 1)
    weights = core
    for _ in range(_ROUNDS):
        odds = np.log((frequencies(weights, _ALL_PX) + _RARE) / (background + _RARE))
        said = ndimage.map_coordinates(odds, places, order=1, mode="nearest")
        belief = ndimage.gaussian_filter(_GAIN * np.clip(said, -_CERTAIN, _CERTAIN) + trust, 0.8)
        weights = core / (1 + np.exp(-2 * belief))
    shady = ndimage.map_coordinates(shaded / np.maximum(background, 1e-6), places, order=1, mode="nearest")
    return np.asarray(belief, np.float32), np.asarray(shady, np.float32)


def _alikeness(palette: np.ndarray) -> np.ndarray:
    """(K, K) float32, columns sum to 1: how much of a colour's count goes to each colour near it."""
    from skimage.color import rgb2lab

    lab = rgb2lab(palette[None])[0]
    near = np.exp(-((lab[:, None] - lab[None]) ** 2).sum(-1) / (2 * _ALIKE**2))
    return np.asarray(near / near.sum(0), np.float32)


def _shades(palette: np.ndarray) -> np.ndarray:
    """(K, K) float32, columns sum to 1 or are 0: column c is the palette's distribution where colour c is in shade."""
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


def _on_edges(belief: np.ndarray, shady: np.ndarray, view: _View) -> tuple[np.ndarray, np.ndarray]:
    """`belief` where its outline lies on better edges of the photo than the old one, else the old mask; -1..1.

    And the natural log of how many times better they are, (h, w) float32 as well.
    """
    channels = ndimage.gaussian_filter(np.sqrt(_linear(view.rgb)) * 255, (0.7, 0.7, 0))
    slopes = ndimage.sobel(channels, 0) ** 2 + ndimage.sobel(channels, 1) ** 2
    strength = ndimage.maximum_filter(np.sqrt(slopes.sum(-1)) / 8, 3)

    candidate = _within_reach(belief, view) > 0
    before, after = _rim(view.inside), _rim(candidate)

    def along(line: np.ndarray, other: np.ndarray) -> np.ndarray:
        """Mean edge strength on `line` around each pixel; far from it, on all of it that lies apart from `other`."""
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
    # A shadow's own edge can be the stronger one. Most of what is not shadow has less than half its odds from shade.
    better = np.maximum(better, shady**4 * np.clip(-belief - _SHADOW_ODDS, 0, 1))
    level = better * np.clip(belief, -1.5, 1.5) + (1 - better) * np.clip(view.depth / 2, -1.5, 1.5)
    return np.asarray(ndimage.gaussian_filter(np.clip(level, -1, 1), _SMOOTH_PX), np.float32), gain


def _nothing_below(belief: np.ndarray, view: _View) -> np.ndarray:
    """(h, w) bool: pixels with hardly any of the object below them, where its shadow may lie on the ground."""
    object_px = ((belief > 0) & view.inside).astype(np.int64)
    return np.asarray(np.cumsum(object_px[::-1], axis=0)[::-1] <= _OVERHANG * view.size)


def _bites(kept: np.ndarray, gain: np.ndarray, shady: np.ndarray, view: _View) -> np.ndarray:
    """(h, w) bool: what the old mask had and `kept` lacks, in gaps too narrow for a disc, without good reason."""
    doubtful = view.inside & ~kept & (gain < _BITE_GAIN) & (shady <= 0.5)
    if not (doubtful.any() and kept.any()):
        return np.zeros_like(kept)
    radius = _BITE * view.size
    margin = int(radius) + 2
    grown = ndimage.distance_transform_edt(~np.pad(kept, margin)) <= radius
    closed = ndimage.distance_transform_edt(grown) > radius
    return np.asarray(closed[margin:-margin, margin:-margin] & doubtful)


def _rim(mask: np.ndarray) -> np.ndarray:
    """The mask's own pixels along its outline."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask, border_value=1))


def _within_reach(level: np.ndarray, view: _View) -> np.ndarray:
    """`level` with the sign of the old mask beyond the band, and no new holes: only what the outside reaches goes."""
    level = np.where(view.depth < -_OUTWARD * view.size, -1, np.where(view.depth > _INWARD * view.size, 1, level))
    parts, _ = ndimage.label(level <= 0)
    open_parts = np.unique(parts[(view.depth < 0) & (level <= 0)])
    reached = np.isin(parts, open_parts[open_parts > 0])
    return np.asarray(np.where(reached, level, np.maximum(level, 0.1)), np.float32)
