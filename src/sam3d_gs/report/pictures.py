"""Turntables and stills of scenes and objects, contact sheets, and animation files.

The masks over the photo are in `overlay.py`. The first picture imports the renderer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from sam3d_gs.files import atomic_path
from sam3d_gs.gaussians.orbit import CAMERA_UP, Direction, full_turn, object_cameras, scene_cameras
from sam3d_gs.gaussians.pose import quat_to_matrix, thinned
from sam3d_gs.gaussians.shadow import with_floor_shadow
from sam3d_gs.gaussians.thinning import Thinning
from sam3d_gs.report.overlay import font, mask_overlay
from sam3d_gs.types import Gaussians, Pose

if TYPE_CHECKING:
    from sam3d_gs.gaussians.render import Camera

__all__ = [
    "contact_sheet",
    "mask_overlay",
    "object_turntable",
    "object_views",
    "save_animation",
    "scene_views",
    "turntable",
    "write_object_pictures",
]

BACKDROP = (0.97, 0.86)  # grey at the top and at the bottom of a picture: a hint of a floor
SHEET_VIEWS = (("front", 0.0), ("3/4", 40.0), ("side", 90.0), ("back", 180.0))
MAX_GAUSSIANS = 300_000  # in one picture
SCENE_TURNTABLE_GAUSSIANS = 150_000  # of all objects together
SHEET_GAUSSIANS, OBJECT_TURNTABLE_GAUSSIANS = 40_000, 15_000  # of one object
INK = (70, 70, 74)


def scene_views(
    gaussians: Gaussians,
    K: np.ndarray,
    image_size: tuple[int, int],
    yaws_deg: Sequence[float] = (0.0, 45.0, -45.0, 90.0, 180.0),
    side_px: int = 512,
    up: Direction = CAMERA_UP,
) -> list[Image.Image]:
    """Stills of a scene (photo's camera frame), one per yaw; yaw 0 is the photo's own view.

    `K` (3, 3) and `image_size` (width, height) are the photo's, `side_px` the longer side of a still, `up` a vector
    in the camera frame.
    """
    lighter = _lightened(gaussians)
    return [_picture(lighter, camera) for camera in scene_cameras(gaussians, K, image_size, yaws_deg, side_px, up)]


def turntable(
    gaussians: Gaussians,
    K: np.ndarray,
    image_size: tuple[int, int],
    frames: int = 40,
    side_px: int = 480,
    up: Direction = CAMERA_UP,
) -> list[Image.Image]:
    """One full turn about a scene that starts from the photo's view, is slowest there, and loops; see `scene_views`."""
    return scene_views(gaussians, K, image_size, full_turn(frames), side_px, up)


def object_views(
    gaussians: Gaussians, yaws_deg: Sequence[float], front: Direction = (0.0, -1.0, 0.0), side_px: int = 176
) -> list[Image.Image]:
    """Stills of an object in its object frame (Z up), one per yaw; `front` points from it to the photo's camera."""
    shadowed = with_floor_shadow(_lightened(gaussians))
    return [_picture(shadowed, camera) for camera in object_cameras(gaussians, yaws_deg, side_px, front)]


def object_turntable(
    gaussians: Gaussians, front: Direction = (0.0, -1.0, 0.0), frames: int = 16, side_px: int = 176
) -> list[Image.Image]:
    """One turn about an object; see `object_views`."""
    return object_views(gaussians, full_turn(frames), front, side_px)


def contact_sheet(gaussians: Gaussians, front: Direction = (0.0, -1.0, 0.0), side_px: int = 256) -> Image.Image:
    """Front, three-quarter, side and back of an object side by side, from slightly above and at one distance.

    The object is in its object frame (Z up), and `front` points from it to the photo's camera, so that the first
    picture shows the side that the photo shows.
    """
    views = object_views(gaussians, [yaw for _, yaw in SHEET_VIEWS], front, side_px)
    text_px = max(10, side_px // 17)
    sheet = Image.new("RGB", (side_px * len(views), side_px + 2 * text_px), (round(255 * BACKDROP[1]),) * 3)
    draw = ImageDraw.Draw(sheet)
    for i, (view, (label, _)) in enumerate(zip(views, SHEET_VIEWS, strict=True)):
        sheet.paste(view, (i * side_px, 0))
        draw.text(((i + 0.5) * side_px, side_px + 0.8 * text_px), label, INK, font(text_px), anchor="mm")
    return sheet


def write_object_pictures(thinning: Thinning, pose: Pose, sheet: Path, turntable: Path | None) -> None:
    """Write an object's contact sheet and, unless None, its small turntable, both from where the photo's camera is.

    thinning: of the object's Gaussians in its object frame; `pose` is from there to the camera.
    """
    front = direction_to_camera(pose)
    with atomic_path(sheet) as temporary:
        contact_sheet(thinning.keep(SHEET_GAUSSIANS), front).save(temporary)
    if turntable is not None:
        save_animation(object_turntable(thinning.keep(OBJECT_TURNTABLE_GAUSSIANS), front), turntable)


def direction_to_camera(pose: Pose) -> np.ndarray:
    """(3,) unit vector in the object frame from the object's origin to the photo's camera."""
    direction = quat_to_matrix(pose.quat_wxyz).T @ -pose.translation
    length = float(np.linalg.norm(direction))
    return direction / length if length > 0 else np.array([0.0, -1.0, 0.0])


def save_animation(frames: Sequence[Image.Image], path: Path, frame_s: float = 0.12) -> None:
    """Write looping frames; the suffix of `path` (.webp or .gif) chooses the format."""
    if not frames:
        raise ValueError("an animation needs at least one frame")
    options = {"quality": 80, "method": 3} if path.suffix == ".webp" else {"optimize": False}
    with atomic_path(path) as temporary:
        frames[0].save(
            temporary, save_all=True, append_images=frames[1:], duration=round(1000 * frame_s), loop=0, **options
        )


def _lightened(gaussians: Gaussians) -> Gaussians:
    """At most MAX_GAUSSIANS of them, each widened to cover what the dropped ones covered.

    Small pictures of millions of Gaussians would otherwise take minutes and look the same.
    """
    fewer = thinned(gaussians, MAX_GAUSSIANS)
    if len(fewer) in (0, len(gaussians)):
        return gaussians
    return replace(fewer, log_scales=fewer.log_scales + np.float32(0.5 * np.log(len(gaussians) / len(fewer))))


def _picture(gaussians: Gaussians, camera: Camera) -> Image.Image:
    """Render over the backdrop."""
    from sam3d_gs.gaussians.render import render

    seen = render(gaussians, camera, None)
    backdrop = np.linspace(*BACKDROP, camera.height_px, dtype=np.float32)[:, None]
    rgb = seen.rgb + ((1 - seen.alpha) * backdrop)[..., None]
    return Image.fromarray((np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8))
