"""Engines of other packages: found by their entry points, checked before the program uses them."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sam3d_gs.engines.spec import EngineSpec
from sam3d_gs.option_flags import EngineOptions, flag_names, flags_of
from sam3d_gs.options import STAGES_WITH_ENGINES

log = logging.getLogger("sam3d_gs")

GROUP = "sam3d_gs.engines"  # entry-point group
# Options of the commands themselves, which no engine can have.
RESERVED_FLAGS = frozenset(
    (
        *("--help", "-h", "--stages", "--phrases-engine", "--masks-engine", "--objects-engine", "--engine"),
        *("--workspace", "-w", "--profile", "--force", "-f", "--turntable", "--report", "--no-report"),
        *("--max-side-px", "--check", "--follow", "--pass-on"),
    )
)


def add_plugins(engines: Mapping[tuple[str, str], EngineSpec]) -> dict[tuple[str, str], EngineSpec]:
    """`engines`, (stage, name) -> engine, and those of installed plugins. A bad plugin is skipped with a warning."""
    found = dict(engines)
    for point in plugin_entry_points():
        try:
            loaded = point.load()
            for spec in [loaded] if isinstance(loaded, EngineSpec) else list(loaded):
                check_plugin(spec, found)
                found[spec.stage, spec.name] = spec
        except Exception as error:  # a broken plugin must not stop the program
            log.warning("Engine plugin %r (%s) is skipped: %s.", point.name, point.value, error)
    return found


def plugin_entry_points() -> Sequence[Any]:
    """The entry points of the group. importlib.metadata costs a sixth of `--help`, so it is imported only for one."""
    if not any(GROUP in text for text in _entry_point_files()):
        return []
    from importlib.metadata import entry_points

    return list(entry_points(group=GROUP))


def _entry_point_files() -> Iterator[str]:
    for folder in sys.path:
        try:
            names = [name for name in os.listdir(folder or ".") if name.endswith((".dist-info", ".egg-info"))]
        except OSError:
            continue
        for name in names:
            try:
                yield Path(folder or ".", name, "entry_points.txt").read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue


def check_plugin(spec: Any, found: Mapping[tuple[str, str], EngineSpec]) -> None:
    """Raises TypeError or ValueError with the reason when the program cannot use the engine beside those `found`."""
    if not isinstance(spec, EngineSpec):
        raise TypeError(f"it is a {type(spec).__name__}, not an EngineSpec")
    if spec.stage not in STAGES_WITH_ENGINES:
        raise ValueError(f"its stage is {spec.stage!r}, expected {', '.join(STAGES_WITH_ENGINES)}")
    if (spec.stage, spec.name) in found:
        raise ValueError(f"an engine {spec.name!r} of {spec.stage} already exists")
    if not (isinstance(spec.name, str) and isinstance(spec.target, str) and ":" in spec.target):
        raise TypeError('its name and its target, "module:Class", must be text')
    if not (isinstance(spec.options, type) and issubclass(spec.options, EngineOptions)):
        raise TypeError("its options are not a subclass of EngineOptions")
    if not dataclasses.is_dataclass(spec.options):
        raise TypeError("its options are not a dataclass")
    spec.options()  # every option needs a default
    flags = flags_of(spec.options)
    if not set(spec.chosen_by) <= set(flags):
        raise ValueError(f"chosen_by names options that it does not have: {', '.join(spec.chosen_by)}")
    for name in flags:
        _check_spelling(spec, name, found)


def _check_spelling(spec: EngineSpec, name: str, found: Mapping[tuple[str, str], EngineSpec]) -> None:
    """An option's spelling must be its own, or mean the same option of another engine of the stage."""
    flag, field = flags_of(spec.options)[name], spec.options.__dataclass_fields__[name]
    for spelling in flag_names(name, flag):
        if spelling in RESERVED_FLAGS:
            raise ValueError(f"its option {spelling} is one of the program's own")
        for other in found.values():
            for other_name, other_flag in flags_of(other.options).items():
                if spelling not in flag_names(other_name, other_flag):
                    continue
                same_type = field.type == other.options.__dataclass_fields__[other_name].type
                if (other.stage, other_name) != (spec.stage, name) or not same_type:
                    raise ValueError(f"its option {spelling} means something else for {other.name!r} of {other.stage}")
