"""Tables in an answer: of Markdown, or comma- or tab-separated with a header."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from sam3d_gs.vlm.names import NAME_KEYS, Named, count_of, is_name, key_name, named

_MAX_COLUMNS = 50


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


def find_tables(lines: Sequence[tuple[int, str]]) -> Iterator[TextList]:
    """The column of names in each table; `lines` are (position in the text, line)."""
    rows: list[tuple[int, str]] = []
    separator = ""
    for position, line in [*lines, (0, "")]:
        if separator and separator in line:
            rows.append((position, line))
            continue
        yield from _list_of(rows, separator)
        separator = _separator(line)
        rows = [(position, line)] if separator else []


def _separator(header: str) -> str:
    """What separates the columns of the table that begins with this line; "" if none does."""
    if header.lstrip().startswith("|"):
        return "|"
    for separator in ("\t", ","):
        keys = [key_name(cell) for cell in header.split(separator)]
        if len(keys) > 1 and keys[0] in (*NAME_KEYS, "id", "count") and any(key in NAME_KEYS for key in keys):
            return separator
    return ""


def _list_of(rows: Sequence[tuple[int, str]], separator: str) -> Iterator[TextList]:
    cells = [_cells(line, separator) for _, line in rows if not _is_rule(line)]
    if len(cells) < 2:
        return
    header = [re.sub(r"s$", "", key_name(cell)) for cell in cells[0]]
    column = next((header.index(key) for key in NAME_KEYS if key in header), None)
    if column is None:  # the column with the most words
        columns = range(min(max(map(len, cells)), _MAX_COLUMNS))
        column = max(columns, key=lambda i: sum(len(row) > i and is_name(row[i]) for row in cells[1:]))
    counts = header.index("count") if "count" in header else len(header)
    ruled = len(rows) > len(cells)
    found = [
        named(row[column], count_of(row[counts]) if len(row) > counts else None)
        for row in (cells[1:] if ruled or any(key in header for key in NAME_KEYS) else cells)
        if len(row) > column and is_name(row[column])
    ]
    if found:
        yield TextList(rows[0][0], rows[-1][0] + len(rows[-1][1]), found)


def _is_rule(line: str) -> bool:
    """Whether the line is the one between the header and the rows."""
    return "-" in line and not line.strip("|:-+ \t")


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip(" \t*`\"'") for cell in line.strip().strip("|").split(separator)]
