"""A finished scene in another frame, in metres, or in a compressed format: scene files -> files beside them."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np

from sam3d_gs.assets.splat_formats import export
from sam3d_gs.errors import BadInputError, Sam3dGsError, UsageError
from sam3d_gs.gaussians.frames import AXES, OF_CAMERA, SPZ_AXES, rotation_from_camera
from sam3d_gs.gaussians.ply import read_ply, write_ply
from sam3d_gs.gaussians.pose import matrix_to_quat, object_bounds, pose_matrix, transform, transform_points
from sam3d_gs.options import EXPORT_FORMATS
from sam3d_gs.scene_files import read_scene, write_moved_scene
from sam3d_gs.types import Gaussians, Pose, Scene
from sam3d_gs.workspace import Workspace


def export_scene(
    workspace: Workspace, form: str, frame: str = "opencv", known_size: tuple[str, float] | None = None
) -> list[Path]:
    """Write the scene as `<photo>[.<frame>].<form>`, and unless frame and scale stay, its JSON; the paths written.

    Args:
        workspace: of a photo with a scene.
        form: one of EXPORT_FORMATS.
        frame: a key of AXES.
        known_size: an object's id and the length in metres of the longest edge of its box; all is scaled by it.

    Raises UsageError for what cannot be asked, Sam3dGsError when there is no scene.
    """
    _check(form, frame, known_size)
    if not workspace.scene_ply.exists():
        raise Sam3dGsError(f"No scene of {workspace.photo} at {workspace.scene_ply}. Make it with `sam3d-gs scene`.")
    moved = frame != "opencv" or known_size is not None
    target = workspace.export(form, frame if moved else "")
    gaussians = read_ply(workspace.scene_ply)
    if not moved:
        export(gaussians, target)
        return [target]
    scene = read_scene(workspace.scene_json)
    if sum(item.gaussians for item in scene.objects) != len(gaussians):
        raise BadInputError(f"{workspace.scene_ply} and {workspace.scene_json.name} differ. Run the scene stage again.")
    scale = _metres_per_unit(scene, known_size) if known_size else 1.0
    gaussians, scene, motion = _moved(scene, gaussians, frame, scale)
    if form == "ply":
        write_ply(target, gaussians, [f"frame: {AXES[frame]}"])
    else:
        export(gaussians, target, frame)
    if known_size:
        scene = replace(scene, scale_source=f"metric: {known_size[0]} is {known_size[1]:g} m long")
    described = workspace.export("json", frame)
    files = {"ply" if form == "ply" else "compressed": workspace.relative(target)}
    write_moved_scene(described, scene, AXES[frame], pose_matrix(motion), files)
    return [target, described]


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
    if frame not in AXES:
        raise UsageError(f"Unknown frame {frame!r}. Expected one of {', '.join(AXES)}.")
    if form == "spz" and frame not in ("opencv", *SPZ_AXES):
        raise UsageError(f"An .spz has y up: --frame {' or '.join(SPZ_AXES)}, or --format ply for {frame}.")
    if form == "ply" and frame == "opencv" and known_size is None:
        raise UsageError("The scene's .ply is in the frame opencv already. Choose a --frame, or --known-size.")


def _metres_per_unit(scene: Scene, known_size: tuple[str, float]) -> float:
    object_id, metres = known_size
    found = {item.object_id: item for item in scene.objects}
    if object_id not in found:
        raise UsageError(f"No object {object_id!r} in this scene. There are: {', '.join(found) or 'none'}.")
    if not (np.isfinite(metres) and metres > 0):
        raise UsageError(f"--known-size {object_id}={metres:g} is no length. Give metres above 0.")
    corners = found[object_id].obb
    longest = max(float(np.linalg.norm(corners[i] - corners[0])) for i in (1, 2, 4))
    return metres / longest


def _moved(scene: Scene, gaussians: Gaussians, frame: str, scale: float) -> tuple[Gaussians, Scene, Pose]:
    """Gaussians and description in another frame, and the motion that brought them there."""
    rotation = rotation_from_camera(frame, scene.up)
    motion = Pose(matrix_to_quat(rotation), np.zeros(3), scale)
    gaussians = transform(gaussians, motion)
    ends = [0, *accumulate(item.gaussians for item in scene.objects)]
    boxes = [object_bounds(gaussians.take(slice(start, end))) for start, end in pairwise(ends)]
    up = rotation @ scene.up
    if frame not in OF_CAMERA and boxes:  # up is an axis here, so the lowest corner of a box is its minimum along it
        lift = -min(float((box @ up).min()) for box in boxes) * up
        motion = replace(motion, translation=lift)
        gaussians = replace(gaussians, means=gaussians.means + lift.astype(np.float32))
        boxes = [box + lift for box in boxes]
    matrix = pose_matrix(motion)
    objects = tuple(
        replace(item, T_camera_object=matrix @ item.T_camera_object, aabb=box, obb=transform_points(motion, item.obb))
        for item, box in zip(scene.objects, boxes, strict=True)
    )
    return gaussians, replace(scene, up=up, objects=objects), motion
