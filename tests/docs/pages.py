"""What the documentation says: its pages, the commands, code and links in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = tuple(
    path.relative_to(ROOT).as_posix()
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
        *sorted((ROOT / "docs").glob("*.md")),
        *(ROOT / folder / "README.md" for folder in ("assets", "benchmarks", "training")),
    )
)
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language."""
    return [match[3] for match in _FENCE.finditer(text_of(page)) if match[2] == language]


def code_spans(page: str) -> list[str]:
    """The `inline code` of the prose and of tables."""
    prose = _FENCE.sub("", text_of(page))
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]


def command_lines(page: str) -> Iterator[list[str]]:
    """Every command with its arguments: lines of bash blocks, and inline code that starts with a program's name."""
    lines = [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    lines += [span for span in code_spans(page) if span.startswith(("sam3d-gs ", "bash ", "python "))]
    for line in lines:
        command: list[str] = []
        for word in shlex.split(line, comments=True):
            if word in ("&&", ";", "|", ">", "|| "):
                yield command
                command = []
            else:
                command.append(word)
        if command:
            yield command


def links(page: str) -> list[str]:
    """Where links and pictures of a page lead, without anchors; other hosts are left out."""
    prose = _FENCE.sub("", text_of(page))
    return [target for target in re.findall(r"\]\(([^)#\s]+)", prose) if not target.startswith(("http:", "https:"))]
