"""Opening a user's photo, whatever it is: upright 8-bit RGB, or one clear line saying why not."""

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

MAX_PIXELS = 300_000_000  # more is taken for a decompression bomb; 300 Mpx need about 1 GB while being opened
USUAL_FOV_DEG = 55.0  # along the longer side: between telephones and what the web shows
_FILM_DIAGONAL_MM = math.hypot(36, 24)  # the "35 mm equivalent" of EXIF compares diagonals
_EXIF_IFD, _FOCAL_35MM = 0x8769, 0xA405


def open_image(path: Path) -> Image.Image:
    """A decoded picture, upright (EXIF orientation applied), of whatever mode the file has.

    Raises BadInputError naming the file when it is missing, empty, truncated, too large or no image at all.
    """
    if not path.exists():
        raise BadInputError(f"No such file: {path}.")
    if path.is_dir():
        raise BadInputError(f"{path} is a folder, not a picture.")
    try:
        if path.stat().st_size == 0:
            raise BadInputError(f"{path} is empty (0 bytes).")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, lower, size warning; damaged EXIF blocks
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadInputError(
                        f"{path} has {image.width} x {image.height} pixels, more than {MAX_PIXELS // 1_000_000} "
                        "million. Scale it down first."
                    )
                image.load()
                return _upright(image)
    except UnidentifiedImageError as error:
        raise BadInputError(f"{path} is not an image this program can read.") from error
    except Image.DecompressionBombError as error:
        raise BadInputError(f"{path} is too large to open safely: {error}. Scale it down first.") from error
    except BadInputError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, OverflowError) as error:  # what decoders raise
        raise BadInputError(f"{path} cannot be read: {error or type(error).__name__}.") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block must not cost the picture
        return image.copy()


def to_rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB: 16-bit and float greys are scaled, transparency is laid on white."""
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
    """The value that means white: the type's own for 16-bit, guessed from the content for 32-bit and float."""
    top = float(values.max(initial=0.0))
    if mode.startswith("I;16"):
        return 65535.0
    if mode == "I":
        return 65535.0 if top > 255 else 255.0
    return 1.0 if top <= 1 else max(255.0, top)


def load_photo(path: Path, options: PhotoOptions = PhotoOptions()) -> Photo:
    """Open a photo for the pipeline.

    Photos with a longer side above `options.max_side_px` are worked on at that size; masks and K then refer to
    the smaller picture, which the workspace keeps as image.png. Raises BadInputError.
    """
    return photo_of_image(open_image(path), path, sha256_of(path), options)


def photo_of_image(image: Image.Image, path: Path, sha256: str, options: PhotoOptions = PhotoOptions()) -> Photo:
    """A photo from a decoded, upright picture; `path` is where it came from, and its stem the photo's name."""
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
    """Focal length in pixels from EXIF's 35 mm equivalent, None when absent or absurd."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            millimetres = float(image.getexif().get_ifd(_EXIF_IFD).get(_FOCAL_35MM) or 0)
    except Exception:  # EXIF is third-party data of any quality
        return None
    if not 5 <= millimetres <= 2000:
        return None
    return millimetres / _FILM_DIAGONAL_MM * math.hypot(*image.size)


def warn_of_unused_fov(photo: Photo, fov_deg: float | None) -> None:
    """A user's field of view is for photos that do not tell their focal length: say so for one that does."""
    if fov_deg is not None and photo.focal_px is not None:
        log.warning("%s: EXIF gives its focal length, so --fov is not used.", photo.path.name)


def intrinsics(width_px: int, height_px: int, focal_px: float | None, fov_deg: float | None) -> np.ndarray:
    """K (3, 3) float64 with the principal point at the photo's centre.

    Without `focal_px` the focal length follows from `fov_deg`, the field of view along the longer side, and without
    that from `USUAL_FOV_DEG`.
    """
    fov_deg = USUAL_FOV_DEG if fov_deg is None else fov_deg
    if focal_px is None or not math.isfinite(focal_px) or focal_px <= 0:
        focal_px = max(width_px, height_px) / 2 / math.tan(math.radians(fov_deg) / 2)
    return np.array([[focal_px, 0, width_px / 2], [0, focal_px, height_px / 2], [0, 0, 1]], np.float64)
