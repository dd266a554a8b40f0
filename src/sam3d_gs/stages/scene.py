"""Merge the objects: .pt files -> .ply of each and of all, scene JSON, pictures, report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sam3d_gs import __version__
from sam3d_gs import manifest as manifests
from sam3d_gs.engines.api import FailedObject
from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.files import atomic_path
from sam3d_gs.gaussians.merge import MergedObject, merge_objects
from sam3d_gs.gaussians.packed import share, thin
from sam3d_gs.gaussians.pose import pose_matrix, quat_to_matrix, transform
from sam3d_gs.gaussians.pt import read_pt
from sam3d_gs.gaussians.reprojection import reprojection_iou
from sam3d_gs.manifest import Item, StageRecord, fingerprint
from sam3d_gs.masks.files import read_masks
from sam3d_gs.options import STAGES, SceneOptions
from sam3d_gs.phrase_files import read_phrases
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
    recording,
)
from sam3d_gs.types import Gaussians, InstanceMask, Scene, SceneObject
from sam3d_gs.workspace import Workspace

log = logging.getLogger("sam3d_gs")

LOW_IOU = 0.5  # below, an object is not where its mask is
PREVIEW_GAUSSIANS = 150_000  # of the whole scene, for the pictures; the files always hold all
SHEET_GAUSSIANS, FILM_GAUSSIANS = 40_000, 15_000  # of one object, for its contact sheet and its small turntable


def run(context: Context, options: SceneOptions) -> StageResult:
    """Write everything a user takes away. Raises Sam3dGsError when there are no objects."""
    workspace, photo = context.workspace, context.photo
    objects = finished(workspace, "objects", photo.path)
    items = _usable(workspace, objects)
    if not items:
        raise Sam3dGsError(f"No objects of {photo.path.name} to merge. Run `sam3d-gs objects {photo.path}` first.")
    inputs = {object_id: _content_hash(workspace, item) for object_id, item in items.items()}
    inputs["failed"] = fingerprint(objects.errors)
    plain = plain_options(options)
    former = recorded(workspace, "scene")
    same = former is not None and former.status == "done" and former.same_work("-", plain, inputs)
    if not context.force and former is not None and same and intact(workspace, former):
        return StageResult("scene", "up to date", f"{len(items)} objects")
    steps = len(items) + 2
    context.progress(0, steps, "merging")
    with recording(context, "scene", options, inputs) as recorder:
        sources = [workspace.root / item.output for item in items.values()]
        merged = merge_objects(sources, workspace.scene_ply, workspace.single_ply)
        recorder.add_output(workspace.scene_ply, *(workspace.single_ply(object_id) for object_id in items))
        masks = read_masks(workspace, (photo.width_px, photo.height_px))
        by_id = {mask.object_id: mask for mask in masks if mask.dropped is None}
        up = scene_up(merged)
        previews: list[Gaussians] = []
        described: list[SceneObject] = []
        limits = share([m.header.count for m in merged], PREVIEW_GAUSSIANS)
        for number, (one, limit) in enumerate(zip(merged, limits, strict=True), start=1):
            obj = read_pt(one.header.path)
            iou = _iou(transform(obj.gaussians, obj.pose), one, by_id)
            _object_pictures(recorder, workspace, one, obj.gaussians, film=options.turntable != "none")
            previews.append(transform(thin(obj.gaussians, limit), obj.pose))
            described.append(_describe(recorder, workspace, one, iou))
            context.progress(number, steps, one.header.object_id)
        first = merged[0].header
        scene = Scene(workspace.photo, first.K, first.image_size, first.scale_source, up, tuple(described))
        files = {"ply": workspace.relative(workspace.scene_ply)}
        if options.turntable != "none":
            context.progress(steps - 1, steps, "turntable")
            path = _turntable(workspace, previews, scene, options.turntable)
            files["turntable"] = workspace.relative(path)
            recorder.add_output(path)
        write_scene(workspace.scene_json, scene, files)
        recorder.add_output(workspace.scene_json)
        if options.report:
            context.progress(steps - 1, steps, "report")
            recorder.save()  # so that the report can show this stage too
            _report(context, recorder, scene, masks, files)
            recorder.add_output(workspace.report_html)
    return StageResult("scene", "done", _summary(described), recorder.record.seconds, tuple(_warnings(described)))


def _usable(workspace: Workspace, objects: StageRecord) -> dict[str, Item]:
    """The recorded objects whose files are still as they were; a lost one is an error, not left out in silence."""
    for object_id, item in objects.items.items():
        if not item_intact(workspace, item):
            raise BadInputError(
                f"{workspace.root / item.output} of {object_id} was changed or lost since it was made. "
                "Run the objects stage again."
            )
    return dict(sorted(objects.items.items()))


def _content_hash(workspace: Workspace, item: Item) -> str:
    """By time and size: reading the bytes of large scenes would cost more than merging them."""
    return fingerprint([item.input, item.size, (workspace.root / item.output).stat().st_mtime_ns])


def scene_up(merged: Sequence[MergedObject]) -> np.ndarray:
    """(3,) unit vector against gravity in the camera frame: the mean of the objects' own up axes (their z)."""
    ups = [quat_to_matrix(one.header.pose.quat_wxyz)[:, 2] for one in merged]
    total = np.sum(ups, axis=0)
    length = float(np.linalg.norm(total))
    return total / length if length > 0.1 * len(ups) else np.array([0.0, -1.0, 0.0])


