"""Words for regions, and regions for words."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.embedded.language.colours import NAMES, PALETTE, colour_shares, histogram_intersection
from sam3d_gs.embedded.language.region_attributes import RegionAttributes, measure_region
from sam3d_gs.embedded.language.words import (
    MATCH_THRESHOLD,
    describe,
    explain_no_match,
    horizontal_word,
    known_words,
    match_scores,
    shape_word,
    vertical_word,
)

HEIGHT, WIDTH = 120, 160


def painted(*boxes: tuple[tuple[int, int, int, int], str]) -> tuple[np.ndarray, list[np.ndarray]]:
    """A mid-grey picture with coloured boxes (x1, y1, x2, y2), and their masks."""
    rgb = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    masks = []
    for (x1, y1, x2, y2), colour in boxes:
        rgb[y1:y2, x1:x2] = list(bytes.fromhex(PALETTE[colour][0]))
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[y1:y2, x1:x2] = True
        masks.append(mask)
    return rgb, masks


def looks_of(*boxes: tuple[tuple[int, int, int, int], str]) -> list[RegionAttributes]:
    rgb, masks = painted(*boxes)
    return [measure_region(rgb, mask) for mask in masks]


@pytest.mark.parametrize("name", NAMES)
def test_every_palette_colour_names_itself(name: str) -> None:
    for value in PALETTE[name]:
        rgb = np.full((5, 5, 3), list(bytes.fromhex(value)), np.uint8)
        region = measure_region(rgb, np.ones((5, 5), bool))
        assert region.colour == name
        assert match_scores(name, [region]) == [1.0]


def test_the_names_people_give_to_everyday_colours() -> None:
    everyday = {"c0392b": "red", "e67e22": "orange", "2ecc71": "green", "2c3e90": "blue", "f0f0f0": "white"}
    everyday |= {"202020": "black", "7f7f7f": "grey", "5b3a1e": "brown", "dcc9a3": "beige", "f7b6c8": "pink"}
    for value, name in everyday.items():
        rgb = np.full((4, 4, 3), list(bytes.fromhex(value)), np.uint8)
        assert measure_region(rgb, np.ones((4, 4), bool)).colour == name, value


def test_colour_shares_sum_to_one_and_are_zero_for_an_empty_mask() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    shares = colour_shares(rgb, np.ones((40, 50), bool))
    assert shares.sum() == pytest.approx(1)
    assert histogram_intersection(shares, shares) == pytest.approx(1)
    assert not colour_shares(rgb, np.zeros((40, 50), bool)).any()


def test_a_description_says_size_colour_and_place() -> None:
    regions = looks_of(((0, 30, 60, 100), "red"), ((64, 52, 96, 68), "blue"), ((150, 100, 158, 110), "green"))
    assert describe(regions) == [
        "large red object, left",
        "medium wide blue object, centre",
        "small green object, right",
    ]


def test_twins_get_more_words_and_others_do_not() -> None:
    regions = looks_of(((0, 0, 30, 30), "red"), ((0, 90, 30, 120), "red"), ((130, 40, 160, 70), "red"))
    assert describe(regions) == [
        "medium red object, top left",
        "medium red object, bottom left",
        "medium red object, right",
    ]


def test_two_strong_colours_are_both_named() -> None:
    rgb, (mask,) = painted(((10, 10, 50, 50), "red"))
    rgb[32:50, 10:50] = list(bytes.fromhex(PALETTE["white"][0]))
    assert describe([measure_region(rgb, mask)]) == ["large red and white object, left"]


def test_a_number_tells_the_last_twins_apart() -> None:
    box = (10, 10, 20, 14)
    texts = describe(looks_of((box, "red"), ((10, 10, 14, 20), "red"), (box, "red")))
    assert texts == [
        "small wide red object, top left",
        "small tall red object, left",
        "small wide red object, top left, number 2",
    ]


boxes = st.tuples(
    st.tuples(st.integers(0, 100), st.integers(0, 80), st.integers(2, 60), st.integers(2, 40)).map(
        lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
    ),
    st.sampled_from(NAMES),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(boxes, min_size=1, max_size=14))
def test_descriptions_of_one_photo_are_all_different(found: list[tuple[tuple[int, int, int, int], str]]) -> None:
    texts = describe([region for box in found for region in looks_of(box)])
    assert len({text.casefold() for text in texts}) == len(texts)
    assert all(known_words(text) for text in texts)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(boxes)
def test_a_mirrored_picture_swaps_left_and_right_and_nothing_else(box: tuple[tuple[int, int, int, int], str]) -> None:
    rgb, (mask,) = painted(box)
    region, mirrored = measure_region(rgb, mask), measure_region(rgb[:, ::-1], mask[:, ::-1])
    swapped = {"left": "right", "centre": "centre", "right": "left"}
    assert horizontal_word(mirrored) == swapped[horizontal_word(region)]
    assert (vertical_word(mirrored), shape_word(mirrored), mirrored.colour) == (
        vertical_word(region),
        shape_word(region),
        region.colour,
    )


def test_shapes() -> None:
    yy, xx = np.mgrid[:HEIGHT, :WIDTH]
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    disc = (yy - 60) ** 2 + (xx - 80) ** 2 < 30**2
    slanted = (abs(xx - yy - 20) < 4) & (yy > 10) & (yy < 110)
    assert shape_word(measure_region(rgb, disc)) == "round"
    assert shape_word(measure_region(rgb, slanted)) == "thin"
    square, tall, wide = looks_of(((10, 10, 40, 40), "red"), ((10, 10, 30, 50), "red"), ((10, 10, 60, 40), "red"))
    assert [shape_word(region) for region in (square, tall, wide)] == ["", "tall", "wide"]


@pytest.mark.parametrize(
    ("phrase", "words"),
    [
        ("a huge crimson cup", [("size", "large"), ("colour", "red")]),
        ("Gray box, upper-left", [("colour", "grey"), ("vertical", "top"), ("horizontal", "left")]),
        ("navy thing in the middle", [("colour", "blue"), ("horizontal", "centre")]),
        ("the middle left one", [("vertical", "middle"), ("horizontal", "left")]),
        ("LEFTMOST red!", [("superlative", "leftmost"), ("colour", "red")]),
        ("red red", [("colour", "red")]),
        ("teapot", []),
        ("", []),
        ("红色的杯子", []),
    ],
)
def test_phrases_are_read_by_the_words_they_hold(phrase: str, words: list[tuple[str, str]]) -> None:
    assert known_words(phrase) == words


def test_matching_by_colour_place_and_superlative() -> None:
    regions = looks_of(((0, 30, 60, 100), "red"), ((130, 10, 150, 30), "red"), ((64, 52, 96, 68), "blue"))

    def hits(phrase: str) -> list[int]:
        return [n for n, score in enumerate(match_scores(phrase, regions)) if score >= MATCH_THRESHOLD]

    assert hits("red") == [0, 1]
    assert hits("red cup, right") == [1]
    assert hits("the largest red thing") == [0]
    assert hits("rightmost") == [1]
    assert hits("navy") == [2]
    assert hits("green") == []
    assert hits("small blue, left") == []


def test_every_description_matches_its_own_look() -> None:
    regions = looks_of(((0, 30, 60, 100), "red"), ((130, 10, 150, 30), "red"), ((64, 52, 96, 68), "blue"))
    for n, text in enumerate(describe(regions)):
        assert match_scores(text, regions)[n] == max(match_scores(text, regions)) >= MATCH_THRESHOLD


def test_nouns_carry_no_information() -> None:
    regions = looks_of(((0, 30, 60, 100), "red"))
    assert match_scores("cup", regions) == [0.0]
    assert "cannot recognise nouns" in explain_no_match("cup")
    assert "orange" in explain_no_match("cup")
    assert "green" in explain_no_match("green cup")
    assert "nouns" not in explain_no_match("green cup")
    assert match_scores("red", []) == []
