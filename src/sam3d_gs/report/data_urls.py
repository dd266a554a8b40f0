"""Pictures as data URLs for the report: scaled down, compressed, and limited in their total size."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sam3d_gs.errors import BadInputError
from sam3d_gs.photo import opened
from sam3d_gs.types import InstanceMask

_JPEG_QUALITY = 84
_MARGIN = 0.12  # of the mask's box, shown around it in a thumbnail
_OUTSIDE = 0.25  # opacity of the photo outside the mask


@dataclass(frozen=True)
class DataUrl:
    """One encoded picture."""

    url: str
    width: int  # px
    height: int  # px
    still: str = ""  # of an animation: its first frame, for readers who prefer no motion


def from_array(rgb: np.ndarray, max_side_px: int) -> DataUrl:
    """`rgb` (H, W, 3) uint8, scaled down to `max_side_px` if larger."""
    return _encoded(Image.fromarray(np.ascontiguousarray(rgb)), max_side_px)


def from_file(path: Path | None, max_side_px: int) -> DataUrl | None:
    """The first frame of a picture file; None when there is no such file or it is no picture."""
    try:
        if path is None:
            return None
        with opened(path) as image:
            return _encoded(image, max_side_px)
    except BadInputError:
        return None


def animations(paths: Sequence[Path | None], max_bytes: int) -> list[DataUrl | None]:
    """Animated pictures, unchanged; when they exceed `max_bytes` in total, the largest become their first frame."""
    sizes = {path: path.stat().st_size for path in paths if path is not None and path.is_file()}
    affordable, used = set(), 0
    for file, size in sorted(sizes.items(), key=lambda item: item[1]):
        used += size
        if used <= max_bytes:
            affordable.add(file)
    urls = []
    for path in paths:
        still = from_file(path, 480)
        if path is not None and path in affordable and still is not None:
            data = base64.b64encode(path.read_bytes()).decode()
            kind = "gif" if path.suffix.lower() == ".gif" else "webp"
            still = DataUrl(f"data:image/{kind};base64,{data}", still.width, still.height, still=still.url)
        urls.append(still)
    return urls


def mask_thumbnail(rgb: np.ndarray, mask: InstanceMask | None, max_side_px: int) -> DataUrl | None:
    """The photo around a mask, faded outside it; None without a mask or for an empty one."""
    if mask is None or not mask.area_px:
        return None
    x0, y0, x1, y1 = mask.box_xyxy
    margin = round(_MARGIN * max(x1 - x0, y1 - y0)) + 1
    rows = slice(max(0, y0 - margin), y1 + margin)
    columns = slice(max(0, x0 - margin), x1 + margin)
    crop = Image.fromarray(np.ascontiguousarray(rgb[rows, columns]))
    alpha = Image.fromarray(mask.mask[rows, columns].astype(np.uint8) * 255)
    crop.thumbnail((max_side_px, max_side_px), Image.Resampling.BILINEAR, reducing_gap=2.0)
    alpha = alpha.resize(crop.size, Image.Resampling.BILINEAR)
    faded = Image.blend(Image.new("RGB", crop.size, (150, 150, 150)), crop, _OUTSIDE)
    return _encoded(Image.composite(crop, faded, alpha), max_side_px)


def _encoded(image: Image.Image, max_side_px: int) -> DataUrl:
    """JPEG, or WebP when there is transparency to keep."""
    transparent = "A" in image.getbands() or "transparency" in image.info
    image = image.convert("RGBA" if transparent else "RGB")
    image.thumbnail((max_side_px, max_side_px), Image.Resampling.BILINEAR, reducing_gap=2.0)
    stream, kind = io.BytesIO(), "webp" if transparent else "jpeg"
    image.save(stream, kind, quality=_JPEG_QUALITY)
    data = base64.b64encode(stream.getvalue()).decode()
    return DataUrl(f"data:image/{kind};base64,{data}", image.width, image.height)
