"""The masks stage with a fake engine, and reading masks.json."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.masks.files import read_masks
from sam3d_gs.stages import masks, phrases
from sam3d_gs.stages.bookkeeping import Context, recorded
from sam3d_gs.types import InstanceMask, Photo, Phrase
from tests.fakes import FakeMasks, FakePhrases, fake_choice

OPTIONS = fake_choice("masks")
SIZE = (64, 48)


@pytest.fixture
def named(context: Context) -> Context:
    phrases.run(context, fake_choice("phrases"), FakePhrases)
    return context


def test_writes_masks_json_pictures_and_overlay(named: Context) -> None:
    result = masks.run(named, OPTIONS, lambda: FakeMasks(drop="too small"))
    assert result.summary == "1 masks kept, 1 dropped"
    rows = json.loads(named.workspace.masks_json.read_text())["masks"]
    assert [(r["object_id"], r["kept"], r["dropped"]) for r in rows] == [
        ("00-red-cup-0", True, None),
        ("01-spoon-0", False, "too small"),
    ]
    with Image.open(named.workspace.mask_png("00-red-cup-0")) as image:
        assert image.mode == "1"
        assert image.size == SIZE
    assert named.workspace.overlay_png.exists()
    kept, dropped = read_masks(named.workspace, SIZE)
    assert kept.area_px == rows[0]["area_px"]
    assert list(kept.box_xyxy) == rows[0]["box_xyxy"]
    assert dropped.dropped == "too small"


def test_without_phrases_the_error_names_the_command(context: Context) -> None:
    with pytest.raises(Sam3dGsError, match="Run `sam3d-gs phrases"):
        masks.run(context, OPTIONS, FakeMasks)


def test_up_to_date_until_the_phrases_change(named: Context) -> None:
    engine = FakeMasks()
    masks.run(named, OPTIONS, lambda: engine)
    assert masks.run(named, OPTIONS, lambda: engine).status == "up to date"
    named.workspace.phrases_json.write_text('["red cup", "spoon", "plate"]')
    assert masks.run(named, OPTIONS, lambda: engine).status == "done"
    assert engine.calls == [("red cup", "spoon"), ("red cup", "spoon", "plate")]


def test_masks_of_an_earlier_run_are_removed(named: Context) -> None:
    masks.run(named, OPTIONS, FakeMasks)
    named.workspace.phrases_json.write_text('["plate"]')
    masks.run(named, OPTIONS, FakeMasks)
    assert sorted(p.name for p in named.workspace.masks_dir.glob("*.png")) == ["00-plate-0.png"]


def test_a_mask_repainted_by_hand_is_kept(named: Context) -> None:
    masks.run(named, OPTIONS, FakeMasks)
    path = named.workspace.mask_png("00-red-cup-0")
    repainted = np.random.default_rng(0).random((48, 64)) > 0.5
    Image.fromarray(repainted).save(path)
    result = masks.run(named, OPTIONS, FakeMasks)
    assert (result.status, result.summary) == ("up to date", "edited by hand")
    assert np.array_equal(read_masks(named.workspace, SIZE)[0].mask, repainted)


def test_a_missing_mask_file_is_written_again(named: Context) -> None:
    masks.run(named, OPTIONS, FakeMasks)
    named.workspace.mask_png("00-red-cup-0").unlink()
    assert masks.run(named, OPTIONS, FakeMasks).status == "done"


def test_the_error_without_kept_masks_gives_the_best_score(named: Context) -> None:
    class AllDropped(FakeMasks):
        def masks(self, photo: Photo, phrases: object) -> list[InstanceMask]:
            found = super().masks(photo, [Phrase(0, "red cup")])
            return [dataclasses.replace(m, dropped="score 0.31 below 0.50", score=0.31) for m in found]

    with pytest.raises(Sam3dGsError, match=r"red cup.*kitchen\.png.*0\.31") as caught:
        masks.run(named, OPTIONS, AllDropped)
    assert "\n" not in str(caught.value)


def test_a_phrase_without_a_mask_is_a_warning(named: Context) -> None:
    class OnlyFirst(FakeMasks):
        def masks(self, photo: Photo, phrases: object) -> list[InstanceMask]:
            return super().masks(photo, [Phrase(0, "red cup")])

    assert masks.run(named, OPTIONS, OnlyFirst).warnings == ('No mask for "spoon".',)


def test_what_an_engine_warns_of_is_shown(named: Context) -> None:
    class Doubtful(FakeMasks):
        warnings = ("cup.png is black but for noise.",)

    assert masks.run(named, OPTIONS, Doubtful).warnings == Doubtful.warnings


def test_an_empty_mask_is_never_kept(named: Context) -> None:
    class Empty(FakeMasks):
        def masks(self, photo: Photo, phrases: object) -> list[InstanceMask]:
            first, second = super().masks(photo, [Phrase(0, "red cup"), Phrase(1, "spoon")])
            return [first, dataclasses.replace(second, mask=np.zeros_like(second.mask))]

    masks.run(named, OPTIONS, Empty)
    assert read_masks(named.workspace, SIZE)[1].dropped == "empty mask"


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.update(file="../../../etc/passwd"),
        lambda row: row.update(file="/etc/passwd"),
        lambda row: row.update(object_id="../x"),
        lambda row: row.pop("phrase"),
        lambda row: row.update(score="high"),
        lambda row: row.update(file="nothing.png"),
    ],
)
def test_the_error_for_damaged_masks_names_the_file(named: Context, change: object) -> None:
    masks.run(named, OPTIONS, FakeMasks)
    data = json.loads(named.workspace.masks_json.read_text())
    change(data["masks"][0])  # type: ignore[operator]
    named.workspace.masks_json.write_text(json.dumps(data))
    with pytest.raises(BadInputError, match=r"masks\.json|nothing\.png") as caught:
        read_masks(named.workspace, SIZE)
    assert "\n" not in str(caught.value)


def test_the_error_for_a_wrong_mask_size_names_both_sizes(named: Context) -> None:
    masks.run(named, OPTIONS, FakeMasks)
    Image.new("1", (10, 10), 1).save(named.workspace.mask_png("00-red-cup-0"))
    with pytest.raises(BadInputError, match=r"10 x 10 pixels, the photo 64 x 48"):
        read_masks(named.workspace, SIZE)


def test_a_failure_is_recorded_and_keeps_the_former_masks(named: Context) -> None:
    masks.run(named, OPTIONS, FakeMasks)
    with pytest.raises(Sam3dGsError):
        masks.run(dataclasses.replace(named, force=True), fake_choice("masks", max_objects=1), lambda: Broken())
    record = recorded(named.workspace, "masks")
    assert record is not None
    assert record.errors == {"stage": "no power"}
    assert named.workspace.mask_png("00-red-cup-0").exists()


class Broken(FakeMasks):
    def masks(self, photo: Photo, phrases: object) -> list[InstanceMask]:
        raise Sam3dGsError("no power")
