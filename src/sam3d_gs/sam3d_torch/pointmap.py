"""Pointmaps: a 3-D point per pixel, in the camera frame that the networks were trained with.

That frame is PyTorch3D's (x left, y up, z forward); ours is OpenCV's (x right, y down, z forward). An invalid pixel is
NaN in all three coordinates.

Users may supply depth and intrinsics instead of the depth network's; the second half reads their files.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sam3d_gs.errors import BadInputError, MissingPackageError
from sam3d_gs.files import read_json
from sam3d_gs.photo import open_image

_MILLIMETRE = 1e-3
_MIN_FOCAL_PX = 16.0  # anything less is not a lens but intrinsics in units of the image sides
_EXR_CHANNELS = ("Z", "depth", "Depth", "Y", "V", "R")  # where renderers put depth; R for a grey picture saved as RGB
_ASPECT_TOLERANCE = 0.05  # depth networks round sides to multiples of their patch; a rotated map differs far more


def to_pytorch3d(points: Tensor) -> Tensor:
    """(..., 3) points in the OpenCV camera frame -> float32 in the PyTorch3D one.

    A point with any non-finite coordinate becomes NaN in all of them.
    """
    flipped = points.float() * torch.tensor((-1.0, -1.0, 1.0), device=points.device)
    invalid = ~torch.isfinite(points[..., 0])
    for axis in (1, 2):  # one axis at a time: no bool copy of the whole map
        invalid |= ~torch.isfinite(points[..., axis])
    return flipped.masked_fill_(invalid[..., None], torch.nan)


def from_depth(
    depth: np.ndarray, K: np.ndarray, photo_size: tuple[int, int], device: torch.device | str = "cpu"
) -> Tensor:
    """Pointmap of a depth map: every pixel's ray, times its depth.

    Args:
        depth: (h, w) metres along the optical axis (not along the ray); zero, negative and non-finite are invalid.
        K: (3, 3) pixels of the photo, pixel centres at half-integers, no skew.
        photo_size: (width, height) px. A depth map of another size covers the same view, so that K shrinks with it.
        device: of the result.

    Returns:
        (h, w, 3) float32, PyTorch3D camera frame, metres, NaN where invalid; the size is the depth map's.

    Raises:
        BadInputError: the depth map has another shape than the photo, or no valid pixel.
    """
    height, width = check_shape(depth, photo_size)
    x = ((np.arange(width) + 0.5) * (photo_size[0] / width) - K[0, 2]) / K[0, 0]
    y = ((np.arange(height) + 0.5) * (photo_size[1] / height) - K[1, 2]) / K[1, 1]
    z = torch.from_numpy(np.array(depth, dtype=np.float32)).to(device)
    z.masked_fill_(~(torch.isfinite(z) & (z > 0)), torch.nan)
    if bool(torch.isnan(z).all()):
        raise BadInputError("The depth map has no valid pixel: all are zero, negative or not finite. Give another one.")
    points = torch.empty((height, width, 3), dtype=torch.float32, device=device)
    torch.mul(z, torch.tensor(-x, dtype=torch.float32, device=device), out=points[..., 0])
    torch.mul(z, torch.tensor(-y, dtype=torch.float32, device=device)[:, None], out=points[..., 1])
    points[..., 2] = z
    return points


def check_shape(depth: np.ndarray, photo_size: tuple[int, int]) -> tuple[int, int]:
    """The (height, width) of a depth map, if it can be a view of the photo.

    Raises:
        BadInputError: it is rotated, or cropped differently.
    """
    height, width = depth.shape
    if abs(width * photo_size[1] / (height * photo_size[0]) - 1) > _ASPECT_TOLERANCE:
        raise BadInputError(
            f"The depth map is {width} x {height} px, the photo {photo_size[0]} x {photo_size[1]} px: their shapes "
            "differ. Give a depth map of the whole, upright photo."
        )
    return height, width


def pixel_intrinsics(normalised: Tensor, photo_size: tuple[int, int]) -> np.ndarray:
    """(3, 3) intrinsics in units of the image sides, as MoGe gives them, -> float64 pixels.

    Both put the corner of the top-left pixel at the origin, so that only the units change.
    """
    sides = np.array([photo_size[0], photo_size[1], 1.0])
    return np.asarray(normalised.detach().cpu().double().numpy() * sides[:, None], dtype=np.float64)


def resize(points: Tensor, height: int, width: int) -> Tensor:
    """(h, w, 3) -> (height, width, 3) by nearest neighbour; a mean of points across an edge would be on no surface."""
    if tuple(points.shape[:2]) == (height, width):
        return points
    rows = nearest(points.shape[0], height).to(points.device)
    columns = nearest(points.shape[1], width).to(points.device)
    return points[rows[:, None], columns]


@lru_cache(maxsize=64)
def nearest(source: int, target: int) -> Tensor:
    """(target,) int64 on the CPU: which of `source` pixels torch's nearest-neighbour resize picks for each target."""
    positions = torch.arange(source, dtype=torch.float32)  # exact below 2**24
    return F.interpolate(positions[None, None], size=target, mode="nearest")[0, 0].long()


