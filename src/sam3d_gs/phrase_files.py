"""Reading and writing phrases.json, and reading users' lists of phrases."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sam3d_gs.errors import BadInputError
from sam3d_gs.files import read_json, write_json
from sam3d_gs.types import Phrase

log = logging.getLogger("sam3d_gs")

SCHEMA = 1
MAX_TEXT = 200  # characters


def write_phrases(path: Path, phrases: Sequence[Phrase], photo: str, engine: str) -> None:
    rows = [
        {
            "number": p.number,
            "text": p.text,
            "score": p.score,
            "box_xyxy": p.box_xyxy and list(p.box_xyxy),
            "count": p.count,
        }
        for p in phrases
    ]
    write_json(path, {"schema": SCHEMA, "photo": photo, "engine": engine, "phrases": rows})


def read_phrases(path: Path) -> list[Phrase]:
    """The phrases in a JSON file: an object with "phrases", or just the list; of strings or of rows.

    Phrases are numbered by position, so that users can insert and delete lines. Duplicates, and scores, boxes and
    counts that make no sense, are left out with a warning. Raises BadInputError.
    """
    data = read_json(path, "phrases file")
    rows = data.get("phrases") if isinstance(data, dict) else data
    if not isinstance(rows, list):
        raise BadInputError(f'{path} has no list of phrases. Expected {{"phrases": ["red cup", ...]}}.')
    phrases: list[Phrase] = []
    for position, row in enumerate(rows, start=1):
        text = _clean(row.get("text") if isinstance(row, dict) else row, path, position)
        if text.casefold() in {p.text.casefold() for p in phrases}:
            log.warning('%s: "%s" is listed twice and counts once.', path, text)
            continue
        values = row if isinstance(row, dict) else {}
        read = {name: parse(values.get(name)) for name, parse in _VALUES.items()}
        for name, value in read.items():
            if value is None and values.get(name) is not None:
                log.warning('%s: %s %r of "%s" is not used.', path, name, values[name], text)
        phrases.append(Phrase(len(phrases), text, **read))
    if not phrases:
        raise BadInputError(f"{path} has no phrases. Add one, or delete the file and run the phrases stage again.")
    return phrases


def _clean(text: Any, path: Path, position: int) -> str:
    if not isinstance(text, str) or not text.strip():
        raise BadInputError(f"{path}: phrase {position} is not a string with text: {text!r:.60}.")
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in text if not c.isspace()):
        raise BadInputError(f"{path}: phrase {position} has control characters: {text!r:.60}.")
    clean = " ".join(text.split())
    if len(clean) > MAX_TEXT:
        raise BadInputError(f"{path}: phrase {position} has {len(clean)} characters, more than {MAX_TEXT}.")
    return clean


def _score(value: Any) -> float | None:
    return float(value) if _is_number(value) and 0 <= value <= 1 else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 1 else None


def _box(value: Any) -> tuple[float, float, float, float] | None:
    """x0, y0, x1, y1 with the second corner right of and below the first."""
    if isinstance(value, list) and len(value) == 4 and all(map(_is_number, value)):
        x0, y0, x1, y1 = (float(v) for v in value)
        return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


_VALUES: dict[str, Callable[[Any], Any]] = {"score": _score, "box_xyxy": _box, "count": _count}


def phrases_from_file(path: Path) -> list[str]:
    """The phrases in a .json file, or the non-empty lines of any other text file ("#" starts a comment line).

    Raises BadInputError, naming the file.
    """
    if path.suffix.lower() == ".json":
        return [phrase.text for phrase in read_phrases(path)]
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{path} is not a readable text file of phrases: {error}.") from error
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
