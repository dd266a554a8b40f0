"""`sam3d-gs export`: a finished scene in another frame, in metres, or compressed, beside the scene's own files."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from sam3d_gs.assets.moved import move_to_frame, moved_scene
from sam3d_gs.assets.splat_files import check_form, write_splats
from sam3d_gs.assets.splat_formats import export
from sam3d_gs.errors import BadInputError, Sam3dGsError, UsageError
from sam3d_gs.gaussians.frames import AXES
from sam3d_gs.gaussians.ply import read_ply
from sam3d_gs.gaussians.pose import pose_matrix
from sam3d_gs.options import EXPORT_FORMATS
from sam3d_gs.scene_files import read_scene, write_moved_scene
from sam3d_gs.types import Gaussians, SceneDescription
from sam3d_gs.workspace import Workspace


def export_scene(
    workspace: Workspace, form: str, frame: str = "opencv", known_size: tuple[str, float] | None = None
) -> list[Path]:
    """Write the scene as `<photo>[.<frame>].<form>` and, when frame or scale change, its JSON. Returns the paths.

    Args:
        workspace: of a photo with a scene.
        form: one of EXPORT_FORMATS.
        frame: a key of AXES.
        known_size: an object's id and the length in metres of the longest edge of its box; the whole scene is scaled
            to it.

    Raises UsageError for arguments that do not fit, Sam3dGsError when there is no scene, BadInputError when its files
    do not belong together.
    """
    _check(form, frame, known_size)
    if not workspace.scene_ply.exists():
        raise Sam3dGsError(
            f"No scene of {workspace.photo} at {workspace.scene_ply}. Make it with `sam3d-gs scene PHOTO`."
        )
    stays = frame == "opencv" and known_size is None
    target = workspace.export(form, "" if stays else frame)
    gaussians = read_ply(workspace.scene_ply)
    if stays:
        export(gaussians, target)
        return [target]
    scene = read_scene(workspace.scene_json)
    if sum(item.gaussians for item in scene.objects) != len(gaussians):
        raise BadInputError(f"{workspace.scene_ply} and {workspace.scene_json.name} differ. Run the scene stage again.")
    scale = _metres_per_unit(scene, known_size) if known_size else 1.0
    moved = move_to_frame(_parts(gaussians, scene), scene.up, frame, scale)
    write_splats(target, moved.parts, frame)
    if known_size:
        scene = replace(scene, scale_source=f"metric: {known_size[0]} is {known_size[1]:g} m long")
    described = workspace.export("json", frame)
    files = {"ply" if form == "ply" else "compressed": workspace.relative(target)}
    write_moved_scene(described, moved_scene(scene, moved), AXES[frame], pose_matrix(moved.motion), files)
    return [target, described]


def _parts(gaussians: Gaussians, scene: SceneDescription) -> list[Gaussians]:
    """The Gaussians of each object; views."""
    ends = [0, *accumulate(item.gaussians for item in scene.objects)]
    return [gaussians.take(slice(start, end)) for start, end in pairwise(ends)]


def read_known_size(text: str) -> tuple[str, float]:
    """An object's id and metres, from "00-mug-0=0.1". Raises UsageError for anything else."""
    object_id, _, metres = text.rpartition("=")
    try:
        if object_id:
            return object_id, float(metres)
    except ValueError:
        pass
    raise UsageError(f"--known-size {text!r} is not an object and metres, as in 00-mug-0=0.1.")


def _check(form: str, frame: str, known_size: tuple[str, float] | None) -> None:
    if form not in EXPORT_FORMATS:
        raise UsageError(f"Unknown format {form!r}. Expected {', '.join(EXPORT_FORMATS[:-1])} or {EXPORT_FORMATS[-1]}.")
    check_form(f".{form}", frame)
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
