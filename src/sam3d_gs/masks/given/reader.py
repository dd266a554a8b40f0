"""All masks of a photo from a folder or a file, of any kind this program reads."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sam3d_gs.errors import BadInputError
from sam3d_gs.files import exists, sha256_of
from sam3d_gs.masks.given.arrays import one_mask, read_arrays
from sam3d_gs.masks.given.found import Found, check_count
from sam3d_gs.masks.given.outlines import is_for, read_outlines
from sam3d_gs.masks.given.pictures import read_picture
from sam3d_gs.masks.given.placed import doubts, not_inverted, on_photo
from sam3d_gs.photo import exif_orientation
from sam3d_gs.types import Photo

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pbm", ".avif", ".heic")
ARRAYS = (".npy", ".npz")
OUTLINES = (".json",)
SUFFIXES = (*PICTURES, *ARRAYS, *OUTLINES)
_NO_MASKS = {"thumbs.db", "desktop.ini"}
_OUR_ID = re.compile(r"\d{2,}-(?P<slug>.+)-\d+")  # 00-wooden-chair-0
MAX_NAME = 100  # characters of an object's name


def read_given(path: Path, photo: Photo) -> tuple[list[Found], list[str]]:
    """The objects in a folder or file of masks, at the photo's size, in natural order of the files; and warnings.

    Raises BadInputError, naming the file, for one that cannot be read, or is taken for no mask.
    """
    files = [file for file in mask_files(path) if sha256_of(file) != photo.sha256]  # the photo may be among them
    names = [photo.path.name] if len(files) > 1 else []
    files = [file for file in files if file.suffix.lower() not in OUTLINES or not names or is_for(file, names[0])]
    if not files:
        raise _nothing(path, photo)
    found: list[Found] = []
    warnings = _unread(path)
    for file in files:
        objects, notes = _read(file, photo)
        found += objects
        warnings += [f"{file.name} {note}." for note in notes]
        check_count(found, path)
    named = [Found(clean_name(item.name), item.mask, item.source) for item in found]
    placed, turned = on_photo(named, photo, _orientation(photo))
    placed, inverted = not_inverted(placed)
    return placed, [*warnings, *turned, *inverted, *doubts(placed)]


def place_arrays(arrays: Sequence[np.ndarray], names: Sequence[str], photo: Photo) -> tuple[list[Found], list[str]]:
    """Masks in memory, one (H, W) array each, at the photo's size; and warnings.

    They have the size of the photo or of its file, upright or as it is stored. Raises BadInputError for another size.
    """
    orientation, warnings, found = _orientation(photo), [], []
    sizes = {(photo.width_px, photo.height_px), photo.file_size or (photo.width_px, photo.height_px)}
    if orientation > 4:  # stored on its side
        sizes |= {(height, width) for width, height in sizes}
    for number, (array, name) in enumerate(zip(arrays, names, strict=True)):
        source = f"Mask {number}"
        mask, notes = one_mask(array, source)
        if mask.shape[::-1] not in sizes:
            raise BadInputError(f"{source} has shape {mask.shape}, the photo {(photo.height_px, photo.width_px)}.")
        found.append(Found(name, mask, source))
        warnings += [f"{source} {note}." for note in notes]
    placed, turned = on_photo(found, photo, orientation)
    return placed, [*warnings, *turned, *doubts(placed)]


def mask_files(path: Path) -> list[Path]:
    """The file, or the files of a folder in natural order, 2 before 10. Raises BadInputError if there is nothing."""
    if not exists(path):
        raise BadInputError(f"No such folder or file of masks: {path}.")
    if path.is_file():
        return [path]
    if not path.is_dir():  # reading a pipe may never end
        raise BadInputError(f"{path} is neither a folder nor a file of masks.")
    files = [file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")]
    for file in files:
        if not file.is_file():
            raise BadInputError(f"{file} is not a file. Take it out of the masks.")
    return sorted(files, key=lambda file: [int(p) if p.isdecimal() else p for p in re.split(r"(\d+)", file.name)])


def phrase_from_name(stem: str) -> str:
    """The words of a file name as the object's phrase."""
    match = _OUR_ID.fullmatch(stem)
    return clean_name(re.sub(r"[\s_\-.]+", " ", match["slug"] if match else stem))


def clean_name(text: str) -> str:
    """A name from a file as one line of words; "object" if nothing is left."""
    plain = "".join(c if unicodedata.category(c)[0] not in "CZ" else " " for c in text)
    return " ".join(plain.split())[:MAX_NAME].strip() or "object"


def _read(file: Path, photo: Photo) -> tuple[Sequence[Found], Sequence[str]]:
    suffix, name = file.suffix.lower(), phrase_from_name(file.stem)
    if suffix in ARRAYS:
        return read_arrays(file, name, photo.width_px / photo.height_px)
    if suffix in OUTLINES:
        return read_outlines(file, photo.path.name, photo.file_size or (photo.width_px, photo.height_px))
    return read_picture(file, name)


def _nothing(path: Path, photo: Photo) -> BadInputError:
    """The error for a folder without masks of this photo: what else it holds is most of the answer."""
    others = [file for file in mask_files(path) if file.suffix.lower() in OUTLINES]
    folders = sorted(f"{item.name}/" for item in path.iterdir() if item.is_dir()) if path.is_dir() else []
    if others:
        return BadInputError(f"No masks of {photo.path.name} in {path}: its .json files are about other photos.")
    if folders:
        return BadInputError(f"No masks in {path}, but folders: {', '.join(folders[:5])}. Give one of them.")
    unread = "".join(f" {note}" for note in _unread(path))
    return BadInputError(
        f"No masks in {path}, other than the photo itself. Expected files that end with {', '.join(SUFFIXES)}.{unread}"
    )


def _unread(path: Path) -> list[str]:
    """A warning that names the files of a folder which are no masks."""
    if not path.is_dir():
        return []
    left = sorted(
        file.name
        for file in path.iterdir()
        if file.is_file()
        and file.suffix.lower() not in SUFFIXES
        and not file.name.startswith(".")
        and file.name.lower() not in _NO_MASKS
    )
    some = ", ".join(left[:5]) + (", ..." if len(left) > 5 else "")
    return [f"Not read, since masks have other endings: {some}."] if left else []


def _orientation(photo: Photo) -> int:
    """The EXIF orientation of the photo's file; 1 for a photo in memory, whose path may name another file."""
    is_file = exists(photo.path) and photo.path.is_file() and sha256_of(photo.path) == photo.sha256
    return exif_orientation(photo.path) if is_file else 1
