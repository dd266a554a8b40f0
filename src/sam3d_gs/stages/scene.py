"""Merge the objects: .pt files -> .ply of each and of all, scene JSON, pictures, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sam3d_gs.errors import BadInputError, Sam3dGsError, command
from sam3d_gs.gaussians.merge import concatenated, merge_objects, open_objects
from sam3d_gs.gaussians.packed import Packed
from sam3d_gs.gaussians.pose import transform
from sam3d_gs.gaussians.reprojection import LOW_IOU, MaskFit
from sam3d_gs.gaussians.scene import describe_object, scene_up
from sam3d_gs.gaussians.thinning import Thinning, share
from sam3d_gs.manifest import Item, StageRecord, fingerprint
from sam3d_gs.masks.files import read_masks
from sam3d_gs.options import SceneOptions
from sam3d_gs.report import pictures
from sam3d_gs.report.run_report import write_run_report
from sam3d_gs.report.view3d import pack_object, splat_limits
from sam3d_gs.scene_files import write_scene
from sam3d_gs.stages.bookkeeping import (
    Context,
    Recorder,
    StageResult,
    finished,
    intact,
    item_intact,
    plain_options,
    recorded,
    recorded_path,
    recording,
)
from sam3d_gs.types import Gaussians, ObjectDescription, PlacedObject, SceneDescription
from sam3d_gs.workspace import Workspace


def run(context: Context, options: SceneOptions) -> StageResult:
    """Write all results of a photo. Raises Sam3dGsError when there are no objects.

    Each object is read once, and everything about it is made while it is in memory.
    """
    workspace, photo = context.workspace, context.photo
    objects = finished(workspace, "objects", photo.path)
    items = _usable(workspace, objects)
    if not items:
        raise Sam3dGsError(f"No objects of {photo.path.name} to merge. Run {command('objects', photo.path)} first.")
    inputs = {object_id: _content_hash(workspace, item) for object_id, item in items.items()}
    inputs["failed"] = fingerprint(objects.errors)
    plain = plain_options(options)
    former = recorded(workspace, "scene")
    same = former is not None and former.status == "done" and former.same_work("-", plain, inputs)
    if not context.force and former is not None and same and intact(workspace, former):
        return StageResult("scene", "up to date", f"{len(items)} objects")
    with recording(context, "scene", options, inputs) as recorder:
        described = _make(context, recorder, options, {name: _path(workspace, item) for name, item in items.items()})
    return StageResult("scene", "done", _summary(described), recorder.record.seconds, tuple(_warnings(described)))


def _usable(workspace: Workspace, objects: StageRecord) -> dict[str, Item]:
    """The recorded objects, in order of their ids. A file that was changed or lost is an error, never left out."""
    for object_id, item in objects.items.items():
        if not item_intact(workspace, item):
            raise BadInputError(
                f"{_path(workspace, item)} of {object_id} was changed or lost since it was made. "
                "Run the objects stage again."
            )
    return dict(sorted(objects.items.items()))


def _path(workspace: Workspace, item: Item) -> Path:
    return recorded_path(workspace, item.output)


def _content_hash(workspace: Workspace, item: Item) -> str:
    """By time and size: reading the bytes of large scenes would cost more than merging them."""
    return fingerprint([item.input, item.size, _path(workspace, item).stat().st_mtime_ns])


def _make(
    context: Context, recorder: Recorder, options: SceneOptions, sources: Mapping[str, Path]
) -> list[ObjectDescription]:
    """Write every file of the scene, from object id -> .pt. Returns the objects as the scene JSON describes them."""
    workspace, photo, steps = context.workspace, context.photo, len(sources) + 2
    context.progress(0, steps, "merging")
    opened = open_objects(list(sources.values()))
    headers = [file.header for file in opened]
    for object_id, header in zip(sources, headers, strict=True):
        if (header.object_id, header.image_size) != (object_id, (photo.width_px, photo.height_px)):
            raise BadInputError(
                f"{header.path} is {header.object_id} of a photo of {header.image_size[0]} x {header.image_size[1]} "
                f"pixels, not {object_id} of this photo. Delete it and run the objects stage again."
            )
    masks = read_masks(workspace, (photo.width_px, photo.height_px))
    made = _PerObject(recorder, options, MaskFit(masks), [header.count for header in headers])

    def add(obj: PlacedObject) -> None:
        made.add(obj)
        context.progress(len(made.described), steps, obj.object_id)

    merge_objects(opened, workspace.scene_ply, workspace.single_ply, then=add)
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


class _PerObject:
    """What is made of each object while it is in memory: its pictures, and what is kept of it for the whole scene."""

    def __init__(self, recorder: Recorder, options: SceneOptions, fit: MaskFit, counts: Sequence[int]) -> None:
        """counts: how many Gaussians each object has."""
        self._recorder, self._options, self._fit = recorder, options, fit
        self._preview_limits = share(counts, pictures.SCENE_TURNTABLE_GAUSSIANS)
        self._splat_limits = splat_limits(counts)
        self.described: list[ObjectDescription] = []
        self.previews: list[Gaussians] = []  # thinned, camera frame; for the scene's turntable
        self.splats: list[Packed] = []  # for the report

    def add(self, obj: PlacedObject) -> None:
        """The next object, whose own .ply is written."""
        number, thinning = len(self.described), Thinning(obj.gaussians)
        files = self._write_pictures(obj, thinning)
        described = describe_object(obj, self._fit.iou(obj), files)
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
            "mask": workspace.mask_png(obj.object_id),
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
