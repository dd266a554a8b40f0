"""Cameras for turntables and stills: on a circle about a scene or an object, with all of it in the picture.

A yaw is an angle about the up axis, from the front; positive yaws move the camera to its right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sam3d_gs.gaussians.pose import object_bounds, thinned
from sam3d_gs.gaussians.render import Camera
from sam3d_gs.types import Gaussians

Direction = Sequence[float] | np.ndarray  # (3,)

CAMERA_UP = (0.0, -1.0, 0.0)  # up in the camera frame of a level photo
FILL = 0.86  # of the picture's width or height that the subject takes at most
GLIDE_DEG = 45.0  # a scene's orbit has left the photo's own framing at this yaw
SCENE_DISTANCE = 3.5  # radii of the scene: far enough that near objects do not loom
OBJECT_DISTANCE = 4.5  # radii of the object
EXTENT = 2.0
_DIRECTIONS = 200
_FIT_YAWS_DEG = tuple(range(0, 360, 15))


def full_turn(frames: int) -> tuple[float, ...]:
    """Yaws of one turn that loops, starting at 0 and slowest there: the front is what the photo shows."""
    t = np.arange(frames) / max(frames, 1)
    return tuple(float(yaw) for yaw in 360.0 * t - 30.0 * np.sin(2 * np.pi * t))


def photo_camera(K: np.ndarray, image_size: tuple[int, int], side_px: int) -> Camera:
    """The photo's own camera, with pictures of `side_px` on the longer side."""
    width, height = image_size
    shrink = side_px / max(width, height)
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    return Camera(np.diag([size[0] / width, size[1] / height, 1.0]) @ K, *size, np.eye(4))


def scene_cameras(
    gaussians: Gaussians,
    K: np.ndarray,
    image_size: tuple[int, int],
    yaws_deg: Sequence[float],
    side_px: int,
    up: Direction = CAMERA_UP,
) -> list[Camera]:
    """Cameras about the centre of a scene that is given in the photo's camera frame.

    Yaw 0 is the photo's own view. Away from it the camera glides out of the scene, to SCENE_DISTANCE radii at least,
    and zooms so that the whole scene is in the picture at every yaw. All yaws beyond GLIDE_DEG share one distance and
    one zoom, so that the size does not pulse; shifting the principal point centres the scene in the picture.
    """
    photo = photo_camera(K, image_size, side_px)
    points = _outline(gaussians)
    if not len(points):
        return [photo] * len(yaws_deg)
    centre, radius = _sphere(points)
    reach = float(np.linalg.norm(centre))
    if centre[2] < 0.3 * reach or reach == 0.0:  # not in front of the photo's camera: turn about a point that is
        centre = np.array([0.0, 0.0, SCENE_DISTANCE * radius])
        reach = float(centre[2])
    retreat = max(1.0, SCENE_DISTANCE * radius / reach)

    def view(yaw_deg: float, retreat: float) -> np.ndarray:
        """The photo's camera turned about the centre, then moved away to `retreat` times its distance."""
        turn = _rotation(np.asarray(up, np.float64), yaw_deg).T
        return _matrix(turn, retreat * centre - turn @ centre)

    zoom = _fitting_zoom(photo, points, [view(yaw, retreat) for yaw in _FIT_YAWS_DEG])
    cameras = []
    for yaw in yaws_deg:
        away = min(1.0, abs((yaw + 180.0) % 360.0 - 180.0) / GLIDE_DEG)
        glide = away * away * (3.0 - 2.0 * away)
        T = view(yaw, float(retreat**glide))
        zoomed = _zoomed(photo, float(zoom**glide), T)
        box = _projected_box(zoomed, points)
        shift = glide * (np.array([photo.width_px, photo.height_px]) / 2 - box.mean(0))
        cameras.append(replace(zoomed, K=zoomed.K + np.array([[0, 0, shift[0]], [0, 0, shift[1]], [0, 0, 0]])))
    return cameras


