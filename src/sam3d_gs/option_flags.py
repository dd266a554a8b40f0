"""How an engine's options are declared: a frozen dataclass whose fields are made by `option`.

The command line builds its flags from them, the manifest records them, and options that an engine's class lacks are
refused. Engines of other packages define a dataclass of the same kind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sam3d_gs.errors import UsageError

_Options = TypeVar("_Options", bound="EngineOptions")


@dataclass(frozen=True)
class Flag:
    """How an option is typed on the command line, and how its value is used."""

    help: str
    names: tuple[str, ...] = ()  # e.g. ("--fov",); empty: made from the field's name
    metavar: str = ""
    panel: str = ""  # heading in --help; empty: the engines that take the option
    envvar: str = ""
    min: float | None = None
    max: float | None = None
    choices: tuple[Any, ...] = ()
    parse: Callable[[str], Any] | None = None  # parses one value; raises UsageError
    one_photo: bool = False  # the value is for one photo
    same_result: bool = False  # does not affect the result, so changing it does not run the stage again
    content: str = ""  # "file", "path" (of a file or folder) or "weights": the content goes into the fingerprint
    may_hold_key: bool = False  # what looks like a key in it is not recorded
    below_workspace: bool = False  # a relative path that does not exist is looked up in the workspace


def option(default: Any, help: str, *names: str, **more: Any) -> Any:
    """A dataclass field with its `Flag`, e.g. ``seed: int = option(0, "Random seed.", min=0)``."""
    return dataclasses.field(default=default, metadata={"flag": Flag(help, names, **more)})


def flags_of(options: type) -> dict[str, Flag]:
    """Field name -> flag, for the fields of an options class that can be typed."""
    return {f.name: f.metadata["flag"] for f in dataclasses.fields(options) if "flag" in f.metadata}


def flag_names(name: str, flag: Flag) -> tuple[str, ...]:
    """The spellings of an option, the usual one first; by default the field's name without its unit."""
    if flag.names:
        return flag.names
    for unit in ("_px", "_deg", "_gib", "_s"):
        name = name.removesuffix(unit)
    return (f"--{name.replace('_', '-')}",)


@dataclass(frozen=True)
class EngineOptions:
    """Base class of all engines' options."""

    def check(self) -> None:
        """Raises UsageError if a value is not one of its choices, or if options contradict each other."""
        for name, flag in flags_of(type(self)).items():
            value = getattr(self, name)
            typed = flag_names(name, flag)[0]
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                too_small = flag.min is not None and value < flag.min
                if too_small or (flag.max is not None and value > flag.max):
                    limits = f"at least {flag.min:g}" if flag.max is None else f"{flag.min:g} to {flag.max:g}"
                    raise UsageError(f"{typed} is {value:g}. Expected {limits}.")
            if flag.choices and value is not None and value not in flag.choices:
                known = " or ".join(map(str, flag.choices))
                raise UsageError(f"Unknown {flag_names(name, flag)[0]} {value!r}. Expected {known}.")

    def resolved(self: _Options, workspace: Path) -> _Options:
        """These options with absolute paths, which do not depend on the current folder."""
        changed: dict[str, Path] = {}
        for name, flag in flags_of(type(self)).items():
            value = getattr(self, name)
            if isinstance(value, Path):
                below = flag.below_workspace and not value.exists()
                changed[name] = (workspace / value if below else value).absolute()
        return dataclasses.replace(self, **changed)


def one_photo_only(options: EngineOptions, photos: Sequence[Any]) -> None:
    """Raises UsageError if there are several photos and an option whose value is for one."""
    for name, flag in flags_of(type(options)).items():
        if flag.one_photo and getattr(options, name) and len(photos) > 1:
            raise UsageError(
                f"{flag_names(name, flag)[0]} is for one photo, but {len(photos)} are given. Run them one by one."
            )
