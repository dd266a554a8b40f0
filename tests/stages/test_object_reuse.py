"""What an object depends on beside its mask."""

from __future__ import annotations

import json

from sam3d_gs.gaussians.pt import read_pt
from sam3d_gs.stages import masks, objects, phrases
from sam3d_gs.stages.bookkeeping import Context
from tests.fakes import FakeMasks, FakeObjects, FakePhrases, fake_choice


def test_an_object_whose_phrase_was_edited_is_made_again(context: Context) -> None:
    phrases.run(context, fake_choice("phrases"), FakePhrases)
    masks.run(context, fake_choice("masks"), FakeMasks)
    only_own_mask = fake_choice("objects", own_mask_only=True)
    objects.run(context, only_own_mask, FakeObjects)
    listed = json.loads(context.workspace.masks_json.read_text())
    edited, other = listed["masks"]
    edited["phrase"] = "Red Cup"  # the same id and the same pixels
    context.workspace.masks_json.write_text(json.dumps(listed))
    before = context.workspace.object_pt(other["object_id"]).stat().st_mtime_ns

    assert objects.run(context, only_own_mask, FakeObjects).status == "done"
    assert read_pt(context.workspace.object_pt(edited["object_id"])).phrase == "Red Cup"
    assert context.workspace.object_pt(other["object_id"]).stat().st_mtime_ns == before
