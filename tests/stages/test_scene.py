"""The scene stage: its files agree on one frame, and missing or poor objects are reported."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
from PIL import Image

from sam3d_gs.engines.api import FailedObject
from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.gaussians import ply
from sam3d_gs.gaussians.ply import read_ply
from sam3d_gs.gaussians.pose import pose_from_matrix, transform
from sam3d_gs.gaussians.pt import read_pt, write_pt
from sam3d_gs.gaussians.reprojection import reprojection_iou
from sam3d_gs.gaussians.scene import describe_scene
from sam3d_gs.masks.files import read_masks
from sam3d_gs.options import SceneOptions
from sam3d_gs.report import pictures
from sam3d_gs.scene_files import read_scene
from sam3d_gs.stages import masks, objects, phrases, scene
from sam3d_gs.stages.bookkeeping import Context, recorded
from sam3d_gs.types import Gaussians, InstanceMask, Photo, PlacedObject, Pose
from tests.fakes import FakeMasks, FakeObjects, FakePhrases, fake_choice

QUICK = SceneOptions(turntable="none", report=False)


class Turned(FakeObjects):
    """Every ball has a different rotation, so that a wrong one shows."""

    def objects(
        self, photo: Photo, masks: Sequence[InstanceMask], wanted: Sequence[str]
    ) -> Iterator[PlacedObject | FailedObject]:
        rng = np.random.default_rng(0)
        for obj in super().objects(photo, masks, wanted):
            assert isinstance(obj, PlacedObject)
            quat = rng.normal(size=4)
            squashed = dataclasses.replace(
                obj.gaussians,
                means=obj.gaussians.means * np.float32([1, 0.6, 0.8]),
                quats=_unit(rng.normal(size=(len(obj.gaussians), 4))),
                log_scales=obj.gaussians.log_scales + np.float32([0, -1, 1]),
            )
            pose = Pose(quat / np.linalg.norm(quat), obj.pose.translation, obj.pose.scale)
            yield dataclasses.replace(obj, gaussians=squashed, pose=pose)


def _unit(quats: np.ndarray) -> np.ndarray:
    return (quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def made(context: Context) -> Context:
    phrases.run(context, fake_choice("phrases"), FakePhrases)
    masks.run(context, fake_choice("masks"), FakeMasks)
    objects.run(context, fake_choice("objects"), Turned)
    return context


def test_ply_json_and_pt_agree_on_every_gaussian(made: Context) -> None:
    scene.run(made, QUICK)
    workspace = made.workspace
    described = read_scene(workspace.scene_json)
    merged = read_ply(workspace.scene_ply)
    start = 0
    for obj in described.objects:
        stored = read_pt(workspace.object_pt(obj.object_id))
        single = read_ply(workspace.root / obj.files["ply"])
        for name in ("means", "quats", "log_scales", "opacity_logits", "sh0"):
            np.testing.assert_array_equal(getattr(single, name), getattr(stored.gaussians, name))
        by_json = transform(single, pose_from_matrix(obj.T_camera_object))
        part = slice(start, start + obj.gaussians)
        np.testing.assert_allclose(merged.means[part], by_json.means, atol=1e-5)
        np.testing.assert_allclose(merged.log_scales[part], by_json.log_scales, atol=1e-5)
        same_turn = np.abs(np.sum(merged.quats[part] * by_json.quats, axis=1))
        np.testing.assert_allclose(same_turn, 1, atol=1e-5)
        np.testing.assert_allclose(described.K, stored.K)
        np.testing.assert_allclose(np.linalg.norm(obj.T_camera_object[:3, 0]), stored.pose.scale)
        inside = (merged.means[part] >= obj.aabb[0] - 1e-5) & (merged.means[part] <= obj.aabb[1] + 1e-5)
        assert inside.all(1).mean() > 0.98
        start += obj.gaussians
    assert start == len(merged)


def test_K_projects_every_object_onto_its_mask(made: Context) -> None:
    scene.run(made, QUICK)
    described = read_scene(made.workspace.scene_json)
    by_id = {m.object_id: m for m in read_masks(made.workspace, (64, 48))}
    merged = read_ply(made.workspace.scene_ply)
    start = 0
    for obj in described.objects:
        projected = merged.means[start : start + obj.gaussians].astype(np.float64) @ described.K.T
        u, v = (projected[:, :2] / projected[:, 2:]).T
        x0, y0, x1, y1 = by_id[obj.object_id].box_xyxy
        assert abs(u.mean() - (x0 + x1) / 2) < 2  # perspective draws the near half larger
        assert abs(v.mean() - (y0 + y1) / 2) < 2
        assert obj.reprojection_iou is not None
        assert obj.reprojection_iou > 0.3
        start += obj.gaussians


@pytest.mark.slow
def test_each_object_is_read_once_and_no_ply_is_read(made: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    opened: list[str] = []
    load = torch.load

    def counted(path: Path, **options: Any) -> Any:
        opened.append(path.stem)
        return load(path, **options)

    def no_ply(stream: BinaryIO, path: Path) -> Any:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(torch, "load", counted)
    monkeypatch.setattr(ply, "find_vertices", no_ply)
    scene.run(made, SceneOptions())
    assert opened == ["00-red-cup-0", "01-spoon-0"]


class Wide(FakeObjects):
    """The first object reaches far into the mask of the second."""

    def objects(
        self, photo: Photo, masks: Sequence[InstanceMask], wanted: Sequence[str]
    ) -> Iterator[PlacedObject | FailedObject]:
        first, *others = super().objects(photo, masks, wanted)
        assert isinstance(first, PlacedObject)
        yield dataclasses.replace(first, pose=dataclasses.replace(first.pose, scale=1.6 * first.pose.scale))
        yield from others


def test_the_reprojection_iou_ignores_pixels_of_other_masks(made: Context) -> None:
    objects.run(dataclasses.replace(made, force=True), fake_choice("objects"), Wide)
    scene.run(made, QUICK)
    own, other = read_masks(made.workspace, (64, 48))
    wide = read_pt(made.workspace.object_pt(own.object_id))
    placed = transform(wide.gaussians, wide.pose)
    strict, fair = (reprojection_iou(placed, wide.K, own.mask, ignore) for ignore in (None, other.mask))
    assert fair > strict + 0.005
    assert read_scene(made.workspace.scene_json).objects[0].reprojection_iou == pytest.approx(fair, abs=1e-4)


def test_objects_in_memory_and_in_files_get_the_same_description(made: Context) -> None:
    scene.run(made, QUICK)
    workspace = made.workspace
    written = read_scene(workspace.scene_json)
    in_memory = [read_pt(workspace.object_pt(obj.object_id)) for obj in written.objects]
    described = describe_scene(written.photo, in_memory, read_masks(workspace, (64, 48)))
    np.testing.assert_array_equal(described.up, written.up)
    for ours, theirs in zip(described.objects, written.objects, strict=True):
        assert (ours.object_id, ours.gaussians, ours.files) == (theirs.object_id, theirs.gaussians, {})
        np.testing.assert_array_equal(ours.obb, theirs.obb)
        np.testing.assert_array_equal(ours.aabb, theirs.aabb)
        assert ours.reprojection_iou == pytest.approx(theirs.reprojection_iou, abs=1e-4)


def test_an_object_away_from_its_mask_is_a_warning(made: Context) -> None:
    class Aside(FakeObjects):
        def objects(
            self, photo: Photo, masks: Sequence[InstanceMask], wanted: Sequence[str]
        ) -> Iterator[PlacedObject | FailedObject]:
            for obj in super().objects(photo, masks, wanted):
                assert isinstance(obj, PlacedObject)
                shift = np.array([0.0, 5.0 * obj.pose.scale, 0.0])
                yield dataclasses.replace(
                    obj, pose=dataclasses.replace(obj.pose, translation=obj.pose.translation + shift)
                )

    objects.run(dataclasses.replace(made, force=True), fake_choice("objects"), Aside)
    result = scene.run(made, QUICK)
    assert len(result.warnings) == 2
    assert "covers its mask poorly" in result.warnings[0]


@pytest.mark.slow
def test_up_to_date_until_an_object_changes(made: Context) -> None:
    assert scene.run(made, QUICK).status == "done"
    assert scene.run(made, QUICK).status == "up to date"
    objects.run(dataclasses.replace(made, force=True), fake_choice("objects"), FakeObjects)
    assert scene.run(made, QUICK).status == "done"
    made.workspace.scene_ply.unlink()
    assert scene.run(made, QUICK).status == "done"


def test_files_of_an_earlier_run_are_not_merged(made: Context) -> None:
    stray = made.workspace.object_pt("99-stray-0")
    stray.write_bytes(made.workspace.object_pt("00-red-cup-0").read_bytes())
    scene.run(made, QUICK)
    assert [obj.object_id for obj in read_scene(made.workspace.scene_json).objects] == ["00-red-cup-0", "01-spoon-0"]


def test_a_missing_object_file_is_an_error(made: Context) -> None:
    made.workspace.object_pt("01-spoon-0").unlink()
    with pytest.raises(BadInputError, match=r"01-spoon-0.*objects stage"):
        scene.run(made, QUICK)


@pytest.mark.parametrize("changes", [{"object_id": "mug"}, {"image_size": (10**6, 10**6)}])
def test_an_object_file_of_something_else_is_an_error(made: Context, changes: dict[str, Any]) -> None:
    workspace = made.workspace
    for object_id in ("00-red-cup-0", "01-spoon-0"):
        obj = read_pt(workspace.object_pt(object_id))
        own = {key: value for key, value in changes.items() if key != "object_id" or object_id == "00-red-cup-0"}
        write_pt(workspace.object_pt(object_id), dataclasses.replace(obj, **own))
    manifest = json.loads(workspace.manifest.read_text())
    for item in manifest["stages"]["objects"]["items"].values():
        item["size"] = (workspace.root / item["output"]).stat().st_size
    workspace.manifest.write_text(json.dumps(manifest))
    with pytest.raises(BadInputError, match=r"00-red-cup-0\.pt (was edited .*object mug|is of a photo of 10)"):
        scene.run(made, QUICK)


def test_without_objects_the_error_names_the_command(context: Context) -> None:
    with pytest.raises(Sam3dGsError, match="Run `sam3d-gs objects"):
        scene.run(context, QUICK)


@pytest.mark.slow
def test_pictures_and_report(made: Context) -> None:
    scene.run(made, SceneOptions())
    workspace = made.workspace
    record = recorded(workspace, "scene")
    assert record is not None
    for path in (workspace.turntable("webp"), workspace.report_html, workspace.contact_sheet("00-red-cup-0")):
        assert workspace.relative(path) in record.outputs
        assert path.stat().st_size > 1000
    text = workspace.report_html.read_text(encoding="utf-8")
    for phrase in ("red cup", "spoon", "fake words", "CC0"):
        assert phrase in text
    scene.run(made, QUICK)
    assert not workspace.turntable("webp").exists(), "a turntable of an older run stays beside the new scene"


def test_turntable_and_3d_view_show_the_scene_of_the_ply(made: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few Gaussians, so that nothing is thinned."""
    shown: list[Gaussians] = []

    def turntable(gaussians: Gaussians, *camera: Any, up: np.ndarray) -> list[Image.Image]:
        shown.append(gaussians)
        return [Image.new("RGB", (8, 8))]

    monkeypatch.setattr(pictures, "turntable", turntable)
    scene.run(made, SceneOptions())
    merged = read_ply(made.workspace.scene_ply)
    np.testing.assert_allclose(shown[0].means, merged.means, atol=1e-5)
    text = made.workspace.report_html.read_text(encoding="utf-8")
    found = re.search(r'id="scene-data">(.*?)</script>', text)
    assert found is not None
    packed = json.loads(found.group(1))["objects"]
    assert [obj["n"] for obj in packed] == [400, 400]
    for number, obj in enumerate(packed):
        means = merged.means[400 * number : 400 * (number + 1)]
        np.testing.assert_allclose([obj["mean_min"], obj["mean_max"]], [means.min(0), means.max(0)], atol=1e-5)


