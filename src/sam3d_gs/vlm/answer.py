"""Parse the list of objects in a language model's answer, in whatever form it comes.

Forms, most likely first: the JSON that was requested, that JSON inside a code fence or a <prompt_list> block, a
truncated JSON or Python list, a numbered or bulleted list. Nothing is ever evaluated.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

MAX_READ = 100_000  # characters; a longer answer is not a list of objects
MAX_NAMED = 1000
_MAX_STARTS = 100  # brackets tried as the start of the list
_LISTS = ("objects", "phrases", "prompts", "prompt_list", "items", "list")
_TEXTS = ("phrase", "label", "name", "object", "text", "prompt", "description")
_BOXES = ("box", "bbox", "bbox_2d", "box_2d")
_SEPARATOR = re.compile(r"[\s,]*")
_PYTHON_TEXT = re.compile(r"'((?:[^'\\\n]|\\.)*)'(?=\s*[,\]])")
_LIST_LINE = re.compile(r"\s*(?:\d{1,3}[.):]|[-*•])\s+(?P<text>\S.*)")


@dataclass(frozen=True)
class Named:
    """One kind of object as the model named it."""

    text: str
    count: int | None = None
    box_permille: tuple[float, float, float, float] | None = None  # x0, y0, x1, y1 in 0..1000 of the photo's sides


def read_answer(content: str) -> list[Named]:
    """The objects that the answer names, in its order; empty when it holds no list. Never raises."""
    text = _after_thinking(content[-MAX_READ:] if "</think>" in content else content[:MAX_READ])
    for part in _likely_parts(text):
        found = _from_json(part) or _from_python_list(part) or _from_lines(part)
        if found:
            return found[:MAX_NAMED]
    return []


def _after_thinking(text: str) -> str:
    """The text without the thinking, which some servers leave in; empty when the thinking never ended."""
    text = text.rpartition("</think>")[2]
    return text.partition("<think>")[0]


def _likely_parts(text: str) -> Iterator[str]:
    for opening, closing in (("<prompt_list>", "</prompt_list>"), ("```", "```")):
        _, found, rest = text.partition(opening)
        if found:
            inner = rest.partition(closing)[0]
            yield re.sub(r"^(?:json|python)\b", "", inner, flags=re.IGNORECASE)
    yield text


def _from_json(text: str) -> list[Named]:
    """The first list in the text; of a truncated list the complete items."""
    decoder = json.JSONDecoder()
    for start in list(re.finditer(r"[\[{]", text))[:_MAX_STARTS]:
        try:
            found = _named(decoder.raw_decode(text, start.start())[0])
        except (ValueError, RecursionError):
            found = _complete_items(decoder, text, start.end()) if start[0] == "[" else []
        if found:
            return found
    return []


def _complete_items(decoder: json.JSONDecoder, text: str, position: int) -> list[Named]:
    found: list[Named] = []
    try:
        while len(found) < MAX_NAMED:
            gap = _SEPARATOR.match(text, position)
            position = gap.end() if gap else position
            value, position = decoder.raw_decode(text, position)
            found += _named([value])
    except (ValueError, RecursionError):  # truncated here, or the end of the list
        pass
    return found


def _named(value: Any) -> list[Named]:
    """The named objects in a decoded JSON value: a list of strings or rows, or an object that holds such a list."""
    if isinstance(value, dict):
        lists = [value[key] for key in _LISTS if isinstance(value.get(key), list)]
        row = _row(value)
        return _named(lists[0]) if lists else [row] if row else []
    if isinstance(value, list):
        rows = [Named(item) if isinstance(item, str) else _row(item) for item in value]
        return [row for row in rows if row is not None and row.text.strip()]
    return []


def _row(value: Any) -> Named | None:
    if not isinstance(value, dict):
        return None
    texts = [value[key] for key in _TEXTS if isinstance(value.get(key), str)]
    boxes = [value[key] for key in _BOXES if key in value]
    return Named(texts[0], _count(value.get("count")), _box(boxes[0] if boxes else None)) if texts else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1000 else None


def _box(value: Any) -> tuple[float, float, float, float] | None:
    if not isinstance(value, list) or len(value) != 4:
        return None
    if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and 0 <= v <= 1000 for v in value):
        return None  # also for NaN, and for pixels of an image whose size is unknown
    x0, y0, x1, y1 = map(float, value)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 and all(map(math.isfinite, value)) else None


def _from_python_list(text: str) -> list[Named]:
    opening = text.find("[")
    texts = _PYTHON_TEXT.findall(text, opening) if opening >= 0 else []
    return [Named(re.sub(r"\\(.)", r"\1", item)) for item in texts if item.strip()]


def _from_lines(text: str) -> list[Named]:
    matches = [_LIST_LINE.fullmatch(line) for line in text.splitlines()]
    return [Named(_before_remark(match["text"])) for match in matches if match]


def _before_remark(text: str) -> str:
    """The name without what follows it: "red cup" of `**red cup**: on the table`."""
    return re.split(r":\s|\s[-–—]\s|\s\(", text.replace("**", ""), maxsplit=1)[0]
