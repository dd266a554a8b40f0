from __future__ import annotations

import json
from pathlib import Path

import pytest

from sam3d_gs import manifest as manifests
from sam3d_gs.errors import BadInputError
from sam3d_gs.manifest import Item, Manifest, StageRecord

RECORD = StageRecord(
    status="partial",
    engine="fake",
    options={"phrases": ("a", "b"), "masks_dir": None, "seed": 3},
    inputs={"photo": "abc"},
    outputs={"x/y.png": 12},
    items={"00-a-0": Item("hash", "x/00-a-0.pt", 99, 1.5)},
    errors={"01-b-0": "fails on purpose"},
    licences={"net": "Apache-2.0"},
)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    photo = {"name": "a", "sha256": "abc", "file": "a.png", "width_px": 6, "height_px": 4}
    manifests.save(path, Manifest(photo, {"objects": RECORD}))
    loaded = manifests.load(path)
    assert loaded is not None
    assert loaded.photo == photo
    again = loaded.stages["objects"]
    assert again.items == RECORD.items
    assert again.errors == RECORD.errors
    assert again.same_work("fake", {"phrases": ("a", "b"), "masks_dir": None, "seed": 3}, {"photo": "abc"})
    assert not again.same_work("fake", {"phrases": ("a",), "masks_dir": None, "seed": 3}, {"photo": "abc"})
    assert not again.same_work("other", RECORD.options, RECORD.inputs)
    assert not again.same_work("fake", RECORD.options, {"photo": "abd"})


def test_none_when_absent(tmp_path: Path) -> None:
    assert manifests.load(tmp_path / "manifest.json") is None
    assert manifests.photo_hash(tmp_path / "manifest.json") is None


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "3", '{"schema": 1}', '{"schema": 1, "photo": {}, "stages": {}}', '{"schema": 99}'],
)
def test_damaged_or_foreign_manifest(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(BadInputError, match=r"manifest\.json"):
        manifests.load(path)
    assert manifests.photo_hash(path) is None


def test_unknown_keys_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    manifests.save(path, Manifest({"sha256": "abc"}, {"objects": RECORD}))
    data = json.loads(path.read_text())
    data["stages"]["objects"]["new_key"] = 1
    path.write_text(json.dumps(data))
    assert manifests.load(path) is not None


def test_fingerprint_is_stable_and_sees_changes() -> None:
    assert manifests.fingerprint({"a": 1, "b": (2,)}) == manifests.fingerprint({"b": [2], "a": 1})
    assert manifests.fingerprint({"a": 1}) != manifests.fingerprint({"a": 2})
