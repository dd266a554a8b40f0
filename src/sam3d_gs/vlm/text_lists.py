"""Lists that are not JSON: numbered and bulleted lines, YAML, tags, lines and commas."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sam3d_gs.vlm.names import NAME_KEYS, REMARK_KEYS, Named, count_of, is_name, key_name, named
from sam3d_gs.vlm.tables import TextList, find_tables

_MAX_TABLES = 100  # whose lines are not read as items
MAX_WORDS = 6  # of a name in a list without any marks; more of them are a sentence
_MAX_ITEM = 400  # characters of a line that are looked at
_ITEM = re.compile(
    r"(?P<indent>[ \t>]*)(?:\#{1,6}[ \t]+)?(?:\*\*|__)?"
    r"(?:(?P<number>\d{1,3})(?:[.):][ \t]|[.)、．]|[ \t]*-[ \t])|\((?P<number2>\d{1,3})\)|[①-⑳]"
    r"|[-*+•–—·●○▪◦‣∙][ \t]|[a-z][.)][ \t]|(?:object|item|phrase)[ \t]+\#?\d{1,3}[ \t]*[:.)-](?=[ \t]))"
    r"[ \t]*(?:\[[ xX✓]\][ \t]*)?(?P<text>\S.*)",
    re.IGNORECASE,
)
_BARE_ITEM = re.compile(r"(?P<indent>[ \t]*)(?P<text>\S.*)")
_FIELD = re.compile(r"[ \t]*[\"'*]*(?P<key>[A-Za-z_][\w -]{0,30}?)[\"'*]*[ \t]*[:=][ \t]*(?P<value>.*)")
_INLINE_NUMBER = re.compile(r"(?:^|(?<=[\s,;:]))(?P<number>\d{1,3})[.)](?=[ \t]+\S)")
_MARK = re.compile(r"^\d{1,3}[.)]\s*")
_REMARK = re.compile(r":\s|\s[-–—]+>?\s|\s?[(（]|\s?\[\s*\d|\s?<|\s→|\s=>|\s\|\s")
_TAG = re.compile(
    r"<(?P<tag>ref|li|item|object|obj|phrase|name|label)\b[^<>]{0,80}>(?P<text>[^<>]{1,200})</(?P=tag)\s?>"
    r"|<\|object_ref_start\|>(?P<ref>[^<>]{1,200})<\|object_ref_end\|>",
    re.IGNORECASE,
)
_GROUP = re.compile(
    r"(?:[\w/&-]+ ){0,4}(?:foreground|background|mid-?ground|left|right|cent(?:er|re)|middle|top|bottom|objects|items"
    r"|things|others)(?: (?:side|area|objects|items|things))?",
    re.IGNORECASE,
)
_CATEGORY = re.compile(
    r"furniture|electronics|clothing|clothes|decorations|people|animals|vehicles|tools", re.IGNORECASE
)
_ABOUT_KEYS = REMARK_KEYS | {"count", "box", "bbox", "bbox_2d", "description", "state", "condition", "texture", "type"}
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
class _Item:
    indent: int
    number: int | None
    text: str
    fields: dict[str, str] = field(default_factory=dict)  # of the lines below it


@dataclass
class _Run:
    """Items that follow one another."""

    items: list[_Item] = field(default_factory=list)
    start: int = 0
    end: int = 0

    def add(self, item: _Item, position: int, line: str) -> None:
        self.start = self.start if self.items else position
        self.end = position + len(line)
        self.items.append(item)

    def lists(self) -> list[TextList]:
        """The list that the items are, if any. Items below another one are about it, not objects of their own."""
        if not self.items:
            return []
        result = TextList(self.start, self.end, [], first_number=self.items[0].number)
        top: _Item | None = None
        steps = 0
        for item in self.items:
            name = _name(item)
            steps += bool(_STEP.match(name.text)) and len(name.text.split()) > 2
            if top is not None and item.indent >= top.indent + 2:
                if is_name(name.text):
                    result.unused.append((name.text, f'listed below "{_before_remark(top.text)}"'))
                continue
            top = item
            if is_name(name.text):
                result.named.append(name)
        result.is_plan = 2 * steps >= len(self.items)
        return [result] if result.named else []


def find_lists(text: str) -> list[TextList]:
    """The marked lists in the text, in order: tags, tables, items with numbers or bullets. Never raises."""
    lines = list(_lines(text))
    found: list[TextList] = []
    for other in (*_tag_lists(text), *find_tables(lines), *_item_lists(lines)):
        if all(other.end <= one.start or one.end <= other.start for one in found[:_MAX_TABLES]):
            found.append(other)
    return sorted(found, key=lambda one: one.start)


def whole_list(text: str) -> list[Named]:
    """The names in a text that is nothing but names: one per line, or with commas between them; else empty."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if lines and re.fullmatch(r"[\w ]{1,40}:", lines[0]):
        lines = lines[1:]
    if len(lines) == 1:
        lines[0] = re.sub(r"^[\w ]{1,40}:\s", "", lines[0])
        lines = _split_names(lines[0])
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
    run = _Run()
    for position, line in lines:
        if not line.strip():
            continue
        short = line[:_MAX_ITEM].rstrip()
        match = _ITEM.fullmatch(short)
        about = None if match else _FIELD.fullmatch(short)
        indent = len(line) - len(line.lstrip())
        if run.items and not match and indent > run.items[-1].indent:  # "count: 2" below "- phrase: cup"
            if about:
                run.items[-1].fields.setdefault(key_name(about["key"]), about["value"])
            run.end = position + len(line)
            continue
        if not match and about and key_name(about["key"]) in NAME_KEYS:
            match = _BARE_ITEM.fullmatch(short)
        item = _item(match) if match else None
        below_number = item and item.number is None and run.items and run.items[-1].number is not None
        about = _FIELD.fullmatch(item.text) if item and below_number else None
        if about and key_name(about["key"]) in _ABOUT_KEYS:  # "- Colour: red" below "### 1. Cup"
            run.items[-1].fields.setdefault(key_name(about["key"]), about["value"].strip("*_ "))
            run.end = position + len(line)
            continue
        if item and not item.text.rstrip("*_ ").endswith(":") and not _names_after_label(item.text):
            run.add(item, position, line)
            continue
        yield from run.lists()  # the line is a label, perhaps with its names behind it, or text
        run = _Run()
        for name in _names_after_label(line.strip() if item is None else item.text):
            run.add(_Item(indent, None, name), position, line)
    yield from run.lists()


