"""The named objects in a value that a model wrote: rows, strings, groups and mappings, however deep they lie."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace

from sam3d_gs.vlm.loose_json import Container, Words, find_values

Box = tuple[float, float, float, float]

NAME_KEYS = (
    "phrase",
    "label",
    "name",
    "object",
    "object_name",
    "noun",
    "item",
    "text",
    "prompt",
    "title",
    "description",
)
_UNSURE_KEYS = ("name", "text", "prompt", "title", "description")  # alone: {"name": "f"} is no object
_LIST_KEYS = (
    "objects",
    "phrases",
    "prompts",
    "prompt_list",
    "items",
    "list",
    "object_list",
    "names",
    "labels",
    "results",
)
_CALL_KEYS = ("arguments", "parameters", "params", "args", "kwargs", "function", "tool_calls")
_BOX_KEYS = ("box", "bbox", "bbox_2d", "box_2d")
_COUNT_KEYS = ("count", "quantity", "qty")
# Lists under these keys are about the objects, or about the answer.
# fmt: off
REMARK_KEYS = frozenset((
    "attributes", "color", "colors", "colour", "colours", "material", "materials", "parts", "tags", "aliases",
    "synonyms", "position", "positions", "location", "size", "shape", "boxes", "bboxes", "scores", "notes", "note",
    "reasoning", "thinking", "thought", "thoughts", "analysis", "steps", "plan", "rules", "example", "examples",
    "error", "errors", "warnings", "excluded", "exclude", "ignored", "omitted", "left_out", "not_included", "rejected",
))
# fmt: on
_LITERALS = frozenset(("true", "false", "null", "none", "nan", "..."))
_MAX_NESTED = 3  # JSON in a string of JSON
_MAX_COUNTED = 200  # characters of a string in which a count is looked for
_COUNTED = (
    re.compile(r"(?P<count>\d{1,3})\s?[x×]\s(?P<text>\D.*)", re.IGNORECASE),
    re.compile(r"(?P<text>.*\S)\s[x×]\s?(?P<count>\d{1,3})", re.IGNORECASE),
    re.compile(r"(?P<text>.*[^\s(（])\s?[(（][x×]?\s?(?P<count>\d{1,3})[)）]", re.IGNORECASE),
)


@dataclass(frozen=True)
class Named:
    """One kind of object as the model named it."""

    text: str
    count: int | None = None
    box_permille: Box | None = None  # x0, y0, x1, y1 in 0..1000 of the photo's sides


@dataclass
class Names:
    """What a value names, in its order."""

    named: list[Named] = field(default_factory=list)
    unused: list[tuple[str, str]] = field(default_factory=list)  # (text, reason): in the value, but not in `named`
    is_list: bool = False  # holds a list meant for objects, be it empty
    quoted: bool = False  # something in it is quoted or has a key; else it may be [words] in prose


def names_in(value: Container, depth: int = 0) -> Names:
    """The objects that the value names. Of a value that was cut off: those that are complete."""
    names = Names()
    _Reader(names, depth).read(value)
    if any(side > 1000 for row in names.named for side in row.box_permille or ()):
        # Pixels of an image whose size is unknown: so are the boxes in which no side is that large.
        names.named = [replace(row, box_permille=None) for row in names.named]
    return names


def named(text: str, count: int | None = None, box: Box | None = None) -> Named:
    """An object by its name, which may hold a count: "2 x red cup", "red cup (2)"."""
    text = text.strip()
    for pattern in _COUNTED if len(text) <= _MAX_COUNTED else ():
        if match := pattern.fullmatch(text):
            return Named(match["text"], count or count_of(match["count"]), box)
    return Named(text, count, box)


def is_name(text: str) -> bool:
    """Whether the text can be a name at all: it has a letter, and is no literal of JSON or Python."""
    return any(character.isalpha() for character in text) and text.strip().casefold() not in _LITERALS


def count_of(text: str) -> int | None:
    """1 to 1000, or None."""
    number = _number(text)
    return int(number) if 1 <= number <= 1000 and number == int(number) else None


def key_name(key: str) -> str:
    """A key as it stands in the tables above."""
    return key.strip(" *_`'\"").casefold().replace(" ", "_").replace("-", "_")


Value = str | Container
Fields = list[tuple[str, Value]]  # of an object; keys as `key_name` gives them, and they may repeat


@dataclass
class _Reader:
    names: Names
    depth: int  # of JSON in strings of JSON

    def read(self, value: Value, key: str = "", in_list: bool = False) -> None:
        """Add what `value` names; `key` is the one it stands under, `in_list` says that it is one of several."""
        if isinstance(value, str):
            self._read_text(value, key)
        elif not any(_is_key(name) for name, _ in value.members):
            self._read_list(value, key)
        else:
            self._read_object(value, key, in_list)

    def _read_text(self, text: str, key: str) -> None:
        if _is_json(text) and self.depth < _MAX_NESTED:
            for found in find_values(text):
                self._add(names_in(found.value, self.depth + 1))
        elif key:  # {"objects": "red cup, spoon"}
            self._add(Names([named(part) for part in re.split(r"[,;、\n]", text) if is_name(part)], quoted=True))
        elif is_name(text):
            self._add(Names([named(text)], quoted=not isinstance(text, Words)))
        elif text.strip() and not isinstance(text, Words):
            self.names.unused.append((text, "contains no words"))

    def _add(self, names: Names) -> None:
        self.names.named += names.named
        self.names.unused += names.unused
        self.names.is_list |= names.is_list
        self.names.quoted |= names.quoted

    def _read_list(self, container: Container, key: str) -> None:
        values = [value for _, value in container.members]
        self.names.is_list |= container.closed and (key in _LIST_KEYS or (container.bracket == "[" and not values))
        if _is_pair(values):  # ["red cup", 2]
            self._add(Names([named(str(values[0]), *_count_and_box(values[1:]))], quoted=True))
        else:
            for value in values:
                self.read(value, in_list=True)

    def _read_object(self, container: Container, key: str, in_list: bool) -> None:
        fields = [(key_name(name or ""), value) for name, value in container.members]
        calls = [value for name, value in fields if name in _CALL_KEYS and _holds_names(value)]
        if calls:  # a tool call: its name is not an object
            for value in calls:
                self.read(value)
            return
        listed = any(name in _LIST_KEYS for name, _ in fields)
        groups = [(name, value) for name, value in fields if _is_group(name, value, listed)]
        texts = _row_texts(fields, in_list)
        if groups and (listed or not texts or not in_list):
            for name, value in groups:
                self.read(value, name)
            self._leave_out([(name, value) for name, value in fields if name in REMARK_KEYS])
        elif texts:
            self._add_row(container, fields, texts)
            self._leave_out(groups)
        elif key in _LIST_KEYS or not in_list:
            self._read_mapping(container, under_list_key=bool(key))
        else:
            self._add_unknown_row(container, fields)

    def _leave_out(self, fields: Fields) -> None:
        for name, value in fields:
            if isinstance(value, Container):
                rows = names_in(value, self.depth + 1).named if self.depth < _MAX_NESTED else []
                self.names.unused += [(row.text, f'listed under "{name}"') for row in rows]

    def _add_row(self, container: Container, fields: Fields, texts: list[str]) -> None:
        self.names.quoted = True
        if not container.closed:
            self.names.unused += [(text, "the answer was cut off here") for text in texts]
            return
        count = next((count_of(v) for k, v in fields if k in _COUNT_KEYS and isinstance(v, str)), None)
        box = next((_box(value) for name, value in fields if name in _BOX_KEYS), None)
        self.names.named += [named(text, count, box) for text in texts]

    def _read_mapping(self, container: Container, under_list_key: bool) -> None:
        """{"red cup": 2, "spoon": {"box": [...]}}: the keys are the names."""
        rows = []
        for name, value in container.members:
            counts = isinstance(value, str) and count_of(value) is not None
            if not name or not is_name(name) or not (counts or isinstance(value, Container)):
                return
            about = [value] if counts or _is_box(value) else [v for _, v in getattr(value, "members", ())]
            rows.append(named(name, *_count_and_box(about)))
        if under_list_key or len(rows) > 1:
            self._add(Names(rows, quoted=True))

    def _add_unknown_row(self, container: Container, fields: Fields) -> None:
        """A row without a key that we know: its only text is the name."""
        texts = [v for k, v in fields if isinstance(v, str) and k not in (*_COUNT_KEYS, *REMARK_KEYS) and is_name(v)]
        if len(texts) == 1:
            self._add_row(container, fields, texts)
        else:
            texts = texts or [v for _, v in fields if isinstance(v, str) and not isinstance(v, Words)]
            reason = "unclear which of these is the name" if len(texts) > 1 else "contains no words"
            self.names.unused += [(", ".join(texts), reason)] if texts else []


def _is_key(name: str | None) -> bool:
    """Whether a member has a key that says something; {"1": "cup", "2": "fork"} is a list."""
    return bool(name) and is_name(name or "")


def _row_texts(fields: Fields, in_list: bool) -> list[str]:
    """The names in a row: the values of its best key, which a model may repeat."""
    sure = in_list or any(name in (*_COUNT_KEYS, *_BOX_KEYS) for name, _ in fields)
    for key in NAME_KEYS:
        if key in _UNSURE_KEYS and not sure:
            continue
        texts = [value for name, value in fields if name == key and isinstance(value, str) and is_name(value)]
        if texts and not any(map(_is_json, texts)):
            return texts
    return []


def _is_group(key: str, value: Value, listed: bool) -> bool:
    """Whether the member of an object is a list of objects, or holds one. `listed`: it has a member that surely is."""
    if key in (*REMARK_KEYS, *_BOX_KEYS, *_COUNT_KEYS):
        return False
    if isinstance(value, str):
        return key in _LIST_KEYS or _is_json(value)
    return key in _LIST_KEYS or (_holds_names(value) and (not listed or holds_list(value)))


def _holds_names(value: Value) -> bool:
    if isinstance(value, str):
        return _is_json(value)
    return any(
        is_name(inner) if isinstance(inner, str) else _holds_names(inner)
        for name, inner in value.members
        if key_name(name or "") not in REMARK_KEYS
    )


def holds_list(container: Container) -> bool:
    """Whether the value is or has a list; a box is none."""
    inner = [value for _, value in container.members if isinstance(value, Container)]
    return (container.bracket == "[" and not _is_box(container)) or any(map(holds_list, inner))


def _is_json(text: str) -> bool:
    text = text.strip()
    return text[:1] in ("[", "{") and text[-1:] in ("]", "}")


def _is_pair(values: list[Value]) -> bool:
    """["red cup", 2] or ["red cup", [10, 20, 30, 40]]."""
    if not 2 <= len(values) <= 3 or not isinstance(values[0], str) or not is_name(values[0]):
        return False
    return all(_is_box(v) or (isinstance(v, str) and count_of(v) is not None) for v in values[1:])


def _count_and_box(values: list[Value]) -> tuple[int | None, Box | None]:
    count = next((count_of(value) for value in values if isinstance(value, str)), None)
    return count, next((_box(value) for value in values if _is_box(value)), None)


def _is_box(value: Value) -> bool:
    if isinstance(value, str):
        return False
    return len(value.members) == 4 and all(isinstance(v, str) and math.isfinite(_number(v)) for _, v in value.members)


def _box(value: Value) -> Box | None:
    """Four numbers in 0..1000, or fractions of 1; larger ones are kept for `names_in` to judge."""
    if isinstance(value, str) or not _is_box(value):
        return None
    x0, y0, x1, y1 = (_number(str(side)) for _, side in value.members)
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        return None
    scale = 1000.0 if max(x1, y1) <= 1 else 1.0
    return x0 * scale, y0 * scale, x1 * scale, y1 * scale


def _number(text: str) -> float:
    """NaN for what is no number."""
    try:
        return float(text)
    except ValueError:
        return math.nan
