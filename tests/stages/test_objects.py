"""The objects stage with a fake engine: what is reconstructed, reused and recorded."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.gaussians.pt import read_pt
from sam3d_gs.stages import masks, objects, phrases
from sam3d_gs.stages.bookkeeping import Context, recorded
from tests.fakes import FakeMasks, FakeObjects, FakePhrases, fake_choice

OPTIONS = fake_choice("objects")
IDS = ("00-red-cup-0", "01-spoon-0", "02-plate-0")


@pytest.fixture
def masked(context: Context) -> Context:
    phrases.run(context, fake_choice("phrases"), lambda: FakePhrases(["red cup", "spoon", "plate"]))
    masks.run(context, fake_choice("masks"), FakeMasks)
    return context


def test_writes_one_pt_per_object(masked: Context) -> None:
    assert objects.run(masked, OPTIONS, FakeObjects).summary == "3 objects"
    obj = read_pt(masked.workspace.object_pt(IDS[1]))
    assert (obj.object_id, obj.phrase, obj.image_size) == (IDS[1], "spoon", (64, 48))


def test_without_masks_the_error_names_the_command(context: Context) -> None:
    with pytest.raises(Sam3dGsError, match="Run `sam3d-gs masks"):
        objects.run(context, OPTIONS, FakeObjects)


def test_an_interrupted_run_resumes_with_the_missing_objects(masked: Context) -> None:
    first = FakeObjects(stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        objects.run(masked, OPTIONS, lambda: first)
    record = recorded(masked.workspace, "objects")
    assert record is not None
    assert record.status == "running"
    assert sorted(record.items) == [*IDS[:2]]
    second = FakeObjects()
    assert objects.run(masked, OPTIONS, lambda: second).status == "done"
    assert second.requests == [(IDS[2],)]
    assert objects.run(masked, OPTIONS, lambda: second).status == "up to date"


def test_a_failed_object_does_not_stop_the_others_and_is_retried(masked: Context) -> None:
    result = objects.run(masked, OPTIONS, lambda: FakeObjects(fail=[IDS[0]]))
    assert (result.status, result.warnings) == ("partial", (f"{IDS[0]}: fails on purpose",))
    again = FakeObjects()
    assert objects.run(masked, OPTIONS, lambda: again).status == "done"
    assert again.requests == [(IDS[0],)]


def test_no_object_is_an_error(masked: Context) -> None:
    with pytest.raises(Sam3dGsError, match=r"No object could be reconstructed.*kitchen\.png.*fails on purpose"):
        objects.run(masked, OPTIONS, lambda: FakeObjects(fail=IDS))
    record = recorded(masked.workspace, "objects")
    assert record is not None
    assert record.status == "failed"


def test_an_object_with_nan_fails_without_the_others(masked: Context) -> None:
    class Nan(FakeObjects):
        def objects(self, photo, masks, wanted):  # type: ignore[no-untyped-def]
            for obj in super().objects(photo, masks, wanted):
                if obj.object_id == IDS[0]:
                    means = obj.gaussians.means.copy()
                    means[3] = np.nan
                    obj = dataclasses.replace(obj, gaussians=dataclasses.replace(obj.gaussians, means=means))
                yield obj

    result = objects.run(masked, OPTIONS, Nan)
    assert result.status == "partial"
    assert IDS[0] in result.warnings[0]


def test_only_missing_or_truncated_files_are_written_again(masked: Context) -> None:
    objects.run(masked, OPTIONS, FakeObjects)
    masked.workspace.object_pt(IDS[0]).unlink()
    masked.workspace.object_pt(IDS[1]).write_bytes(b"half")
    engine = FakeObjects()
    objects.run(masked, OPTIONS, lambda: engine)
    assert engine.requests == [IDS[:2]]


def test_changed_options_or_masks_redo_all_objects(masked: Context) -> None:
    objects.run(masked, OPTIONS, FakeObjects)
    engine = FakeObjects()
    objects.run(masked, fake_choice("objects", fov_deg=40.0), lambda: engine)
    mask = np.zeros((48, 64), bool)
    mask[5:20, 5:20] = True
    Image.fromarray(mask).save(masked.workspace.mask_png(IDS[0]))
    objects.run(masked, fake_choice("objects", fov_deg=40.0), lambda: engine)
    assert engine.requests == [IDS, IDS]


def test_objects_of_an_earlier_run_are_removed(masked: Context) -> None:
    objects.run(masked, OPTIONS, FakeObjects)
    masked.workspace.phrases_json.write_text('["bowl"]')
    masks.run(masked, fake_choice("masks"), FakeMasks)
    objects.run(masked, OPTIONS, FakeObjects)
    assert [p.name for p in masked.workspace.objects_dir.iterdir()] == ["00-bowl-0.pt"]


OWN_MASK_ONLY = fake_choice("objects", own_mask_only=True)


def test_an_engine_that_uses_one_mask_redoes_only_changed_objects(masked: Context) -> None:
    objects.run(masked, OWN_MASK_ONLY, FakeObjects)
    made = masked.workspace.object_pt(IDS[0]).stat().st_mtime_ns
    mask = np.zeros((48, 64), bool)
    mask[5:20, 5:20] = True
    Image.fromarray(mask).save(masked.workspace.mask_png(IDS[1]))
    engine = FakeObjects()
    objects.run(masked, OWN_MASK_ONLY, lambda: engine)
    assert engine.requests == [(IDS[1],)]
    assert masked.workspace.object_pt(IDS[0]).stat().st_mtime_ns == made


def test_deleting_a_mask_removes_its_object_and_loads_no_engine(masked: Context) -> None:
    objects.run(masked, OWN_MASK_ONLY, FakeObjects)
    listed = json.loads(masked.workspace.masks_json.read_text())
    listed["masks"] = [m for m in listed["masks"] if m["object_id"] != IDS[1]]
    masked.workspace.masks_json.write_text(json.dumps(listed))

    def no_engine() -> FakeObjects:
        pytest.fail("the engine was loaded although no object is missing")

    assert objects.run(masked, OWN_MASK_ONLY, no_engine).summary == "2 objects"
    record = recorded(masked.workspace, "objects")
    assert record is not None
    assert sorted(record.items) == [IDS[0], IDS[2]]
    assert not masked.workspace.object_pt(IDS[1]).exists()
    assert objects.run(masked, OWN_MASK_ONLY, no_engine).status == "up to date"
