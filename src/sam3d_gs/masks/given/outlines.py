"""Masks in JSON: COCO (polygons and run lengths), lists of SAM's masks, and labelme."""

from __future__ import annotations

import base64
import binascii
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from sam3d_gs.errors import BadInputError
from sam3d_gs.files import read_json
from sam3d_gs.json_values import Fields
from sam3d_gs.masks.given.found import MAX_OBJECTS, Found, check_count
from sam3d_gs.photo import MAX_PIXELS

Size = tuple[int, int]  # (width, height) px
_DRAWN_PIXELS = 100_000_000  # at most, for one polygon


def read_outlines(path: Path, photo: str, size: Size) -> tuple[list[Found], list[str]]:
    """The objects of a COCO or labelme file for the photo, and notes on what was left out.

    photo: its file name, to find it among those of a COCO file. size: (width, height) px of the photo's file, for files
    that do not say it. Raises BadInputError naming the file.
    """
    data = read_json(path, "file of masks")
    try:
        if isinstance(data, list):
            return _sam_list(data, path, size)
        fields = Fields(data)
        if "shapes" in fields:
            return _labelme(fields, path, photo, size)
        if "annotations" in fields or "images" in fields:
            return _coco(fields, path, photo, size)
        if "segmentation" in fields:
            return _sam_list([data], path, size)
        raise ValueError('it has neither "annotations" (COCO) nor "shapes" (labelme). Export it as COCO')
    except (ValueError, OverflowError) as error:
        raise BadInputError(f"{path} cannot be read as masks: {error}.") from error


def is_for(path: Path, photo: str) -> bool:
    """Whether a labelme file names this photo; True for every other file."""
    data = read_json(path, "file of masks")
    named = data.get("imagePath") if isinstance(data, dict) and "shapes" in data else None
    return not isinstance(named, str) or _stem(named) == _stem(photo)


def _base(name: str) -> str:
    return name.replace("\\", "/").rsplit("/", 1)[-1]


def _stem(name: str) -> str:
    return _base(name).rsplit(".", 1)[0].casefold()


def _original(name: str) -> str:
    """The stem that a photo had before Roboflow (desk_jpg.rf.1f3c...) or Label Studio (0f3c9a7e-desk) renamed it."""
    without_hash = re.sub(r"_(jpe?g|png|webp|bmp|tiff?|heic)\.rf\.[0-9a-z]+$", "", _stem(name))
    return re.sub(r"^[0-9a-f]{8}-(?=.)", "", without_hash)


# ---- COCO ------------------------------------------------------------------------------------------------------------


def _coco(data: Fields, path: Path, photo: str, photo_size: Size) -> tuple[list[Found], list[str]]:
    image, notes = _image_of(data, photo)
    size = _size(image.whole("width", photo_size[0]), image.whole("height", photo_size[1]))
    categories = data.rows("categories", "category") if "categories" in data else ()
    names = {row.whole("id"): row.text("name") for row in categories}
    rows = list(data.rows("annotations", "annotation"))
    if "images" in data:  # else the file is about one photo
        rows = [row for row in rows if str(row.value.get("image_id")) == str(image.value.get("id"))]
    check_count(rows, path)
    if rows and all("segments_info" in row for row in rows):
        raise ValueError("it is a COCO panoptic file. Give its PNG, whose colours are the objects")
    found, without = [], 0
    for row in rows:
        mask = _segmentation(row.value.get("segmentation"), size)
        if mask is None:
            without += 1
            continue
        category = row.whole("category_id", None)
        name = names.get(category if category is not None else -1, "object")
        found.append(Found(name, mask, f"{path.name}, annotation {row.value.get('id')}"))
    if without:
        notes.append(f"has {without} annotations of {photo} without an outline, which are left out")
    if not found:
        raise ValueError(f"it has no outlines for {photo}")
    return found, notes


def _image_of(data: Fields, photo: str) -> tuple[Fields, list[str]]:
    """The entry of the photo among the images: by its name, else the only one."""
    one = "image" in data and "images" not in data  # a file of SA-1B
    images = [data.fields("image")] if one else list(data.rows("images", "image"))
    names = [_image_name(image) for image in images]
    exact = [image for image, name in zip(images, names, strict=True) if _base(name) == photo]
    same = [image for image, name in zip(images, names, strict=True) if _stem(name) == _stem(photo)]
    renamed = [image for image, name in zip(images, names, strict=True) if _original(name) == _stem(photo)]
    chosen = exact or same or renamed
    if len(chosen) == 1:
        return chosen[0], []
    if len(images) == 1:
        return images[0], [f"is about {names[0] or 'a photo without a name'!r}"]
    some = ", ".join(name or "?" for name in names[:5]) + (", ..." if len(images) > 5 else "")
    raise ValueError(f"{len(chosen) or 'none'} of its {len(images)} images is {photo}: {some or 'none'}")


