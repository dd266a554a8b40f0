"""The report's 3D view: the splats in it, and its part of the page. `templates/splats.js` draws it."""

from __future__ import annotations

import base64
import gzip
from collections.abc import Sequence

import numpy as np

from sam3d_gs.gaussians.packed import Packed, quantise
from sam3d_gs.gaussians.pose import pose_from_matrix, transform
from sam3d_gs.gaussians.thinning import Thinning, share
from sam3d_gs.report.data import ObjectReport, ReportData
from sam3d_gs.report.data_urls import DataUrl, animations
from sam3d_gs.report.markup import Html, fragment, image, join, script_json
from sam3d_gs.report.overlay import object_colour

MAX_SPLATS = 400_000  # in the view; more makes the page large and slow on small machines
MAX_TURNTABLE_BYTES = 1_200_000


def splat_limits(counts: Sequence[int]) -> list[int]:
    """How many splats each of a scene's objects, with `counts` Gaussians, may have in the view."""
    return share(counts, MAX_SPLATS)


def pack_object(thinning: Thinning, T_camera_object: np.ndarray, limit: int) -> Packed:
    """At most `limit` splats of one object, moved from its object frame to the camera frame by the (4, 4) matrix."""
    return quantise(transform(thinning.keep(limit), pose_from_matrix(T_camera_object)))


def viewer(data: ReportData, photo: DataUrl) -> tuple[Html, bool]:
    """Markup of the view, and whether the page needs the script; a still when no object has splats."""
    turntable = animations([data.turntable], MAX_TURNTABLE_BYTES)[0]
    fallback = image(turntable or photo, "The scene")
    shown = [(o, o.splats) for o in data.objects if o.splats is not None]
    if not shown:
        return (fragment("still", picture=fallback) if turntable else Html("")), False
    splats = b"".join(packed.data for _, packed in shown)
    markup = fragment(
        "viewer",
        width=data.scene.image_size[0],
        height=data.scene.image_size[1],
        photo_src=photo.url,
        fallback=fallback,
        notice="The 3D view needs JavaScript and WebGL2.",
        toggles=join(_toggle(number, data, report) for number, (report, _) in enumerate(shown)),
        thinned=_thinned(shown),
        scene_json=script_json(_scene(data, shown)),
        splats=base64.b64encode(gzip.compress(splats, compresslevel=1, mtime=0)).decode(),
    )
    return markup, True


def _scene(data: ReportData, shown: Sequence[tuple[ObjectReport, Packed]]) -> dict[str, object]:
    """What splats.js needs beside the splats."""
    K = data.scene.K
    return {
        "K": [float(v) for v in (K[0, 0], K[1, 1], K[0, 2], K[1, 2])],
        "size": [int(v) for v in data.scene.image_size],
        "up": [float(v) for v in data.scene.up],
        "objects": [{"name": report.object.phrase, **packed.header} for report, packed in shown],
    }


def _toggle(number: int, data: ReportData, report: ObjectReport) -> Html:
    object_id, phrase = report.object.object_id, report.object.phrase
    return fragment("toggle", number=number, id=object_id, phrase=phrase, dot=number_dot(data, object_id))


def _thinned(shown: Sequence[tuple[ObjectReport, Packed]]) -> Html:
    """A note when the view does not show all Gaussians."""
    total = sum(report.object.gaussians for report, _ in shown)
    in_view = sum(packed.splat_count for _, packed in shown)
    return fragment("thinned", shown=f"{in_view:,}", total=f"{total:,}") if in_view < total else Html("")


def number_dot(data: ReportData, object_id: str) -> Html:
    """The number and colour that the object has in the mask overlay."""
    kept = [mask.object_id for mask in data.masks if mask.dropped is None]
    if object_id not in kept:
        return Html("")
    number = kept.index(object_id) + 1
    return fragment("dot", number=number, colour=f"rgb{object_colour(number)}")