def object_cameras(
    gaussians: Gaussians,
    yaws_deg: Sequence[float],
    side_px: int,
    front: Direction = (0.0, -1.0, 0.0),
    elevation_deg: float = 15.0,
) -> list[Camera]:
    """Cameras about an object in its object frame (Z up) that differ only in yaw; pictures of side_px x side_px.

    `front` points from the object to where yaw 0 looks from; only its direction on the floor counts.
    """
    points = _outline(gaussians)
    centre, radius = _sphere(points) if len(points) else (np.zeros(3), 1.0)
    distance = OBJECT_DISTANCE * radius
    front_yaw = np.arctan2(front[1], front[0]) if np.hypot(front[0], front[1]) > 1e-3 else -np.pi / 2
    up, out = np.sin(np.radians(elevation_deg)), np.cos(np.radians(elevation_deg))

    def view(yaw_deg: float) -> np.ndarray:
        yaw = front_yaw + np.radians(yaw_deg)
        right = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
        forward = -np.array([out * np.cos(yaw), out * np.sin(yaw), up])
        R = np.stack([right, np.cross(forward, right), forward])
        return _matrix(R, np.array([0.0, 0.0, distance]) - R @ centre)

    half = side_px / 2
    camera = Camera(np.array([[side_px, 0, half], [0, side_px, half], [0, 0, 1.0]]), side_px, side_px, np.eye(4))
    zoom = _fitting_zoom(camera, points, [view(yaw) for yaw in _FIT_YAWS_DEG]) if len(points) else 1.0
    return [_zoomed(camera, zoom, view(yaw)) for yaw in yaws_deg]


def _outline(gaussians: Gaussians) -> np.ndarray:
    """(P, 3) float64, the outermost points in many directions; stray Gaussians are left out.

    A Gaussian reaches EXTENT deviations of its longest axis beyond its mean.
    """
    if not len(gaussians):
        return np.zeros((0, 3))
    low, high = object_bounds(gaussians)
    few = thinned(gaussians)
    means = few.means.astype(np.float64)
    inside = ((means >= low) & (means <= high)).all(1)
    if not inside.any():
        return np.asarray((low + high)[None] / 2)
    means, longest = means[inside], np.exp(few.log_scales[inside].max(1).astype(np.float64))
    reach = EXTENT * np.minimum(longest, np.quantile(longest, 0.99))
    directions = np.random.default_rng(0).normal(size=(_DIRECTIONS, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    outermost = np.argmax(means @ directions.T + reach[:, None], axis=0)
    return np.asarray(means[outermost] + reach[outermost, None] * directions)


def _rotation(axis: np.ndarray, angle_deg: float) -> np.ndarray:
    """Right-handed rotation about `axis` (Rodrigues)."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(angle_deg)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def _matrix(R: np.ndarray, t: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = R, t
    return matrix


def _sphere(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Centre (3,) of the box around the points and their largest distance from it, more than 0."""
    centre = (points.min(0) + points.max(0)) / 2
    return centre, max(float(np.linalg.norm(points - centre, axis=1).max()), 1e-6)


def _zoomed(camera: Camera, zoom: float, T_camera_world: np.ndarray) -> Camera:
    return replace(
        camera, K=camera.K * np.array([[zoom, 1, 1], [1, zoom, 1], [1, 1, 1]]), T_camera_world=T_camera_world
    )


def _projected_box(camera: Camera, points: np.ndarray) -> np.ndarray:
    """(2, 2) px, min and max corner of the projected points."""
    seen = points @ camera.T_camera_world[:3, :3].T + camera.T_camera_world[:3, 3]
    pixels = seen[:, :2] / np.maximum(seen[:, 2:], 1e-9) * np.diag(camera.K)[:2] + camera.K[:2, 2]
    return np.stack([pixels.min(0), pixels.max(0)])


def _fitting_zoom(camera: Camera, points: np.ndarray, views: Sequence[np.ndarray]) -> float:
    """How much longer the focal length may be while the points take at most FILL of the picture in every view."""
    boxes = [_projected_box(_zoomed(camera, 1.0, T), points) for T in views]
    largest = np.max([box[1] - box[0] for box in boxes], axis=0)
    return float((FILL * np.array([camera.width_px, camera.height_px]) / np.maximum(largest, 1e-6)).min())
