"""Markup of the report: templates filled with escaped text, pictures and script-safe JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

from sam3d_gs.report.data_urls import DataUrl


class Html(str):
    """Text that is markup already; any other value is escaped when it enters a template."""


def count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.1f} min"


def script_json(value: object) -> Html:
    """JSON that can stand inside a script element: no `<`, so no closing tag and no comment."""
    return Html(json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c"))


def source(image: DataUrl) -> dict[str, object]:
    return {"src": image.url, "width": image.width, "height": image.height}


def image(image: DataUrl | None, alt: str) -> str:
    """Markup of a picture; an animation comes with its first frame for readers who prefer no motion."""
    if image is None:
        return Html("")
    name = "animation" if image.still else "image"
    return fragment(name, **source(image), still=image.still, alt=alt)


def join(parts: Iterable[str]) -> Html:
    return Html("".join(parts))


def fill(name: str, /, **values: object) -> Html:
    return _substitute(resource(name), values)


def fragment(name: str, /, **values: object) -> Html:
    return _substitute(_fragments()[name], values)


def _substitute(template: str, values: Mapping[str, Any]) -> Html:
    safe = {name: value if isinstance(value, Html) else escape(str(value)) for name, value in values.items()}
    return Html(Template(template).substitute(safe))


@cache
def resource(name: str) -> str:
    return (files("sam3d_gs.report") / "templates" / name).read_text(encoding="utf-8")


@cache
def _fragments() -> dict[str, str]:
    """The parts of fragments.html by name."""
    parts = resource("fragments.html").split("<!-- fragment: ")[1:]
    named = (part.split(" -->\n", 1) for part in parts)
    return {name: text.rstrip("\n") for name, text in named}
