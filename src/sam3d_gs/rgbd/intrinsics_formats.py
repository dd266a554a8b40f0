"""Camera intrinsics in parsed JSON and YAML: one function per format, and the table of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from sam3d_gs.rgbd.camera import Camera, NoCamera, View, camera_of_numbers

log = logging.getLogger("sam3d_gs")

_MAX_OBJECTS = 100_000  # that are searched for cameras; in YAML a small file can hold billions by reference
_MATRICES = ("k", "intrinsics", "intrinsic", "intrinsicmatrix", "cameramatrix", "camerak", "camk", "cameraintrinsics")
_SIZES = (("width", "height"), ("w", "h"), ("imagewidth", "imageheight"), ("camerawidth", "cameraheight"))
_COEFFICIENTS = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
_DISTORTION = ("d", "distortioncoefficients", "distortioncoeffs", "distcoeffs", "coeffs", "distortion", *_COEFFICIENTS)
_MAX_NUMBERS = 32
_NAMES = ("file_path", "img_name", "image", "name")  # of one camera in a list

Content = Mapping[str, Any]  # keys in lower case, without what is no letter or digit
Size = tuple[float, float]


def find_camera(content: Any, view: View) -> Camera:
    """The camera in a file's parsed content: its own, or the one of several that took the photo.

    Raises NoCamera if there is none, or several and it is not clear which.
    """
    if isinstance(content, list) and not any(isinstance(value, dict) for value in content):
        return camera_of_numbers(_flat(content))
    found = _cameras(content, view)
    if not found:
        raise NoCamera("it lacks numbers of a camera")
    return one_of(found, view)


def one_of(found: Mapping[str, Camera], view: View) -> Camera:
    """The only one of several named cameras that fits the photo: by the name of its file, the colour camera, its size.

    Raises NoCamera if several fit and differ.
    """
    stem = PurePath(view.name).stem
    choices: list[Callable[[str, Camera], bool]] = [
        lambda name, _: stem in (name, PurePath(name).stem) or stem.lstrip("0") == name.lstrip("0"),
        lambda name, _: any(word in name.casefold() for word in ("color", "colour", "rgb")),
        lambda _, camera: camera.size == view.size,
    ]
    left = dict(found)
    for fits in choices:
        if len(set(left.values())) > 1:
            left = {name: camera for name, camera in left.items() if fits(name, camera)} or left
    if len(set(left.values())) > 1:
        names = ", ".join(list(left)[:5]) + (", ..." if len(left) > 5 else "")
        raise NoCamera(f"it holds {len(left)} cameras ({names}), and none is named after {view.name}")
    name, camera = next(iter(left.items()))
    if len(set(found.values())) > 1:
        level = logging.INFO if choices[0](name, camera) else logging.WARNING
        log.log(level, '--intrinsics: of %d cameras "%s" is taken for %s.', len(found), name, view.name)
    return camera


def _cameras(content: Any, view: View) -> dict[str, Camera]:
    """The cameras anywhere in nested objects, by name; inside of one no other is looked for."""
    found: dict[str, Camera] = {}
    todo: list[tuple[str, Any, Size | None]] = [("", content, None)]
    for name, value, outer in todo:  # which grows
        if isinstance(value, list):
            todo += [(_name_of(item, f"{name} {n}"), item, outer) for n, item in enumerate(value) if _is_dict(item)]
        elif isinstance(value, dict):
            plain = {_plain(key): item for key, item in value.items()}
            size = _size(plain) or outer
            camera = next(filter(None, (read(plain, view) for read in FORMATS)), None)
            if camera is not None:
                found[name or "camera"] = replace(camera, size=camera.size or size)
                continue
            inner = {f"{name}.{key}" if name else str(key): item for key, item in value.items()}
            todo += [(key, item, size) for key, item in inner.items() if isinstance(item, (dict, list))]
        if len(todo) > _MAX_OBJECTS:
            raise NoCamera(f"it holds more than {_MAX_OBJECTS} objects")
    return found


def _is_dict(value: Any) -> bool:
    return isinstance(value, dict)


def _name_of(item: Mapping[str, Any], otherwise: str) -> str:
    return next((item[key] for key in _NAMES if isinstance(item.get(key), str)), otherwise)


# ---- one function per format: the camera, or None if the content is in another format ------------------------------


def _open3d(content: Content, view: View) -> Camera | None:
    """PinholeCameraIntrinsic: width, height, `intrinsic_matrix` by columns; one deeper in PinholeCameraParameters."""
    matrix = content.get("intrinsicmatrix")
    return None if not isinstance(matrix, list) else _stated(camera_of_numbers(_flat(matrix)), content)


def _ros(content: Content, view: View) -> Camera | None:
    """CameraInfo as `camera_calibration` saves it (`camera_matrix: {rows, cols, data}`), OpenCV's FileStorage too."""
    matrix = next((value for key, value in content.items() if key in _MATRICES and isinstance(value, dict)), None)
    if matrix is None or "data" not in matrix:
        return None
    return _stated(camera_of_numbers(_flat(matrix["data"])), content)


