"""Phrases are short, all different, and name objects; what is left out says why."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.vlm.names import Named
from sam3d_gs.vlm.phrase_cleanup import MAX_WORDS, clean_phrases, is_surface

SIZE = (200, 100)


def _texts(*texts: str, **options: object) -> list[str]:
    return [p.text for p in clean_phrases([Named(t) for t in texts], SIZE, **{"max_phrases": 12, **options})[0]]  # type: ignore[arg-type]


def test_numbers_boxes_and_counts() -> None:
    kept, dropped = clean_phrases([Named("floor"), Named("the red  cup.", 2, (0, 100, 500, 1000))], SIZE, 12)
    assert [(p.number, p.text, p.count, p.box_xyxy) for p in kept] == [(0, "red cup", 2, (0.0, 10.0, 100.0, 100.0))]
    assert [(d.text, d.reason) for d in dropped] == [("floor", "a surface or the scene, not an object")]


@pytest.mark.parametrize(
    "other", ["Red Cup", "red cups", "a red cup", "the red-cup", "cup, red", "red  cup!", "“red cup”", "🍵 red cup"]
)
def test_spellings_of_one_phrase_are_one(other: str) -> None:
    kept, dropped = clean_phrases([Named("red cup"), Named(other)], SIZE, 12)
    assert [p.text for p in kept] == ["red cup"]
    assert "same as 'red cup'" in dropped[0].reason


def test_phrases_that_look_alike_but_differ_are_kept() -> None:
    texts = ["cup", "red cup", "left chair", "right chair", "glass", "glass vase", "bus", "की", "का", "椅子", "杯子"]
    assert _texts(*texts) == texts


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ('"cup/mug"', "cup/mug"),
        ("../../etc/passwd", "etc/passwd"),
        ("🍎 apple", "apple"),
        ("rock 'n' roll guitar", "rock 'n' roll guitar"),
        ("cup\x00\x1b[31m\u202e of tea", "cup 31m of tea"),
        ("красная чашка", "красная чашка"),
        ("<script>alert(1)</script>", "script alert(1) /script"),
    ],
)
def test_odd_characters(text: str, clean: str) -> None:
    assert _texts(text) == [clean]


@pytest.mark.parametrize("text", ["", " ", "a", "😀", "...", "—", "x " * 13, "y" * 101, "\u200b"])
def test_what_is_no_phrase_is_dropped(text: str) -> None:
    kept, dropped = clean_phrases([Named(text)], SIZE, 12)
    assert not kept
    assert len(dropped) == 1


@pytest.mark.parametrize(
    "text", ["I'm sorry, I can't assist with that.", "None", "N/A", "no visible objects", "I cannot see"]
)
def test_remarks_of_the_model_are_dropped(text: str) -> None:
    kept, dropped = clean_phrases([Named(text), Named("nonstick pan")], SIZE, 12)
    assert [p.text for p in kept] == ["nonstick pan"]
    assert "remark" in dropped[0].reason


@pytest.mark.parametrize(
    "text", ["brick wall", "white walls", "wooden floor", "background", "sky with clouds", "the scene"]
)
def test_surfaces_only_when_asked(text: str) -> None:
    assert _texts(text) == []
    assert len(_texts(text, include_surfaces=True)) == 1


@pytest.mark.parametrize("text", ["wall clock", "floor lamp", "picture on the wall", "cup on the floor", "street lamp"])
def test_things_on_surfaces_are_objects(text: str) -> None:
    assert not is_surface(text)


def test_two_hundred_phrases() -> None:
    kept, dropped = clean_phrases([Named(f"thing {i}") for i in range(200)], SIZE, 12)
    assert len(kept) == 12
    assert len(dropped) == 188


@settings(deadline=None)
@given(st.lists(st.text(), max_size=20), st.integers(1, 5))
def test_any_texts(texts: list[str], limit: int) -> None:
    kept, dropped = clean_phrases([Named(text) for text in texts], SIZE, limit)
    assert len(kept) + len(dropped) == len(texts)
    assert [p.number for p in kept] == list(range(len(kept)))
    assert len(kept) <= limit
    assert len({p.text.casefold() for p in kept}) == len(kept)
    for phrase in kept:
        assert 1 <= len(phrase.text.split()) <= MAX_WORDS
        assert phrase.text == " ".join(phrase.text.split())
        assert phrase.text.isprintable()
