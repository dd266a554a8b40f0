"""The user's boxes and points: scaled to the photo, named, and never filtered out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam3d_gs.errors import BadInputError
from sam3d_gs.masks.detections import Detection, select_objects
from sam3d_gs.masks.prompts import phrases_of, prompts_of, without_filters
from sam3d_gs.options import Sam3Options
from sam3d_gs.types import Photo
from tests.drawn_masks import HEIGHT, WIDTH, box

PHOTO = Photo(Path("kitchen.jpg"), "kitchen", np.zeros((HEIGHT, WIDTH, 3), np.uint8), "", file_size=(400, 600))


def test_boxes_then_points_scaled_from_the_file_to_the_photo() -> None:
    options = Sam3Options(boxes=((40, 60, 100, 180),), points=((400, 600),))
    first, second = prompts_of(options, PHOTO)
    assert (first.name, first.is_box) == ("object at 70,120", True)
    assert first.xy == pytest.approx((20, 15, 50, 45))
    assert (second.name, second.is_box) == ("object at 400,600", False)
    assert second.xy == pytest.approx((WIDTH, HEIGHT))
    assert [(p.number, p.text) for p in phrases_of([first, second])] == [(0, first.name), (1, second.name)]


def test_a_photo_at_the_size_of_its_file_is_not_scaled() -> None:
    (prompt,) = prompts_of(Sam3Options(points=((40, 60),)), replace(PHOTO, file_size=None))
    assert prompt.xy == (40, 60)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Sam3Options(boxes=((0, 0, 401, 9),)), "--box 0,0,401,9 lies outside kitchen.jpg, 400 x 600 px"),
        (Sam3Options(points=((-1, 5),)), "--point -1,5 lies outside"),
        (Sam3Options(points=((5, 600.5),)), "--point 5,600.5 lies outside"),
    ],
)
def test_outside_the_photo(options: Sam3Options, words: str) -> None:
    with pytest.raises(BadInputError, match=words):
        prompts_of(options, PHOTO)


@pytest.mark.parametrize(
    ("mask", "score"),
    [(box(60, 60, 90, 90), 0.01), (box(60, 60, 62, 62), 0.9), (box(0, 0, WIDTH, HEIGHT), 0.9)],
    ids=["low score", "tiny", "the whole photo"],
)
def test_no_filter_drops_what_the_user_pointed_at(mask: np.ndarray, score: float) -> None:
    strict = Sam3Options(
        score_threshold=0.5, phrase_thresholds=(("object at 5,5", 0.9),), points=((5.0, 5.0),), max_objects=0
    )
    phrases = phrases_of(prompts_of(strict, PHOTO))
    found = [Detection(0, score, mask)]
    assert select_objects(found, phrases, strict)[0].dropped
    assert select_objects(found, phrases, without_filters(strict))[0].dropped is None