def _iou(placed: Gaussians, one: MergedObject, masks: Mapping[str, InstanceMask]) -> float | None:
    """Against the object's own mask; pixels of other objects' masks, which may stand in front, do not count."""
    mask = masks.get(one.header.object_id)
    if mask is None:
        return None
    others = [other.mask for object_id, other in masks.items() if object_id != mask.object_id]
    ignore = np.logical_or.reduce(others) if others else None
    return reprojection_iou(placed, one.header.K, mask.mask, ignore)


def _object_pictures(
    recorder: Recorder, workspace: Workspace, one: MergedObject, gaussians: Gaussians, film: bool
) -> None:
    from sam3d_gs.report import pictures

    object_id = one.header.object_id
    to_camera = _direction_to_camera(one)
    path = workspace.contact_sheet(object_id)
    with atomic_path(path) as temporary:
        pictures.contact_sheet(thin(gaussians, SHEET_GAUSSIANS), to_camera).save(temporary)
    recorder.add_output(path)
    if film:
        path = workspace.object_turntable(object_id)
        pictures.save_animation(pictures.object_turntable(thin(gaussians, FILM_GAUSSIANS), to_camera), path)
        recorder.add_output(path)


def _direction_to_camera(one: MergedObject) -> np.ndarray:
    """(3,) unit vector in the object frame from the object towards the photo's camera."""
    pose = one.header.pose
    direction = quat_to_matrix(pose.quat_wxyz).T @ -pose.translation
    length = float(np.linalg.norm(direction))
    return direction / length if length > 0 else np.array([0.0, -1.0, 0.0])


def _describe(recorder: Recorder, workspace: Workspace, one: MergedObject, iou: float | None) -> SceneObject:
    header = one.header
    kinds = {
        "ply": workspace.single_ply(header.object_id),
        "pt": header.path,
        "mask": workspace.mask_png(header.object_id),
        "contact_sheet": workspace.contact_sheet(header.object_id),
        "turntable": workspace.object_turntable(header.object_id),
    }
    files = {kind: workspace.relative(path) for kind, path in kinds.items()}
    if files["turntable"] not in recorder.record.outputs:
        del files["turntable"]
    return SceneObject(
        object_id=header.object_id,
        phrase=header.phrase,
        scores=header.scores,
        T_camera_object=pose_matrix(header.pose),
        aabb=one.aabb,
        obb=one.obb,
        gaussians=header.count,
        files=files,
        reprojection_iou=iou,
    )


