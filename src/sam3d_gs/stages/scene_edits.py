"""What a user has edited by hand in a scene: the merged .ply, single objects' .ply, poses and phrases in the JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from sam3d_gs.edits import is_edited, names
from sam3d_gs.errors import BadInputError
from sam3d_gs.files import sha256_of
from sam3d_gs.gaussians.current_scene import SceneFiles, current_scene
from sam3d_gs.gaussians.ply import read_ply
from sam3d_gs.gaussians.pose import inverse, pose_from_matrix, same_pose, transform
from sam3d_gs.gaussians.pt import PtFile, PtHeader, open_pt
from sam3d_gs.manifest import StageRecord
from sam3d_gs.scene_files import read_scene
from sam3d_gs.types import ObjectDescription, PlacedObject, Pose, SceneDescription
from sam3d_gs.workspace import Workspace

log = logging.getLogger("sam3d_gs")


@dataclass(frozen=True)
class EditedFiles:
    """Which files of a scene differ from what the scene stage wrote."""

    ply: bool = False  # the merged one
    json: bool = False
    singles: Mapping[str, Path] = field(default_factory=dict)  # object id -> its .ply

    def hashes(self) -> dict[str, str]:
        """The single objects' files as inputs of the scene."""
        return {f"{object_id}.ply edited": sha256_of(path) for object_id, path in self.singles.items()}


@dataclass(frozen=True)
class ObjectEdit:
    """What counts for an object instead of its .pt file; None: what that says."""

    pose: Pose | None = None
    phrase: str | None = None
    ply: Path | None = None
    in_json: bool = False  # the JSON has been edited since it was written: a new pose or phrase, or one taken back

    @property
    def what(self) -> tuple[str, ...]:
        """As `ObjectDescription.edited` has it."""
        return tuple(name for name in ("pose", "phrase") if getattr(self, name) is not None)

    def applied_to(self, file: PtFile) -> PtFile:
        return file.edited(self.pose, self.phrase, self.ply)


def edited_files(workspace: Workspace, former: StageRecord | None, object_ids: Collection[str]) -> EditedFiles:
    """The files that a user has edited since the scene stage, as `former` records it, wrote them."""
    singles = {object_id: workspace.single_ply(object_id) for object_id in object_ids}
    return EditedFiles(
        is_edited(workspace, former, workspace.scene_ply),
        is_edited(workspace, former, workspace.scene_json),
        {object_id: path for object_id, path in singles.items() if is_edited(workspace, former, path)},
    )


def object_edits(
    workspace: Workspace, files: EditedFiles, headers: Callable[[], Sequence[PtHeader]], remade: Collection[str]
) -> dict[str, ObjectEdit]:
    """Object id -> what a user has changed about it, by now or before an earlier run of the scene stage.

    Args:
        headers: of the .pt files; called only when the JSON has been edited.
        remade: objects that were made again since the scene was made, so that an earlier pose does not belong to them.

    Raises BadInputError when the edited JSON cannot be used.
    """
    rows = {row.object_id: row for row in _description(workspace, files.json).objects}
    found = _of_json(workspace, rows, headers()) if files.json else _of_earlier_runs(workspace, rows, remade)
    for object_id, path in files.singles.items():
        found[object_id] = replace(found.get(object_id, ObjectEdit()), ply=path)
    return found


def _description(workspace: Workspace, edited: bool) -> SceneDescription:
    """The scene JSON; an empty scene when there is none. Raises BadInputError when an edited one is damaged."""
    try:
        return read_scene(workspace.scene_json)
    except BadInputError as error:
        if edited:
            raise BadInputError(f"{error} It was edited by hand, and is kept; --force writes a new one.") from error
    return SceneDescription(workspace.photo, np.eye(3), (0, 0), "", np.zeros(3), ())


def _of_json(
    workspace: Workspace, rows: Mapping[str, ObjectDescription], headers: Sequence[PtHeader]
) -> dict[str, ObjectEdit]:
    """Where the JSON differs from the .pt files."""
    if rows.keys() != {header.object_id for header in headers}:
        raise BadInputError(
            f"{workspace.scene_json} was edited by hand, and no longer lists the objects of the scene "
            f"({', '.join(header.object_id for header in headers)}). To leave one out, delete its row in "
            f"{workspace.masks_json.name}; --force writes a new {workspace.scene_json.name}."
        )
    found = {}
    for header in headers:
        row = rows[header.object_id]
        moved = not same_pose(row.T_camera_object, header.pose)
        edit = ObjectEdit(
            pose_from_matrix(row.T_camera_object) if moved else None,
            row.phrase if row.phrase != header.phrase else None,
            in_json=True,
        )
        if edit.what or row.edited:  # one that was taken back counts as an edit too
            found[header.object_id] = edit
    return found


def _of_earlier_runs(
    workspace: Workspace, rows: Mapping[str, ObjectDescription], remade: Collection[str]
) -> dict[str, ObjectEdit]:
    """What the JSON says was edited before it was written."""
    lost = [row.object_id for row in rows.values() if "pose" in row.edited and row.object_id in remade]
    if lost:
        raise BadInputError(
            f"{workspace.scene_json} has a pose that you gave to {', '.join(lost)}, which was made again since. "
            f"The scene stage did not run; with --force it replaces the pose, and yours is kept as "
            f"{workspace.set_aside(workspace.scene_json).name}."
        )
    return {
        row.object_id: ObjectEdit(
            pose_from_matrix(row.T_camera_object) if "pose" in row.edited else None,
            row.phrase if "phrase" in row.edited else None,
        )
        for row in rows.values()
        if row.edited
    }


def with_edits(workspace: Workspace, former: StageRecord | None, placed: Sequence[PlacedObject]) -> list[PlacedObject]:
    """Objects as their .pt files have them -> as a user has edited them in the files of their scene.

    former: the record of the scene stage, which must be about these very objects. Objects of which nothing is left in
    an edited merged .ply are left out. Raises BadInputError when an edited file cannot be used.
    """
    if former is None or former.status != "done" or not workspace.scene_json.is_file():
        return list(placed)
    files = edited_files(workspace, former, [obj.object_id for obj in placed])
    edits = object_edits(workspace, files, lambda: _headers(workspace, placed), ())
    found = [_edited(obj, edits.get(obj.object_id, ObjectEdit())) for obj in placed]
    if not files.ply:
        return found
    cleaned = current_scene(SceneFiles(workspace))
    log.info("%s", cleaned.remark)
    parts = {row.object_id: part for row, part in zip(cleaned.description.objects, cleaned.parts, strict=True)}
    return [
        replace(obj, gaussians=transform(parts[obj.object_id], inverse(obj.pose)))
        for obj in found
        if obj.object_id in parts
    ]


def _headers(workspace: Workspace, placed: Sequence[PlacedObject]) -> list[PtHeader]:
    return [open_pt(workspace.object_pt(obj.object_id)).header for obj in placed]


def _edited(obj: PlacedObject, edit: ObjectEdit) -> PlacedObject:
    return replace(
        obj,
        pose=edit.pose or obj.pose,
        phrase=edit.phrase or obj.phrase,
        gaussians=read_ply(edit.ply) if edit.ply else obj.gaussians,
    )


def note(workspace: Workspace, files: EditedFiles, edits: Mapping[str, ObjectEdit]) -> str:
    """For the stage's summary: what is kept or used of the user's."""
    paths = [workspace.scene_ply] if files.ply else []
    paths += [workspace.scene_json] if files.json or any(edit.what for edit in edits.values()) else []
    paths += files.singles.values()
    return f", edited by hand: {names(paths)}" if paths else ""
