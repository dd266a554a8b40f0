"""Recall is counted as it says, on a panoptic file made here."""

from __future__ import annotations

import json
from pathlib import Path

import mask_recall
import numpy as np
import pytest
from mask_recall import best_ious, coco_photos, main, recall_on
from PIL import Image

from sam3d_gs.embedded.proposals.regions import Proposal

SIDE = 100


def rectangle(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top:bottom, left:right] = True
    return mask


CUP, TABLE, CROWD, SPECK = (
    rectangle(*box) for box in ((10, 10, 40, 40), (60, 0, 100, 100), (0, 50, 20, 100), (50, 50, 55, 55))
)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """One photo with a cup, a crowd, a speck, and a table that is no thing; another photo is named and not there."""
    numbers = np.zeros((SIDE, SIDE), np.int64)
    segments = []
    for mask, number, category, crowd in ((CUP, 70_000, 1, 0), (TABLE, 300, 2, 0), (CROWD, 7, 1, 1), (SPECK, 9, 1, 0)):
        numbers[mask] = number
        segments.append({"id": number, "category_id": category, "iscrowd": crowd})
    (tmp_path / "panoptic").mkdir()
    (tmp_path / "pictures").mkdir()
    colours = np.stack([numbers % 256, numbers // 256 % 256, numbers // 256**2], -1).astype(np.uint8)
    Image.fromarray(colours).save(tmp_path / "panoptic" / "a.png")
    Image.fromarray(np.full((SIDE, SIDE), 90, np.uint8)).save(tmp_path / "pictures" / "a.jpg")
    annotations = [{"image_id": i, "file_name": f"{n}.png", "segments_info": segments} for i, n in ((5, "a"), (6, "b"))]
    images = [{"id": 5, "file_name": "a.jpg"}, {"id": 6, "file_name": "b.jpg"}]
    categories = [{"id": 1, "isthing": 1}, {"id": 2, "isthing": 0}]
    (tmp_path / "panoptic.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return tmp_path


def test_things_count_and_stuff_crowds_and_specks_do_not(coco: Path) -> None:
    [(name, rgb, masks)] = coco_photos(coco / "panoptic.json", coco / "pictures")
    assert name == "a"
    assert rgb.shape == (SIDE, SIDE, 3)
    [mask] = masks
    assert np.array_equal(mask, CUP)


def test_the_table_says_what_was_met_and_what_was_right(coco: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = rectangle(10, 10, 40, 28)  # 60 % of the cup
    proposals = [Proposal(TABLE, 0.9), *[Proposal(SPECK, 0.5)] * 9, Proposal(half, 0.2)]
    monkeypatch.setattr(mask_recall, "propose", lambda rgb, weights: proposals)
    monkeypatch.setattr(mask_recall, "select", lambda proposals, rgb: [])
    every, few, kept = recall_on(coco_photos(coco / "panoptic.json", coco / "pictures"))
    assert (every.photos, every.masks, every.proposed) == (1, 1, 11)
    assert (every.recall_50, every.recall_75) == (1, 0)
    assert every.mean_best_iou == pytest.approx(0.6)
    assert every.right == pytest.approx(1 / 11)
    assert (few.recall_50, few.right) == (0, 0)
    assert (kept.recall_50, kept.proposed, kept.right) == (0, 0, 0)


def test_without_masks_or_proposals_nothing_is_met() -> None:
    assert best_ious([CUP], []).tolist() == [0]
    assert best_ious([], [CUP]).tolist() == []
    assert best_ious([CUP, TABLE], [TABLE]).tolist() == [0, 1]


def test_a_folder_without_labelled_photos_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["mask_recall.py", "--photos", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 3
    assert "no photo with masks" in capsys.readouterr().err


def test_a_missing_annotation_file_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "panoptic.json"
    monkeypatch.setattr("sys.argv", ["mask_recall.py", "--coco", str(missing), "--pictures", str(tmp_path)])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 3
    said = capsys.readouterr().err
    assert str(missing) in said and said.count("\n") == 1
