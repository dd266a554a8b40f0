"""`sam3d-gs export`: a finished scene in another frame, in metres, or compressed, beside the scene's own files."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sam3d_gs.assets.export_descriptions import describe
from sam3d_gs.assets.export_records import read_records
from sam3d_gs.assets.moved import move_to_frame, moved_scene
from sam3d_gs.assets.splat_files import check_form, write_splats
from sam3d_gs.assets.splat_formats import check_spz_version, export
from sam3d_gs.errors import Sam3dGsError, UsageError
from sam3d_gs.gaussians.current_scene import CurrentScene, SceneFiles, current_scene
from sam3d_gs.gaussians.frames import AXES
from sam3d_gs.gaussians.pose import pose_matrix, transform
from sam3d_gs.options import EXPORT_FORMATS, EXPORT_SPZ_VERSION
from sam3d_gs.scene_files import moved_scene_data
from sam3d_gs.types import Gaussians, SceneDescription
from sam3d_gs.workspace import Workspace

log = logging.getLogger("sam3d_gs")


def export_scene(
    workspace: Workspace,
    form: str,
    frame: str = "opencv",
    known_size: tuple[str, float] | None = None,
    *,
    force: bool = False,
    spz_version: int = EXPORT_SPZ_VERSION,
) -> list[Path]:
    """Write the scene as `<photo>[.<frame>].<form>` and, when frame or scale change, its JSON. Returns their paths.

    The scene is exported as it is now, with what a user has edited in its files.

    Args:
        workspace: of a photo with a scene.
        form: one of EXPORT_FORMATS.
        frame: a key of AXES.
        known_size: an object's id and the length in metres of the longest edge of its box; the whole scene is scaled
            to it.
        force: replace an export that a user has edited; it is kept under another name.
        spz_version: one of EXPORT_SPZ_VERSIONS.

    Raises UsageError for arguments that do not fit, Sam3dGsError when there is no scene, BadInputError when its files
    do not belong together or an export was edited.
    """
    _check(form, frame, known_size, spz_version)
    if not workspace.scene_ply.exists():
        raise Sam3dGsError(
            f"No scene of {workspace.photo} at {workspace.scene_ply}. Make it with `sam3d-gs scene PHOTO`."
        )
    stays = frame == "opencv" and known_size is None
    target = workspace.export(form, "" if stays else frame)
    records = read_records(workspace)
    records.make_room(target, force)
    files = SceneFiles(workspace)
    if stays:
        export(files.current_gaussians(), target, spz_version=spz_version)
        records.with_files(target)
        return [target]
    current = current_scene(files)
    if current.remark:
        log.info("%s", current.remark)
    moved, data = _moved(current, frame, known_size)
    data["files"] = {"ply" if form == "ply" else "compressed": workspace.relative(target)}
    described = describe(records, target, form, frame, data, force)
    records.make_room(described.path, force)
    write_splats(target, moved, frame, spz_version)
    records.with_files(target, *described.write())
    return [target, described.path]


def _moved(
    current: CurrentScene, frame: str, known_size: tuple[str, float] | None
) -> tuple[list[Gaussians], dict[str, Any]]:
    """The Gaussians in the frame, and their description without `files`."""
    scene = current.description
    scale = _metres_per_unit(scene, known_size) if known_size else 1.0
    if known_size:
        scene = replace(scene, scale_source=f"metric: {known_size[0]} is {known_size[1]:g} m long")
    moved = move_to_frame(current.parts, scene.up, frame, scale)
    data = moved_scene_data(moved_scene(scene, moved), AXES[frame], pose_matrix(moved.motion), {})
    if current.rest is None:
        return list(moved.parts), data
    data["gaussians_of_no_object"] = len(current.rest)
    return [*moved.parts, transform(current.rest, moved.motion)], data


def read_known_size(text: str) -> tuple[str, float]:
    """An object's id and metres, from "00-mug-0=0.1". Raises UsageError for anything else."""
    object_id, _, metres = text.rpartition("=")
    try:
        if object_id:
            return object_id, float(metres)
    except ValueError:
        pass
    raise UsageError(f"--known-size {text!r} is not an object and metres, as in 00-mug-0=0.1.")


def _check(form: str, frame: str, known_size: tuple[str, float] | None, spz_version: int) -> None:
    if form not in EXPORT_FORMATS:
        raise UsageError(f"Unknown format {form!r}. Expected {', '.join(EXPORT_FORMATS[:-1])} or {EXPORT_FORMATS[-1]}.")
    check_form(f".{form}", frame)
    check_spz_version(f".{form}", spz_version)
    if form == "ply" and frame == "opencv" and known_size is None:
        raise UsageError("The scene's .ply is in the frame opencv already. Choose a --frame, or --known-size.")


def _metres_per_unit(scene: SceneDescription, known_size: tuple[str, float]) -> float:
    object_id, metres = known_size
    found = {item.object_id: item for item in scene.objects}
    if object_id not in found:
        raise UsageError(f"No object {object_id!r} in this scene. There are: {', '.join(found) or 'none'}.")
    if not (np.isfinite(metres) and metres > 0):
        raise UsageError(f"--known-size {object_id}={metres:g} is not a length. Give metres above 0.")
    corners = found[object_id].obb
    longest = max(float(np.linalg.norm(corners[i] - corners[0])) for i in (1, 2, 4))
    return metres / longest
