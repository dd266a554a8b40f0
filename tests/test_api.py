"""The public API: what it imports, in memory with fakes, resumable in a workspace, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import sam3d_gs as sg
from sam3d_gs.engines import registry
from sam3d_gs.types import SceneDescription
from tests import fakes


def reconstruct(photo: Any, **more: Any) -> sg.Scene:
    return sg.reconstruct(
        photo,
        **{
            "phrases_engine": fakes.FakePhrases(),
            "masks_engine": fakes.FakeMasks(),
            "objects_engine": fakes.FakeObjects(),
            **more,
        },
    )


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, sam3d_gs; dir(sam3d_gs); print(*sorted({n.split('.')[0] for n in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "numpy", "PIL", "typer", "scipy", "numba"}


def test_every_public_name_is_there_and_documented() -> None:
    for name in sg.__all__:
        assert getattr(sg, name).__doc__, name
    assert set(sg.__all__) <= set(dir(sg))
    with pytest.raises(AttributeError, match="no_such_name"):
        sg.no_such_name  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize("form", ["path", "text", "array", "image", "photo"])
def test_a_photo_in_any_form(picture: Path, form: str) -> None:
    rgb = np.asarray(Image.open(picture).convert("RGB"))
    source = {"path": picture, "text": str(picture), "array": rgb, "image": Image.open(picture)}.get(form)
    photo = sg.load_photo(picture) if source is None else sg.load_photo(source)
    assert np.array_equal(photo.rgb, rgb)
    assert sg.load_photo(photo) is photo
    assert reconstruct(photo).object_ids == ("00-red-cup-0", "01-spoon-0")


def test_a_photo_that_is_none() -> None:
    with pytest.raises(sg.BadInputError, match="expected uint8"):
        sg.load_photo(np.zeros((4, 4), np.float32))


def test_a_scene_in_memory(picture: Path) -> None:
    scene = reconstruct(picture)
    cup = scene["00-red-cup-0"]
    assert scene[0] is cup and [obj.object_id for obj in scene] == list(scene.object_ids) and len(scene) == 2
    assert cup.gaussians.means.dtype == np.float32 and cup.gaussians.means.shape[1] == 3
    assert cup.phrase == "red cup" and cup.scores["mask"] == 0.8
    assert cup.mask is not None and cup.mask.shape == (48, 64)
    assert cup.reprojection_iou is not None and cup.reprojection_iou > 0.6
    assert [phrase.text for phrase in scene.phrases] == ["red cup", "spoon"]
    in_camera = cup.gaussians_in_camera()
    pixel = scene.K @ in_camera.means.mean(0)
    assert cup.mask[int(pixel[1] / pixel[2]), int(pixel[0] / pixel[2])]
    assert isinstance(scene.description, SceneDescription)
    assert "2 objects" in repr(scene)
    with pytest.raises(KeyError, match="01-spoon-0"):
        scene["02-fork-0"]


def test_own_masks_with_names(picture: Path) -> None:
    masks = np.zeros((2, 48, 64), bool)
    masks[0, 12:36, 4:28] = masks[1, 12:36, 36:60] = True
    engine = fakes.FakeObjects()
    scene = sg.reconstruct(picture, masks=list(masks), phrases=["cup", "bowl"], objects_engine=engine)
    assert scene.object_ids == ("00-cup-0", "01-bowl-0")
    assert np.array_equal(scene["01-bowl-0"].mask, masks[1])
    assert sg.reconstruct(picture, masks=masks, objects_engine=engine).object_ids == ("00-object-0", "01-object-0")
    with pytest.raises(sg.UsageError, match="a phrase for each mask"):
        sg.reconstruct(picture, masks=masks, phrases=["cup"], objects_engine=engine)
    with pytest.raises(sg.BadInputError, match="Mask 0 has shape"):
        sg.reconstruct(picture, masks=[masks[0].T], objects_engine=engine)
    with pytest.raises(sg.UsageError, match="Leave one of them out"):
        sg.reconstruct(picture, masks=masks, masks_engine="embedded", objects_engine=engine)


def test_a_folder_of_masks(picture: Path, tmp_path: Path) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[12:36, 4:28] = 255
    (tmp_path / "masks").mkdir()
    Image.fromarray(mask).save(tmp_path / "masks" / "red cup.png")
    scene = sg.reconstruct(picture, masks=tmp_path / "masks", objects_engine=fakes.FakeObjects())
    assert scene.object_ids == ("00-red-cup-0",)


def test_objects_that_fail_are_named_and_nothing_at_all_is_an_error(picture: Path) -> None:
    scene = reconstruct(picture, objects_engine=fakes.FakeObjects(fail=["01-spoon-0"]))
    assert scene.failures == (sg.FailedObject("01-spoon-0", "fails on purpose"),)
    with pytest.raises(sg.Sam3dGsError, match="fails on purpose"):
        reconstruct(picture, objects_engine=fakes.FakeObjects(fail=["00-red-cup-0", "01-spoon-0"]))


def test_options_that_do_not_fit_are_refused(picture: Path) -> None:
    with pytest.raises(sg.UsageError, match="seed cannot be set on an engine that is built already"):
        reconstruct(picture, seed=3)
    with pytest.raises(sg.UsageError, match="Unknown profile"):
        sg.reconstruct(picture, profile="fast")
    with pytest.raises(sg.UsageError, match="--pitch is for engine 'embedded'"):
        sg.engine("objects", "native", pitch_deg=3)


def test_engines_that_are_built_here_are_closed_and_others_are_not(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []

    class Closing(fakes.FakeObjects):
        def close(self) -> None:
            closed.append("objects")

    reconstruct(picture, objects_engine=Closing())
    assert not closed
    monkeypatch.setattr(registry, "load", lambda choice: Closing())
    reconstruct(picture, objects_engine=sg.engine("objects", "embedded", seed=3))
    assert closed == ["objects"]


@pytest.mark.parametrize("frame", ["opencv", "z-up"])
def test_a_scene_is_saved_with_its_description(picture: Path, tmp_path: Path, frame: str) -> None:
    from sam3d_gs.gaussians.ply import read_ply

    scene = reconstruct(picture)
    ply, described = scene.save(tmp_path / "desk.ply", frame=frame)
    assert (ply.name, described.name) == ("desk.ply", "desk.ply.json")
    written = read_ply(ply)
    assert len(written) == sum(len(obj.gaussians) for obj in scene)
    data = json.loads(described.read_text())
    key = "T_camera_object" if frame == "opencv" else "T_frame_object"
    T = np.array(data["objects"][0][key])
    moved = scene[0].gaussians.means @ T[:3, :3].T + T[:3, 3]
    assert np.allclose(written.means[: len(moved)], moved, atol=1e-5)
    if frame == "z-up":
        assert written.means[:, 2].min() > -0.2  # on the floor
    with pytest.raises(sg.UsageError, match="Cannot write splats"):
        scene.save(tmp_path / "desk.obj")


def test_poses_are_edited_in_a_copy(picture: Path) -> None:
    scene = reconstruct(picture)
    cup = scene[0]
    aside = dataclasses.replace(cup.pose, translation=cup.pose.translation + np.array([5.0, 0.0, 0.0]))
    edited = scene.with_pose(cup.object_id, aside)
    assert scene[0] is cup and edited[0].pose is aside and edited[1] is scene[1]
    assert edited[0].reprojection_iou == 0.0
    assert np.allclose(edited.description.objects[0].T_camera_object[:3, 3], aside.translation)
    assert edited.without(cup.object_id).object_ids == ("01-spoon-0",)
    with pytest.raises(KeyError):
        scene.without("nothing")


@pytest.mark.slow
def test_pictures_and_notebooks(picture: Path) -> None:
    scene = reconstruct(picture)
    strip = scene.picture(views=2)
    assert strip.width == 2 * scene.turntable(1)[0].width
    assert np.asarray(strip).std() > 5  # something is to be seen
    assert scene._repr_png_().startswith(b"\x89PNG")


@pytest.fixture
def embedded_fakes(monkeypatch: pytest.MonkeyPatch) -> fakes.FakeObjects:
    objects = fakes.FakeObjects()
    engines = {"phrases": fakes.FakePhrases(), "masks": fakes.FakeMasks(), "objects": objects}
    monkeypatch.setattr(registry, "load", lambda choice: engines[choice.spec.stage])
    return objects


QUICK: dict[str, Any] = {"turntable": "none", "report": False}


def test_run_is_resumable_and_gives_the_scene(picture: Path, tmp_path: Path, embedded_fakes: fakes.FakeObjects) -> None:
    first = sg.run(picture, tmp_path / "out", **QUICK)
    assert first.ok and list(first.stages) == ["phrases", "masks", "objects", "scene"]
    again = sg.run(picture, tmp_path / "out", **QUICK)
    assert {result.status for result in again.stages.values()} == {"up to date"}
    assert len(embedded_fakes.requests) == 1
    scene = again.scene()
    assert scene.object_ids == ("00-red-cup-0", "01-spoon-0")
    in_memory = reconstruct(picture)
    for one, other in zip(scene, in_memory, strict=True):
        assert np.array_equal(one.gaussians.means, other.gaussians.means)
        assert np.array_equal(one.pose.translation, other.pose.translation)
        assert np.array_equal(one.mask, other.mask) and one.reprojection_iou == other.reprojection_iou
    assert sg.load_scene("kitchen", tmp_path / "out").object_ids == scene.object_ids
    assert sg.load_scene(picture, tmp_path / "out").photo.sha256 == sg.load_photo(picture).sha256


def test_a_scene_that_was_saved_is_the_one_of_the_run(
    picture: Path, tmp_path: Path, embedded_fakes: fakes.FakeObjects
) -> None:
    result = sg.run(picture, tmp_path / "out", **QUICK)
    assert result.workspace is not None
    [saved, _] = result.scene().save(tmp_path / "again.ply")
    assert saved.read_bytes() == result.workspace.scene_ply.read_bytes()


@pytest.mark.slow
def test_many_photos_of_which_one_is_bad(picture: Path, tmp_path: Path, embedded_fakes: fakes.FakeObjects) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no photo")
    results = sg.run_many([bad, picture], tmp_path / "out", **QUICK)
    assert [result.ok for result in results] == [False, True]
    assert isinstance(results[0].error, sg.BadInputError)
    with pytest.raises(sg.BadInputError, match=r"bad\.jpg"):
        results[0].scene()
    with pytest.raises(sg.BadInputError, match=r"bad\.jpg"):
        sg.run(bad, tmp_path / "out")
    with pytest.raises(sg.UsageError, match="Unknown stage 'dream'"):
        sg.run(picture, tmp_path / "out", stages=["dream"])
    with pytest.raises(sg.BadInputError, match="has not been processed"):
        sg.load_scene("kitchen", tmp_path / "elsewhere")


@pytest.mark.slow
def test_each_photo_is_decoded_and_its_proposals_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Through the real embedded engines, for more photos than any small cache would hold."""
    from sam3d_gs import pipeline
    from sam3d_gs.embedded.proposals import objects

    decoded: list[Path] = []
    proposed: list[str] = []
    load, propose = pipeline.load_photo, objects.find_proposals

    def counted_load(path: Path, options: Any) -> sg.Photo:
        decoded.append(path)
        return load(path, options)

    def counted_propose(photo: sg.Photo) -> Any:
        proposed.append(photo.name)
        return propose(photo)

    monkeypatch.setattr(pipeline, "load_photo", counted_load)
    monkeypatch.setattr(objects, "find_proposals", counted_propose)
    photos = []
    for number in range(4):
        rgb = np.full((64, 96, 3), 190, np.uint8)
        rgb[16:48, 10 + 3 * number : 40] = (200, 40 + number, 30)
        rgb[20:44, 60:84] = (30, 60, 200)
        photos.append(tmp_path / f"{number}.png")
        Image.fromarray(rgb).save(photos[-1])
    with caplog.at_level(logging.WARNING, "sam3d_gs"):
        results = sg.run_many(photos, tmp_path / "out", stages=["phrases", "masks"])
    assert all(result.ok for result in results)
    assert decoded == photos
    assert proposed == ["0", "1", "2", "3"]