def test_large_objects_are_thinned_each_for_its_picture(made: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, limit in (("SHEET_GAUSSIANS", 300), ("OBJECT_TURNTABLE_GAUSSIANS", 200)):
        monkeypatch.setattr(pictures, name, limit)
    monkeypatch.setattr(scene, "share", lambda counts, total: [250, 250])
    monkeypatch.setattr(scene, "splat_limits", lambda counts: [350, 350])
    drawn: dict[str, list[int]] = {"contact_sheet": [], "object_turntable": [], "turntable": []}

    def recorded_calls(name: str, picture: Any) -> Any:
        def call(gaussians: Gaussians, *rest: Any, **options: Any) -> Any:
            drawn[name].append(len(gaussians))
            return picture

        return call

    one = Image.new("RGB", (8, 8))
    for name in drawn:
        monkeypatch.setattr(pictures, name, recorded_calls(name, one if name == "contact_sheet" else [one]))
    scene.run(made, SceneOptions())
    for name, limits in (("contact_sheet", [300, 300]), ("object_turntable", [200, 200]), ("turntable", [500])):
        np.testing.assert_allclose(drawn[name], limits, rtol=0.02)
    text = made.workspace.report_html.read_text(encoding="utf-8")
    assert re.search("This view shows (6[89][0-9]|700) of the scene’s 800 Gaussians", text)
    assert len(read_ply(made.workspace.scene_ply)) == 800, "the files hold all"


@pytest.mark.parametrize("damage", ["{", "[]", '{"schema": 1}', '{"schema": 7}'])
def test_the_error_for_a_damaged_scene_file_names_it(made: Context, damage: str) -> None:
    made.workspace.scene_json.parent.mkdir(parents=True, exist_ok=True)
    made.workspace.scene_json.write_text(damage)
    with pytest.raises(BadInputError, match=r"kitchen\.json"):
        read_scene(made.workspace.scene_json)