def read_depth(path: Path, unit_m: float | None = None) -> np.ndarray:
    """A depth map from a .npy, .png or .exr file.

    Args:
        path: .npy of shape (h, w), also with one channel; .png with one 16-bit channel; .exr with a channel named Z,
            depth, Y, V or R, or with one channel only.
        unit_m: what the number 1 in the file means, metres. By default integers (every .png) count millimetres and
            floating-point numbers metres.

    Returns:
        (h, w) float32 metres, NaN where the file has zero, a negative number or none.

    Raises:
        BadInputError: the file is missing, unreadable, of another kind, or has no valid pixel.
        MissingPackageError: an .exr file, and the package OpenEXR is not installed.
    """
    readers = {".npy": _read_npy, ".png": _read_png, ".exr": _read_exr}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise BadInputError(f"{path} is no depth file. Give a .npy, .png (16 bit) or .exr file.")
    if not path.is_file():
        raise BadInputError(f"No depth file at {path}.")
    values = reader(path)
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or not values.size or values.dtype.kind not in "iuf":
        raise BadInputError(f"{path} holds {values.dtype} of shape {values.shape}, expected one number per pixel.")
    if unit_m is None:
        unit_m = 1.0 if values.dtype.kind == "f" else _MILLIMETRE
    with np.errstate(over="ignore", invalid="ignore"):
        depth = np.array(values, dtype=np.float32)
        depth *= np.float32(unit_m)
        depth[~((depth > 0) & np.isfinite(depth))] = np.nan
    if np.isnan(depth).all():
        raise BadInputError(f"{path} has no valid depth: every pixel is zero, negative or not finite.")
    return depth


