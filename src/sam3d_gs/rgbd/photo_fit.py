"""The user's depth map and intrinsics as they refer to the photo: upright, and in its pixels."""

from __future__ import annotations

import logging
import math
from dataclasses import replace

import numpy as np

from sam3d_gs.errors import BadInputError
from sam3d_gs.photo import UPRIGHT, exif_orientation, turn_upright
from sam3d_gs.rgbd import exif_turn
from sam3d_gs.rgbd.camera import Camera, View
from sam3d_gs.rgbd.intrinsics_files import read_intrinsics
from sam3d_gs.types import Photo

log = logging.getLogger("sam3d_gs")

DEPTH_ASPECT = 0.05  # depth networks round sides to multiples of their patch
CAMERA_ASPECT = 0.02  # relative difference of width over height that rounding explains
FOV_DEG = (2.0, 160.0)  # along the longer side; no lens of a photo is outside
_SIDES_LIMIT = 16.0  # a smaller focal length is no lens in pixels, but one in units of the photo's sides
_OTHER_SIZE = 1.25  # a principal point in the middle of a picture that much larger or smaller is not the photo's
_OFF_CENTRE = 0.1  # of a side


def depth_of_photo(metres: np.ndarray, photo: Photo, name: str) -> np.ndarray:
    """A depth map, (h, w) metres, turned upright if it was drawn on the photo's pixels before EXIF turns them.

    Warns where that cannot be seen. Raises BadInputError for a map of another shape than the photo.
    """
    height, width = metres.shape
    size, turn = _file_size(photo), exif_orientation(photo.path)
    upright = same_shape((width, height), size, DEPTH_ASPECT)
    swapped = same_shape((height, width), size, DEPTH_ASPECT)
    if upright:
        if turn != UPRIGHT and (swapped or turn not in exif_turn.SWAPPING):
            log.warning(
                "%s: EXIF turns the photo, and the shape of %s does not tell whether it was turned, too. It is taken "
                "as upright.",
                photo.path.name,
                name,
            )
        return metres
    message = f"{name} is {width} x {height} px, the photo {size[0]} x {size[1]} px: "
    if not swapped:
        raise BadInputError(message + "their shapes differ. Give a depth map of the whole, upright photo.")
    if turn not in exif_turn.SWAPPING:
        raise BadInputError(message + "their shapes differ, it lies on its side. Turn it upright, as the photo is.")
    log.warning("%s lies on its side as the sensor of %s did: turned upright as EXIF says.", name, photo.path.name)
    return turn_upright(metres, turn)


def intrinsics_of_photo(source: str, photo: Photo) -> np.ndarray:
    """K (3, 3) float64 in pixels of `Photo.rgb`, from what `--intrinsics` names.

    Scaled from the picture size that the file states, turned as EXIF turns the photo, and checked. Raises
    BadInputError if that is no camera of this photo.
    """
    size = _file_size(photo)
    camera = read_intrinsics(source, View(photo.path.name, size))
    if camera.distorted:
        log.warning(
            "--intrinsics %s: its lens distortion is ignored. Right for rectified photos; else edges are off.", source
        )
    if max(camera.fx, camera.fy) < _SIDES_LIMIT and max(camera.cx, camera.cy) <= 1:
        log.warning("--intrinsics %s: taken as units of the photo's sides, not pixels.", source)
        camera = _scaled(camera, size)
    elif camera.size is not None:
        camera = _at_photo_size(camera, source, photo)
    else:
        _check_pixels(camera, source, photo)
    _check_view(camera, source, photo)
    K = np.array([[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]], np.float64)
    return K * np.array([photo.width_px / size[0], photo.height_px / size[1], 1.0])[:, None]


def same_shape(one: tuple[float, float], other: tuple[float, float], tolerance: float) -> bool:
    """Whether two (width, height) differ in scale only."""
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= tolerance


def _file_size(photo: Photo) -> tuple[int, int]:
    return photo.file_size or (photo.width_px, photo.height_px)


def _scaled(camera: Camera, factors: tuple[float, float]) -> Camera:
    x, y = factors
    return replace(camera, fx=camera.fx * x, fy=camera.fy * y, cx=camera.cx * x, cy=camera.cy * y)


