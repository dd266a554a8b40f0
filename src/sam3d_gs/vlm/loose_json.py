"""Find JSON in a text, or what language models write in its place.

Read besides JSON: remarks, trailing and missing commas, single and typographic quotes, words without quotes, tuples,
sets and calls such as f(objects=["cup"]), and values whose end is missing. Every value stays text: nothing is
converted or evaluated. Time is linear in the length of the text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

MAX_DEPTH = 40
_MAX_WORDS = 80  # characters without quotes; more of them are prose
_MAX_INNER_QUOTES = 9  # in one string; beyond them it ends at the first one
_CLOSING = {"[": "]", "{": "}", "(": ")"}
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’", "„": "“", "「": "」", "『": "』", "«": "»"}
_STARTS = re.compile(r"[\[{]|(?<=\w)\(|\A\s*\(")
_GAP = re.compile(r"(?:[\s,;、]+|//[^\n]*|#[^\n]*)*")
_WORDS = re.compile(r"""(?:(?!\s(?:\#|//|/\*))[^"“”「」『』«»\n,;、:=()\[\]{}])+""")
_KEY_ENDS = re.compile(r"\s*(?::|=>?)")
_STRING_ENDS = re.compile(r"""\s*(?:[,;、:=\]})]|//|/\*|\#|["'“‘„「『«]|\Z)|[ \t\r]*\n""")


class Words(str):
    """Text without quotes: a word, a number, true, null."""


@dataclass
class Container:
    """A list, object, tuple or call: its members in order; those of a list have no key."""

    members: list[tuple[str | None, str | Container]] = field(default_factory=list)
    closed: bool = False  # False: its end is missing
    bracket: str = "["
    key: str | None = None  # read, but without its value so far

    @property
    def is_data(self) -> bool:
        """Whether it is empty, or has keys or quotes; else it may be [words] in prose."""
        return not self.members or any(
            key is not None or (value.is_data if isinstance(value, Container) else not isinstance(value, Words))
            for key, value in self.members
        )

    def add(self, value: str | Container) -> None:
        self.members.append((self.key, value))
        self.key = None


@dataclass(frozen=True)
class Found:
    """A value at `text[start:end]`."""

    value: Container
    start: int
    end: int


def find_values(text: str) -> list[Found]:
    """The lists, objects and calls in the text that are in no other one, in order. Never raises."""
    found = []
    position = 0
    while match := _STARTS.search(text, position):
        bracket = match.end() - 1
        value, position = _read(text, bracket)
        start = bracket
        while text[bracket] == "(" and start > 0 and bracket - start < _MAX_WORDS and _in_name(text[start - 1]):
            start -= 1
        found.append(Found(value, start, position))
    return found


def _in_name(character: str) -> bool:
    return character.isalnum() or character in "_."


def _read(text: str, position: int) -> tuple[Container, int]:
    """The value whose bracket is at `position`, and where it ends: at the end of the text if it is cut off."""
    root = Container(bracket=text[position])
    stack = [root]
    position += 1
    while stack:
        position = _after_gap(text, position)
        character = text[position : position + 1]
        if not character:
            break
        if character in "]})":
            _close(stack, character)
            position += 1
        elif character in "[{(":
            if len(stack) == MAX_DEPTH:
                break
            inner = Container(bracket=character)
            stack[-1].add(inner)
            stack.append(inner)
            position += 1
        elif character in ":=":  # its key is missing
            position += 1
        else:
            token, end, whole = _token(text, position)
            if token is None:  # prose
                break
            position = end
            if whole:
                position = _take(stack[-1], token, text, position)
    return root, position


def _take(container: Container, token: str, text: str, position: int) -> int:
    """Keep the token as a key if a colon follows, else as a value. Returns the position after it."""
    if end := _KEY_ENDS.match(text, position):
        container.key = token
        return end.end()
    if isinstance(token, Words) and text.startswith("(", position):  # the name of a call
        return position
    if container.bracket == "[" or _after_gap(text, position) < len(text):  # else perhaps a key that was cut off
        container.add(token)
    return position


def _close(stack: list[Container], bracket: str) -> None:
    """Close the innermost container of this bracket and those in it; the innermost one if there is none."""
    while stack:
        inner = stack.pop()
        inner.closed = True
        if _CLOSING[inner.bracket] == bracket or not any(_CLOSING[outer.bracket] == bracket for outer in stack):
            break


def _after_gap(text: str, position: int) -> int:
    while True:
        gap = _GAP.match(text, position)
        position = gap.end() if gap else position
        if not text.startswith("/*", position):
            return position
        end = text.find("*/", position + 2)
        position = len(text) if end < 0 else end + 2


def _token(text: str, position: int) -> tuple[str | None, int, bool]:
    """The string or words at `position`, their end, and whether they are complete; None where prose begins."""
    quote = text[position]
    if quote in _QUOTES:
        return _string(text, position, _QUOTES[quote])
    words = _WORDS.match(text, position, position + _MAX_WORDS + 1)
    if words is None or len(words[0]) > _MAX_WORDS:
        return None, position, False
    return Words(words[0].strip()), words.end(), words.end() < len(text)


def _string(text: str, position: int, closing: str) -> tuple[str, int, bool]:
    """The string whose quote is at `position`. A quote inside it need not be escaped: 'rock 'n' roll guitar'."""
    first, inner = None, 0
    for stop in _STOPS[closing].finditer(text, position + 1):
        if stop[0].startswith("\\"):
            continue
        if first is not None and (stop[0] == "\n" or inner == _MAX_INNER_QUOTES):
            break
        if stop[0] == "\n":
            continue
        if _STRING_ENDS.match(text, stop.end()):
            return _unescaped(text[position + 1 : stop.start()]), stop.end(), True
        first = stop.start() if first is None else first
        inner += 1
    if first is None:
        return "", len(text), False
    return _unescaped(text[position + 1 : first]), first + 1, True


_STOPS = {
    closing: re.compile(r"\\.|\n|[" + closing + ('"' if closing in "”“" else "") + "]", re.DOTALL)
    for closing in _QUOTES.values()
}


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    try:
        text = json.loads('"' + re.sub(r'\\(.)|"', _json_escape, text, flags=re.DOTALL) + '"', strict=False)
        return str(text).encode("utf-8", "replace").decode()  # no halves of surrogate pairs
    except ValueError:
        return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


def _json_escape(match: re.Match[str]) -> str:
    """An escape as JSON knows it: of a quote JSON does not escape, the quote itself."""
    if match[0] == '"':
        return '\\"'
    return match[0] if match[1] in '"\\/bfnrtu' else match[1]