def _read_npy(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:  # not numpy.load, which also opens archives and pickles
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise BadInputError(
            f"{path} is no readable .npy file: {_first_line(error)}. Write it with numpy.save."
        ) from error


def _read_png(path: Path) -> np.ndarray:
    image = open_image(path)
    if not image.mode.startswith("I"):  # I;16, I;16B, or I from an older Pillow
        raise BadInputError(
            f"{path} is a picture of mode {image.mode}, not depth. Give a .png with one 16-bit channel."
        )
    return np.asarray(image)


def _read_exr(path: Path) -> np.ndarray:
    try:
        OpenEXR = importlib.import_module("OpenEXR")  # optional and untyped
    except ImportError as error:
        raise MissingPackageError(
            f"Reading {path} needs the package OpenEXR. Run `pip install OpenEXR`, or convert the file to .npy."
        ) from error
    try:
        with OpenEXR.File(str(path), separate_channels=True) as file:
            channels = {name: np.array(channel.pixels) for name, channel in file.channels().items()}
    except Exception as error:  # the package raises plain RuntimeError and whatever its C++ side throws
        raise BadInputError(f"{path} is no readable .exr file: {_first_line(error)}.") from error
    names = [name for name in _EXR_CHANNELS if name in channels] or list(channels)[: len(channels) == 1]
    if not names:
        raise BadInputError(
            f"{path} has the channels {', '.join(channels)}, none of which is depth. Name one of them Z."
        )
    return channels[names[0]]


def read_intrinsics(source: str, photo_size: tuple[int, int] | None = None) -> np.ndarray:
    """Camera intrinsics, (3, 3) float64 pixels of the photo, pixel centres at half-integers.

    Args:
        source: `fx,fy,cx,cy`, or a file: .txt with those four or nine numbers, .npy with a 3 x 3 matrix, or .json with
            the numbers, a matrix (alone or under K, intrinsics or camera_matrix), or the keys fx, fy, cx, cy.
        photo_size: (width, height) px. A .json file with its own width and height is converted to this size.

    Raises:
        BadInputError: they cannot be read, or are not a pinhole camera in pixels.
    """
    path = Path(source)
    suffix = path.suffix.lower()
    if suffix in (".json", ".npy", ".txt") and not path.is_file():
        raise BadInputError(f"No file of camera intrinsics at {path}. Correct --intrinsics, or give fx,fy,cx,cy.")
    size = None
    if suffix == ".json":
        numbers, size = _from_json(read_json(path, "file of camera intrinsics"), source)
    elif suffix == ".npy":
        matrix = _read_npy(path)
        if matrix.dtype.kind not in "iuf":
            raise _no_camera(source, f"it holds {matrix.dtype}, no numbers")
        numbers = matrix.ravel().tolist()
    else:
        numbers = _numbers(_text(path) if suffix == ".txt" else source, source)
    K = _matrix(numbers, source)
    if size is not None and photo_size is not None:
        K = K * np.array([photo_size[0] / size[0], photo_size[1] / size[1], 1.0])[:, None]
    return K


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise BadInputError(f"Cannot read camera intrinsics from {path}: {_first_line(error)}.") from error


def _numbers(text: str, source: str) -> list[float]:
    try:
        return [float(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise _no_camera(source, "it is not a list of numbers") from error


def _from_json(content: Any, source: str) -> tuple[list[float], tuple[float, float] | None]:
    """The numbers, and the (width, height) that they refer to if the file states it."""
    size = None
    if isinstance(content, dict):
        if "width" in content and "height" in content:
            size = content["width"], content["height"]
        matrix = next((content[key] for key in ("K", "intrinsics", "camera_matrix") if key in content), None)
        content = [content.get(key) for key in ("fx", "fy", "cx", "cy")] if matrix is None else matrix
    try:
        flat = np.array(content, dtype=np.float64).ravel().tolist()
        if size is not None:
            size = float(size[0]), float(size[1])
            if not min(size) > 0:
                raise ValueError
    except (TypeError, ValueError) as error:
        raise _no_camera(source, "it lacks numbers") from error
    return flat, size


def _matrix(numbers: Sequence[float], source: str) -> np.ndarray:
    if len(numbers) == 4:
        fx, fy, cx, cy = numbers
        numbers = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
    if len(numbers) != 9:
        raise _no_camera(source, f"it holds {len(numbers)} numbers")
    K = np.array(numbers, dtype=np.float64).reshape(3, 3)
    if not np.isfinite(K).all() or not np.array_equal(K[2], (0.0, 0.0, 1.0)) or K[1, 0] != 0:
        raise _no_camera(source, "it is not finite, or not a camera matrix")
    if K[0, 1] != 0:
        raise _no_camera(source, "it has skew")
    if min(K[0, 0], K[1, 1]) < _MIN_FOCAL_PX:
        raise _no_camera(source, f"focal lengths of {K[0, 0]:g} and {K[1, 1]:g} are no pixels")
    return K


def _no_camera(source: str, why: str) -> BadInputError:
    return BadInputError(
        f"No camera intrinsics in {source!r}: {why}. Give fx,fy,cx,cy in pixels of the photo, or a 3 x 3 matrix."
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
