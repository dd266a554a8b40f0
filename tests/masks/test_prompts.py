"""The user's boxes and points: scaled to the photo, named, and never filtered out."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam3d_gs.errors import BadInputError, UsageError
from sam3d_gs.masks.detections import Detection, select_objects
from sam3d_gs.masks.prompts import check_prompts, phrases_of, prompts_of, without_filters
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
    ("given", "kept"),
    [
        ((-0.7, 20, 130, 210.4), (0, 20, 130, 210.4)),  # as SAM 3's own boxes come
        ((40, 120, 400.6, 600.2), (40, 120, 400, 600)),
        ((-1.5, -2, 401.9, 602), (0, 0, 400, 600)),
        ((0, 0, 406, 9), (0, 0, 400, 9)),  # one percent of the photo
        ((399, 0, 400, 1), (399, 0, 400, 1)),  # one pixel
        ((-2, 5), (0, 5)),
        ((400.5, 602), (400, 600)),
        ((0, 0), (0, 0)),
        ((1, 1), (1, 1)),
    ],
)
def test_an_overshoot_is_cut_off_without_a_word(
    given: tuple[float, ...], kept: tuple[float, ...], caplog: pytest.LogCaptureFixture
) -> None:
    options = Sam3Options(boxes=(given,)) if len(given) == 4 else Sam3Options(points=(given,))
    options.check()
    (prompt,) = prompts_of(options, replace(PHOTO, rgb=np.zeros((600, 400, 3), np.uint8)))
    assert prompt.xy == pytest.approx(kept)
    assert not caplog.records


def test_more_than_an_overshoot_is_cut_off_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    (prompt,) = prompts_of(Sam3Options(boxes=((-40, 100, 100, 700),)), PHOTO)
    assert prompt.xy == pytest.approx((0, 25, 50, 150))
    assert prompt.name == "object at 50,350"
    assert "--box -40,100,100,700 reaches beyond kitchen.jpg, 400 x 600 px" in caplog.text
    assert "cut off at its edge: 0,100,100,600" in caplog.text


OUTSIDE = "lies outside kitchen.jpg, 400 x 600 px. Give pixels of the upright photo"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((420, 0, 500, 90), f"--box 420,0,500,90 {OUTSIDE}"),
        ((-50, -50, -1, 90), f"--box -50,-50,-1,90 {OUTSIDE}"),
        ((300, 10, 900, 90), f"--box 300,10,900,90 mostly {OUTSIDE}"),
        ((0, 600, 50, 603), f"--box 0,600,50,603 {OUTSIDE}"),  # an overshoot and nothing else
        ((10, 20, 10.4, 80), "--box 10,20,10.4,80 is less than a pixel wide or high"),
        ((0.1, 0.4, 0.3, 0.7), "--box 0.1,0.4,0.3,0.7 looks like fractions of the photo"),
        ((0.1, 0.4, 0.3, 0.7), "Give pixels of kitchen.jpg, 400 x 600 px: --box 40,240,120,420."),
        ((0, 0, 1, 1), "--box 0,0,400,600"),
        ((-0.01, 0.5, 1.02, 1.0), "--box 0,300,400,600"),
        ((0.4, 0.3), "--point 0.4,0.3 looks like fractions of the photo"),
        ((0.4, 0.3), "--point 160,180"),
        ((-10, 5), f"--point -10,5 {OUTSIDE}"),
        ((5, 620.5), f"--point 5,620.5 {OUTSIDE}"),
    ],
)
def test_what_is_not_on_the_photo_or_in_pixels_is_refused(given: tuple[float, ...], words: str) -> None:
    options = Sam3Options(boxes=(given,)) if len(given) == 4 else Sam3Options(points=(given,))
    options.check()
    for refuse in (prompts_of, check_prompts):
        with pytest.raises(BadInputError, match=re.escape(words)):
            refuse(options, PHOTO)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (Sam3Options(boxes=((300, 200, 120, 80),)), "its corners are --box 300,200,420,280"),
        (Sam3Options(boxes=((300, 200, -120, -80),)), "second corner must lie right of and below the first.$"),
        (Sam3Options(boxes=((10, 10, 10, 80),)), "second corner must lie right"),
        (Sam3Options(boxes=((math.nan, 10, 20, 80),)), "--box 'nan,10,20,80' is not x0,y0,x1,y1 in pixels"),
        (Sam3Options(boxes=((0, 0, math.inf, 80),)), "is not x0,y0,x1,y1 in pixels"),
        (Sam3Options(boxes=((0, 0, 80),)), "is not x0,y0,x1,y1 in pixels"),
        (Sam3Options(boxes=(10, 20, 30, 40)), "--box '10' is not x0,y0,x1,y1"),  # type: ignore[arg-type]
        (Sam3Options(points=((1, 2, 3),)), "is not x,y in pixels"),
        (Sam3Options(points=(("a", 2),)), "is not x,y in pixels"),  # type: ignore[arg-type]
    ],
)
def test_numbers_that_are_no_box_or_point(options: Sam3Options, words: str) -> None:
    """On the command line and in Python."""
    with pytest.raises(UsageError, match=words):
        options.check()


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
