"""Turn the objects a language model named into search phrases: short, all different, objects only."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from sam3d_gs.types import Phrase
from sam3d_gs.vlm.names import Named

MAX_WORDS = 12
MAX_CHARACTERS = 100
MAX_DROPPED_TEXT = 200  # characters of a dropped phrase that are recorded
_ARTICLES = {"a", "an", "the"}
_PREPOSITION = re.compile(
    r"\s(?:of|on|in|with|at|by|under|near|behind|above|below|from|over|beside|against|inside|next|for|and)\s"
)
_NO_OBJECT = re.compile(
    r"(?:i[’']?m |i am )?(?:very )?sorry\b.*|i (?:can(?:no|[’'])?t|am unable)\b.*|unfortunately\b.*"
    r"|none|nothing|n/?a|unknown|no (?:\w+ )?objects?\b.*",
    re.IGNORECASE,
)
# No objects. The last noun of a phrase decides: a wall clock is an object, a brick wall is not.
# fmt: off
_SURFACES = frozenset((
    "scene", "background", "foreground", "backdrop", "environment", "surrounding", "setting", "interior",
    "exterior", "room", "kitchen", "bathroom", "bedroom", "landscape", "skyline", "horizon", "sky", "cloud",
    "wall", "floor", "flooring", "ceiling", "ground", "pavement", "sidewalk", "road", "street", "lawn", "grass",
    "shadow", "reflection",
))
# fmt: on


@dataclass(frozen=True)
class Dropped:
    """A phrase that is not used, with the reason."""

    text: str
    reason: str


def clean_phrases(
    named: Sequence[Named], size_px: tuple[int, int], max_phrases: int, include_surfaces: bool = False
) -> tuple[list[Phrase], list[Dropped]]:
    """The phrases, in the model's order and numbered, and those dropped. `size_px`: the photo's (width, height)."""
    kept: list[Phrase] = []
    dropped: list[Dropped] = []
    first_of: dict[tuple[str, ...], str] = {}
    for row in named:
        text = plain_words(row.text)
        key = _spelling_key(text)
        if not key:
            reason = "contains no words"
        elif _NO_OBJECT.fullmatch(text):
            reason = "a remark of the model, not an object"
        elif len(text.split()) > MAX_WORDS or len(text) > MAX_CHARACTERS:
            reason = f"more than {MAX_WORDS} words or {MAX_CHARACTERS} characters"
        elif key in first_of:
            reason = f"the same as {first_of[key]!r}"
        elif not include_surfaces and is_surface(text):
            reason = "a surface or the scene, not an object"
        elif len(kept) == max_phrases:
            reason = f"more than {max_phrases} phrases"
        else:
            first_of[key] = text
            kept.append(Phrase(len(kept), text, box_xyxy=_pixels(row, size_px), count=row.count))
            continue
        dropped.append(Dropped(row.text[:MAX_DROPPED_TEXT], reason))
    return kept, dropped


def plain_words(text: str) -> str:
    """`text` without symbols, control characters, surrounding punctuation and leading articles."""
    text = unicodedata.normalize("NFC", text[: 20 * MAX_CHARACTERS])
    text = "".join(c if _is_plain(c) else " " for c in text)
    words = text.strip(" \t\n\"'`.,;:!?()[]{}<>#*_~|\\/-“”‘’«»„").split()
    while len(words) > 1 and words[0].casefold() in _ARTICLES:
        words = words[1:]
    return " ".join(words)


def _is_plain(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "LMNPZ" and category not in ("Zl", "Zp") and character not in '"`*<>{}[]|\\~#_'


def _spelling_key(text: str) -> tuple[str, ...]:
    """Equal for phrases that differ in case, number, articles, punctuation or the order of words."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = "".join(c if unicodedata.category(c)[0] in "LMN" else " " for c in folded).split()
    return tuple(sorted(_singular(word) for word in words if word not in _ARTICLES))


def _singular(word: str) -> str:
    for ending, instead in (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x")):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            return word.removesuffix(ending) + instead
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word


def is_surface(text: str) -> bool:
    """True when the phrase's main noun is the scene or a surface of it."""
    main = _PREPOSITION.split(text.casefold(), maxsplit=1)[0].split()
    return bool(main) and _singular(main[-1].strip("-,.'")) in _SURFACES


def _pixels(row: Named, size_px: tuple[int, int]) -> tuple[float, float, float, float] | None:
    if row.box_permille is None:
        return None
    (x0, y0, x1, y1), (width, height) = row.box_permille, size_px
    x0, x1 = (round(x * width / 1000, 1) for x in (x0, x1))
    y0, y1 = (round(y * height / 1000, 1) for y in (y0, y1))
    return x0, y0, x1, y1
