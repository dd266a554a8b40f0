"""Files that a user has edited: kept, used, and never lost."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3d_gs import load_scene
from sam3d_gs import manifest as manifests
from sam3d_gs.engines import registry
from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.gaussians.ply import read_ply, write_ply
from sam3d_gs.gaussians.pt import read_pt, write_pt
from sam3d_gs.masks.files import read_masks
from sam3d_gs.options import SceneOptions
from sam3d_gs.phrase_files import read_phrases
from sam3d_gs.scene_files import read_scene
from sam3d_gs.stages import masks, objects, phrases, scene
from sam3d_gs.stages.bookkeeping import Context, StageResult
from tests.fakes import FakeMasks, FakeObjects, FakePhrases, fake_choice

QUICK = SceneOptions(turntable="none", report=False)
CUP, SPOON = "00-red-cup-0", "01-spoon-0"
OWN_MASK_ONLY = fake_choice("objects", own_mask_only=True)


def run_all(context: Context, **force: bool) -> StageResult:
    phrases.run(context, fake_choice("phrases"), FakePhrases)
    masks.run(context, fake_choice("masks"), FakeMasks)
    objects.run(context, OWN_MASK_ONLY, FakeObjects)
    return scene.run(context, QUICK)


@pytest.fixture
def done(context: Context) -> Context:
    run_all(context)
    return context


def forced(context: Context) -> Context:
    return dataclasses.replace(context, force=True)


def repaint(path: Path) -> np.ndarray:
    mask = np.random.default_rng(1).random((48, 64)) > 0.5
    Image.fromarray(mask).save(path)
    return mask


def clean(path: Path, count: int = 50) -> None:
    gaussians = read_ply(path)
    write_ply(path, gaussians.take(slice(0, len(gaussians) - count)))


def edit_json(path: Path, change: Callable[[dict], object]) -> None:  # type: ignore[type-arg]
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def move(data: dict) -> None:  # type: ignore[type-arg]
    data["objects"][0]["T_camera_object"][0][3] += 0.5


# ---- told by content --------------------------------------------------------------------------------------------


def test_an_edit_of_the_same_size_and_an_untouched_copy(done: Context) -> None:
    path = done.workspace.scene_ply
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(1, 1))  # as after copying the workspace
    assert scene.run(done, QUICK).summary == "2 objects"
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    result = scene.run(done, QUICK)
    assert (result.status, result.summary) == ("up to date", "2 objects, edited by hand: kitchen.ply")
    assert path.read_bytes() == raw


def test_a_copied_workspace_is_up_to_date(done: Context) -> None:
    for path in done.workspace.root.rglob("*.p*"):
        os.utime(path, ns=(1, 1))
    assert run_all(done).status == "up to date"


def test_a_manifest_of_an_earlier_version_has_no_stamps(done: Context) -> None:
    edit_json(done.workspace.manifest, lambda data: [stage.pop("stamps") for stage in data["stages"].values()])
    assert phrases.run(done, fake_choice("phrases"), FakePhrases).status == "up to date"
    assert objects.run(done, OWN_MASK_ONLY, FakeObjects).status == "up to date"
    clean(done.workspace.scene_ply)
    edited = done.workspace.scene_ply.read_bytes()
    with pytest.raises(BadInputError, match=r"kitchen\.ply.*edited by hand"):
        scene.run(done, QUICK)  # whether its objects are the same is not known
    assert done.workspace.scene_ply.read_bytes() == edited


# ---- the merged scene -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [QUICK, SceneOptions(turntable="gif", report=False)])
def test_a_cleaned_scene_is_kept(done: Context, options: SceneOptions) -> None:
    clean(done.workspace.scene_ply)
    assert scene.run(done, options).status == "up to date"
    assert len(read_ply(done.workspace.scene_ply)) == 750


def test_a_cleaned_scene_is_kept_when_its_objects_change(done: Context) -> None:
    clean(done.workspace.scene_ply)
    repaint(done.workspace.mask_png(CUP))
    objects.run(done, OWN_MASK_ONLY, FakeObjects)
    with pytest.raises(BadInputError, match=rf"kitchen\.ply.*{CUP}.*--force.*kitchen\.edited\.ply"):
        scene.run(done, QUICK)
    assert len(read_ply(done.workspace.scene_ply)) == 750


def test_force_keeps_the_edited_scene_beside_the_new_one(done: Context, caplog: pytest.LogCaptureFixture) -> None:
    clean(done.workspace.scene_ply)
    assert scene.run(forced(done), QUICK).status == "done"
    assert len(read_ply(done.workspace.scene_ply)) == 800
    assert len(read_ply(done.workspace.multi_dir / "kitchen.edited.ply")) == 750
    assert "kept as kitchen.edited.ply" in caplog.text
    assert done.workspace.multi_dir / "kitchen.edited.ply" in done.workspace.in_multi_dir()
    assert scene.run(done, QUICK).summary == "2 objects"


def test_a_failing_stage_leaves_the_edit_in_place(done: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    clean(done.workspace.scene_ply)

    def full_disk(*args: object, **more: object) -> None:
        raise Sam3dGsError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(scene, "merge_objects", full_disk)
        with pytest.raises(Sam3dGsError, match="no space"):
            scene.run(forced(done), QUICK)
    assert len(read_ply(done.workspace.scene_ply)) == 750
    with pytest.raises(BadInputError, match=r"kitchen\.ply.*edited by hand, and it was not finished"):
        scene.run(done, QUICK)


# ---- single objects, poses, names -------------------------------------------------------------------------------


def test_a_cleaned_object_is_used_and_kept(done: Context) -> None:
    single = done.workspace.single_ply(CUP)
    clean(single, 100)
    edited = single.read_bytes()
    assert "edited by hand: 00-red-cup-0.ply" in scene.run(done, QUICK).summary
    assert len(read_ply(done.workspace.scene_ply)) == 700
    assert [row.gaussians for row in read_scene(done.workspace.scene_json).objects] == [300, 400]
    result = scene.run(done, QUICK)
    assert (result.status, "edited by hand" in result.summary) == ("up to date", True)
    clean(single, 100)
    scene.run(done, QUICK)
    assert len(read_ply(done.workspace.scene_ply)) == 600
    assert scene.run(forced(done), QUICK).status == "done"
    assert len(read_ply(single)) == 400
    assert len(read_ply(single.with_name("00-red-cup-0.edited.ply"))) == 200
    assert len(edited) > len(single.with_name("00-red-cup-0.edited.ply").read_bytes())


def test_a_cleaned_object_that_was_made_again_is_not_replaced(done: Context) -> None:
    clean(done.workspace.single_ply(CUP))
    repaint(done.workspace.mask_png(CUP))
    objects.run(done, OWN_MASK_ONLY, FakeObjects)
    with pytest.raises(BadInputError, match=rf"{CUP}\.ply.*{CUP} was made again"):
        scene.run(done, QUICK)
    assert len(read_ply(done.workspace.single_ply(CUP))) == 350


def test_an_edited_object_that_cannot_be_used_is_named(done: Context) -> None:
    done.workspace.single_ply(CUP).write_bytes(b"ply\n")
    with pytest.raises(BadInputError, match=rf"{CUP}\.ply"):
        scene.run(done, QUICK)
    assert done.workspace.single_ply(CUP).read_bytes() == b"ply\n"


def test_a_moved_pose_and_a_new_name_reach_every_file(done: Context) -> None:
    before = read_ply(done.workspace.scene_ply).means

    def change(data: dict) -> None:  # type: ignore[type-arg]
        move(data)
        data["objects"][1]["phrase"] = "ladle"

    edit_json(done.workspace.scene_json, change)
    assert scene.run(done, QUICK).status == "done"
    for options in (QUICK, SceneOptions(turntable="gif", report=False)):  # the second makes the scene again
        scene.run(done, options)
        assert scene.run(done, options).status == "up to date"
        moved = read_ply(done.workspace.scene_ply).means
        np.testing.assert_allclose(moved[:400] - before[:400], np.tile([0.5, 0, 0], (400, 1)), atol=1e-5)
        np.testing.assert_array_equal(moved[400:], before[400:])
        cup, ladle = read_scene(done.workspace.scene_json).objects
        assert (cup.edited, ladle.edited, ladle.phrase) == (("pose",), ("phrase",), "ladle")
    scene.run(forced(done), QUICK)
    np.testing.assert_array_equal(read_ply(done.workspace.scene_ply).means, before)
    assert read_scene(done.workspace.scene_json).objects[1].phrase == "spoon"


def test_a_pose_that_is_taken_back(done: Context) -> None:
    before = done.workspace.scene_ply.read_bytes()
    written = read_scene(done.workspace.scene_json).objects[0].T_camera_object
    edit_json(done.workspace.scene_json, move)
    scene.run(done, QUICK)
    edit_json(done.workspace.scene_json, lambda data: data["objects"][0].update(T_camera_object=written.tolist()))
    scene.run(done, QUICK)
    assert done.workspace.scene_ply.read_bytes() == before
    assert read_scene(done.workspace.scene_json).objects[0].edited == ()


def test_a_pose_of_an_object_that_was_made_again_is_not_replaced(done: Context) -> None:
    edit_json(done.workspace.scene_json, move)
    scene.run(done, QUICK)
    repaint(done.workspace.mask_png(CUP))
    objects.run(done, OWN_MASK_ONLY, FakeObjects)
    kept = done.workspace.scene_json.read_bytes()
    with pytest.raises(BadInputError, match=rf"kitchen\.json.*{CUP}.*--force"):
        scene.run(done, QUICK)
    assert done.workspace.scene_json.read_bytes() == kept


def test_a_remark_in_the_json_is_kept(done: Context) -> None:
    edit_json(done.workspace.scene_json, lambda data: data.update(remark="for Anna"))
    assert "edited by hand: kitchen.json" in scene.run(done, QUICK).summary
    assert "for Anna" in done.workspace.scene_json.read_text()
    scene.run(forced(done), QUICK)
    assert "for Anna" in (done.workspace.multi_dir / "kitchen.edited.json").read_text()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data["objects"].pop(), "no longer lists the objects"),
        (lambda data: data["objects"][0].update(T_camera_object=np.diag([1, 1, -1, 1]).tolist()), "not a pose"),
        (lambda data: data["objects"][0].update(phrase=3), "phrase"),
    ],
)
def test_an_edited_json_that_cannot_be_used(done: Context, change: Callable[[dict], object], words: str) -> None:  # type: ignore[type-arg]
    edit_json(done.workspace.scene_json, change)
    kept = done.workspace.scene_json.read_bytes()
    with pytest.raises(BadInputError, match=rf"kitchen\.json.*{words}.*--force"):
        scene.run(done, QUICK)
    assert done.workspace.scene_json.read_bytes() == kept


# ---- .pt, masks, phrases ----------------------------------------------------------------------------------------


def test_a_users_own_pt_is_kept_and_used(done: Context) -> None:
    path = done.workspace.object_pt(CUP)
    own = read_pt(path)
    write_pt(path, dataclasses.replace(own, gaussians=own.gaussians.take(slice(0, 123))))
    engine = FakeObjects()
    result = objects.run(done, OWN_MASK_ONLY, lambda: engine)
    assert (result.status, result.summary) == ("up to date", f"2 objects, edited by hand: {CUP}.pt")
    assert engine.requests == []
    scene.run(done, QUICK)
    assert len(read_ply(done.workspace.scene_ply)) == 523
    repaint(done.workspace.mask_png(CUP))
    with pytest.raises(BadInputError, match=rf"{CUP}\.pt.*masks or options have changed"):
        objects.run(done, OWN_MASK_ONLY, FakeObjects)
    objects.run(forced(done), OWN_MASK_ONLY, FakeObjects)
    assert len(read_pt(path).gaussians.means) == 400
    assert len(read_pt(path.with_name(f"{CUP}.edited.pt")).gaussians.means) == 123


def test_a_damaged_pt_is_made_again_and_not_lost(done: Context, caplog: pytest.LogCaptureFixture) -> None:
    done.workspace.object_pt(CUP).write_bytes(b"half")
    objects.run(done, OWN_MASK_ONLY, FakeObjects)
    assert done.workspace.object_pt(CUP).with_name(f"{CUP}.edited.pt").read_bytes() == b"half"
    assert "not a usable .pt file" in caplog.text


def test_the_pt_of_another_object_is_not_taken(done: Context) -> None:
    done.workspace.object_pt(CUP).write_bytes(done.workspace.object_pt(SPOON).read_bytes())
    with pytest.raises(BadInputError, match=rf"{CUP}\.pt.*holds the object {SPOON}"):
        scene.run(done, QUICK)


def test_a_mask_repainted_at_the_same_size_is_kept(done: Context) -> None:
    path = done.workspace.mask_png(CUP)
    size = path.stat().st_size
    mask = repaint(path)
    raw = path.read_bytes()
    path.write_bytes(raw + b"\0" * max(0, size - len(raw)))
    assert masks.run(done, fake_choice("masks"), FakeMasks).summary == "edited by hand"
    assert np.array_equal(read_masks(done.workspace, (64, 48))[0].mask, mask)


@pytest.mark.parametrize("change", ["phrases", "options"])
def test_repainted_masks_outlive_new_phrases_and_options(done: Context, change: str) -> None:
    mask = repaint(done.workspace.mask_png(CUP))
    choice = fake_choice("masks", max_objects=1) if change == "options" else fake_choice("masks")
    if change == "phrases":
        done.workspace.phrases_json.write_text('["red cup", "plate"]')
    with pytest.raises(BadInputError, match=rf"{CUP}\.png.*edited by hand.*--force"):
        masks.run(done, choice, FakeMasks)
    assert np.array_equal(read_masks(done.workspace, (64, 48))[0].mask, mask)
    masks.run(forced(done), choice, FakeMasks)
    kept = done.workspace.masks_dir / f"{CUP}.edited.png"
    assert np.array_equal(np.asarray(Image.open(kept).convert("L")) > 127, mask)


def test_one_bad_mask_does_not_cost_the_others(done: Context) -> None:
    mask = repaint(done.workspace.mask_png(CUP))
    Image.new("1", (10, 10), 1).save(done.workspace.mask_png(SPOON))
    with pytest.raises(BadInputError, match=rf"{SPOON}\.png has 10 x 10 pixels.*They are kept"):
        masks.run(done, fake_choice("masks"), FakeMasks)
    done.workspace.mask_png(SPOON).unlink()
    with pytest.raises(BadInputError, match=rf"{SPOON}\.png"):
        masks.run(done, fake_choice("masks"), FakeMasks)
    assert np.array_equal(np.asarray(Image.open(done.workspace.mask_png(CUP)).convert("L")) > 127, mask)


def test_edited_phrases_outlive_other_options(done: Context) -> None:
    done.workspace.phrases_json.write_text('["a teapot"]')
    assert phrases.run(done, fake_choice("phrases", max_phrases=3), FakePhrases).summary == "edited by hand"
    assert [p.text for p in read_phrases(done.workspace.phrases_json)] == ["a teapot"]


def test_a_new_list_counts_more_than_edited_phrases(done: Context, caplog: pytest.LogCaptureFixture) -> None:
    done.workspace.phrases_json.write_text('["a teapot"]')
    choice = registry.choose("phrases", phrases=["plate"])
    assert phrases.run(done, choice, lambda: FakePhrases(["plate"])).status == "done"
    assert [p.text for p in read_phrases(done.workspace.phrases_json)] == ["plate"]
    assert done.workspace.set_aside(done.workspace.phrases_json).read_text() == '["a teapot"]'
    assert "kept as phrases.edited.json" in caplog.text
    done.workspace.phrases_json.write_text('["a spoon"]')
    assert phrases.run(done, choice, FakePhrases).summary == "edited by hand"


def test_phrases_written_after_a_failure_are_used(context: Context) -> None:
    with pytest.raises(Sam3dGsError):
        phrases.run(context, fake_choice("phrases"), lambda: FakePhrases([]))
    context.workspace.phrases_json.write_text('["a teapot"]')
    assert phrases.run(context, fake_choice("phrases"), FakePhrases).summary == "edited by hand"
    assert masks.run(context, fake_choice("masks"), FakeMasks).summary == "1 masks kept, 0 dropped"


def test_edits_made_after_a_failure_show(done: Context) -> None:
    with pytest.raises(Sam3dGsError):
        phrases.run(forced(done), fake_choice("phrases"), lambda: FakePhrases([]))
    manifest = manifests.load(done.workspace.manifest)
    assert manifest is not None
    assert list(manifest.stages["phrases"].stamps) == [done.workspace.relative(done.workspace.phrases_json)]
    assert phrases.run(done, fake_choice("phrases"), FakePhrases).status == "done", "nothing was edited"


def test_a_scene_that_is_loaded_has_the_edits(done: Context) -> None:
    root = done.workspace.root
    edit_json(done.workspace.scene_json, move)
    clean(done.workspace.single_ply(SPOON), 100)
    for _ in range(2):  # before and after the scene stage has used them
        loaded = load_scene("kitchen", root)
        x = read_pt(done.workspace.object_pt(CUP)).pose.translation[0]
        assert loaded[CUP].pose.translation[0] == pytest.approx(x + 0.5)
        assert [len(obj.gaussians) for obj in loaded] == [400, 300]
        scene.run(done, QUICK)
    merged = read_ply(done.workspace.scene_ply)
    write_ply(done.workspace.scene_ply, merged.take(slice(50, 400)))
    cleaned = load_scene("kitchen", root)
    assert cleaned.object_ids == (CUP,)
    np.testing.assert_allclose(cleaned[CUP].gaussians_in_camera().means, merged.means[50:400], atol=1e-5)
    objects.run(forced(done), OWN_MASK_ONLY, FakeObjects)
    assert [len(obj.gaussians) for obj in load_scene("kitchen", root)] == [400, 400], "made again since"