def _image_name(image: Fields) -> str:
    """The photo's file name; Roboflow keeps the one before it renamed the photo in `extra`."""
    extra = image.value.get("extra")
    name = extra.get("name") if isinstance(extra, dict) else None
    return name if isinstance(name, str) else image.text("file_name", "")


def _sam_list(rows: list[Any], path: Path, size: Size) -> tuple[list[Found], list[str]]:
    """A list of masks, as SAM's automatic mask generator returns them: {"segmentation": run lengths or polygons}."""
    if len(rows) > MAX_OBJECTS:
        raise ValueError(f"it has {len(rows):,} masks, more than {MAX_OBJECTS}. Give those to lift")
    if not rows:
        raise ValueError("it holds no masks")
    about = {str(row["image_id"]) for row in rows if isinstance(row, dict) and "image_id" in row}
    if len(about) > 1:
        raise ValueError(f"it is about {len(about)} photos, without their names. Give a COCO file with its images")
    found: list[Found] = []
    notes: list[str] = []
    for number, value in enumerate(rows, start=1):
        row = Fields(value, f"mask {number}")
        name = next((row.text(key) for key in ("name", "label", "phrase", "category") if key in row), "object")
        if "segmentation" not in row:
            raise ValueError(f"mask {number} has no segmentation. Export it as COCO")
        mask = _segmentation(row.value["segmentation"], size)
        if mask is None:
            notes.append(f"has no outline for mask {number}, which is left out")
        else:
            found.append(Found(name, mask, f"{path.name}, mask {number}"))
    if not found:
        raise ValueError("it holds no outlines")
    return found, notes


def _segmentation(value: Any, size: Size) -> np.ndarray | None:
    """(H, W) bool from COCO's polygons or run lengths; None if there is neither. Raises ValueError."""
    if value is None or value == []:
        return None
    if isinstance(value, dict):
        run = Fields(value, "segmentation")
        height, width = (int(side) for side in run.array("size", (2,)))
        counts = run.value.get("counts")
        return from_runs(_counts(counts), _size(width, height))
    if isinstance(value, list) and value and all(isinstance(polygon, list) for polygon in value):
        read = _points if isinstance(value[0][0] if value[0] else None, list) else _pairs
        polygons = [polygon for polygon in map(read, value) if len(polygon) > 2]  # a line or a click has no area
        return _filled(polygons, size) if polygons else None
    raise ValueError("a segmentation is neither polygons nor run lengths")


def _counts(counts: Any) -> list[int]:
    if isinstance(counts, str):
        return _decompressed(counts)
    if isinstance(counts, list) and all(type(count) is int and count >= 0 for count in counts):
        return counts
    raise ValueError("run lengths are neither a list of numbers nor text")


