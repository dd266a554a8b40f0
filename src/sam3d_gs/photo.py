"""Opening photos as upright 8-bit RGB, and the camera's focal length."""

from __future__ import annotations

import logging
import math
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from sam3d_gs.errors import BadInputError
from sam3d_gs.files import sha256_of
from sam3d_gs.options import PhotoOptions
from sam3d_gs.types import Photo

log = logging.getLogger("sam3d_gs")

MAX_PIXELS = 300_000_000  # a guard against decompression bombs; opening 300 Mpx takes about 1 GB
USUAL_FOV_DEG = 55.0  # along the longer side: between phone cameras and typical photos on the web
_FILM_DIAGONAL_MM = math.hypot(36, 24)  # the "35 mm equivalent" of EXIF compares diagonals
_EXIF_IFD, _FOCAL_35MM = 0x8769, 0xA405


def open_image(path: Path) -> Image.Image:
    """The decoded image with EXIF orientation applied, in the file's own mode.

    Raises BadInputError, naming the file, if it is missing, empty, truncated, too large or not an image.
    """
    if not path.exists():
        raise BadInputError(f"No such file: {path}.")
    if path.is_dir():
        raise BadInputError(f"{path} is a folder, not a picture.")
    try:
        if path.stat().st_size == 0:
            raise BadInputError(f"{path} is empty (0 bytes).")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's warnings about size, from a lower limit, and damaged EXIF blocks
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadInputError(
                        f"{path} has {image.width} x {image.height} pixels, more than {MAX_PIXELS // 1_000_000} "
                        "million. Scale it down first."
                    )
                image.load()
                return upright(image)
    except UnidentifiedImageError as error:
        raise BadInputError(f"{path} is not an image this program can read.") from error
    except Image.DecompressionBombError as error:
        raise BadInputError(f"{path} is too large to open safely: {error}. Scale it down first.") from error
    except BadInputError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, OverflowError) as error:  # raised by decoders
        raise BadInputError(f"{path} cannot be read: {error or type(error).__name__}.") from error


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
    return photo_of_image(open_image(path), path, sha256_of(path), options)


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
