"""report.html: one photo's run in a single file that opens anywhere, with the scene in an interactive 3D view.

Pictures, style, script and splats are inside the page; nothing is loaded from elsewhere, and a Content-Security-Policy
with the hash of our own script holds it to that. All text is escaped: phrases are written by models.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np

from sam3d_gs.engines.api import FailedObject
from sam3d_gs.files import write_text
from sam3d_gs.gaussians.packed import quantise, share, thin
from sam3d_gs.gaussians.ply import read_ply
from sam3d_gs.gaussians.pose import pose_from_matrix, transform
from sam3d_gs.report.data_urls import DataUrl, animations, from_array, from_file, mask_thumbnail
from sam3d_gs.report.overlay import object_colour
from sam3d_gs.types import InstanceMask, Photo, Phrase, Scene, SceneObject

MAX_SPLATS = 400_000  # in the 3D view; more makes the page large and slow on small machines
LOW_IOU = 0.5
MAX_LEFT_OUT = 24  # dropped masks shown one by one
MAX_SCENE_TURNTABLE_BYTES = 1_200_000
MAX_OBJECT_TURNTABLES_BYTES = 1_800_000  # all of them together


@dataclass(frozen=True)
class StageReport:
    """What one stage did, for the table of the run."""

    name: str
    status: str  # done, partial, failed
    engine: str
    seconds: float
    peak_memory_mb: float | None = None
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectReport:
    """One object of the scene and the files about it; a file that is None or missing is left out of the page."""

    object: SceneObject
    ply: Path | None = None  # Gaussians in the object frame
    contact_sheet: Path | None = None
    turntable: Path | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class ReportData:
    """Everything on the page."""

    photo: Photo
    scene: Scene
    objects: Sequence[ObjectReport]
    phrases: Sequence[Phrase] = ()
    masks: Sequence[InstanceMask] = ()  # kept and dropped
    failures: Sequence[FailedObject] = ()
    overlay: Path | None = None
    turntable: Path | None = None
    stages: Sequence[StageReport] = ()
    licences: Mapping[str, str] = field(default_factory=dict)  # model -> licence
    files: Mapping[str, str] = field(default_factory=dict)  # what -> path below the workspace
    version: str = ""


def write_report(path: Path, data: ReportData) -> None:
    """Write the page. Raises Sam3dGsError when it cannot be written, BadInputError for a broken .ply."""
    write_text(path, render_report(data))


class Html(str):
    """Text that is markup already; any other value is escaped when it enters a template."""


def render_report(data: ReportData) -> str:
    """The whole page as text."""
    photo_url = from_array(data.photo.rgb, 1280)
    viewer, has_script = _viewer(data, photo_url)
    script = _resource("splats.js") if has_script else ""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    overlay = from_file(data.overlay, 1280)
    return _fill(
        "report.html",
        version=data.version,
        script_policy=f"script-src 'sha256-{digest}'" if script else "script-src 'none'",
        style=Html(_resource("report.css")),
        script=Html(f"<script>{script}</script>" if script else ""),
        photo_name=data.photo.name,
        summary=_summary(data),
        alert=_alert(data),
        viewer=viewer,
        photo_src=photo_url.url,
        photo_width=photo_url.width,
        photo_height=photo_url.height,
        photo_size=f"{data.photo.width_px} × {data.photo.height_px} px",
        overlay=_fragment("overlay", **_source(overlay), count=sum(not m.dropped for m in data.masks))
        if overlay
        else "",
        phrases=_phrases(data.phrases),
        objects=_objects(data),
        left_out=_left_out(data),
        stages=_stages(data.stages),
        licences=_lines("licences", data.licences),
        files=_lines("files", data.files),
        scale_source=data.scene.scale_source,
    )


# ---- the parts of the page -----------------------------------------------------------------------------------------


def _summary(data: ReportData) -> str:
    parts = [_count(len(data.objects), "object")]
    if data.objects:
        parts.append(_count(sum(o.object.gaussians for o in data.objects), "Gaussian"))
    ious = [o.object.reprojection_iou for o in data.objects if o.object.reprojection_iou is not None]
    if ious:
        parts.append(f"median re-projection IoU {np.median(ious):.2f}")
    if data.stages:
        parts.append(_seconds(sum(stage.seconds for stage in data.stages)))
    return " · ".join(parts)


def _alert(data: ReportData) -> str:
    if not data.objects:
        return _fragment("alert", text="No object reached the scene. The reasons are below.")
    if data.failures:
        return _fragment(
            "alert", text=f"{_count(len(data.failures), 'object')} could not be made; the reasons are below."
        )
    return Html("")


def _viewer(data: ReportData, photo_url: DataUrl) -> tuple[str, bool]:
    """The 3D view with its splats, or a still when there is nothing to view; whether the page needs the script."""
    turntable = animations([data.turntable], MAX_SCENE_TURNTABLE_BYTES)[0]
    fallback = _image(turntable or photo_url, "The scene")
    shown = [(o, o.ply) for o in data.objects if o.ply is not None and o.ply.is_file() and o.object.gaussians > 0]
    if not shown:
        return (_fragment("still", picture=fallback) if turntable else Html("")), False

    keep = share([o.object.gaussians for o, _ in shown], MAX_SPLATS)
    blocks, headers = [], []
    for (o, ply), budget in zip(shown, keep, strict=True):  # one object in memory at a time
        in_camera = transform(thin(read_ply(ply), budget), pose_from_matrix(o.object.T_camera_object))
        block, header = quantise(in_camera)
        blocks.append(block)
        headers.append({"name": o.object.phrase, **header})
    K = data.scene.K
    scene = {
        "K": [float(v) for v in (K[0, 0], K[1, 1], K[0, 2], K[1, 2])],
        "size": [int(v) for v in data.scene.image_size],
        "up": [float(v) for v in data.scene.up],
        "objects": headers,
    }
    total, in_view = sum(o.object.gaussians for o, _ in shown), sum(int(h["n"]) for h in headers)  # type: ignore[call-overload]
    toggles = (
        _fragment("toggle", number=i, id=o.object.object_id, phrase=o.object.phrase, dot=_dot(data, o.object.object_id))
        for i, (o, _) in enumerate(shown)
    )
    return (
        _fragment(
            "viewer",
            width=data.scene.image_size[0],
            height=data.scene.image_size[1],
            photo_src=photo_url.url,
            fallback=fallback,
            notice="The 3D view needs JavaScript and WebGL2.",
            toggles=_join(toggles),
            thinned=_fragment("thinned", shown=f"{in_view:,}", total=f"{total:,}") if in_view < total else "",
            scene_json=_json(scene),
            splats=base64.b64encode(gzip.compress(b"".join(blocks), compresslevel=1, mtime=0)).decode(),
        ),
        True,
    )


def _phrases(phrases: Sequence[Phrase]) -> str:
    if not phrases:
        return Html("")
    chips = (_fragment("chip", text=p.text, score="" if p.score is None else f"{p.score:.2f}") for p in phrases)
    return _fragment("phrases", chips=_join(chips))


def _objects(data: ReportData) -> str:
    if not data.objects:
        return Html("")
    turntables = animations([o.turntable for o in data.objects], MAX_OBJECT_TURNTABLES_BYTES)
    cards = (_card(o, data, turntable) for o, turntable in zip(data.objects, turntables, strict=True))
    return _fragment("objects", cards=_join(cards))


def _card(report: ObjectReport, data: ReportData, turntable: DataUrl | None) -> str:
    scene_object = report.object
    iou = scene_object.reprojection_iou
    facts = {"Gaussians": f"{scene_object.gaussians:,}"}
    if iou is not None:
        facts["Re-projection IoU"] = f"{iou:.2f}"
    facts |= {
        f"{name.replace('_', ' ').capitalize()} score": f"{value:.2f}" for name, value in scene_object.scores.items()
    }
    if report.seconds is not None:
        facts["Time"] = _seconds(report.seconds)
    masks = (m for m in data.masks if m.object_id == scene_object.object_id)
    still = None if turntable else mask_thumbnail(data.photo.rgb, next(masks, None), 320)
    sheet = from_file(report.contact_sheet, 800)
    return _fragment(
        "card",
        picture=_image(turntable or still, scene_object.phrase),
        dot=_dot(data, scene_object.object_id),
        phrase=scene_object.phrase,
        id=scene_object.object_id,
        flag=_fragment("flag", iou=f"{iou:.2f}") if iou is not None and iou < LOW_IOU else "",
        facts=_join(_fragment("fact", name=name, value=value) for name, value in facts.items()),
        sheet=_fragment("sheet", **_source(sheet), phrase=scene_object.phrase) if sheet else "",
    )


def _dot(data: ReportData, object_id: str) -> str:
    """The number and colour that the object has in the mask overlay."""
    kept = [mask.object_id for mask in data.masks if mask.dropped is None]
    if object_id not in kept:
        return Html("")
    number = kept.index(object_id) + 1
    return _fragment("dot", number=number, colour=f"rgb{object_colour(number)}")


def _left_out(data: ReportData) -> str:
    """Objects that failed, and behind a fold the masks that were dropped, the largest first."""
    mask_of = {mask.object_id: mask for mask in data.masks}
    dropped = sorted((mask for mask in data.masks if mask.dropped is not None), key=lambda mask: -mask.area_px)
    if not data.failures and not dropped:
        return Html("")
    failed_rows = (_left_out_row(data, f.object_id, mask_of.get(f.object_id), f.reason) for f in data.failures)
    dropped_rows = (_left_out_row(data, m.object_id, m, m.dropped or "") for m in dropped[:MAX_LEFT_OUT])
    more = len(dropped) - MAX_LEFT_OUT
    return _fragment(
        "left_out",
        failed=_fragment("failed", rows=_join(failed_rows)) if data.failures else "",
        dropped=_fragment(
            "dropped",
            count=_count(len(dropped), "mask"),
            rows=_join(dropped_rows),
            more=_fragment("more", count=_count(more, "more mask")) if more > 0 else "",
        )
        if dropped
        else "",
    )


def _left_out_row(data: ReportData, object_id: str, mask: InstanceMask | None, reason: str) -> str:
    return _fragment(
        "left_out_row",
        thumb=_image(mask_thumbnail(data.photo.rgb, mask, 144), ""),
        phrase=mask.phrase if mask else object_id,
        id=object_id if mask else "",
        reason=reason,
    )


def _stages(stages: Sequence[StageReport]) -> str:
    if not stages:
        return Html("")
    longest = max(max(stage.seconds for stage in stages), 1e-9)
    return _fragment(
        "stages",
        rows=_join(
            _fragment(
                "stage",
                name=stage.name,
                engine=stage.engine or "–",
                status=stage.status,
                status_class="good" if stage.status == "done" else "attention",
                seconds=_seconds(stage.seconds),
                share=f"{100 * stage.seconds / longest:.1f}",
                memory="–" if stage.peak_memory_mb is None else f"{stage.peak_memory_mb:,.0f} MB",
                options=" ".join(
                    f"{name}={value}" for name, value in stage.options.items() if value not in (None, [], ())
                ),
            )
            for stage in stages
        ),
    )


def _lines(fragment: str, lines: Mapping[str, str]) -> str:
    if not lines:
        return Html("")
    return _fragment(fragment, rows=_join(_fragment("line", name=n, value=v) for n, v in lines.items()))


# ---- text and markup -----------------------------------------------------------------------------------------------


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def _json(value: object) -> Html:
    """JSON that can stand inside a script element: no `<`, so no closing tag and no comment."""
    return Html(json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"))


def _source(image: DataUrl) -> dict[str, object]:
    return {"src": image.url, "width": image.width, "height": image.height}


def _image(image: DataUrl | None, alt: str) -> str:
    """Markup of a picture; an animation comes with its first frame for readers who prefer no motion."""
    if image is None:
        return Html("")
    name = "animation" if image.still else "image"
    return _fragment(name, **_source(image), still=image.still, alt=alt)


def _join(parts: Iterable[str]) -> Html:
    return Html("".join(parts))


def _fill(resource: str, /, **values: object) -> Html:
    return _substitute(_resource(resource), values)


def _fragment(name: str, /, **values: object) -> Html:
    return _substitute(_fragments()[name], values)


def _substitute(template: str, values: Mapping[str, Any]) -> Html:
    safe = {name: value if isinstance(value, Html) else escape(str(value)) for name, value in values.items()}
    return Html(Template(template).substitute(safe))


@cache
def _resource(name: str) -> str:
    return (files("sam3d_gs.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _fragments() -> dict[str, str]:
    """The parts of fragments.html by name."""
    parts = _resource("fragments.html").split("<!-- fragment: ")[1:]
    named = (part.split(" -->\n", 1) for part in parts)
    return {name: text.rstrip("\n") for name, text in named}
