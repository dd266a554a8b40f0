"""Camera intrinsics that a user types or has in a file: opening it, and the text formats.

JSON and YAML are parsed here and understood in `intrinsics_formats`.
"""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from sam3d_gs.errors import BadInputError, MissingPackageError, first_line
from sam3d_gs.files import read_json
from sam3d_gs.rgbd.camera import Camera, NoCamera, View, camera_of_numbers
from sam3d_gs.rgbd.depth_files import read_npy, read_npz
from sam3d_gs.rgbd.intrinsics_formats import find_camera, one_of

_MAX_BYTES = 50_000_000  # a transforms.json of thousands of frames has a few
_MAX_YAML_BYTES = 1_000_000  # its parser is slow
_SUFFIXES = (".json", ".yaml", ".yml", ".npy", ".npz", ".txt")
# COLMAP's models, and where fx, fy, cx and cy are among their parameters; what follows is distortion.
_COLMAP = {
    "SIMPLE_PINHOLE": (0, 0, 1, 2),
    "PINHOLE": (0, 1, 2, 3),
    "SIMPLE_RADIAL": (0, 0, 1, 2),
    "RADIAL": (0, 0, 1, 2),
    "OPENCV": (0, 1, 2, 3),
    "FULL_OPENCV": (0, 1, 2, 3),
    "SIMPLE_RADIAL_FISHEYE": (0, 0, 1, 2),
    "RADIAL_FISHEYE": (0, 0, 1, 2),
    "OPENCV_FISHEYE": (0, 1, 2, 3),
}
_SECTION = re.compile(r'\s*Intrinsics? of "(?P<name>[^"]+)"\s*/\s*(?P<size>\d+x\d+)')
_KEY_VALUE = re.compile(r"\s*(?P<key>[A-Za-z_]\w*)\s*[:=]\s*(?P<value>\S.*)")


def read_intrinsics(source: str, view: View) -> Camera:
    """The camera that `--intrinsics` names: `fx,fy,cx,cy`, or a file (see docs/bring-your-own.md).

    Raises BadInputError if there is none, or several and none is that of the photo `view`; MissingPackageError for a
    .yaml file without PyYAML.
    """
    path = Path(source)
    suffix = path.suffix.lower()
    is_file = _is_file(path)
    if not is_file and (suffix in _SUFFIXES or ("," not in source and source.strip() and not _is_number(source))):
        raise BadInputError(f"No file of camera intrinsics at {path}. Correct --intrinsics, or give fx,fy,cx,cy.")
    try:
        if not is_file:
            return camera_of_numbers(_numbers(source))
        if path.stat().st_size > (_MAX_YAML_BYTES if suffix in (".yaml", ".yml") else _MAX_BYTES):
            raise NoCamera(f"it has {path.stat().st_size:,} bytes")
        if suffix == ".json":
            return find_camera(read_json(path, "file of camera intrinsics"), view)
        if suffix in (".yaml", ".yml"):
            return find_camera(_read_yaml(path), view)
        if suffix in (".npy", ".npz"):
            return camera_of_numbers(_array(read_npy(path) if suffix == ".npy" else read_npz(path, "K")))
        return _from_text(_text(path), view)
    except NoCamera as error:
        raise BadInputError(
            f"No camera intrinsics in {source!r}: {error}. Give fx,fy,cx,cy in pixels of the photo, or a 3 x 3 matrix."
        ) from error


def _array(matrix: np.ndarray) -> list[float]:
    if matrix.dtype.kind not in "iuf" or matrix.size > 16:
        raise NoCamera(f"it holds {matrix.dtype} of shape {matrix.shape}, no numbers of one camera")
    return [float(value) for value in matrix.ravel()]


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise BadInputError(f"Cannot read camera intrinsics from {path}: {first_line(error)}.") from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or holds a zero byte
        return False


def _is_number(text: str) -> bool:
    try:
        return bool([float(word) for word in text.split()])
    except ValueError:
        return False


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.replace(",", " ").split()]
    except ValueError as error:
        raise NoCamera("it is not a list of numbers") from error


def _read_yaml(path: Path) -> Any:
    """The first mapping of a YAML file, also of OpenCV's dialect, which has a tag and a header of its own."""
    try:
        yaml = importlib.import_module("yaml")
    except ImportError as error:
        raise MissingPackageError(f"Reading {path} needs PyYAML. Run `pip install pyyaml`.") from error

    class Loader(yaml.SafeLoader):  # type: ignore[misc, name-defined]
        """Plain values only."""

    tag = "tag:yaml.org,2002:opencv-matrix"
    Loader.add_constructor(tag, lambda loader, node: loader.construct_mapping(node, deep=True))
    text = "\n".join(line for line in _text(path).splitlines() if not line.startswith("%"))
    try:
        return next((part for part in yaml.load_all(text, Loader=Loader) if isinstance(part, dict)), None)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise BadInputError(f"{path} is not a readable file of camera intrinsics: {reason}.") from error


def _from_text(text: str, view: View) -> Camera:
    """A camera in COLMAP's cameras.txt, in what `rs-enumerate-devices -c` prints, or in bare numbers."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    colmap = [line.split() for line in lines if line.split()[1:2] and line.split()[1] in _COLMAP]
    if colmap:
        return one_of({f"camera {row[0]}": _from_colmap(row) for row in colmap}, view)
    if any(_KEY_VALUE.fullmatch(line) for line in lines):
        return find_camera(_sections(lines), view)
    if text.lstrip().startswith(("{", "[")):
        try:
            return find_camera(json.loads(text), view)
        except (ValueError, RecursionError) as error:
            raise NoCamera("it is neither JSON nor a list of numbers") from error
    return camera_of_numbers(_numbers(" ".join(lines)))


def _from_colmap(row: list[str]) -> Camera:
    """One line of cameras.txt: id, model, width, height, parameters."""
    model, numbers = row[1], _numbers(" ".join(row[2:]))
    size, parameters = numbers[:2], numbers[2:]
    places = _COLMAP[model]
    if len(size) < 2 or len(parameters) <= max(places):
        raise NoCamera(f"camera {row[0]} of model {model} has {len(numbers)} numbers")
    fx, fy, cx, cy = (parameters[place] for place in places)
    distorted = any(parameters[max(places) + 1 :])
    return Camera(fx, fy, cx, cy, (size[0], size[1]), distorted=distorted)


def _sections(lines: list[str]) -> dict[str, Any]:
    """`key: value` lines, grouped under the headings of RealSense's tool."""
    top: dict[str, Any] = {}
    current = top
    for line in lines:
        heading, pair = _SECTION.match(line), _KEY_VALUE.fullmatch(line)
        if heading:
            current = top.setdefault(f"{heading['name']} {heading['size']}", {})
        elif pair:
            words = pair["value"].replace(",", " ").split()
            values = [float(word) for word in words if _is_number(word)]
            current[pair["key"]] = values[0] if len(values) == len(words) == 1 else values
    return top