def _matrix(content: Content, view: View) -> Camera | None:
    """A matrix, or fx, fy, cx, cy, as a list under a usual name: ROS messages (K, D), Kalibr, Record3D, BOP."""
    lists = (content[key] for key in _MATRICES if isinstance(content.get(key), list))
    matrix = next((values for values in lists if not any(map(_is_dict, values))), None)
    return None if matrix is None else _stated(camera_of_numbers(_flat(matrix)), content)


def _realsense(content: Content, view: View) -> Camera | None:
    """librealsense: fx, fy, ppx, ppy, width, height, coeffs."""
    return _named(content, ("fx", "fy", "ppx", "ppy"))


def _four_keys(content: Content, view: View) -> Camera | None:
    """fx, fy, cx, cy: Polycam, ARKit, BOP's camera.json; Camera.fx, ... of ORB-SLAM."""
    return _named(content, ("fx", "fy", "cx", "cy")) or _named(
        content, ("camerafx", "camerafy", "cameracx", "cameracy")
    )


def _centred(content: Content, view: View) -> Camera | None:
    """fx, fy, width and height, as in the cameras.json of 3D Gaussian Splatting: the principal point is the middle."""
    size = _size(content)
    if size is None or not ("fx" in content and "fy" in content):
        return None
    return _stated(
        Camera(_number(content["fx"], "fx"), _number(content["fy"], "fy"), size[0] / 2, size[1] / 2), content
    )


def _nerf(content: Content, view: View) -> Camera | None:
    """transforms.json of Instant-NGP and Nerfstudio: fl_x, fl_y, cx, cy, w, h, or camera_angle_x alone."""
    size = _size(content) or (float(view.size[0]), float(view.size[1]))
    focal = content.get("flx")
    if focal is None and "cameraanglex" in content:
        angle = _number(content["cameraanglex"], "camera_angle_x")
        if not 0 < angle < math.pi:
            raise NoCamera(f"camera_angle_x is {angle:g}, expected radians")
        focal = size[0] / 2 / math.tan(angle / 2)
    if focal is None:
        return None
    fx = _number(focal, "fl_x")
    fy = _number(content.get("fly", fx), "fl_y")
    cx, cy = (_number(content.get(key, side / 2), key) for key, side in zip(("cx", "cy"), size, strict=True))
    return _stated(Camera(fx, fy, cx, cy), content)


FORMATS: tuple[Callable[[Content, View], Camera | None], ...] = (
    _open3d,
    _ros,
    _matrix,
    _realsense,
    _four_keys,
    _centred,
    _nerf,
)


# ---- values --------------------------------------------------------------------------------------------------------


def _named(content: Content, keys: tuple[str, ...]) -> Camera | None:
    if not all(key in content for key in keys):
        return None
    fx, fy, cx, cy = (_number(content[key], key) for key in keys)
    return _stated(Camera(fx, fy, cx, cy), content)


def _stated(camera: Camera, content: Content) -> Camera:
    """The camera with the size and the distortion that stand beside it."""
    roi = content.get("roi")
    if isinstance(roi, dict) and any(_flat([roi.get(key, 0) for key in ("x_offset", "y_offset")])):
        raise NoCamera("it is that of a larger picture, of which the photo is a part (roi)")
    distortion: list[float] = []
    for key, value in content.items():
        if key.removeprefix("camera") in _DISTORTION:
            value = value.get("data", []) if isinstance(value, dict) else value
            distortion += _flat(value) if isinstance(value, (list, int, float)) else []
    return replace(camera, size=_size(content), distorted=any(distortion))


def _size(content: Content) -> tuple[float, float] | None:
    for keys in _SIZES:
        if all(key in content for key in keys):
            width, height = (_number(content[key], key) for key in keys)
            return (width, height) if width or height else None  # ROS: 0 x 0 is not calibrated
    resolution = content.get("resolution")  # Kalibr
    if isinstance(resolution, list) and len(resolution) == 2:
        width, height = _flat(resolution)
        return width, height
    return None


def _flat(values: Any, nested: int = 3) -> list[float]:
    """The numbers of nested lists, row by row."""
    numbers: list[float] = []
    for value in values if isinstance(values, list) else [values]:
        numbers += _flat(value, nested - 1) if isinstance(value, list) and nested else [_number(value, "a value")]
        if len(numbers) > _MAX_NUMBERS:
            raise NoCamera("it holds more numbers than one camera has")
    return numbers


def _number(value: Any, key: str) -> float:
    try:
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            return float(value)  # text too: YAML reads 1e3 as one
    except (ValueError, OverflowError):
        pass
    shown = repr(value[:40]) if isinstance(value, str) else type(value).__name__
    raise NoCamera(f"it lacks numbers: {key} is {shown}")


def _plain(key: Any) -> str:
    return "".join(character for character in str(key).casefold() if character.isalnum())
