"""The phrases stage with a fake engine, and reading phrases files."""

from __future__ import annotations

import dataclasses
import json

import pytest

from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.phrase_files import read_phrases
from sam3d_gs.stages import phrases
from sam3d_gs.stages.bookkeeping import Context, recorded
from tests.fakes import FakePhrases, fake_choice

OPTIONS = fake_choice("phrases")


def test_writes_phrases_and_record(context: Context) -> None:
    result = phrases.run(context, OPTIONS, FakePhrases)
    assert (result.status, result.summary) == ("done", "2 phrases")
    assert [p.text for p in read_phrases(context.workspace.phrases_json)] == ["red cup", "spoon"]
    record = recorded(context.workspace, "phrases")
    assert record is not None
    assert record.status == "done"
    assert record.licences == {"fake words": "CC0"}


def test_an_up_to_date_stage_loads_no_engine(context: Context) -> None:
    phrases.run(context, OPTIONS, FakePhrases)

    def no_engine() -> FakePhrases:
        raise AssertionError("the engine was loaded although the phrases are up to date")

    assert phrases.run(context, OPTIONS, no_engine).status == "up to date"
    other = fake_choice("phrases", max_phrases=1)
    assert phrases.run(context, other, FakePhrases).summary == "1 phrases"


def test_force_runs_the_engine_again(context: Context) -> None:
    phrases.run(context, OPTIONS, FakePhrases)
    engine = FakePhrases(["bowl"])
    assert phrases.run(dataclasses.replace(context, force=True), OPTIONS, lambda: engine).status == "done"
    assert engine.calls == ["kitchen"]
    assert [p.text for p in read_phrases(context.workspace.phrases_json)] == ["bowl"]


def test_phrases_edited_by_hand_are_kept(context: Context) -> None:
    phrases.run(context, OPTIONS, FakePhrases)
    context.workspace.phrases_json.write_text('["a teapot"]')
    result = phrases.run(context, OPTIONS, FakePhrases)
    assert (result.status, result.summary) == ("up to date", "edited by hand")
    assert [p.text for p in read_phrases(context.workspace.phrases_json)] == ["a teapot"]


def test_a_damaged_phrases_file_is_an_error_and_is_kept(context: Context) -> None:
    phrases.run(context, OPTIONS, FakePhrases)
    context.workspace.phrases_json.write_text('["a teapot"')
    with pytest.raises(BadInputError, match=r"phrases\.json"):
        phrases.run(context, OPTIONS, FakePhrases)
    assert context.workspace.phrases_json.read_text() == '["a teapot"'


def test_a_deleted_phrases_file_is_written_again(context: Context) -> None:
    phrases.run(context, OPTIONS, FakePhrases)
    context.workspace.phrases_json.unlink()
    assert phrases.run(context, OPTIONS, FakePhrases).status == "done"


def test_no_phrases_are_an_error_and_recorded_as_failed(context: Context) -> None:
    with pytest.raises(Sam3dGsError, match=r"kitchen\.png.*--phrases"):
        phrases.run(context, OPTIONS, lambda: FakePhrases([]))
    record = recorded(context.workspace, "phrases")
    assert record is not None
    assert record.status == "failed"
    assert phrases.run(context, OPTIONS, FakePhrases).status == "done"


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"phrases": 3},
        {"phrases": []},
        [1],
        [""],
        [None],
        ["x" * 201],
        [{"text": ["a"]}],
        "text",
        5,
        {"phrases": [{}]},
    ],
)
def test_a_bad_phrases_file_is_refused(context: Context, data: object) -> None:
    path = context.workspace.phrases_json
    path.write_text(json.dumps(data))
    with pytest.raises(BadInputError, match=r"phrases\.json") as caught:
        read_phrases(path)
    assert "\n" not in str(caught.value)


def test_phrases_are_cleaned_and_bad_values_dropped(context: Context) -> None:
    path = context.workspace.phrases_json
    path.write_bytes(
        b'\xef\xbb\xbf[" red\\n cup ", {"text": "Red Cup"}, {"text": "<script>", "score": 7, "box_xyxy": [1, 2]}]'
    )
    found = read_phrases(path)
    assert [(p.number, p.text, p.score, p.box_xyxy) for p in found] == [
        (0, "red cup", None, None),
        (1, "<script>", None, None),
    ]
