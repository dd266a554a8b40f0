"""Merge the objects: .pt files -> .ply of each and of all, scene JSON, pictures, report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sam3d_gs.edits import is_edited
from sam3d_gs.errors import BadInputError, Sam3dGsError, command
from sam3d_gs.files import sha256_of
from sam3d_gs.gaussians.merge import check_same_photo, concatenated, merge_objects, open_objects
from sam3d_gs.gaussians.packed import Packed
from sam3d_gs.gaussians.pose import transform
from sam3d_gs.gaussians.pt import PtFile, PtHeader, open_pt
from sam3d_gs.gaussians.reprojection import LOW_IOU, MaskFit
from sam3d_gs.gaussians.scene import describe_object, scene_up
from sam3d_gs.gaussians.thinning import Thinning, share
from sam3d_gs.manifest import Item, StageRecord, fingerprint
from sam3d_gs.masks.files import mask_path, read_masks
from sam3d_gs.options import SceneOptions
from sam3d_gs.report import pictures
from sam3d_gs.report.run_report import write_run_report
from sam3d_gs.report.view3d import pack_object, splat_limits
from sam3d_gs.scene_files import write_scene
from sam3d_gs.stages import scene_edits
from sam3d_gs.stages.bookkeeping import (
    Context,
    Recorder,
    StageResult,
    finished,
    intact,
    plain_options,
    recorded,
    recorded_path,
    recording,
    refuse_to_replace,
)
from sam3d_gs.stages.scene_edits import EditedFiles, ObjectEdit
from sam3d_gs.types import Gaussians, ObjectDescription, PlacedObject, SceneDescription
from sam3d_gs.workspace import Workspace

log = logging.getLogger("sam3d_gs")


def run(context: Context, options: SceneOptions) -> StageResult:
    """Write all results of a photo. Raises Sam3dGsError when there are no objects.

    Each object is read once, and everything about it is made while it is in memory.
    """
    workspace, photo = context.workspace, context.photo
    objects = finished(workspace, "objects", photo.path)
    items = _usable(workspace, objects)
    if not items:
        raise Sam3dGsError(f"No objects of {photo.path.name} to merge. Run {command('objects', photo.path)} first.")
    former = recorded(workspace, "scene")
    files = EditedFiles() if context.force else scene_edits.edited_files(workspace, former, items.keys())
    inputs = {object_id: _content_hash(workspace, objects, item) for object_id, item in items.items()}
    inputs |= {"failed": fingerprint(objects.errors), **files.hashes()}
    remade = [] if former is None else [name for name in items if former.inputs.get(name) != inputs[name]]
    if former is not None and _keeps_merged(context, former, files, inputs):
        log.info("%s: %s was edited by hand, so the scene stays as it is.", workspace.photo, workspace.scene_ply)
        return StageResult("scene", "up to date", f"{len(items)} objects{scene_edits.note(workspace, files, {})}")
    if remade:
        replaced = [path for object_id, path in files.singles.items() if object_id in remade]
        replaced += [workspace.scene_json] if files.json else []
        refuse_to_replace(context, "scene", replaced, f"{', '.join(remade)} was made again since")
    sources = [_path(workspace, item) for item in items.values()]

    def headers() -> list[PtHeader]:
        return [file.header for file in open_objects(sources)]

    edits = {} if context.force else scene_edits.object_edits(workspace, files, headers, remade)
    same = former is not None and former.status == "done" and former.same_work("-", plain_options(options), inputs)
    unused = files.json and not any(edit.in_json for edit in edits.values())  # e.g. a remark of the user's
    kept = [*files.singles.values(), *([workspace.scene_json] if unused else [])]
    if former is not None and same and not context.force and intact(workspace, former, kept):
        return StageResult("scene", "up to date", f"{len(items)} objects{scene_edits.note(workspace, files, edits)}")
    with recording(context, "scene", options, inputs, kept=files.singles.values()) as recorder:
        described = _make(context, recorder, options, dict(zip(items, sources, strict=True)), edits)
    summary = _summary(described) + scene_edits.note(workspace, files, edits)
    return StageResult("scene", "done", summary, recorder.record.seconds, tuple(_warnings(described)))


def objects_now(workspace: Workspace, objects: StageRecord, placed: Sequence[PlacedObject]) -> list[PlacedObject]:
    """The objects that `objects` records, with what a user has edited in the files of their scene.

    They are as they were made when the scene is not of these very objects. Raises BadInputError when an edited file
    cannot be used.
    """
    former = recorded(workspace, "scene")
    made = {object_id: _content_hash(workspace, objects, item) for object_id, item in objects.items.items()}
    if former is None or any(former.inputs.get(object_id) != value for object_id, value in made.items()):
        return list(placed)
    return scene_edits.with_edits(workspace, former, placed)


def _keeps_merged(context: Context, former: StageRecord, files: EditedFiles, inputs: Mapping[str, str]) -> bool:
    """Whether the merged .ply was edited by hand, so that the scene stays as it is.

    Raises BadInputError when the scene would have to be made again.
    """
    if not files.ply:
        return False
    changed = [name for name in sorted({*inputs, *former.inputs}) if former.inputs.get(name) != inputs.get(name)]
    if former.status == "done" and set(changed) <= {"failed"}:
        return True
    why = f"what it is made from has changed since ({', '.join(changed[:3])})" if changed else "it was not finished"
    refuse_to_replace(context, "scene", [context.workspace.scene_ply], why)
    return True


def _usable(workspace: Workspace, objects: StageRecord) -> dict[str, Item]:
    """The recorded objects, in order of their ids. A file that was lost is an error, never left out."""
    for object_id, item in objects.items.items():
        if not _path(workspace, item).is_file():
            raise BadInputError(
                f"{_path(workspace, item)} of {object_id} was lost since it was made. Run the objects stage again."
            )
    return dict(sorted(objects.items.items()))


def _path(workspace: Workspace, item: Item) -> Path:
    return recorded_path(workspace, item.output)


def _content_hash(workspace: Workspace, objects: StageRecord, item: Item) -> str:
    """By what the objects stage recorded: reading the bytes of large scenes would cost more than merging them."""
    path, stamp = _path(workspace, item), objects.stamps.get(item.output)
    if stamp is None:  # recorded by an earlier version
        return fingerprint([item.input, item.size, path.stat().st_mtime_ns])
    edited = [sha256_of(path)] if is_edited(workspace, objects, path) else []
    return fingerprint([item.input, item.size, stamp.sha256, stamp.mtime_us, *edited])


def _make(
    context: Context,
    recorder: Recorder,
    options: SceneOptions,
    sources: Mapping[str, Path],
    edits: Mapping[str, ObjectEdit],
) -> list[ObjectDescription]:
    """Write every file of the scene. Returns the objects as the scene JSON describes them.

    sources, edits: by object id, the .pt files and what counts instead of them.
    """
    workspace, photo, steps = context.workspace, context.photo, len(sources) + 2
    context.progress(0, steps, "merging")
    opened = _opened(sources, edits)
    headers = [file.header for file in opened]
    if (size := headers[0].image_size) != (photo.width_px, photo.height_px):
        raise BadInputError(
            f"{headers[0].path} is of a photo of {size[0]} x {size[1]} pixels, not of this one. Delete it and run the "
            "objects stage again."
        )
    masks = read_masks(workspace, (photo.width_px, photo.height_px))
    mask_files = {mask.object_id: mask_path(workspace, mask) for mask in masks}
    made = _PerObject(recorder, options, MaskFit(masks), mask_files, [header.count for header in headers], edits)

    def add(obj: PlacedObject) -> None:
        made.add(obj)
        context.progress(len(made.described), steps, obj.object_id)

    def single_ply(object_id: str) -> Path | None:
        path = workspace.single_ply(object_id)
        return None if path in recorder.kept else path

    merge_objects(opened, workspace.scene_ply, single_ply, then=add)
    recorder.add_output(workspace.scene_ply)
    first, up = headers[0], scene_up([header.pose for header in headers])
    scene = SceneDescription(workspace.photo, first.K, first.image_size, first.scale_source, up, tuple(made.described))
    files = {"ply": workspace.relative(workspace.scene_ply)}
    if options.turntable != "none":
        context.progress(steps - 1, steps, "turntable")
        path = workspace.turntable(options.turntable)
        frames = pictures.turntable(concatenated(made.previews), scene.K, scene.image_size, up=scene.up)
        pictures.save_animation(frames, path)
        files["turntable"] = workspace.relative(path)
        recorder.add_output(path)
    write_scene(workspace.scene_json, scene, files)
    recorder.add_output(workspace.scene_json)
    if options.report:
        context.progress(steps - 1, steps, "report")
        recorder.save()  # so that the report can show this stage too
        write_run_report(workspace, photo, scene, masks, made.splats, files.get("turntable"))
        recorder.add_output(workspace.report_html)
    return made.described


def _opened(sources: Mapping[str, Path], edits: Mapping[str, ObjectEdit]) -> list[PtFile]:
    """The objects with what counts instead. Raises BadInputError naming a file that is not usable."""
    opened = [open_pt(path) for path in sources.values()]
    for object_id, file in zip(sources, opened, strict=True):
        if file.header.object_id != object_id:
            raise BadInputError(
                f"{file.header.path} was edited by hand, and holds the object {file.header.object_id}, expected "
                f"{object_id}. Put the right one there, or run the objects stage with --force."
            )
    check_same_photo([file.header for file in opened])
    return [edits[name].applied_to(file) if name in edits else file for name, file in zip(sources, opened, strict=True)]


class _PerObject:
    """What is made of each object while it is in memory: its pictures, and what is kept of it for the whole scene."""

    def __init__(
        self,
        recorder: Recorder,
        options: SceneOptions,
        fit: MaskFit,
        mask_files: Mapping[str, Path],
        counts: Sequence[int],
        edits: Mapping[str, ObjectEdit],
    ) -> None:
        """counts: how many Gaussians each object has."""
        self._recorder, self._options, self._fit, self._edits = recorder, options, fit, edits
        self._mask_files = mask_files
        self._preview_limits = share(counts, pictures.SCENE_TURNTABLE_GAUSSIANS)
        self._splat_limits = splat_limits(counts)
        self.described: list[ObjectDescription] = []
        self.previews: list[Gaussians] = []  # thinned, camera frame; for the scene's turntable
        self.splats: list[Packed] = []  # for the report

    def add(self, obj: PlacedObject) -> None:
        """The next object, whose own .ply is written."""
        number, thinning = len(self.described), Thinning(obj.gaussians)
        files = self._write_pictures(obj, thinning)
        edited = self._edits.get(obj.object_id, ObjectEdit()).what
        described = replace(describe_object(obj, self._fit.iou(obj), files), edited=edited)
        self.described.append(described)
        if self._options.turntable != "none":
            self.previews.append(transform(thinning.keep(self._preview_limits[number]), obj.pose))
        if self._options.report:
            self.splats.append(pack_object(thinning, described.T_camera_object, self._splat_limits[number]))

    def _write_pictures(self, obj: PlacedObject, thinning: Thinning) -> dict[str, str]:
        """Returns all files about the object: kind -> path below the workspace."""
        workspace = self._recorder.context.workspace
        paths = {
            "ply": workspace.single_ply(obj.object_id),
            "pt": workspace.object_pt(obj.object_id),
            "mask": self._mask_files.get(obj.object_id, workspace.mask_png(obj.object_id)),
            "contact_sheet": workspace.contact_sheet(obj.object_id),
        }
        if self._options.turntable != "none":
            paths["turntable"] = workspace.object_turntable(obj.object_id)
        pictures.write_object_pictures(thinning, obj.pose, paths["contact_sheet"], paths.get("turntable"))
        self._recorder.add_output(*(path for kind, path in paths.items() if kind not in ("pt", "mask")))
        return {kind: workspace.relative(path) for kind, path in paths.items()}


def _summary(objects: Sequence[ObjectDescription]) -> str:
    total = sum(obj.gaussians for obj in objects)
    ious = [obj.reprojection_iou for obj in objects if obj.reprojection_iou is not None]
    text = f"{len(objects)} objects, {total:,} Gaussians"
    return text + (f", reprojection IoU {np.median(ious):.2f}" if ious else "")


def _warnings(objects: Sequence[ObjectDescription]) -> list[str]:
    return [
        f"{obj.object_id} covers its mask poorly (reprojection IoU {obj.reprojection_iou:.2f})."
        for obj in objects
        if obj.reprojection_iou is not None and obj.reprojection_iou < LOW_IOU
    ]
