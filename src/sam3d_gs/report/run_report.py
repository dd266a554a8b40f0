"""The report of one photo's run, put together from the manifest, the scene and the files of the workspace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sam3d_gs import __version__
from sam3d_gs import manifest as manifests
from sam3d_gs.engines.api import FailedObject
from sam3d_gs.gaussians.packed import Packed
from sam3d_gs.manifest import StageRecord
from sam3d_gs.options import STAGES
from sam3d_gs.phrase_files import read_phrases
from sam3d_gs.report.data import ObjectReport, ReportData, StageReport
from sam3d_gs.report.page import write_report
from sam3d_gs.types import InstanceMask, Photo, SceneDescription
from sam3d_gs.workspace import Workspace


def write_run_report(
    workspace: Workspace,
    photo: Photo,
    scene: SceneDescription,
    masks: Sequence[InstanceMask],
    splats: Sequence[Packed],
    turntable: str | None,
) -> None:
    """Write report.html.

    Args:
        workspace: of the photo; its manifest holds the scene stage, too, as done or still running.
        photo, scene: what the run was about and what came out.
        masks: of the photo, kept and dropped.
        splats: of each of the scene's objects, for the 3D view.
        turntable: the scene's, as a path below the workspace.

    Raises Sam3dGsError when the page cannot be written.
    """
    manifest = manifests.load(workspace.manifest)
    assert manifest is not None, "the scene stage is recorded in it"
    records = {name: manifest.stages[name] for name in STAGES if name in manifest.stages}
    objects = records["objects"]
    data = ReportData(
        photo=photo,
        scene=scene,
        objects=[
            ObjectReport(
                object=obj,
                splats=packed,
                contact_sheet=workspace.root / obj.files["contact_sheet"],
                turntable=workspace.root / obj.files["turntable"] if "turntable" in obj.files else None,
                seconds=objects.items[obj.object_id].seconds,
            )
            for obj, packed in zip(scene.objects, splats, strict=True)
        ],
        phrases=read_phrases(workspace.phrases_json) if _phrases_used(records) else [],
        masks=masks,
        failures=[FailedObject(key, reason) for key, reason in objects.errors.items()],
        overlay=workspace.overlay_png,
        turntable=workspace.root / turntable if turntable else None,
        stages=[_stage(name, record) for name, record in records.items()],
        licences={model: terms for record in records.values() for model, terms in record.licences.items()},
        files=_files(workspace, turntable),
        version=__version__,
    )
    write_report(workspace.report_html, data)


def _stage(name: str, record: StageRecord) -> StageReport:
    status = "done" if record.status == "running" else record.status  # the scene stage ends with this report
    return StageReport(name, status, record.engine, record.seconds, record.peak_memory_mb, record.options)


def _phrases_used(records: Mapping[str, StageRecord]) -> bool:
    """False when the masks came from the user: phrases of an older run then have nothing to do with them."""
    masks = records.get("masks")
    return masks is not None and "phrases" in masks.inputs


def _files(workspace: Workspace, turntable: str | None) -> dict[str, str]:
    return {
        "Scene": workspace.relative(workspace.scene_ply),
        "Poses and camera": workspace.relative(workspace.scene_json),
        **({"Turntable": turntable} if turntable else {}),
        "Objects": workspace.relative(workspace.single_dir),
        "Masks": workspace.relative(workspace.masks_dir),
    }