def test_a_pil_image_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (64, 48), "red").save(tmp_path / "turned.jpg", exif=exif)
    from_file = sg.load_photo(tmp_path / "turned.jpg")
    from_image = sg.load_photo(Image.open(tmp_path / "turned.jpg"))
    assert from_image.rgb.shape == from_file.rgb.shape == (64, 48, 3)
    with pytest.raises(sg.UsageError, match="Expected a file"):
        sg.load_photo(None)  # type: ignore[arg-type]


def test_text_is_no_list_of_texts(picture: Path, tmp_path: Path) -> None:
    with pytest.raises(sg.UsageError, match="Expected a list"):
        sg.reconstruct(picture, phrases="cup", masks_engine=fakes.FakeMasks(), objects_engine=fakes.FakeObjects())
    with pytest.raises(sg.UsageError, match="Expected a list"):
        sg.reconstruct(picture, phrases="ab", masks=np.ones((2, 48, 64), bool), objects_engine=fakes.FakeObjects())
    with pytest.raises(sg.UsageError, match="are lists"):
        sg.run_many(str(picture), tmp_path)
    with pytest.raises(sg.UsageError, match="are lists"):
        sg.run_many([picture], tmp_path, stages="scene")


def test_masks_that_need_no_phrases_start_no_engine_of_phrases(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = np.zeros((48, 64), np.uint8)
    mask[12:36, 4:28] = 255
    Image.fromarray(mask).save(tmp_path / "cup.png")
    own = sg.engine("masks", masks_dir=str(tmp_path))
    loaded: list[str] = []
    load = registry.load
    monkeypatch.setattr(registry, "load", lambda choice: loaded.append(choice.spec.stage) or load(choice))
    picture = picture.rename(picture.parent.parent / f"{picture.parent.name}.png")
    scene = sg.reconstruct(picture, masks_engine=own, objects_engine=fakes.FakeObjects())
    assert scene.object_ids == ("00-cup-0",) and loaded == ["masks"]
    with pytest.raises(sg.UsageError, match="needs no phrases"):
        sg.reconstruct(picture, phrases=["cup"], masks_engine=own, objects_engine=fakes.FakeObjects())


def test_what_an_engine_returns_is_checked_in_memory_too(picture: Path) -> None:
    class Twice(fakes.FakeMasks):
        def masks(self, photo: sg.Photo, phrases: Any) -> list[sg.InstanceMask]:
            return [*super().masks(photo, phrases), *super().masks(photo, phrases)]

    class NotANumber(fakes.FakeObjects):
        def objects(self, photo: sg.Photo, masks: Any, wanted: Any) -> Any:
            for obj in super().objects(photo, masks, wanted):
                means = obj.gaussians.means * (np.nan if obj.object_id.startswith("00") else 1)
                yield dataclasses.replace(obj, gaussians=dataclasses.replace(obj.gaussians, means=means))

    with pytest.raises(ValueError, match="same object id"):
        reconstruct(picture, masks_engine=Twice())
    scene = reconstruct(picture, objects_engine=NotANumber())
    assert scene.object_ids == ("01-spoon-0",) and "NaN" in scene.failures[0].reason


def test_engines_of_the_wrong_kind_are_refused(picture: Path, tmp_path: Path) -> None:
    with pytest.raises(sg.UsageError, match="is for phrases, not for objects"):
        reconstruct(picture, objects_engine=sg.engine("phrases", phrases=["cup"]))
    with pytest.raises(sg.UsageError, match="is no engine of objects"):
        reconstruct(picture, objects_engine=fakes.FakeObjects)
    with pytest.raises(sg.UsageError, match="is a built engine"):
        sg.run_many([picture], tmp_path, objects_engine=fakes.FakeObjects())  # type: ignore[arg-type]


def test_run_checks_what_the_command_line_checks(picture: Path, tmp_path: Path) -> None:
    boxes = sg.engine("masks", "sam3", boxes=[(1.0, 2.0, 30.0, 40.0)])
    for options, words in (
        ({"masks_engine": boxes}, "--box is for one photo"),
        ({"masks": tmp_path, "phrases": ["cup"]}, "need no phrases"),
        ({"turntable": "mp4"}, "Unknown --turntable 'mp4'"),
        ({"max_side_px": 0}, "Expected at least 16"),
    ):
        with pytest.raises(sg.UsageError, match=words):
            sg.run_many([picture, picture.with_name("other.png")], tmp_path / "out", **options)


def test_paths_of_engines_are_looked_for_below_the_workspace(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sam3d_gs import api

    monkeypatch.chdir(tmp_path)
    seen: list[Any] = []
    monkeypatch.setattr(api, "run_stages", lambda photos, stages, settings, show: seen.append(settings))
    (tmp_path / "w" / "sam-3d-objects/checkpoints/hf").mkdir(parents=True)
    sg.run_many([picture], "w", profile="full")
    assert seen[0].objects.options.checkpoints == tmp_path / "w" / "sam-3d-objects/checkpoints/hf"
    assert seen[0].phrases.options.server_log.is_relative_to(tmp_path / "w")


def test_a_run_at_another_size_is_read_at_that_size(tmp_path: Path, embedded_fakes: fakes.FakeObjects) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (40, 4200, 3), np.uint8)).save(tmp_path / "wide.png")
    result = sg.run(tmp_path / "wide.png", tmp_path / "out", max_side_px=5000, **QUICK)
    assert result.scene().photo.width_px == 4200


def test_a_scene_keeps_the_order_of_its_masks_and_never_gets_empty(picture: Path, tmp_path: Path) -> None:
    masks = (np.arange(48 * 64).reshape(48, 64) % 3 == k for k in range(3))
    scene = sg.reconstruct(picture, masks=masks, phrases=["c", "b", "a"], objects_engine=fakes.FakeObjects())
    assert [obj.phrase for obj in scene] == ["c", "b", "a"]
    assert "00-c-0" in scene and scene[np.int64(1)].phrase == "b" and scene == scene
    with pytest.raises(sg.UsageError, match="at least one object"):
        scene.without(*scene.object_ids)
    with pytest.raises(sg.UsageError, match="above 0"):
        scene.save(tmp_path / "x.ply", scale=0)


def test_a_run_that_fails_early_still_has_its_workspace(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "load", lambda choice: fakes.FakePhrases(()))
    [result] = sg.run_many([picture], tmp_path / "out", stages=["phrases"])
    assert result.error is not None and result.workspace is not None and result.workspace.photo == "kitchen"
    [nothing] = sg.run_many([picture], tmp_path / "out", stages=[])
    with pytest.raises(sg.BadInputError, match="Nothing was run"):
        nothing.scene()
