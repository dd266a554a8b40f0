"""masks.json as users edit it: rows doubled, renamed, deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sam3d_gs.commands import status
from sam3d_gs.errors import BadInputError
from sam3d_gs.masks.files import kept_ids, read_masks
from sam3d_gs.stages import masks, objects, phrases
from sam3d_gs.stages.bookkeeping import Context
from tests.fakes import FakeMasks, FakeObjects, FakePhrases, fake_choice

SIZE = (64, 48)
Rows = list[dict[str, Any]]


@pytest.fixture
def masked(context: Context) -> Context:
    phrases.run(context, fake_choice("phrases"), FakePhrases)
    masks.run(context, fake_choice("masks"), FakeMasks)
    return context


def _edit(context: Context, change: Callable[[Rows], object]) -> None:
    path = context.workspace.masks_json
    data = json.loads(path.read_text())
    change(data["masks"])
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda rows: rows.append(rows[0]), "00-red-cup-0 is there twice"),
        (lambda rows: rows.append({**rows[0], "object_id": "mug"}), r"file 00-red-cup-0\.png is there twice"),
        (lambda rows: rows.append({**rows[0], "file": rows[1]["file"]}), "00-red-cup-0 is there twice"),
        (lambda rows: rows[0].update(object_id=rows[1]["object_id"]), "01-spoon-0 is there twice"),
    ],
)
def test_doubled_rows_are_refused(masked: Context, change: Callable[[Rows], object], reason: str) -> None:
    _edit(masked, change)
    for read in (lambda: read_masks(masked.workspace, SIZE), lambda: kept_ids(masked.workspace)):
        with pytest.raises(BadInputError, match=r"masks\.json.*" + reason):
            read()


def test_a_renamed_mask_is_an_object_of_that_name(masked: Context) -> None:
    objects.run(masked, fake_choice("objects"), FakeObjects)
    _edit(masked, lambda rows: rows[0].update(object_id="mug"))
    assert [mask.object_id for mask in read_masks(masked.workspace, SIZE)] == ["mug", "01-spoon-0"]
    assert _states(masked) == {"01-spoon-0": "done", "mug": "to do"}
    objects.run(masked, fake_choice("objects"), FakeObjects)
    assert _states(masked) == {"01-spoon-0": "done", "mug": "done"}


def test_a_deleted_row_is_no_object_that_waits(masked: Context) -> None:
    _edit(masked, lambda rows: rows.pop(0))
    assert _states(masked) == {"01-spoon-0": "to do"}
    masked.workspace.masks_json.unlink()
    assert _states(masked) == {}


def _states(context: Context) -> dict[str, str]:
    return {row["object_id"]: row["status"] for row in status.as_data(context.workspace)["objects"]}
