"""A sheet of real objects seen from all sides, to compare weights of the object net by eye.

    python benchmarks/contact_sheets.py SHEET.png --photos DIR [--cutouts DIR] [--weights shipped FILE ...] [--count 20]

Each row shows an object in its photo and then, for each of the weights, the object from yaw 0, 45, -45, 90 and 180.
`--photos` has the same layout as for `mask_recall.py`; `--cutouts` contains pictures of one object each, with an alpha
channel. `inflation` among the weights means no net. It shows errors that numbers do not.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mask_recall import labelled_photos
from PIL import Image, ImageDraw

from sam3d_gs.engines.objects_embedded import SHIPPED, EmbeddedObjects
from sam3d_gs.gaussians.pose import quat_to_matrix
from sam3d_gs.gaussians.thinning import thin
from sam3d_gs.options import EmbeddedObjectOptions
from sam3d_gs.photo import load_photo
from sam3d_gs.report.overlay import font
from sam3d_gs.report.pictures import object_views
from sam3d_gs.types import InstanceMask, Photo, PlacedObject

YAWS_DEG = (0.0, 45.0, -45.0, 90.0, 180.0)
SIDE_PX = 144
HEAD_PX = 22
GAUSSIANS = 60_000  # in one picture


@dataclass(frozen=True)
class Case:
    """One object to show; the other masks of its photo are used to place it."""

    name: str
    photo: Photo
    masks: list[InstanceMask]
    object_id: str


def cases(photos: Path | None, cutouts: Path | None, count: int) -> list[Case]:
    """About `count` objects, evenly chosen from all."""
    every = [*(_of_photos(photos) if photos else ()), *(_of_cutouts(cutouts) if cutouts else ())]
    chosen = np.unique(np.linspace(0, len(every) - 1, min(count, len(every))).round().astype(int))
    return [every[i] for i in chosen]


def _of_photos(folder: Path) -> Iterator[Case]:
    for name, rgb, arrays in labelled_photos(folder):
        photo = Photo(folder / name, name, rgb, name)
        masks = [InstanceMask(f"{i:02d}-object-0", "object", mask, 1.0) for i, mask in enumerate(arrays)]
        yield from (Case(f"{name} {i}", photo, masks, mask.object_id) for i, mask in enumerate(masks))


def _of_cutouts(folder: Path) -> Iterator[Case]:
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as picture:
            alpha = np.asarray(picture.convert("RGBA"))[..., 3] > 127
        photo = load_photo(path)
        mask = InstanceMask("00-object-0", "object", alpha, 1.0)
        if mask.mask.shape == photo.rgb.shape[:2] and mask.area_px:
            yield Case(path.stem, photo, [mask], mask.object_id)


def views(case: Case, engine: EmbeddedObjects) -> list[Image.Image]:
    """The object from all yaws; grey if the engine failed."""
    made = next(iter(engine.objects(case.photo, case.masks, [case.object_id])))
    if not isinstance(made, PlacedObject):
        return [Image.new("RGB", (SIDE_PX, SIDE_PX), (128, 128, 128)) for _ in YAWS_DEG]
    x, y, z = quat_to_matrix(made.pose.quat_wxyz).T @ -made.pose.translation
    return object_views(thin(made.gaussians, GAUSSIANS), YAWS_DEG, (float(x), float(y), float(z)), SIDE_PX)


def seen(case: Case) -> Image.Image:
    """The object's pixels in its photo, on white."""
    mask = next(m for m in case.masks if m.object_id == case.object_id)
    x0, y0, x1, y1 = mask.box_xyxy
    white = np.where(mask.mask[..., None], case.photo.rgb, np.uint8(255))[y0:y1, x0:x1]
    picture = Image.fromarray(np.ascontiguousarray(white))
    picture.thumbnail((SIDE_PX, SIDE_PX))
    square = Image.new("RGB", (SIDE_PX, SIDE_PX), (255, 255, 255))
    square.paste(picture, ((SIDE_PX - picture.width) // 2, (SIDE_PX - picture.height) // 2))
    return square


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sheet", type=Path, help="picture to write")
    parser.add_argument("--photos", type=Path, help="folder of photos with real masks")
    parser.add_argument("--cutouts", type=Path, help="folder of pictures with an alpha channel")
    parser.add_argument("--weights", nargs="+", default=[SHIPPED], help="files, 'shipped' or 'inflation'")
    parser.add_argument("--count", type=int, default=20)
    arguments = parser.parse_args()
    chosen = cases(arguments.photos, arguments.cutouts, arguments.count)
    if not chosen:
        parser.error("no objects found: --photos or --cutouts")
    engines = {w: EmbeddedObjects(EmbeddedObjectOptions(), None if w == "inflation" else w) for w in arguments.weights}

    columns = 1 + len(engines) * len(YAWS_DEG)
    sheet = Image.new("RGB", (columns * SIDE_PX, len(chosen) * SIDE_PX + HEAD_PX), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for i, weights in enumerate(engines):
        draw.text(((1 + i * len(YAWS_DEG)) * SIDE_PX + 4, 3), Path(weights).name, (0, 0, 0), font(14))
    for row, case in enumerate(chosen):
        top = HEAD_PX + row * SIDE_PX
        pictures = [seen(case), *(view for engine in engines.values() for view in views(case, engine))]
        for column, picture in enumerate(pictures):
            sheet.paste(picture, (column * SIDE_PX, top))
        draw.text((4, top + 2), case.name, (160, 0, 0), font(11))
        print(f"{row + 1}/{len(chosen)} {case.name}", flush=True)
    sheet.save(arguments.sheet)


if __name__ == "__main__":
    main()
