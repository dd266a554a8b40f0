"""Masks in picture files: one object each, cut-outs by their transparency, label maps by number or colour, pages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from sam3d_gs.errors import BadInputError
from sam3d_gs.masks.given.colours import colour_labels, flat_cutouts, lossy_colour_mask
from sam3d_gs.masks.given.found import MAX_OBJECTS, Found, Labels, named
from sam3d_gs.masks.given.greys import labels_of
from sam3d_gs.photo import frame_count, opened, upright

_MOST_PIXELS = 1 << 30  # of all pages
_SUBFILE_TYPE = 254  # a TIFF tag
_GREY_SPREAD = 24  # largest difference of channels in a picture that is grey but for lossy compression


def read_picture(path: Path, name: str) -> tuple[list[Found], list[str]]:
    """The objects in a picture, and notes on what was assumed, each a clause about the file.

    `name`: words for the object. Raises BadInputError for a photo, a smoothed label map, or a damaged file.
    """
    pages = _pages(path)
    found: list[Found] = []
    notes: list[str] = [f"has {len(pages)} pages or frames: one mask each"] if len(pages) > 1 else []
    for number, (page, lossy) in enumerate(pages, start=1):
        labels = page_labels(page, path, lossy)
        part = f" {number}" if len(pages) > 1 else ""
        found += named(labels, f"{name}{part}", f"{path.name}{f', page{part}' if part else ''}")
        notes += labels.notes
    return found, list(dict.fromkeys(notes))


def _pages(path: Path) -> list[tuple[Image.Image, bool]]:
    """The decoded pages of a picture, upright, and whether each lost precision in its compression."""
    with opened(path) as image:
        lossy = image.format in ("JPEG", "MPO", "AVIF", "HEIF") or (image.format == "WEBP" and _is_lossy_webp(path))
        count = 1 if image.format == "MPO" else frame_count(image)
        if count > MAX_OBJECTS:
            raise BadInputError(f"{path} has {count:,} pages, more than {MAX_OBJECTS}.")
        pages = []
        pixels = 0
        for number in range(count):
            image.seek(number)
            if number and getattr(image, "tag_v2", {}).get(_SUBFILE_TYPE, 0) & 1:  # a smaller copy of the page before
                continue
            pixels += image.width * image.height
            if pixels > _MOST_PIXELS:
                raise BadInputError(f"{path} has pages of {pixels:,} pixels and more. Save one mask per file.")
            pages.append((upright(image).copy(), lossy))
    if len({page.size for page, _ in pages}) > 1:
        raise BadInputError(f"{path} has pages of different sizes. Save one mask per file.")
    return pages


def _is_lossy_webp(path: Path) -> bool:
    with path.open("rb") as stream:
        start = stream.read(4096)
    return b"VP8 " in start  # VP8L is the lossless one


def page_labels(image: Image.Image, path: object, lossy: bool = False) -> Labels:
    """The objects of one decoded picture. Raises BadInputError, naming `path`."""
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"))
        opaque = _opaque(rgba[..., 3])
        if opaque is not None:
            return flat_cutouts(rgba[..., :3], opaque) or Labels({"": opaque})
        image = image.convert("RGB")
    if image.mode == "1":
        return labels_of(np.asarray(image).astype(np.uint8), path)
    if image.mode[0] in "IF" or image.mode == "L":
        return labels_of(_without_nan(np.asarray(image), path), path, lossy)
    if image.mode == "P":
        return _palette_labels(image, path)
    rgb = np.asarray(image.convert("RGB"))
    red, green, blue = (rgb[..., channel] for channel in range(3))
    spread = max(int((np.maximum(red, c) - np.minimum(red, c)).max(initial=0)) for c in (green, blue))
    if spread == 0 or (lossy and spread <= _GREY_SPREAD):
        return labels_of(rgb[..., 0] if spread == 0 else np.asarray(image.convert("L")), path, lossy)
    return lossy_colour_mask(rgb, path) if lossy else colour_labels(rgb, path)


def _opaque(alpha: np.ndarray) -> np.ndarray | None:
    """(H, W) bool; None for an alpha channel that is the same everywhere, but for noise: it holds no mask.

    Half way between its extremes is the edge: overlays are thinner than cut-outs, and others dim the background.
    """
    low, high = int(alpha.min()), int(alpha.max())
    if high and (low == high or low > 200):
        return None
    return np.asarray(alpha > (low + high) / 2)


def _without_nan(values: np.ndarray, path: object) -> np.ndarray:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadInputError(f"{path} has NaN or infinite values, as depth maps have. A mask has two values.")
    return values


def _palette_labels(image: Image.Image, path: object) -> Labels:
    """By the colours of the palette, which may be in any order; by its numbers where colours repeat."""
    indices = np.asarray(image)
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
    palette = np.zeros((256, 3), np.uint8)
    stored = np.asarray(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)[:256]
    palette[: len(stored)] = stored
    table = {tuple(colour) for colour in palette[used].tolist()}
    if len(table) < len(used):
        return labels_of(indices, path)
    if all(r == g == b for r, g, b in table):
        return labels_of(palette[..., 0][indices], path)
    if (0, 0, 0) not in table and 0 in used:  # index 0 is the background of a label map without black
        return labels_of(indices, path)
    return colour_labels(palette[indices], path)
