"""A finished scene as it is now: with the poses, phrases and Gaussians that a user has edited in its files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np

from sam3d_gs import manifest as manifests
from sam3d_gs.edits import is_edited
from sam3d_gs.errors import BadInputError
from sam3d_gs.gaussians.assignment import Assignment, assign
from sam3d_gs.gaussians.merge import concatenated
from sam3d_gs.gaussians.ply import count_ply, read_ply
from sam3d_gs.gaussians.pose import (
    box_corners,
    compose,
    inverse,
    object_bounds,
    pose_from_matrix,
    same_pose,
    thinned,
    transform,
)
from sam3d_gs.scene_files import read_scene
from sam3d_gs.types import Gaussians, ObjectDescription, Pose, SceneDescription
from sam3d_gs.workspace import Workspace, is_object_id

_LEAST_MATCHED = 0.5  # of a cleaned scene's Gaussians, or of the objects': with fewer it is another scene


@dataclass(frozen=True)
class CurrentScene:
    """The objects of a scene, camera frame."""

    description: SceneDescription
    parts: Sequence[Gaussians]  # of each object
    rest: Gaussians | None = None  # those of no object, which a user has added
    remark: str = ""  # about an edited .ply, for the user

    def all(self) -> Gaussians:
        return concatenated([*self.parts, *([self.rest] if self.rest else [])])


class SceneFiles:
    """The files of a finished scene, and which of them a user has edited."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        try:
            manifest = manifests.load(workspace.manifest)
        except BadInputError:  # the scene's own files say enough
            manifest = None
        self._record = manifest.stages.get("scene") if manifest else None

    @cached_property
    def merged(self) -> Gaussians:
        """Raises BadInputError when the scene's .ply cannot be read."""
        return read_ply(self.workspace.scene_ply)

    @cached_property
    def description(self) -> SceneDescription:
        return read_scene(self.workspace.scene_json)

    @cached_property
    def json_edited(self) -> bool:
        return is_edited(self.workspace, self._record, self.workspace.scene_json)

    @cached_property
    def ply_edited(self) -> bool:
        path, described = self.workspace.scene_ply, sum(item.gaussians for item in self.description.objects)
        return described != count_ply(path) or is_edited(self.workspace, self._record, path)

    @cached_property
    def objects_edited(self) -> bool:
        """Whether poses or single objects' .ply may have been edited, so that the merged .ply is older than they."""
        names = [path for path in self._record.stamps if path.endswith(".ply")] if self._record else []
        singles = {self.workspace.root / name for name in names} - {self.workspace.scene_ply}
        return self.json_edited or any(is_edited(self.workspace, self._record, path) for path in singles)

    def current_gaussians(self) -> Gaussians:
        """All of them, camera frame. Nothing needs to be known of the objects unless they were edited one by one."""
        if not self.workspace.scene_json.is_file() or not self.objects_edited:
            return self.merged
        return current_scene(self).all()

    def single(self, object_id: str) -> Gaussians:
        """One object, in its object frame. Raises BadInputError."""
        if not is_object_id(object_id):
            raise BadInputError(f"{self.workspace.scene_json} has the object id {object_id!r:.60}, which is no name.")
        return read_ply(self.workspace.single_ply(object_id))


def current_scene(files: SceneFiles) -> CurrentScene:
    """The scene of a photo as it is now. Raises BadInputError when its files cannot be brought together."""
    scene = files.description
    if files.ply_edited:
        return _cleaned(files)
    if not files.objects_edited:
        ends = [0, *accumulate(item.gaussians for item in scene.objects)]
        return CurrentScene(scene, [files.merged.take(slice(start, end)) for start, end in pairwise(ends)])
    parts, described = [], []
    for item in scene.objects:
        part, pose = files.single(item.object_id), pose_from_matrix(item.T_camera_object)
        parts.append(transform(part, pose))
        described.append(_described(item, parts[-1], pose, None))
    return CurrentScene(replace(scene, objects=tuple(described)), parts)


def _cleaned(files: SceneFiles) -> CurrentScene:
    """The scene of an edited .ply: its Gaussians are dealt to the objects."""
    scene, merged = files.description, files.merged
    now = [pose_from_matrix(item.T_camera_object) for item in scene.objects]
    then = _poses_of_merge(files, now) if files.json_edited else now
    singles = [files.single(item.object_id) for item in scene.objects]
    originals = [transform(single, pose).means for single, pose in zip(singles, then, strict=True)]
    boxes = [box_corners(object_bounds(single), pose) for single, pose in zip(singles, then, strict=True)]
    found = assign(merged.means, originals, boxes)
    known = int(np.count_nonzero(found.matched))
    total = sum(map(len, originals))
    if known < _LEAST_MATCHED * min(len(merged), total):
        raise BadInputError(
            f"{files.workspace.scene_ply} and {files.workspace.scene_json.name} differ: only {known:,} of the .ply's "
            f"{len(merged):,} Gaussians are where an object has one, so it was moved as a whole or is another scene. "
            "Export it without a frame and a size, or make it again with the scene stage and --force."
        )
    parts, described, gone = [], [], []
    for number, item in enumerate(scene.objects):
        rows = found.object_index == number
        if not rows.any():
            gone.append(item.object_id)
            continue
        part = merged.take(np.flatnonzero(rows))
        if then[number] is not now[number]:
            part = transform(part, compose(now[number], inverse(then[number])))
        whole = int(np.count_nonzero(rows & found.matched)) == len(part) == len(originals[number])
        parts.append(part)
        described.append(_described(item, part, now[number], item.reprojection_iou if whole else None))
    rest = np.flatnonzero(found.object_index < 0)
    return CurrentScene(
        replace(scene, objects=tuple(described)),
        parts,
        merged.take(rest) if len(rest) else None,
        _remark(files, found, total, gone),
    )


def _poses_of_merge(files: SceneFiles, now: Sequence[Pose]) -> list[Pose]:
    """The poses that the .ply was merged with, when those of the JSON have been edited since."""
    from sam3d_gs.gaussians.pt import open_pt

    poses = []
    for item, pose in zip(files.description.objects, now, strict=True):
        made = pose if "pose" in item.edited else open_pt(files.workspace.object_pt(item.object_id)).header.pose
        poses.append(pose if same_pose(item.T_camera_object, made) else made)
    return poses


def _described(item: ObjectDescription, part: Gaussians, pose: Pose, iou: float | None) -> ObjectDescription:
    """An object's entry when its Gaussians (camera frame) are others than it says."""
    own = object_bounds(transform(thinned(part), inverse(pose)))
    return replace(
        item,
        gaussians=len(part),
        aabb=object_bounds(part),
        obb=box_corners(own, pose),
        reprojection_iou=iou,
    )


def _remark(files: SceneFiles, found: Assignment, total: int, gone: Sequence[str]) -> str:
    count, known = len(found.matched), int(np.count_nonzero(found.matched))
    text = f"{files.workspace.scene_ply.name} was edited by hand: {count:,} Gaussians, {total:,} before."
    if new := count - known:
        free = int(np.count_nonzero(found.object_index < 0))
        text += f" {new:,} were moved or are new: {new - free:,} belong to the object around them, {free:,} to none."
    if gone:
        text += f" Nothing is left of {', '.join(gone)}."
    return text
