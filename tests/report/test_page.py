"""The report page as text: escaped, self-contained, bounded, and complete when pieces are missing."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3d_gs.engines.api import FailedObject
from sam3d_gs.gaussians.packed import BYTES_PER_SPLAT
from sam3d_gs.report import page as report
from sam3d_gs.report import view3d
from sam3d_gs.report.data import ReportData
from sam3d_gs.report.data_urls import animations, from_array, from_file, mask_thumbnail
from sam3d_gs.report.page import render_report
from sam3d_gs.types import InstanceMask
from tests.toy_scene import dropped, report_data

NASTY = '</script><script>alert("x")</script><img src=https://evil.example/p.png onerror=alert(1)> & $version "\''


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, and the text outside of scripts and style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.raw: list[str] = []  # contents of script and style elements
        self._inside = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else self._inside
        if self._inside == tag:
            self.raw.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.raw[-1] += data
        else:
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture
def data(tmp_path: Path) -> ReportData:
    return report_data(tmp_path)


def nasty(data: ReportData) -> ReportData:
    """The same with hostile text wherever text comes from models, users or files."""
    objects = [
        replace(o, object=replace(o.object, object_id=NASTY, phrase=NASTY, scores={NASTY: 0.5})) for o in data.objects
    ]
    masks = [replace(mask, object_id=NASTY, phrase=NASTY) for mask in data.masks]
    return replace(
        data,
        photo=replace(data.photo, name=NASTY),
        scene=replace(data.scene, scale_source=NASTY),
        objects=objects,
        phrases=[replace(phrase, text=NASTY) for phrase in data.phrases],
        masks=[*masks, replace(masks[0], dropped=NASTY)],
        failures=[FailedObject(NASTY, NASTY)],
        stages=[replace(s, name=NASTY, engine=NASTY, status=NASTY, options={NASTY: NASTY}) for s in data.stages],
        licences={NASTY: NASTY},
        files={NASTY: NASTY},
        version=NASTY,
    )


def test_everything_is_on_the_page(data: ReportData) -> None:
    text = Page(render_report(data)).text
    wanted = ["balls", "3 objects", "4,500 Gaussians", "red ball", "green ball", "blue ball", "0.90", "embedded"]
    wanted += ["toy model", "CC0", "balls.ply", "1.2.3", "max_objects=12", "300 MB", "480 × 320 px", "00-red-ball-0"]
    assert [word for word in wanted if word not in text] == []


def test_text_from_models_stays_text(data: ReportData) -> None:
    harmless, page = Page(render_report(data)), Page(render_report(nasty(data)))
    assert [name for name, _ in page.elements if name == "script"] == ["script"] * 3
    assert len(page.all("img")) == len(harmless.all("img")) + 2  # one more dropped mask, one failure with its mask
    assert page.text.count(NASTY) > 20
    assert not [a for _, a in page.elements if any(name.startswith("on") for name in a)]


def test_names_in_the_script_data_cannot_end_it(data: ReportData) -> None:
    raw = Page(render_report(nasty(data))).raw
    scene = json.loads(next(text for text in raw if text.startswith("{")))
    assert [obj["name"] for obj in scene["objects"]] == [NASTY] * 3


@pytest.mark.parametrize("hostile", [False, True])
def test_nothing_is_loaded_from_elsewhere(data: ReportData, hostile: bool) -> None:
    page = Page(render_report(nasty(data) if hostile else data))
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base", "form")
        for name in ("src", "srcset", "href", "data", "action", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:"), (tag, attributes)
    style, script = page.raw[0], page.raw[-1]
    assert "url(" not in style
    assert "@import" not in style
    assert not re.search(r"https?:|fetch\(|XMLHttpRequest|import\(|WebSocket", script)


def test_the_policy_admits_our_script_and_no_other(data: ReportData) -> None:
    page = Page(render_report(data))
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    digest = base64.b64encode(hashlib.sha256(page.raw[-1].encode()).digest()).decode()
    assert policy == (
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'"
    )


def test_splats_are_those_of_the_objects_in_the_camera_frame(data: ReportData) -> None:
    raw = Page(render_report(data)).raw
    scene = json.loads(next(text for text in raw if text.startswith("{")))
    packed = gzip.decompress(base64.b64decode(raw[-2]))
    assert len(packed) == BYTES_PER_SPLAT * 4500
    for obj, described in zip(scene["objects"], data.scene.objects, strict=True):
        np.testing.assert_allclose([obj["mean_min"], obj["mean_max"]], described.aabb, rtol=1e-5)


def test_large_scenes_are_thinned_and_say_so(data: ReportData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "This view shows" not in Page(render_report(data)).text
    monkeypatch.setattr(view3d, "MAX_SPLATS", 2400)
    page = Page(render_report(report_data(tmp_path / "thinned")))
    scene = json.loads(next(text for text in page.raw if text.startswith("{")))
    assert sum(obj["n"] for obj in scene["objects"]) == 2400
    assert "2,400 of the scene’s 4,500 Gaussians" in page.text


def test_without_objects_there_is_no_script_and_the_reason_is_there(data: ReportData) -> None:
    empty = replace(
        data, objects=[], masks=[dropped(data, "too small")], failures=[FailedObject("00-cup-0", "no depth")]
    )
    page = Page(render_report(empty))
    assert page.all("script") == []
    assert "No object reached the scene" in page.text
    assert "no depth" in page.text
    assert "too small" in page.text


def test_failed_objects_and_dropped_masks_have_their_reasons(data: ReportData) -> None:
    failed = FailedObject(data.masks[0].object_id, "out of memory")
    text = Page(render_report(replace(data, failures=[failed], masks=[*data.masks, dropped(data, "same as 1")]))).text
    assert "1 object could not be made" in text
    assert "out of memory" in text
    assert "same as 1" in text
    assert "1 mask dropped" in text


def test_many_dropped_masks_are_counted_not_shown(data: ReportData) -> None:
    many = [replace(dropped(data, "unlikely"), object_id=f"{i:02d}-x-0") for i in range(40)]
    page = Page(render_report(replace(data, masks=[*data.masks, *many])))
    assert "40 masks dropped" in page.text
    assert f"{40 - report.MAX_DROPPED_SHOWN} more masks" in page.text
    assert page.text.count("unlikely") == report.MAX_DROPPED_SHOWN


@pytest.mark.parametrize(("iou", "flagged"), [(0.49, True), (0.5, False), (None, False)])
def test_a_poor_fit_is_flagged(data: ReportData, iou: float | None, flagged: bool) -> None:
    first = replace(data.objects[0], object=replace(data.objects[0].object, reprojection_iou=iou))
    text = Page(render_report(replace(data, objects=[first]))).text
    assert ("Covers its mask poorly" in text) == flagged


def test_missing_and_broken_pictures_are_left_out(data: ReportData, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    objects = [replace(o, contact_sheet=broken, turntable=tmp_path / "absent.webp") for o in data.objects]
    page = Page(render_report(replace(data, objects=objects, overlay=tmp_path / "absent.png", turntable=broken)))
    assert all((img["src"] or "").startswith("data:image/") for img in page.all("img"))


def test_an_object_without_splats_stays_in_the_list(data: ReportData) -> None:
    objects = [replace(data.objects[0], splats=None), *data.objects[1:]]
    page = Page(render_report(replace(data, objects=objects)))
    assert len([box for box in page.all("input") if "data-object" in box]) == 2
    assert "00-red-ball-0" in page.text


@pytest.mark.slow
def test_the_page_stays_bounded(data: ReportData, tmp_path: Path) -> None:
    """Pictures are scaled down and animations that would cost too much become stills, whatever comes in."""
    noise = np.random.default_rng(0).integers(0, 255, (900, 1200, 3), dtype=np.uint8)
    frames = [Image.fromarray(np.roll(noise[:320, :320], 40 * i, 0)) for i in range(8)]
    sheet, film = tmp_path / "sheet.png", tmp_path / "film.webp"
    Image.fromarray(noise).save(sheet, compress_level=1)
    frames[0].save(film, save_all=True, append_images=frames[1:])
    films = [film.rename(film.with_name("0.webp"))]
    films += [film.with_name(f"{i}.webp") for i in range(1, 12)]
    for copy in films[1:]:
        copy.write_bytes(films[0].read_bytes())
    assert films[0].stat().st_size * 12 > report.MAX_OBJECT_TURNTABLES_BYTES
    objects = [replace(data.objects[i % 3], contact_sheet=sheet, turntable=films[i]) for i in range(12)]
    html = render_report(replace(data, objects=objects, overlay=sheet, turntable=films[0]))
    assert len(html) < 12e6


def test_animations_keep_within_the_budget(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (32, 32), (i * 80, 0, 0)) for i in range(3)]
    small, large = tmp_path / "small.webp", tmp_path / "large.gif"
    frames[0].save(small, save_all=True, append_images=frames[1:])
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(large, save_all=True, append_images=[Image.fromarray(noise[::-1].copy())])
    assert small.stat().st_size < 2000 < large.stat().st_size

    first, second, third = animations([large, None, small], 2000)
    assert first is not None
    assert first.url.startswith("data:image/jpeg")
    assert first.still == ""
    assert second is None
    assert third is not None
    assert third.url.startswith("data:image/webp")
    assert third.still.startswith("data:image/jpeg")


def test_pictures_are_scaled_down_never_up(tmp_path: Path) -> None:
    rgb = np.zeros((30, 60, 3), np.uint8)
    assert (from_array(rgb, 100).width, from_array(rgb, 100).height) == (60, 30)
    assert (from_array(rgb, 20).width, from_array(rgb, 20).height) == (20, 10)
    transparent = tmp_path / "t.png"
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(transparent)
    encoded = from_file(transparent, 100)
    assert encoded is not None
    assert encoded.url.startswith("data:image/webp")


def test_a_mask_thumbnail_shows_the_place_of_the_mask() -> None:
    rgb = np.full((100, 200, 3), (255, 0, 0), np.uint8)
    inside = np.zeros((100, 200), bool)
    inside[40:60, 150:180] = True
    thumbnail = mask_thumbnail(rgb, InstanceMask("a", "a", inside, 1.0), 400)
    assert thumbnail is not None
    assert thumbnail.width == 30 + 2 * 5
    assert thumbnail.height == 20 + 2 * 5
    assert mask_thumbnail(rgb, InstanceMask("a", "a", np.zeros_like(inside), 1.0), 400) is None
    assert mask_thumbnail(rgb, None, 400) is None
