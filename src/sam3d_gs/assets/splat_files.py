"""Objects in memory as one splat file, in the camera frame or another one; the suffix names the format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sam3d_gs.assets.moved import Moved, move_to_frame
from sam3d_gs.assets.splat_formats import SUFFIXES, check_spz_version, export
from sam3d_gs.errors import UsageError
from sam3d_gs.gaussians.frames import AXES, SPZ_AXES
from sam3d_gs.gaussians.merge import check_same_photo, concatenated, in_camera_frame, write_scene
from sam3d_gs.gaussians.ply import blocks, pack, ply_writer
from sam3d_gs.gaussians.scene import scene_up
from sam3d_gs.options import EXPORT_SPZ_VERSION
from sam3d_gs.types import Gaussians, PlacedObject


def write_scene_splats(
    path: Path,
    objects: Sequence[PlacedObject],
    frame: str = "opencv",
    scale: float = 1.0,
    spz_version: int = EXPORT_SPZ_VERSION,
) -> Moved | None:
    """Write the Gaussians of all objects into one file, the same bytes as `export_scene` from the scene's files.

    Args:
        path: ends with .ply, .compressed.ply or .spz.
        objects: of one photo, each with its Gaussians in its object frame.
        frame: a key of `frames.AXES`.
        scale: units of the file per scene unit.
        spz_version: 2 for older readers, or 3.

    Returns what was written, to describe it with `moved_scene`; None when frame and scale are the scene's own.
    Raises UsageError for another suffix or frame, BadInputError naming the object when there are none or they do not
    belong to one photo, Sam3dGsError when writing fails, MissingPackageError without gsply for the compressed formats.
    """
    check_form(path.name, frame)
    check_spz_version(path.name, spz_version)
    check_same_photo(objects)
    stays = frame == "opencv" and scale == 1.0
    if stays and not path.name.endswith(SUFFIXES):
        write_scene(path, objects)
        return None
    parts = [in_camera_frame(obj) for obj in objects]
    if stays:
        export(concatenated(parts), path, spz_version=spz_version)
        return None
    moved = move_to_frame(parts, scene_up([obj.pose for obj in objects]), frame, scale)
    write_splats(path, moved.parts, frame, spz_version)
    return moved


def write_splats(path: Path, parts: Sequence[Gaussians], frame: str, spz_version: int = EXPORT_SPZ_VERSION) -> None:
    """Gaussians of one frame, a key of `frames.AXES`, into one file; see `write_scene_splats`."""
    if path.name.endswith(SUFFIXES):
        export(concatenated(parts), path, frame, spz_version)
        return
    with ply_writer(path, sum(map(len, parts)), [f"frame: {AXES[frame]}"]) as writer:
        for part in parts:
            for block in blocks(part):
                writer.write(pack(block))


def check_form(name: str, frame: str) -> None:
    """Raises UsageError when there is no such format or frame, or the format cannot have the frame."""
    if not name.endswith((".ply", ".spz")):
        raise UsageError(
            f"Cannot write splats to {name}. Choose a name that ends with .ply or {' or '.join(SUFFIXES)}."
        )
    if frame not in AXES:
        raise UsageError(f"Unknown frame {frame!r}. Expected one of {', '.join(AXES)}.")
    if name.endswith(".spz") and frame not in ("opencv", *SPZ_AXES):
        raise UsageError(f"An .spz has y up. Choose the frame {' or '.join(SPZ_AXES)}, or a .ply for {frame}.")
