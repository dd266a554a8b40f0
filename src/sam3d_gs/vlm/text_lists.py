"""Lists that are not JSON: numbered and bulleted lines, YAML, tables, tags, lines and commas."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sam3d_gs.vlm.names import NAME_KEYS, Named, count_of, is_name, key_name, named

MAX_WORDS = 6  # of a name in a list without any marks; more of them are a sentence
_MAX_ITEM = 400  # characters of a line that are looked at
_NAME_KEY = r"(?:" + "|".join(NAME_KEYS) + r")"
_ITEM = re.compile(
    r"(?P<indent>[ \t>]*)(?:\#{1,6}[ \t]+)?(?:\*\*|__)?"
    r"(?:(?P<number>\d{1,3})(?:[.):][ \t]|[.)、．]|[ \t]*-[ \t])|\((?P<number2>\d{1,3})\)|[①-⑳]"
    r"|[-*+•–—·●○▪◦‣∙][ \t]|[a-z][.)][ \t]|(?:object|item|phrase)[ \t]+\#?\d{1,3}[ \t]*[:.)-](?=[ \t]))"
    r"[ \t]*(?:\[[ xX✓]\][ \t]*)?(?P<text>\S.*)",
    re.IGNORECASE,
)
_NAMED_LINE = re.compile(rf"(?P<indent>[ \t]*){_NAME_KEY}[ \t]*[:=][ \t]*(?P<text>\S.*)", re.IGNORECASE)
_FIELD = re.compile(r"[ \t]*[\"'*]*(?P<key>[A-Za-z_][\w -]{0,30}?)[\"'*]*[ \t]*[:=][ \t]*(?P<value>.*)")
_INLINE_NUMBER = re.compile(r"(?:^|(?<=[\s,;:]))(?P<number>\d{1,3})[.)](?=[ \t]+\S)")
_REMARK = re.compile(r":\s|\s[-–—]+>?\s|\s?[(（]|\s?\[\s*\d|\s?<|\s→|\s=>|\s\|\s")
_SEPARATOR_ROW = re.compile(r"[|:\-+ \t]*-[|:\-+ \t]*")
_TAG = re.compile(
    r"<(?P<tag>ref|li|item|object|obj|phrase|name|label)\b[^<>]{0,80}>(?P<text>[^<>]{1,200})</(?P=tag)\s?>"
    r"|<\|object_ref_start\|>(?P<ref>[^<>]{1,200})<\|object_ref_end\|>",
    re.IGNORECASE,
)
_GROUP_WORDS = (
    r"(?:foreground|background|mid-?ground|furniture|people|persons?|animals?|vehicles?|foods?|tools?|plants?|toys?"
    r"|clothes|clothing|electronics|devices|decor|decorations?|objects?|items?|things?|others?|left|right|cent(?:er|re)"
    r"|middle|top|bottom|table|floor|shelf)"
)
_GROUP = re.compile(rf"(?:[\w/&-]+ ){{0,4}}{_GROUP_WORDS}(?: (?:side|area|objects?|items?|things?))?", re.IGNORECASE)
_STEP = re.compile(
    r"(?:first|then|next|finally|i |we |let|look|identify|list|name|analy[sz]e|check|describe|determine|consider|scan"
    r"|ensure|format|output|exclude|include|review|find|think|provide|avoid|observe|examine|verify|go |count|make|use"
    r"|upload|try|return|generate|write|understand|draft|refine|select|focus|note|task|input|goal|constraints?)\b",
    re.IGNORECASE,
)
_VERB = re.compile(
    r"\b(?:is|are|was|were|has|have|had|shows?|contains?|can|cannot|could|see|seems?|appears?|will|would|should|i|i'm"
    r"|there|this|that|here|please|you|done|okay|ok|yes|no|none|sorry|nothing)\b",
    re.IGNORECASE,
)


@dataclass
class TextList:
    """A list at `text[start:end]`."""

    start: int
    end: int
    named: list[Named]
    unused: list[tuple[str, str]] = field(default_factory=list)  # (text, reason)
    first_number: int | None = None
    is_plan: bool = False  # what to do, step by step, and no objects

    @property
    def last_number(self) -> int | None:
        return None if self.first_number is None else self.first_number + len(self.named) - 1


@dataclass
class _Item:
    indent: int
    number: int | None
    text: str
    fields: dict[str, str] = field(default_factory=dict)  # of the lines below it


def find_lists(text: str) -> list[TextList]:
    """The marked lists in the text, in order: items with numbers or bullets, tables, tags. Never raises."""
    lines = list(_lines(text))
    return sorted([*_item_lists(lines), *_tables(lines), *_tag_lists(text)], key=lambda found: found.start)


def whole_list(text: str) -> list[Named]:
    """The names in a text that is nothing but names: one per line, or with commas between them; else empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and re.fullmatch(r"[\w ]{1,40}:", lines[0]):
        lines = lines[1:]
    if len(lines) == 1:
        lines[0] = re.sub(r"^[\w ]{1,40}:\s", "", lines[0])
        lines = [re.sub(r"^and\s", "", part.strip()) for part in re.split(r"[,;、]|\sand\s", lines[0].rstrip("."))]
    names = [line.strip("\"'`*").rstrip(",").strip("\"'`*") for line in lines]
    good = all(
        is_name(name) and len(name.split()) <= MAX_WORDS and not name.endswith((".", "!", "?", ":")) for name in names
    )
    return [named(name) for name in names] if good and len(names) > 1 and not any(map(_VERB.search, names)) else []


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Each line with its position; a line such as "1. cup 2. fork" as one for each number."""
    position = 0
    for line in text.splitlines(keepends=True):
        starts = _inline_starts(line)
        for start, end in zip(starts, [*starts[1:], len(line)], strict=True):
            yield position + start, line[start:end].rstrip("\r\n")
        position += len(line)


def _inline_starts(line: str) -> list[int]:
    """Where the items in a line begin whose numbers count up from 1; [0] without such."""
    starts, expected = [0], 1
    for match in _INLINE_NUMBER.finditer(line):
        number = int(match["number"])
        if number == expected or number == 1:
            starts.append(match.start())
            expected = number + 1
    return sorted({0, *starts}) if len(starts) > 2 else [0]


def _item_lists(lines: Sequence[tuple[int, str]]) -> Iterator[TextList]:
    """Runs of items. Lines of other text end a run, unless they are blank or about the item above."""
    items: list[_Item] = []
    start = end = 0
    for position, line in lines:
        match = _ITEM.fullmatch(line[:_MAX_ITEM].rstrip()) or _NAMED_LINE.fullmatch(line[:_MAX_ITEM].rstrip())
        indent = len(line) - len(line.lstrip())
        if match and not line.lstrip().startswith("|"):
            about = _FIELD.fullmatch(line) if items and "number" not in match.groupdict() else None
            if about and indent > items[-1].indent:  # "phrase: cup" below "- count: 2"
                items[-1].fields.setdefault(key_name(about["key"]), about["value"])
                end = position + len(line)
                continue
            item = _item(match)
            if item.text.rstrip("*_ ").endswith(":") or _label_of_group(item.text):
                yield from _finished(items, start, end)
                items = _items_of_group(item)
                start, end = position, position + len(line)
                continue
            start = start if items else position
            items.append(item)
            end = position + len(line)
        elif not line.strip():
            continue
        elif items and indent > items[-1].indent:
            if about := _FIELD.fullmatch(line[:_MAX_ITEM]):
                items[-1].fields.setdefault(key_name(about["key"]), about["value"])
            end = position + len(line)
        else:
            yield from _finished(items, start, end)
            items = _items_of_group(_Item(0, None, line.strip())) if _label_of_group(line.strip()) else []
            start, end = position, position + len(line)
    yield from _finished(items, start, end)


def _item(match: re.Match[str]) -> _Item:
    groups = match.groupdict()
    number = groups.get("number") or groups.get("number2")
    return _Item(len(groups["indent"].expandtabs(4)), int(number) if number else None, groups["text"].strip())


def _label_of_group(text: str) -> re.Match[str] | None:
    """The match of "Foreground: cup, spoon"; the names are in its group "names"."""
    plain = text.replace("**", "")[:_MAX_ITEM]
    label, colon, rest = plain.partition(":")
    if not colon or len(label) > 60 or not _GROUP.fullmatch(label.strip()) or _FIELD_KEYS.fullmatch(label.strip()):
        return None
    return re.match(r"(?P<names>\S.*)", rest.strip())


_FIELD_KEYS = re.compile(_NAME_KEY, re.IGNORECASE)


def _items_of_group(item: _Item) -> list[_Item]:
    """The names after the label of a group, each an item."""
    match = _label_of_group(item.text)
    parts = re.split(r"[,;、]", match["names"].rstrip(".")) if match and match["names"][0] not in "[{" else []
    return [_Item(item.indent, None, re.sub(r"^(?:and\s|\d{1,3}[.)])\s*", "", part.strip())) for part in parts]


def _finished(items: Sequence[_Item], start: int, end: int) -> Iterator[TextList]:
    if not items:
        return
    result = TextList(start, end, [], first_number=items[0].number)
    top = None  # the item that the deeper ones are about
    steps = 0
    for item in items:
        name = _name(item)
        steps += bool(_STEP.match(name.text)) and len(name.text.split()) > 2
        if top is not None and item.indent >= top.indent + 2:
            result.unused += [(name.text, f'listed below "{_before_remark(top.text)}"')] if is_name(name.text) else []
            continue
        top = item
        if is_name(name.text):
            result.named.append(name)
    result.is_plan = 2 * steps >= len(items)
    if result.named:
        yield result


def _name(item: _Item) -> Named:
    """What an item names: "red cup", "**red cup**: on the table", "phrase: red cup" with its count below."""
    about = _FIELD.fullmatch(item.text)
    fields = dict(item.fields)
    text = item.text
    if about and key_name(about["key"]) in (*NAME_KEYS, "count", "box", "bbox_2d", "id"):
        fields[key_name(about["key"])] = about["value"]
        text = next((fields[key] for key in NAME_KEYS if fields.get(key)), "")
    count = count_of(fields.get("count", ""))
    name = _before_remark(text)
    remark = re.search(r"\d+", text[len(name) :]) if count is None else None
    rest = text.replace("**", "")[len(name) :].strip(" :-–—()（）x×")
    return named(name.strip("\"'`“”"), count_of(rest) if remark and rest.isdigit() else count)


def _before_remark(text: str) -> str:
    """The name without what follows it: "red cup" of `**red cup**: on the table`."""
    plain = text.replace("**", "").replace("`", "").strip()
    if counted := named(plain):  # "red cup (2)" is no remark
        plain = plain if counted.count else _REMARK.split(plain, maxsplit=1)[0]
    return plain.strip().rstrip(",;").strip()


def _tables(lines: Sequence[tuple[int, str]]) -> Iterator[TextList]:
    """Tables of Markdown, and comma- or tab-separated ones whose header has a column of names."""
    rows: list[tuple[int, list[str]]] = []
    separator = ""
    for position, line in [*lines, (0, "")]:
        used = (
            "|" if line.lstrip().startswith("|") else separator if separator in ("\t", ",") else _header_separator(line)
        )
        if used and used in line and (not rows or used == separator):
            separator = used
            if not _SEPARATOR_ROW.fullmatch(line[:_MAX_ITEM]):
                rows.append((position, [cell.strip(" \t*`\"'") for cell in line.strip().strip("|").split(used)]))
            continue
        yield from _table(rows)
        rows, separator = [], ""


def _header_separator(line: str) -> str:
    for separator in ("\t", ","):
        if separator in line and key_name(line.split(separator)[0]) in (*NAME_KEYS, "id", "count"):
            return separator if any(key_name(cell) in NAME_KEYS for cell in line.split(separator)) else ""
    return ""


def _table(rows: Sequence[tuple[int, list[str]]]) -> Iterator[TextList]:
    if len(rows) < 2:
        return
    header = [re.sub(r"s$", "", key_name(cell)) for cell in rows[0][1]]
    column = next((header.index(key) for key in NAME_KEYS if key in header), None)
    body = rows[1:] if column is not None else rows
    if column is None:  # the first column of words
        width = range(max(len(cells) for _, cells in rows))
        column = max(width, key=lambda i: sum(len(cells) > i and is_name(cells[i]) for _, cells in rows))
    counts = header.index("count") if "count" in header else None
    found = [
        named(cells[column], count_of(cells[counts]) if counts is not None and len(cells) > counts else None)
        for _, cells in body
        if len(cells) > column and is_name(cells[column])
    ]
    if found:
        yield TextList(rows[0][0], rows[-1][0] + 1, found)


def _tag_lists(text: str) -> Iterator[TextList]:
    """<li>red cup</li>, <ref>red cup</ref>: all those of the text are one list."""
    matches = list(_TAG.finditer(text))
    found = [named((match["text"] or match["ref"]).strip()) for match in matches]
    found = [name for name in found if is_name(name.text)]
    if found:
        yield TextList(matches[0].start(), matches[-1].end(), found)
