"""report.html: one photo's run in a single file that opens anywhere, with the scene in an interactive 3D view.

Pictures, style, script and splats are inside the page. Nothing is loaded from elsewhere, which a
Content-Security-Policy with the hash of our own script enforces. All text is escaped: phrases are written by models.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from sam3d_gs.files import write_text
from sam3d_gs.gaussians.reprojection import LOW_IOU
from sam3d_gs.report.data import ObjectReport, ReportData, StageReport
from sam3d_gs.report.data_urls import DataUrl, animations, from_array, from_file, mask_thumbnail
from sam3d_gs.report.markup import Html, count, duration, fill, fragment, image, join, resource, source
from sam3d_gs.report.view3d import number_dot, viewer
from sam3d_gs.types import InstanceMask, Phrase

MAX_DROPPED_SHOWN = 24  # dropped masks shown one by one
MAX_OBJECT_TURNTABLES_BYTES = 1_800_000  # all of them together


def write_report(path: Path, data: ReportData) -> None:
    """Write the page. Raises Sam3dGsError when it cannot be written."""
    write_text(path, render_report(data))


def render_report(data: ReportData) -> str:
    """The whole page as text."""
    photo_url = from_array(data.photo.rgb, 1280)
    view, needs_script = viewer(data, photo_url)
    script = resource("splats.js") if needs_script else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    overlay = from_file(data.overlay, 1280)
    return fill(
        "report.html",
        version=data.version,
        script_policy=f"script-src 'sha256-{digest}'" if script else "script-src 'none'",
        style=Html(resource("report.css")),
        script=Html(f"<script>{script}</script>" if script else ""),
        photo_name=data.photo.name,
        summary=_summary(data),
        alert=_alert(data),
        viewer=view,
        photo_src=photo_url.url,
        photo_width=photo_url.width,
        photo_height=photo_url.height,
        photo_size=f"{data.photo.width_px} × {data.photo.height_px} px",
        overlay=fragment("overlay", **source(overlay), count=sum(not m.dropped for m in data.masks)) if overlay else "",
        phrases=_phrases(data.phrases),
        objects=_objects(data),
        left_out=_left_out(data),
        stages=_stages(data.stages),
        licences=_lines("licences", data.licences),
        files=_lines("files", data.files),
        scale_source=data.scene.scale_source,
    )


def _summary(data: ReportData) -> str:
    parts = [count(len(data.objects), "object")]
    if data.objects:
        parts.append(count(sum(o.object.gaussians for o in data.objects), "Gaussian"))
    ious = [o.object.reprojection_iou for o in data.objects if o.object.reprojection_iou is not None]
    if ious:
        parts.append(f"median reprojection IoU {np.median(ious):.2f}")
    if data.stages:
        parts.append(duration(sum(stage.seconds for stage in data.stages)))
    return " · ".join(parts)


def _alert(data: ReportData) -> str:
    if not data.objects:
        return fragment("alert", text="No object reached the scene. The reasons are below.")
    if data.failures:
        return fragment(
            "alert", text=f"{count(len(data.failures), 'object')} could not be made; the reasons are below."
        )
    return Html("")


def _phrases(phrases: Sequence[Phrase]) -> str:
    if not phrases:
        return Html("")
    chips = (fragment("chip", text=p.text, score="" if p.score is None else f"{p.score:.2f}") for p in phrases)
    return fragment("phrases", chips=join(chips))


def _objects(data: ReportData) -> str:
    if not data.objects:
        return Html("")
    turntables = animations([o.turntable for o in data.objects], MAX_OBJECT_TURNTABLES_BYTES)
    cards = (_card(o, data, turntable) for o, turntable in zip(data.objects, turntables, strict=True))
    return fragment("objects", cards=join(cards))


def _card(report: ObjectReport, data: ReportData, turntable: DataUrl | None) -> str:
    scene_object = report.object
    iou = scene_object.reprojection_iou
    facts = {"Gaussians": f"{scene_object.gaussians:,}"}
    if iou is not None:
        facts["Reprojection IoU"] = f"{iou:.2f}"
    facts |= {
        f"{name.replace('_', ' ').capitalize()} score": f"{value:.2f}" for name, value in scene_object.scores.items()
    }
    if report.seconds is not None:
        facts["Time"] = duration(report.seconds)
    masks = (m for m in data.masks if m.object_id == scene_object.object_id)
    still = None if turntable else mask_thumbnail(data.photo.rgb, next(masks, None), 320)
    sheet = from_file(report.contact_sheet, 800)
    return fragment(
        "card",
        picture=image(turntable or still, scene_object.phrase),
        dot=number_dot(data, scene_object.object_id),
        phrase=scene_object.phrase,
        id=scene_object.object_id,
        flag=fragment("flag", iou=f"{iou:.2f}") if iou is not None and iou < LOW_IOU else "",
        facts=join(fragment("fact", name=name, value=value) for name, value in facts.items()),
        sheet=fragment("sheet", **source(sheet), phrase=scene_object.phrase) if sheet else "",
    )


def _left_out(data: ReportData) -> str:
    """Objects that failed and, folded away, the dropped masks, largest first."""
    mask_of = {mask.object_id: mask for mask in data.masks}
    dropped = sorted((mask for mask in data.masks if mask.dropped is not None), key=lambda mask: -mask.area_px)
    if not data.failures and not dropped:
        return Html("")
    failed_rows = (_left_out_row(data, f.object_id, mask_of.get(f.object_id), f.reason) for f in data.failures)
    dropped_rows = (_left_out_row(data, m.object_id, m, m.dropped or "") for m in dropped[:MAX_DROPPED_SHOWN])
    more = len(dropped) - MAX_DROPPED_SHOWN
    return fragment(
        "left_out",
        failed=fragment("failed", rows=join(failed_rows)) if data.failures else "",
        dropped=fragment(
            "dropped",
            count=count(len(dropped), "mask"),
            rows=join(dropped_rows),
            more=fragment("more", count=count(more, "more mask")) if more > 0 else "",
        )
        if dropped
        else "",
    )


def _left_out_row(data: ReportData, object_id: str, mask: InstanceMask | None, reason: str) -> str:
    return fragment(
        "left_out_row",
        thumb=image(mask_thumbnail(data.photo.rgb, mask, 144), ""),
        phrase=mask.phrase if mask else object_id,
        id=object_id if mask else "",
        reason=reason,
    )


def _stages(stages: Sequence[StageReport]) -> str:
    if not stages:
        return Html("")
    longest = max(max(stage.seconds for stage in stages), 1e-9)
    return fragment(
        "stages",
        rows=join(
            fragment(
                "stage",
                name=stage.name,
                engine=stage.engine or "–",
                status=stage.status,
                status_class="good" if stage.status == "done" else "attention",
                seconds=duration(stage.seconds),
                share=f"{100 * stage.seconds / longest:.1f}",
                memory="–" if stage.peak_memory_mb is None else f"{stage.peak_memory_mb:,.0f} MB",
                options=" ".join(
                    f"{name}={value}" for name, value in stage.options.items() if value not in (None, [], ())
                ),
            )
            for stage in stages
        ),
    )


def _lines(name: str, lines: Mapping[str, str]) -> str:
    if not lines:
        return Html("")
    return fragment(name, rows=join(fragment("line", name=what, value=value) for what, value in lines.items()))