def _at_photo_size(camera: Camera, source: str, photo: Photo) -> Camera:
    """A camera that states its picture's size, at the photo's; turned first if that is the sensor's."""
    size, stated, turn = _file_size(photo), camera.size or (1.0, 1.0), exif_orientation(photo.path)
    told = f"--intrinsics {source}: made for {stated[0]:g} x {stated[1]:g} px"
    if not same_shape(stated, size, CAMERA_ASPECT):
        turned = stated[1], stated[0]
        if turn not in exif_turn.SWAPPING or not same_shape(turned, size, CAMERA_ASPECT):
            reason = "lies on its side" if same_shape(turned, size, CAMERA_ASPECT) else "has another shape"
            raise BadInputError(
                f"{told}, which {reason} compared with {photo.path.name}, {size[0]} x {size[1]} px. "
                "Give the camera of the whole, upright photo."
            )
        fx, fy, cx, cy = exif_turn.turned_camera((camera.fx, camera.fy, camera.cx, camera.cy), stated, turn)
        camera, stated = replace(camera, fx=fx, fy=fy, cx=cx, cy=cy, size=turned), turned
        log.warning("%s, the sensor's: turned upright as EXIF of %s says.", told, photo.path.name)
    if stated != size:
        log.info("%s, scaled to %s, %d x %d px.", told, photo.path.name, *size)
    return _scaled(camera, (size[0] / stated[0], size[1] / stated[1]))


def _check_pixels(camera: Camera, source: str, photo: Photo) -> None:
    """Without a stated size the numbers must look like those of a picture as large as the photo.

    Raises BadInputError if the principal point is the middle of another picture; warns if it is far from the middle.
    """
    size = _file_size(photo)
    if not _contains(size, camera):
        return  # _check_view refuses it
    middle_of = 2 * camera.cx, 2 * camera.cy
    ratio = math.sqrt(size[0] * size[1] / (middle_of[0] * middle_of[1]))
    is_other = max(ratio, 1 / ratio) > _OTHER_SIZE and same_shape(middle_of, size, CAMERA_ASPECT)
    turned = middle_of[1], middle_of[0]
    is_turned = not same_shape(middle_of, size, DEPTH_ASPECT) and same_shape(turned, size, CAMERA_ASPECT)
    where = f"the principal point ({camera.cx:g}, {camera.cy:g})"
    if is_other:
        instead = _scaled(camera, (ratio, ratio))
        raise BadInputError(
            f"--intrinsics {source}: {where} is the middle of a picture of {middle_of[0]:g} x {middle_of[1]:g} px, "
            f"{photo.path.name} has {size[0]} x {size[1]}. Give pixels of the photo: {_typed(instead)}."
        )
    if is_turned:
        raise BadInputError(
            f"--intrinsics {source}: {where} is the middle of a picture of {middle_of[0]:g} x {middle_of[1]:g} px, "
            f"which lies on its side compared with {photo.path.name}, {size[0]} x {size[1]} px. Give the camera of the "
            "upright photo."
        )
    off = max(abs(camera.cx / size[0] - 0.5), abs(camera.cy / size[1] - 0.5))
    if off > _OFF_CENTRE:
        log.warning(
            "--intrinsics %s: %s is far from the middle of %s, %d x %d px.", source, where, photo.path.name, *size
        )


def _check_view(camera: Camera, source: str, photo: Photo) -> None:
    """Raises BadInputError if the principal point is outside the photo, or no lens has such a field of view."""
    size = _file_size(photo)
    if not _contains(size, camera):
        raise BadInputError(
            f"--intrinsics {source}: the principal point ({camera.cx:g}, {camera.cy:g}) lies outside "
            f"{photo.path.name}, {size[0]} x {size[1]} px. Give them in pixels of that photo."
        )
    side, focal_px = max(zip(size, (camera.fx, camera.fy), strict=True))
    fov_deg = 2 * math.degrees(math.atan(side / 2 / focal_px))
    if not FOV_DEG[0] <= fov_deg <= FOV_DEG[1]:
        raise BadInputError(
            f"--intrinsics {source}: focal lengths of {camera.fx:g} and {camera.fy:g} px give {photo.path.name}, "
            f"{size[0]} x {size[1]} px, a field of view of {fov_deg:.2g}°. Give them in pixels of that photo."
        )
    if not 0.8 <= camera.fx / camera.fy <= 1.25:
        log.warning("--intrinsics %s: fx %g and fy %g differ: pixels are not square.", source, camera.fx, camera.fy)


def _contains(size: tuple[float, float], camera: Camera) -> bool:
    return 0 < camera.cx < size[0] and 0 < camera.cy < size[1]


def _typed(camera: Camera) -> str:
    return f"--intrinsics {camera.fx:.6g},{camera.fy:.6g},{camera.cx:.6g},{camera.cy:.6g}"