def _item(match: re.Match[str]) -> _Item:
    groups = match.groupdict()
    number = groups.get("number") or groups.get("number2")
    return _Item(len(groups["indent"].expandtabs(4)), int(number) if number else None, groups["text"].strip())


def _names_after_label(text: str) -> list[str]:
    """The names in "Foreground: cup, spoon"; none after other words, which may be remarks on one object."""
    label, _, rest = text.replace("**", "").partition(":")
    rest = rest.strip()
    category = "," in rest and _CATEGORY.fullmatch(label.strip())
    if not rest or rest[0] in "[{" or len(label) > 60 or not (category or _GROUP.fullmatch(label.strip())):
        return []
    return [_MARK.sub("", name) for name in _split_names(rest)]


def _split_names(text: str) -> list[str]:
    """The names in "cup, fork and spoon"."""
    *parts, last = re.split(r"[,;、]", text.rstrip("."))
    return [part.strip() for part in (*parts, *re.split(r"\band\s", last)) if part.strip()]


def _name(item: _Item) -> Named:
    """What an item names: "red cup", "**red cup**: on the table", "phrase: red cup" with its count below."""
    text, fields = item.text, dict(item.fields)
    about = _FIELD.fullmatch(text)
    if about and key_name(about["key"]) in (*NAME_KEYS, "count", "box", "bbox_2d", "id"):
        fields[key_name(about["key"])] = about["value"]
        text = next((fields[key] for key in NAME_KEYS if fields.get(key)), "")
    name = _before_remark(text)
    remark = text.replace("**", "")[len(name) :].strip(" :-–—()（）x×")
    count = count_of(fields.get("count", "")) or (count_of(remark) if remark.isdecimal() else None)
    return named(name.strip("\"'`“”"), count)


def _before_remark(text: str) -> str:
    """The name without what follows it: "red cup" of `**red cup**: on the table`."""
    plain = text.replace("**", "").replace("`", "").strip()
    if counted := named(plain):  # "red cup (2)" is no remark
        plain = plain if counted.count else _REMARK.split(plain, maxsplit=1)[0]
    return plain.strip().rstrip(",;").strip()


def _tag_lists(text: str) -> Iterator[TextList]:
    """<li>red cup</li>, <ref>red cup</ref>: all those of the text are one list."""
    matches = list(_TAG.finditer(text))
    found = [named((match["text"] or match["ref"]).strip()) for match in matches]
    found = [name for name in found if is_name(name.text)]
    if found:
        yield TextList(matches[0].start(), matches[-1].end(), found)