def _turntable(workspace: Workspace, previews: Sequence[Gaussians], scene: Scene, suffix: str) -> Path:
    from sam3d_gs.report import pictures

    frames = pictures.turntable(concatenated(previews), scene.K, scene.image_size, up=scene.up)
    path = workspace.turntable(suffix)
    pictures.save_animation(frames, path)
    return path


def concatenated(parts: Sequence[Gaussians]) -> Gaussians:
    """Gaussians of one frame, one after the other."""
    return Gaussians(
        means=np.concatenate([p.means for p in parts]),
        quats=np.concatenate([p.quats for p in parts]),
        log_scales=np.concatenate([p.log_scales for p in parts]),
        opacity_logits=np.concatenate([p.opacity_logits for p in parts]),
        sh0=np.concatenate([p.sh0 for p in parts]),
    )


def _report(
    context: Context, recorder: Recorder, scene: Scene, masks: Sequence[InstanceMask], files: Mapping[str, str]
) -> None:
    from sam3d_gs.report.page import ObjectReport, ReportData, StageReport, write_report

    workspace = context.workspace
    manifest = manifests.load(workspace.manifest)
    assert manifest is not None, "the stage is being recorded in it"
    records = {name: manifest.stages[name] for name in STAGES if name in manifest.stages}
    objects = records["objects"]
    phrases = read_phrases(workspace.phrases_json) if _phrases_used(records) else []
    turntable = files.get("turntable")
    data = ReportData(
        photo=context.photo,
        scene=scene,
        objects=[
            ObjectReport(
                object=obj,
                ply=workspace.root / obj.files["ply"],
                contact_sheet=workspace.root / obj.files["contact_sheet"],
                turntable=workspace.root / obj.files["turntable"] if "turntable" in obj.files else None,
                seconds=objects.items[obj.object_id].seconds,
            )
            for obj in scene.objects
        ],
        phrases=phrases,
        masks=masks,
        failures=[FailedObject(key, reason) for key, reason in objects.errors.items()],
        overlay=workspace.overlay_png,
        turntable=workspace.root / turntable if turntable else None,
        stages=[
            StageReport(
                name,
                "done" if record is recorder.record or record.status == "running" else record.status,
                record.engine,
                record.seconds,
                record.peak_memory_mb,
                record.options,
            )
            for name, record in records.items()
        ],
        licences={what: terms for record in records.values() for what, terms in record.licences.items()},
        files={
            "Scene": files["ply"],
            "Poses and camera": workspace.relative(workspace.scene_json),
            **({"Turntable": turntable} if turntable else {}),
            "Objects": workspace.relative(workspace.single_dir),
            "Masks": workspace.relative(workspace.masks_dir),
        },
        version=__version__,
    )
    write_report(workspace.report_html, data)


def _phrases_used(records: Mapping[str, StageRecord]) -> bool:
    """False when the masks came from the user: an older run's phrases have then nothing to do with them."""
    masks = records.get("masks")
    return masks is not None and "phrases" in masks.inputs


def _summary(objects: Sequence[SceneObject]) -> str:
    total = sum(obj.gaussians for obj in objects)
    ious = [obj.reprojection_iou for obj in objects if obj.reprojection_iou is not None]
    text = f"{len(objects)} objects, {total:,} Gaussians"
    return text + (f", reprojection IoU {np.median(ious):.2f}" if ious else "")


def _warnings(objects: Sequence[SceneObject]) -> list[str]:
    return [
        f"{obj.object_id} covers its mask poorly (reprojection IoU {obj.reprojection_iou:.2f})."
        for obj in objects
        if obj.reprojection_iou is not None and obj.reprojection_iou < LOW_IOU
    ]
