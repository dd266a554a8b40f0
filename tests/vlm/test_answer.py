"""Whatever form a model's list has, it is read; whatever else a model says, nothing breaks."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sam3d_gs.vlm.answer import MAX_NAMED, Named, read_answer

ASKED = '{"objects": [{"phrase": "red cup", "count": 2, "box": [10, 20, 300, 400]}, {"phrase": "spoon"}]}'


@pytest.mark.parametrize(
    "content",
    [
        ASKED,
        "\n\n" + ASKED + "\n",
        "I see a cup [and more].\n```json\n" + ASKED + "\n```\nDone.",
        "<think>Is there [a cup]? 1. cup 2. fork</think>\n" + ASKED,
        "thinking without its start </think>" + ASKED,
        '["red cup", "spoon"]',
        "['red cup', 'spoon']",
        '<analysis>["table"]</analysis><prompt_list>["red cup", "spoon"]</prompt_list>',
        "<prompt_list>\n- red cup\n- spoon\n</prompt_list>",
        "1. red cup\n2. spoon",
        "Here they are:\n\n1) **red cup**: on the table\n2) spoon (silver)",
        "* red cup - a mug\n* spoon",
        '{"phrases": ["red cup", "spoon"]}',
        '[{"label": "red cup", "bbox_2d": [1, 2, 3, 4]}, {"name": "spoon"}]',
    ],
)
def test_every_form_of_the_same_list(content: str) -> None:
    assert [named.text for named in read_answer(content)] == ["red cup", "spoon"]


def test_counts_and_boxes() -> None:
    assert read_answer(ASKED)[0] == Named("red cup", 2, (10.0, 20.0, 300.0, 400.0))


@pytest.mark.parametrize(
    "box",
    ["[1, 2, 3]", "[1, 2, 3, 4000]", "[5, 2, 3, 4]", '["a", 1, 2, 3]', "null", "[NaN, 1, 2, 3]", "[1, 2, 3, true]"],
)
def test_a_box_that_is_none_is_left_out(box: str) -> None:
    assert read_answer(f'[{{"phrase": "cup", "box": {box}, "count": -1}}]') == [Named("cup")]


@pytest.mark.parametrize(
    "content",
    [
        ASKED[: ASKED.index('"spoon"') + 4],
        '```json\n["red cup", "spo',
        "['red cup', 'spo",
        '<prompt_list>["red cup",',
    ],
)
def test_of_a_list_cut_off_the_whole_items_are_kept(content: str) -> None:
    assert [named.text for named in read_answer(content)] == ["red cup"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "\n",
        "I cannot see any objects, sorry.",
        "<think>1. red cup\n2. spoon",
        "{}",
        "[]",
        '{"objects": []}',
        "[[[[",
        "null",
    ],
)
def test_no_list_is_no_phrase(content: str) -> None:
    assert read_answer(content) == []


@pytest.mark.slow
def test_absurd_answers_are_read_quickly_or_not_at_all() -> None:
    assert len(read_answer(json.dumps([f"thing {i}" for i in range(5000)]))) == MAX_NAMED
    for text in ("[" * 90_000, "{" * 90_000, '["a",' * 20_000, "'" * 90_000, "['" + "\\" * 90_000, "1. " * 30_000):
        read_answer(text)


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from("[]{}\",:'`<>/\\think prompt_list json 12.-\n😀é"), max_size=200))
@example('{"objects": [{"phrase": {"a": 1}}]}')
def test_any_text_gives_texts(content: str) -> None:
    assert all(isinstance(named.text, str) and named.text.strip() for named in read_answer(content))


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=6), st.data())
def test_any_json_list_comes_back_also_when_cut(texts: list[str], data: st.DataObject) -> None:
    texts = [text.replace("think>", "") or "x" for text in texts]
    whole = json.dumps({"objects": [{"phrase": text} for text in texts]})
    assert [named.text for named in read_answer(whole)] == [text for text in texts if text.strip()]
    cut = data.draw(st.integers(0, len(whole)))
    found = [named.text for named in read_answer(whole[:cut])]
    assert found == [text for text in texts if text.strip()][: len(found)]
