"""The user's own phrases and masks, in all the forms they come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3d_gs.engines.masks_given import GivenMasks
from sam3d_gs.engines.phrases_given import GivenPhrases
from sam3d_gs.errors import BadInputError, UsageError
from sam3d_gs.masks.given.reader import phrase_from_name
from sam3d_gs.options import GivenMaskOptions, GivenPhraseOptions
from sam3d_gs.photo import load_photo
from sam3d_gs.types import Photo

SIZE = (40, 30)


@pytest.fixture
def photo(tmp_path: Path) -> Photo:
    path = tmp_path / "photo.png"
    Image.new("RGB", SIZE, "green").save(path)
    return load_photo(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "masks").mkdir()
    return tmp_path / "masks"


def _square(size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size[::-1], bool)
    mask[size[1] // 4 : size[1] // 2, size[0] // 4 : size[0] // 2] = True
    return mask


def _only(folder: Path, photo: Photo) -> np.ndarray:
    [mask] = GivenMasks(GivenMaskOptions(masks_dir=folder)).masks(photo, [])
    return mask.mask


@pytest.mark.parametrize("kind", ["1", "L", "zero-one", "RGB", "jpg", "RGBA", "opaque RGBA", "P", "16-bit"])
def test_every_form_of_the_same_mask(folder: Path, photo: Photo, kind: str) -> None:
    mask = _square()
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    path = folder / ("a.jpg" if kind == "jpg" else "a.png")
    if kind == "1":
        Image.fromarray(mask).save(path)
    elif kind == "zero-one":
        Image.fromarray(mask.astype(np.uint8)).save(path)
    elif kind == "RGBA":
        cutout = Image.new("RGBA", SIZE, (0, 0, 0, 255))  # black object: only alpha tells
        cutout.putalpha(grey)
        cutout.save(path)
    elif kind == "opaque RGBA":
        grey.convert("RGBA").save(path)
    elif kind == "P":
        image = Image.fromarray(mask.astype(np.uint8) * 3).convert("L")
        image.putpalette([0, 0, 0] * 256)
        image.save(path)
    elif kind == "16-bit":
        Image.fromarray(mask.astype(np.uint16) * 60000).save(path)
    else:
        grey.convert("RGB" if kind == "RGB" else "L").save(path, **({"quality": 95} if kind == "jpg" else {}))
    read = _only(folder, photo)
    wrong = np.count_nonzero(read != mask)
    assert wrong <= (6 if kind == "jpg" else 0)


def test_the_same_shape_at_another_resolution_is_scaled(folder: Path, photo: Photo) -> None:
    Image.fromarray(_square((160, 120))).save(folder / "a.png")
    assert np.array_equal(_only(folder, photo), _square())


def test_another_shape_is_an_error_naming_both(folder: Path, photo: Photo) -> None:
    Image.fromarray(_square((40, 40))).save(folder / "a.png")
    with pytest.raises(BadInputError, match=r"a\.png has 40 x 40 pixels, the photo 40 x 30"):
        _only(folder, photo)


def test_order_names_and_empty_masks(folder: Path, photo: Photo) -> None:
    for name in ("10.png", "2.png", "00-wooden-chair-0.png", "Blue_Vase.png"):
        Image.fromarray(_square()).save(folder / name)
    Image.new("L", SIZE, 0).save(folder / "nothing.png")
    Image.new("L", SIZE, 3).save(folder / "black.jpg")
    (folder / "notes.txt").write_text("not a mask")
    (folder / ".hidden.png").write_text("not a mask")
    found = GivenMasks(GivenMaskOptions(masks_dir=folder)).masks(photo, [])
    assert [m.phrase for m in found if m.dropped is None] == ["wooden chair", "2", "10", "Blue Vase"]
    assert [m.dropped for m in found if m.dropped] == ["empty mask (black.jpg)", "empty mask (nothing.png)"]
    assert len({m.object_id for m in found}) == 6


def test_the_photo_beside_its_masks_is_no_mask(folder: Path, photo: Photo) -> None:
    (folder / "photo.png").write_bytes(photo.path.read_bytes())
    Image.fromarray(_square()).save(folder / "a.png")
    assert [m.phrase for m in GivenMasks(GivenMaskOptions(masks_dir=folder)).masks(photo, [])] == ["a"]


def test_missing_and_empty_folders(folder: Path, photo: Photo) -> None:
    with pytest.raises(BadInputError, match="No masks in"):
        GivenMasks(GivenMaskOptions(masks_dir=folder)).masks(photo, [])
    with pytest.raises(BadInputError, match="No such folder"):
        GivenMasks(GivenMaskOptions(masks_dir=folder / "nowhere"))
    with pytest.raises(UsageError):
        GivenMasks(GivenMaskOptions())


def test_a_broken_mask_is_named(folder: Path, photo: Photo) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG half")
    with pytest.raises(BadInputError, match=r"broken\.png"):
        GivenMasks(GivenMaskOptions(masks_dir=folder)).masks(photo, [])


@pytest.mark.parametrize(
    ("stem", "phrase"),
    [("00-wooden-chair-0", "wooden chair"), ("mask_03", "mask 03"), ("--", "object"), ("a.b", "a b")],
)
def test_phrases_from_names(stem: str, phrase: str) -> None:
    assert phrase_from_name(stem) == phrase


def test_given_phrases(tmp_path: Path, photo: Photo) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("# my list\n\n spoon \nRED cup\n", encoding="utf-8")
    engine = GivenPhrases(GivenPhraseOptions(phrases=("red  cup", "plate"), phrases_file=file))
    assert [(p.number, p.text) for p in engine.phrases(photo)] == [(0, "red cup"), (1, "plate"), (2, "spoon")]


def test_no_given_phrase_is_cut_by_max_phrases(photo: Photo) -> None:
    texts = tuple(f"thing {number}" for number in range(15))
    engine = GivenPhrases(GivenPhraseOptions(phrases=texts))
    assert [phrase.text for phrase in engine.phrases(photo)] == list(texts)


def test_repeated_phrases_are_named(photo: Photo, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING", "sam3d_gs"):
        engine = GivenPhrases(GivenPhraseOptions(phrases=("red cup", "spoon", "RED cup", "spoon", "red  cup")))
    assert [phrase.text for phrase in engine.phrases(photo)] == ["red cup", "spoon"]
    assert caplog.messages == ['Dropped phrases that were given before: "RED cup", "spoon", "red cup".']
    caplog.clear()
    GivenPhrases(GivenPhraseOptions(phrases=("red cup", "spoon")))
    assert not caplog.messages


def test_given_phrases_that_are_none(tmp_path: Path) -> None:
    for texts in ((), ("",), ("  ",), ("x" * 300,)):
        with pytest.raises(UsageError):
            GivenPhrases(GivenPhraseOptions(phrases=texts))
    binary = tmp_path / "a.txt"
    binary.write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(BadInputError, match=r"a\.txt"):
        GivenPhrases(GivenPhraseOptions(phrases_file=binary))
