"""The embedded phrases and masks engines together, on a made picture."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import numpy as np
import pytest

from sam3d_gs.embedded.proposals import objects, regions
from sam3d_gs.engines.masks_embedded import EmbeddedMasks
from sam3d_gs.engines.phrases_embedded import EmbeddedPhrases
from sam3d_gs.engines.registry import choose
from sam3d_gs.options import MaskOptions, PhraseOptions
from sam3d_gs.types import InstanceMask, Photo, Phrase

RED_AT, BLUE_AT, GREEN_AT = (150, 80), (140, 200), (180, 275)  # (y, x)


def picture() -> np.ndarray:
    yy, xx = np.mgrid[:240, :320].astype(np.float64)
    rgb = np.where((yy > 110)[..., None], (150.0, 125.0, 100.0), (205.0, 205.0, 200.0))
    for mask, colour in (
        ((yy - 150) ** 2 + (xx - 80) ** 2 < 45**2, (200, 30, 30)),
        ((abs(xx - 200) < 35) & (abs(yy - 140) < 50), (30, 70, 190)),
        ((yy - 180) ** 2 / 30**2 + (xx - 275) ** 2 / 25**2 < 1, (40, 150, 60)),
    ):
        shade = np.clip(1.15 - 0.5 * (xx - xx[mask].min()) / np.ptp(xx[mask]), 0.4, 1.2)[..., None]
        rgb = np.where(mask[..., None], np.array(colour) * shade, rgb)
    return np.clip(rgb, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photo() -> Photo:
    return Photo(path=Path("table.png"), name="table", rgb=picture(), sha256="0" * 64)


def masks(photo: Photo, *texts: str, **options: float) -> list[InstanceMask]:
    phrases = [Phrase(n, text) for n, text in enumerate(texts)]
    return EmbeddedMasks(MaskOptions(**options)).masks(photo, phrases)  # type: ignore[arg-type]


def kept(found: list[InstanceMask]) -> list[InstanceMask]:
    return [mask for mask in found if mask.dropped is None]


def test_phrases_describe_what_is_there_best_first(photo: Photo) -> None:
    phrases = EmbeddedPhrases(PhraseOptions()).phrases(photo)
    assert [p.number for p in phrases] == list(range(len(phrases)))
    scores = [p.score or 0 for p in phrases]
    assert scores == sorted(scores, reverse=True)
    assert len({p.text for p in phrases}) == len(phrases) <= 12
    for colour, (y, x) in {"red": RED_AT, "blue": BLUE_AT, "green": GREEN_AT}.items():
        (box,) = [p.box_xyxy for p in phrases if colour in p.text]
        assert box is not None
        assert box[0] < x < box[2]
        assert box[1] < y < box[3]


def test_max_phrases(photo: Photo) -> None:
    every = EmbeddedPhrases(PhraseOptions()).phrases(photo)
    assert EmbeddedPhrases(PhraseOptions(max_phrases=2)).phrases(photo) == every[:2]


def test_described_objects_are_found_again(photo: Photo) -> None:
    phrases = EmbeddedPhrases(PhraseOptions()).phrases(photo)
    found = EmbeddedMasks(MaskOptions()).masks(photo, phrases)
    assert [(m.phrase, tuple(map(float, m.box_xyxy))) for m in kept(found)] == [(p.text, p.box_xyxy) for p in phrases]
    assert [m.object_id[:3] for m in kept(found)] == [f"{p.number:02d}-" for p in phrases]


@pytest.mark.slow
def test_ids_are_unique_and_every_proposal_is_accounted_for(photo: Photo) -> None:
    for texts in ((), ("red",), ("red", "crimson", "large", "teapot"), ("red", "red")):
        found = masks(photo, *texts)
        assert len(found) == len(regions.find_proposals(photo))
        assert len({m.object_id for m in found}) == len(found)
        assert all(m.mask.shape == (240, 320) for m in found)
        states = [m.dropped is not None for m in found]
        assert states == sorted(states)
        assert all(m.dropped != "" for m in found)


def test_kept_masks_share_no_pixel(photo: Photo) -> None:
    phrases = EmbeddedPhrases(PhraseOptions()).phrases(photo)
    together = sum(m.mask.astype(int) for m in kept(EmbeddedMasks(MaskOptions()).masks(photo, phrases)))
    assert np.max(together) == 1


@pytest.mark.slow
def test_the_users_words_choose(photo: Photo) -> None:
    (red,) = kept(masks(photo, "crimson ball"))
    assert red.mask[RED_AT]
    assert red.object_id == "00-crimson-ball-0"
    assert red.phrase == "crimson ball"
    (green,) = kept(masks(photo, "rightmost"))
    assert green.mask[GREEN_AT]
    blue = kept(masks(photo, "blue", "BLUE thing, right"))
    assert len(blue) == 1
    assert blue[0].aliases in ((), ("BLUE thing, right",))


def test_a_second_phrase_for_one_object_becomes_an_alias(photo: Photo) -> None:
    (red,) = kept(masks(photo, "red", "scarlet"))
    assert (red.phrase, red.aliases) == ("red", ("scarlet",))


def test_nouns_find_nothing_and_the_log_says_why(photo: Photo, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sam3d_gs"):
        found = masks(photo, "teapot")
    assert kept(found) == []
    assert "teapot" not in {m.phrase for m in found}
    assert "cannot recognise nouns" in caplog.text
    assert "no phrase asks for it" in {m.dropped for m in found}


def test_reasons_name_the_other_object_by_its_id(photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    def box(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
        mask = np.zeros((240, 320), bool)
        mask[y1:y2, x1:x2] = True
        return mask

    proposals = [
        regions.Proposal(box(40, 105, 120, 195), 0.9),  # around the red disc
        regions.Proposal(box(40, 105, 120, 190), 0.8),
        regions.Proposal(box(60, 120, 90, 150), 0.7),
        regions.Proposal(box(0, 0, 320, 60), 0.6),
    ]
    monkeypatch.setattr(objects, "find_proposals", lambda photo: proposals)
    found = masks(dataclasses.replace(photo, sha256="2" * 64), "red")
    assert [(m.object_id, m.dropped) for m in found[:3]] == [
        ("00-red-0", None),
        ("00-red-1", "duplicate of 00-red-0 (IoU 0.94)"),
        ("00-red-2", "part of 00-red-0 (100%)"),
    ]
    assert found[3].object_id.startswith("01-large-")
    assert (found[3].dropped or "").startswith("background")


@pytest.mark.slow
def test_options_reach_the_selection(photo: Photo) -> None:
    texts = [p.text for p in EmbeddedPhrases(PhraseOptions()).phrases(photo)]
    assert len(kept(masks(photo, *texts, max_objects=1))) == 1
    assert kept(masks(photo, *texts, score_threshold=1.1)) == []
    large_only = kept(masks(photo, *texts, min_area_percent=7))
    assert 0 < len(large_only) < len(texts)


def test_proposals_are_computed_once_per_photo(photo: Photo, monkeypatch: pytest.MonkeyPatch) -> None:
    first = regions.find_proposals(photo)
    monkeypatch.setattr(regions, "propose", lambda rgb: pytest.fail("computed again"))
    assert regions.find_proposals(dataclasses.replace(photo, name="copy")) is first
    assert objects.find_objects(photo) is objects.find_objects(dataclasses.replace(photo, name="copy"))


def test_an_empty_photo_has_no_phrases_and_no_masks() -> None:
    black = Photo(path=Path("b.png"), name="b", rgb=np.zeros((30, 40, 3), np.uint8), sha256="1" * 64)
    assert EmbeddedPhrases(PhraseOptions()).phrases(black) == []
    assert masks(black, "red") == []


def test_the_names_in_the_engine_table_load() -> None:
    assert isinstance(choose("phrases", "embedded").load(), EmbeddedPhrases)
    assert isinstance(choose("masks", "embedded").load(), EmbeddedMasks)
