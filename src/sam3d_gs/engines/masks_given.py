"""The user's own masks: a folder of mask images or RGBA cut-outs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from sam3d_gs.errors import BadInputError, UsageError
from sam3d_gs.files import sha256_of
from sam3d_gs.options import GivenMaskOptions
from sam3d_gs.photo import open_image
from sam3d_gs.types import InstanceMask, Photo, Phrase
from sam3d_gs.workspace import object_id

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
_OUR_ID = re.compile(r"\d{2,}-(?P<slug>.+)-\d+")  # 00-wooden-chair-0


class GivenMasks:
    """Reads each image of a folder as the mask of one object, in natural order of the file names."""

    def __init__(self, options: GivenMaskOptions) -> None:
        """Raises UsageError without `masks_dir`, BadInputError when there is no such folder."""
        if options.masks_dir is None:
            raise UsageError("Engine 'given' of masks needs --masks DIR.")
        self._folder = options.masks_dir
        self._files = mask_files(options.masks_dir)

    def masks(self, photo: Photo, phrases: Sequence[Phrase]) -> list[InstanceMask]:
        """Masks at photo size, score 1, empty ones last as dropped. Raises BadInputError naming a bad file."""
        files = [path for path in self._files if sha256_of(path) != photo.sha256]  # the photo may be in the same folder
        if not files:
            raise BadInputError(f"No masks in {self._folder}. Expected images ({', '.join(sorted(SUFFIXES))}).")
        found = [self._read(path, number, photo) for number, path in enumerate(files)]
        return sorted(found, key=lambda mask: mask.dropped is not None)  # stable: kept ones first

    def _read(self, path: Path, number: int, photo: Photo) -> InstanceMask:
        name = phrase_from_name(path.stem)
        mask = read_mask(path, (photo.width_px, photo.height_px))
        empty = None if mask.any() else f"empty mask ({path.name})"
        return InstanceMask(object_id(number, name, 0), name, mask, 1.0, dropped=empty)


def mask_files(folder: Path) -> list[Path]:
    """The image files of a folder in natural order, 2 before 10. Raises BadInputError when there is no such folder."""
    if not folder.is_dir():
        raise BadInputError(f"No such folder of masks: {folder}.")
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    return sorted(files, key=lambda path: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", path.name)])


def phrase_from_name(stem: str) -> str:
    """The words of a file name as the object's phrase."""
    match = _OUR_ID.fullmatch(stem)
    words = re.sub(r"[\s_\-.]+", " ", match["slug"] if match else stem).strip()
    return words or "object"


def read_mask(path: Path, size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool at `size` = (width, height) px from a mask image.

    An image with transparent parts is a mask by its alpha, one with a palette by its indices (0 is outside), any other
    by a threshold at half its largest value, so that 0/1 and 0/255 masks both work. An image of the photo's aspect
    ratio is resized. Raises BadInputError for another aspect ratio.
    """
    image = open_image(path)
    values = _mask_values(image)
    if image.size != size:
        same_shape = abs(image.width * size[1] - image.height * size[0]) <= max(image.size) + max(size)
        if not same_shape:
            raise BadInputError(
                f"{path} has {image.width} x {image.height} pixels, the photo {size[0]} x {size[1]}. "
                "Masks must cover the whole photo, not a crop of it."
            )
        scaled = Image.fromarray((values * 255).astype(np.uint8)).resize(size, Image.Resampling.BOX)
        return np.asarray(scaled) > 127
    return values


def _mask_values(image: Image.Image) -> np.ndarray:
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA"))[..., 3]
        if alpha.min() < 128:  # an opaque alpha channel holds no mask
            return alpha > 127
        image = image.convert("RGB")
    if image.mode == "P":
        return np.asarray(image) > 0
    image = image if image.mode[0] in "IF" else image.convert("L")
    grey = np.asarray(image, dtype=np.float64)
    top = grey.max(initial=0.0)
    if 1 < top < 64 and image.mode == "L":  # compression noise in an all-black image
        return np.zeros(grey.shape, dtype=bool)
    return grey > top / 2
