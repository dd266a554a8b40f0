"""The numbers in a depth file, as they are stored. What they mean is decided in `depth_units`."""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sam3d_gs.errors import BadInputError, MissingPackageError, first_line
from sam3d_gs.numpy_files import read_array
from sam3d_gs.photo import MAX_PIXELS, open_image

_EXR_CHANNELS = ("Z", "depth", "Depth", "Y", "V", "R")  # where renderers put depth; R for a grey picture saved as RGB
_COLOURS = "a depth map has one number per pixel. Give the file that holds the numbers, not a coloured picture of them"


def read_values(path: Path) -> np.ndarray:
    """The numbers of a .npy, .npz, .png, .tif, .pfm or .exr file: (h, w), any integer or floating-point type.

    Raises BadInputError for a file that is missing, unreadable or of another kind, MissingPackageError for an .exr
    file if the package OpenEXR is not installed.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(_READERS)
        raise BadInputError(f"{path} is no depth file. Give one of {kinds}.")
    if not path.is_file():
        raise BadInputError(f"No depth file at {path}.")
    values = reader(path)
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or not values.size or values.dtype.kind not in "iuf":
        raise BadInputError(f"{path} holds {values.dtype} of shape {values.shape}, expected one number per pixel.")
    return values


def read_npy(path: Path) -> np.ndarray:
    """The array in a .npy file; nothing in it is executed. Raises BadInputError."""
    try:
        with path.open("rb") as file:  # not numpy.load, which also opens archives and pickles
            return read_array(file, path.stat().st_size, MAX_PIXELS)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise BadInputError(
            f"{path} is no readable .npy file: {first_line(error)}. Write it with numpy.save."
        ) from error


def read_npz(path: Path, key: str) -> np.ndarray:
    """The array of a .npz file with `key` in its name, or its only one. Raises BadInputError."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {m.filename.removesuffix(".npy"): m for m in archive.infolist() if m.filename.endswith(".npy")}
            fitting = [name for name in members if name == key]
            fitting = fitting or [name for name in members if key.casefold() in name.casefold()] or list(members)
            if len(fitting) != 1:
                names = ", ".join(members) or "none"
                raise BadInputError(f"{path} holds the arrays {names}. Save the one to use as {key!r}.")
            with archive.open(members[fitting[0]]) as file:
                return read_array(file, members[fitting[0]].file_size, MAX_PIXELS)
    except (OSError, ValueError, EOFError, MemoryError, RuntimeError, zipfile.BadZipFile, NotImplementedError) as error:
        raise BadInputError(
            f"{path} is no readable .npz file: {first_line(error)}. Write it with numpy.savez."
        ) from error


def _read_npz(path: Path) -> np.ndarray:
    return read_npz(path, "depth")


def _read_picture(path: Path) -> np.ndarray:
    """A .png or .tif with one channel, of 8 or 16-bit integers, 32-bit integers or floating-point numbers."""
    image = open_image(path)
    if image.mode not in ("L", "I", "F") and not image.mode.startswith("I;16"):
        raise BadInputError(f"{path} is a picture of mode {image.mode}, not depth: {_COLOURS}.")
    return np.asarray(image)


def _read_pfm(path: Path) -> np.ndarray:
    """Portable float map, rows from bottom to top: "Pf", width, height, and a scale whose sign is the byte order."""
    try:
        with path.open("rb") as file:
            words: list[bytes] = []
            while len(words) < 4:
                line = file.readline(200)
                if not line:
                    raise ValueError("its header is cut off")
                words += line.partition(b"#")[0].split()
            if words[0] == b"PF":
                raise ValueError(f"it has three channels, {_COLOURS}")
            width, height, scale = int(words[1]), int(words[2]), float(words[3])
            if words[0] != b"Pf" or not (0 < width * height <= MAX_PIXELS and width > 0 and scale):
                raise ValueError("its header is wrong")
            data = file.read(4 * width * height)
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path} is no readable .pfm file: {first_line(error)}.") from error
    if len(data) < 4 * width * height:
        raise BadInputError(f"{path} is cut off: {len(data)} of {4 * width * height} bytes of numbers.")
    return np.frombuffer(data, "<f4" if scale < 0 else ">f4").reshape(height, width)[::-1].astype(np.float32)


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
        raise BadInputError(f"{path} is no readable .exr file: {first_line(error)}.") from error
    names = [name for name in _EXR_CHANNELS if name in channels]
    names = names or [name for name in channels if "depth" in name.casefold()]  # Blender: "ViewLayer.Depth.Z"
    names = names or list(channels)[: len(channels) == 1]
    if not names:
        raise BadInputError(
            f"{path} has the channels {', '.join(channels)}, none of which is depth. Name one of them Z."
        )
    return channels[names[0]]


_READERS: dict[str, Callable[[Path], np.ndarray]] = {
    ".npy": read_npy,
    ".npz": _read_npz,
    ".png": _read_picture,
    ".tif": _read_picture,
    ".tiff": _read_picture,
    ".pfm": _read_pfm,
    ".exr": _read_exr,
}
