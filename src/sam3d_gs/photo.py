"""Opening photos as upright 8-bit RGB, and the camera's focal length."""

from __future__ import annotations

import importlib
import logging
import math
import re
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.files import sha256_of
from sam3d_gs.options import PhotoOptions
from sam3d_gs.types import Photo

log = logging.getLogger("sam3d_gs")

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF")  # Pillow's names
MAX_BYTES = 1 << 30  # of a file
MAX_PIXELS = 300_000_000  # a guard against decompression bombs; opening 300 Mpx takes about 1 GB
USUAL_FOV_DEG = 55.0  # along the longer side: between phone cameras and typical photos on the web
_FILM_DIAGONAL_MM = math.hypot(36, 24)  # the "35 mm equivalent" of EXIF compares diagonals
UPRIGHT = 1  # EXIF orientation
_ORIENTATION, _EXIF_IFD, _FOCAL_35MM = 0x0112, 0x8769, 0xA405
_DNG_VERSION, _SUBFILE_TYPE, _PREVIEW = 50706, 254, 1  # TIFF tags, and what the second is for a smaller copy
_START_BYTES = 512
_OTHER_KINDS = (
    ("PostScript", rb"%!|\xc5\xd0\xd3\xc6|\x04%!"),
    ("PDF", rb".{0,200}%PDF-"),
    ("Photoshop layers", rb"8BPS"),
    ("JPEG 2000", rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51"),
    ("JPEG XL", rb"\xff\x0a|\x00\x00\x00\x0cJXL "),
    ("an OpenEXR picture", rb"\x76\x2f\x31\x01"),
    ("a Radiance HDR picture", rb"#\?(RADIANCE|RGBE)"),
    ("an SVG drawing", rb"\s*(<\?xml.*)?\s*(<!--.*-->)?\s*<svg"),
    ("a web page (HTML)", rb"\s*(<!doctype html|<!DOCTYPE html|<html|<HTML)"),
    ("a Git LFS pointer instead of the picture", rb"version https://git-lfs"),
    ("a zip archive", rb"PK\x03\x04"),
    ("an icon or a Targa picture", rb"\x00\x00[\x01\x02]\x00"),
    ("a Windows metafile", rb"\xd7\xcd\xc6\x9a|\x01\x00\x00\x00.{36} EMF"),
    ("camera raw data", rb"FUJIFILMCCD-RAW|.{6}CR2|IIU\x00|II\x1a\x00\x00\x00HEAPCCDR"),
    ("a NumPy array", rb"\x93NUMPY"),
)


def open_image(path: Path) -> Image.Image:
    """The decoded image with EXIF orientation applied, in the file's own mode; of several frames, the first.

    Raises BadInputError, naming the file, as `opened` does.
    """
    with opened(path) as image:
        return upright(image)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """An image file while the block runs, its first frame decoded. Every picture of a user is opened here.

    Only formats of pixels are opened, never one that is a program, like PostScript. Raises BadInputError, naming the
    file, if it is missing, empty, truncated, too large, not an image, or damaged where the block reads it.
    """
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise BadInputError(f"{path} is a folder, not a picture.")
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device may never end
            raise BadInputError(f"{path} is not a regular file.")
        if not 0 < status.st_size <= MAX_BYTES:
            raise BadInputError(f"{path} {_wrong_size(status.st_size)}.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings about size, from a lower limit, and damaged EXIF blocks
            with _decoder(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadInputError(
                        f"{path} has {image.width} x {image.height} pixels, more than {MAX_PIXELS // 1_000_000} "
                        "million. Scale it down first."
                    )
                _refuse_previews(path, image)
                image.load()
                yield image
    except FileNotFoundError as error:
        raise BadInputError(f"No such file: {path}.") from error
    except Image.DecompressionBombError as error:
        raise BadInputError(f"{path} is too large to open safely: {error}. Scale it down first.") from error
    except Sam3dGsError:
        raise
    except Exception as error:  # decoders raise nearly everything on damaged files
        reason = getattr(error, "strerror", None) or error or type(error).__name__
        raise BadInputError(f"{path} cannot be read: {reason}.") from error


def _refuse_previews(path: Path, image: Image.Image) -> None:
    """Raw files of cameras look like TIFF, and the first picture in them is a small preview."""
    if image.format != "TIFF":
        return
    tags = getattr(image, "tag_v2", {})
    with path.open("rb") as stream:
        is_cr2 = stream.read(10)[8:] == b"CR"
    if is_cr2 or _DNG_VERSION in tags or tags.get(_SUBFILE_TYPE) == _PREVIEW:
        raise BadInputError(f"{path} holds camera raw data and a preview. Save the photo as JPEG or PNG.")


def _wrong_size(size: int) -> str:
    return "is empty (0 bytes)" if not size else f"is larger than {MAX_BYTES >> 30} GiB"


def _decoder(path: Path) -> Image.Image:
    """Raises BadInputError, saying what else the file is, if none of the decoders takes it."""
    try:
        Image.init()
        return Image.open(path, formats=[name for name in FORMATS if name in Image.OPEN])  # AVIF is optional
    except UnidentifiedImageError as error:
        with path.open("rb") as stream:
            start = stream.read(_START_BYTES)
        if kind_of(start) == "HEIC" and _heif_is_registered():
            return Image.open(path, formats=("HEIF",))
        raise BadInputError(f"{path} {_what_it_is(start)}") from error


def _heif_is_registered() -> bool:
    """Whether pillow-heif, an optional package, is here; Pillow then opens HEIC photos."""
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        return False
    return True


def kind_of(start: bytes) -> str:
    """What a file that is not an image of FORMATS is, by its first bytes; "" if unknown."""
    brand = start[8:12] if start[4:8] == b"ftyp" else b""
    if brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"):
        return "HEIC"
    if brand:
        return "AVIF" if brand in (b"avif", b"avis") else "a video"
    return next((kind for kind, magic in _OTHER_KINDS if re.match(magic, start, re.DOTALL)), "")


def _what_it_is(start: bytes) -> str:
    kind = kind_of(start)
    if kind == "HEIC":
        return "is a HEIC photo. Run `pip install pillow-heif` in this environment, or save it as JPEG."
    if kind in FORMATS and kind in Image.OPEN:
        return f"is a damaged {kind} picture."
    if not kind:
        return f"is not an image this program can read. It reads {', '.join(FORMATS)}."
    return f"holds {kind}, which this program does not open. Save it as PNG or JPEG."


def upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # the image is usable even if its EXIF block is damaged
        return image.copy()


def to_rgb(image: Image.Image) -> Image.Image:
    """The image as 8-bit RGB: 16-bit and float greyscale is rescaled, transparency becomes white."""
    if image.mode[0] in "IF":
        values = np.nan_to_num(np.asarray(image, dtype=np.float64), nan=0.0, posinf=0.0, neginf=0.0)
        grey = np.clip(values / _full_scale(image.mode, values) * 255 + 0.5, 0, 255)
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        coloured = image.convert("RGBA")
        white = Image.new("RGBA", coloured.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, coloured).convert("RGB")
    return image.convert("RGB")


def _full_scale(mode: str, values: np.ndarray) -> float:
    """The value of white: 65535 for 16-bit, else guessed from the largest value."""
    top = float(values.max(initial=0.0))
    if mode.startswith("I;16"):
        return 65535.0
    if mode == "I":
        return 65535.0 if top > 255 else 255.0
    return 1.0 if top <= 1 else max(255.0, top)


def load_photo(path: Path, options: PhotoOptions = PhotoOptions()) -> Photo:
    """The photo at `path`, scaled down if its longer side exceeds `options.max_side_px`.

    Masks and K then refer to the smaller image, which the workspace keeps as image.png. Raises BadInputError.
    """
    with opened(path) as image:
        if image.format != "MPO" and frame_count(image) > 1:  # an MPO has one photo, and small or shifted copies
            log.warning("%s has %d frames or pages: the first is the photo.", path, frame_count(image))
            image.seek(0)
        pixels = upright(image)
    return photo_of_image(pixels, path, sha256_of(path), options)


def frame_count(image: Image.Image) -> int:
    """Frames of an animation or pages of a file that is open."""
    return int(getattr(image, "n_frames", 1))


def exif_orientation(path: Path) -> int:
    """The EXIF orientation of a photo's file, 1 to 8, that `open_image` applies; UPRIGHT if it has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=("JPEG", "PNG", "WEBP", "TIFF")) as image:  # those with EXIF
                found = image.getexif().get(_ORIENTATION, UPRIGHT)
    except Exception:  # it was opened before; its EXIF block may be damaged
        return UPRIGHT
    return found if found in range(1, 9) else UPRIGHT


def turn_upright(values: np.ndarray, orientation: int) -> np.ndarray:
    """(h, w) in the rows and columns that the file of a photo has -> upright, as `open_image` turns photos."""
    turns: dict[int, Callable[[np.ndarray], np.ndarray]] = {
        2: lambda v: v[:, ::-1],
        3: lambda v: v[::-1, ::-1],
        4: lambda v: v[::-1],
        5: lambda v: v.T,
        6: lambda v: np.rot90(v, -1),
        7: lambda v: v[::-1, ::-1].T,
        8: lambda v: np.rot90(v),
    }
    return np.ascontiguousarray(turns[orientation](values)) if orientation in turns else values


def photo_of_image(image: Image.Image, path: Path, sha256: str, options: PhotoOptions = PhotoOptions()) -> Photo:
    """A photo from a decoded, upright image that came from `path`, whose stem becomes the photo's name."""
    focal_px = focal_from_exif(image)
    longest, file_size = max(image.size), image.size
    if longest > options.max_side_px:
        ratio = options.max_side_px / longest
        size = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
        image = to_rgb(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
        focal_px = focal_px and focal_px * ratio
    rgb = np.asarray(to_rgb(image), dtype=np.uint8)
    return Photo(path=path, name=path.stem, rgb=rgb, sha256=sha256, focal_px=focal_px, file_size=file_size)


def focal_from_exif(image: Image.Image) -> float | None:
    """Focal length in pixels from EXIF's 35 mm equivalent; None if absent or not from 5 to 2000 mm."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            millimetres = float(image.getexif().get_ifd(_EXIF_IFD).get(_FOCAL_35MM) or 0)
    except Exception:  # EXIF blocks are often malformed
        return None
    if not 5 <= millimetres <= 2000:
        return None
    return millimetres / _FILM_DIAGONAL_MM * math.hypot(*image.size)


def warn_of_unused_fov(photo: Photo, fov_deg: float | None) -> None:
    """A user's field of view is for photos that do not tell their focal length: say so for one that does."""
    if fov_deg is not None and photo.focal_px is not None:
        log.warning("%s: EXIF gives its focal length, so --fov is not used.", photo.path.name)


def intrinsics(width_px: int, height_px: int, focal_px: float | None, fov_deg: float | None) -> np.ndarray:
    """K (3, 3) float64, in pixels, with the principal point at the photo's centre.

    If `focal_px` is None or invalid, the focal length comes from `fov_deg`, the field of view along the longer side
    (default USUAL_FOV_DEG).
    """
    fov_deg = USUAL_FOV_DEG if fov_deg is None else fov_deg
    if focal_px is None or not math.isfinite(focal_px) or focal_px <= 0:
        focal_px = max(width_px, height_px) / 2 / math.tan(math.radians(fov_deg) / 2)
    return np.array([[focal_px, 0, width_px / 2], [0, focal_px, height_px / 2], [0, 0, 1]], np.float64)
