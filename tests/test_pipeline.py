"""One photo never takes the others down, whatever it raises."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from sam3d_gs.commands.console import Console
from sam3d_gs.commands.terminal import StderrHandler
from sam3d_gs.engines import registry
from sam3d_gs.errors import EXIT_PARTIAL, UnexpectedError
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
