"""One photo never takes the others down, whatever it raises."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam3d_gs.commands.console import Console
from sam3d_gs.commands.terminal import StderrHandler
from sam3d_gs.engines import registry
from sam3d_gs.errors import EXIT_FAILED, EXIT_PARTIAL, UnexpectedError
from sam3d_gs.options import PhotoOptions
from sam3d_gs.photo import load_photo
from sam3d_gs.pipeline import Settings, Silent, run
from sam3d_gs.types import Photo, Phrase
from tests.fakes import FakePhrases


class Breaking(FakePhrases):
    """Raises `error` for the photo "bad", and when it is closed."""

    error: BaseException = ValueError("a bug")

    def phrases(self, photo: Photo) -> list[Phrase]:
        if photo.name == "bad":
            raise self.error
        return super().phrases(photo)

    def close(self) -> None:
        raise self.error


class Failures(Silent):
    def __init__(self) -> None:
        self.failed_photos: dict[str, Exception] = {}

    def failed(self, photo: Path, stage: str, error: Exception) -> None:
        self.failed_photos[photo.stem] = error


@pytest.fixture
def photos(picture: Path) -> list[Path]:
    for name in ("bad.png", "good.png"):
        shutil.copy(picture, picture.with_name(name))
    return [picture.with_name("bad.png"), picture.with_name("good.png"), picture.with_name("missing.png")]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a bug"), "Unexpected ValueError: a bug. This is a bug: `sam3d-gs -v`"),
        (AssertionError(), "Unexpected AssertionError. This is a bug"),
        (RecursionError("deep"), "Unexpected RecursionError: deep"),
        (MemoryError(), "Out of memory"),
        (
            type("OutOfMemoryError", (RuntimeError,), {})("\nCUDA out.\nPage 2"),
            "Out of GPU memory: CUDA out. Use a GPU",
        ),
        (RuntimeError("first\n  second"), "Unexpected RuntimeError: first. This is a bug"),
        (PermissionError(13, "Permission denied", "/x/y.pt"), "/x/y.pt: Permission denied."),
        (BlockingIOError(11, "Try again"), "Try again."),
        (UnicodeEncodeError("ascii", "é", 0, 1, "no"), "Unexpected UnicodeEncodeError"),
    ],
)
def test_any_error_is_its_photos(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    monkeypatch.setattr(Breaking, "error", error)
    monkeypatch.setattr(registry, "load", lambda choice: Breaking())
    show = Failures()
    code = run(photos, ["phrases"], Settings(tmp_path / "out"), show)
    assert code == EXIT_PARTIAL
    assert set(show.failed_photos) == {"bad", "missing"}
    assert str(show.failed_photos["bad"]).startswith(line)
    assert (tmp_path / "out/outputs/master_with_vllm/good/phrases.json").is_file()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(4)])
def test_a_wish_to_stop_stops(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(Breaking, "error", error)
    monkeypatch.setattr(Breaking, "close", lambda self: None)
    monkeypatch.setattr(registry, "load", lambda choice: Breaking())
    with pytest.raises(type(error)):
        run(photos, ["phrases"], Settings(tmp_path / "out"), Silent())


def test_an_engine_that_cannot_be_built_is_tried_once(
    photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def load(choice: object) -> object:
        tried.append(choice)
        raise OSError(5, "Input/output error", "/weights")

    monkeypatch.setattr(registry, "load", load)
    show = Failures()
    assert run(photos, ["phrases"], Settings(tmp_path / "out"), show) == EXIT_FAILED
    assert len(tried) == 1
    assert str(show.failed_photos["good"]) == str(show.failed_photos["bad"]) == "/weights: Input/output error."
    assert isinstance(show.failed_photos["good"].__cause__, OSError)


def test_a_photo_that_may_not_be_read_is_one_of_many(photos: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """From Python, too; and the others have their results."""
    from sam3d_gs import api, pipeline

    def closed(path: Path, *options: object) -> str:
        if path.name == "bad.png":
            raise PermissionError(13, "Permission denied", str(path))
        return "0" * 64

    monkeypatch.setattr(registry, "load", lambda choice: FakePhrases())
    monkeypatch.setattr(pipeline, "load_photo", lambda path, options: _load(path, options, closed))
    monkeypatch.setattr(pipeline, "sha256_of", closed)
    bad, good, _ = api.run_many(photos, photos[0].parent / "out", stages=["phrases"])
    assert "Permission denied" in str(bad.error)
    assert good.ok


def _load(path: Path, options: PhotoOptions, check: Callable[[Path], str]) -> Photo:
    check(path)
    return load_photo(path, options)


@pytest.mark.parametrize("verbose", [False, True])
def test_a_bug_has_its_traceback_with_v(verbose: bool, capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("sam3d_gs")
    former: tuple[Any, int] = (logger.handlers[:], logger.level)
    logger.handlers[:] = [StderrHandler()]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    try:
        try:
            raise ValueError("deep inside")
        except ValueError as cause:
            error = UnexpectedError("one line")
            error.__cause__ = cause
        Console(several=True).failed(Path("a.png"), "masks", error)
    finally:
        logger.handlers[:], level = former
        logger.setLevel(level)
    text = capsys.readouterr().err
    assert "Error in masks of a.png: one line\n" in text
    assert ("Traceback" in text) == ("deep inside" in text) == verbose