def _decompressed(text: str) -> list[int]:
    """COCO's compressed run lengths: 5 bits a character from "0" on, the sixth says that more follow, and from the
    fourth count on the difference to the one before the last. After `rleFrString` of cocoapi, common/maskApi.c."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 50:
            raise ValueError("compressed run lengths are damaged")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            if len(counts) > 2:
                value += counts[-2]
            if value < 0:
                raise ValueError("compressed run lengths are damaged")
            counts.append(value)
            value = shift = 0
    if shift:
        raise ValueError("compressed run lengths are cut short")
    return counts


def from_runs(counts: Sequence[int], size: Size) -> np.ndarray:
    """(H, W) bool from run lengths of zeros and ones in turn, down the columns. Raises ValueError."""
    width, height = size
    if sum(counts) != width * height:
        raise ValueError(f"run lengths cover {sum(counts):,} pixels, not {width} x {height}")
    runs = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.ascontiguousarray(runs.reshape(width, height).T)


# ---- labelme ---------------------------------------------------------------------------------------------------------


def _labelme(data: Fields, path: Path, photo: str, photo_size: Size) -> tuple[list[Found], list[str]]:
    size = _size(data.whole("imageWidth", photo_size[0]), data.whole("imageHeight", photo_size[1]))
    notes = []
    if "imagePath" in data and _stem(data.text("imagePath")) != _stem(photo):
        notes.append(f"is about {data.text('imagePath')!r}")
    groups: dict[Any, Found] = {}
    ignored: list[str] = []
    for number, row in enumerate(data.rows("shapes", "shape")):
        kind, label = row.text("shape_type", "polygon"), row.text("label")
        mask = _shape(row, kind, size)
        if mask is None:
            ignored.append(f"{kind} {label!r}")
            continue
        group = row.whole("group_id", None)
        key = number if group is None else (group, label)
        mask = mask | groups[key].mask if key in groups else mask
        groups[key] = Found(label, mask, f"{path.name}, {label}")
        check_count(list(groups.values()), path)
    if ignored:
        notes.append(f"has shapes without an area, which are left out: {', '.join(ignored[:5])}")
    if not groups:
        raise ValueError("it has no shape with an area")
    return list(groups.values()), notes


def _shape(row: Fields, kind: str, size: Size) -> np.ndarray | None:
    """(H, W) bool; None for a shape without an area."""
    points = _points(row.value.get("points"))
    if len(points) > 2 and kind in ("polygon", "rectangle", "rotation", "quadrilateral"):  # X-AnyLabeling has the rest
        return _filled([points], size)
    if kind in ("rectangle", "mask") and len(points) == 2:
        (x0, x1), (y0, y1) = sorted(p[0] for p in points), sorted(p[1] for p in points)
        if kind == "rectangle":
            return _filled([[(x0, y0), (x1, y0), (x1, y1), (x0, y1)]], size)
        return _pasted(row.text("mask"), round(x0), round(y0), size)
    if kind == "circle" and len(points) == 2:
        (x, y), edge = points
        radius = float(np.hypot(edge[0] - x, edge[1] - y))
        turn = np.linspace(0, 2 * np.pi, 180, endpoint=False)
        return _filled([list(zip(x + radius * np.cos(turn), y + radius * np.sin(turn), strict=True))], size)
    return None


def _pasted(text: str, x: int, y: int, size: Size) -> np.ndarray:
    """A small mask, PNG in base64, with its corner at (x, y)."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as image:
            if image.width > size[0] or image.height > size[1]:
                raise ValueError("the PNG of a shape is larger than the photo")
            small = np.asarray(image.convert("L")) > 0
    except (OSError, binascii.Error, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"the PNG of a shape is damaged ({error})") from error
    whole = Image.new("1", size)
    whole.paste(Image.fromarray(small), (x, y))
    return np.asarray(whole).astype(bool)


# ---- polygons --------------------------------------------------------------------------------------------------------


def _size(width: int, height: int) -> Size:
    if not (width > 0 and height > 0 and width * height <= MAX_PIXELS):
        raise ValueError(f"it is for a photo of {width} x {height} px")
    return width, height


def _pairs(numbers: Any) -> list[tuple[float, float]]:
    """x0, y0, x1, y1, ... as points."""
    if not isinstance(numbers, list) or len(numbers) % 2:
        raise ValueError("a polygon is not a list of x and y in turn")
    return _points([numbers[i : i + 2] for i in range(0, len(numbers), 2)])


def _points(value: Any) -> list[tuple[float, float]]:
    rows = Fields({"points": value}, "a shape")
    return [tuple(row) for row in rows.array("points", (len(value), 2))] if isinstance(value, list) and value else []


def _filled(polygons: Iterable[Sequence[tuple[float, float]]], size: Size) -> np.ndarray:
    """(H, W) bool: the pixels whose centres lie in one of the polygons; the first pixel's corner is at (0, 0)."""
    filled = np.zeros(size[::-1], dtype=bool)
    for polygon in polygons:
        points = np.asarray(polygon)
        if min(size) > 2 and points.min() >= 0 and points.max() <= 1:
            raise ValueError("a polygon has coordinates from 0 to 1. Expected pixels of the photo")
        low = np.clip(np.floor(points.min(0)), 0, size).astype(int)
        high = np.clip(np.ceil(points.max(0)), 0, size).astype(int)
        width, height = (int(side) for side in high - low)
        if width and height:
            filled[low[1] : high[1], low[0] : high[0]] |= _one_filled(points - low, width, height)
    return filled


def _one_filled(points: np.ndarray, width: int, height: int) -> np.ndarray:
    """(height, width) bool. Drawn finer, since Pillow fills every pixel that an outline touches."""
    finer = 5 if width * height < _DRAWN_PIXELS // 25 else 1
    image = Image.new("L", (width * finer, height * finer))
    within = np.clip(points, -max(width, height), 2 * max(width, height))  # points far outside would take it long
    ImageDraw.Draw(image).polygon([(x, y) for x, y in (within * finer - 0.5).tolist()], fill=1)
    middle = finer // 2
    return np.asarray(image)[middle::finer, middle::finer] > 0
