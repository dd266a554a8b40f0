"""The JSON beside an export. `<photo>.<frame>.json` describes all files of a frame that agree.

An export that it would not be true of, because its scale is another one, has `<photo>.<frame>.<format>.json` alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam3d_gs.assets.export_records import ExportRecords
from sam3d_gs.errors import BadInputError
from sam3d_gs.files import read_json, write_json
from sam3d_gs.json_values import Fields

_OF_ONE_FILE = ("files", "tool")  # what two exports of the same scene may differ in


@dataclass(frozen=True)
class Described:
    """What is to be written, and where."""

    path: Path
    data: Mapping[str, Any]
    written_too: Mapping[Path, Mapping[str, Any]]  # another description, which no longer has this export
    removed: tuple[Path, ...] = ()  # that was of this export alone

    def write(self) -> list[Path]:
        """Returns the paths written."""
        for path, data in {**self.written_too, self.path: self.data}.items():
            write_json(path, data)
        for path in self.removed:
            path.unlink(missing_ok=True)
        return [*self.written_too, self.path]


def describe(
    records: ExportRecords, target: Path, form: str, frame: str, data: Mapping[str, Any], force: bool
) -> Described:
    """Where the description of an export goes.

    data: the description with `files`, kind -> path, of this export alone.
    """
    workspace = records.workspace
    shared, own = workspace.export("json", frame), workspace.export(f"{form}.json", frame)
    former = _read(shared)
    there = {workspace.relative(path) for path in workspace.exports() if path.exists()} - {workspace.relative(target)}
    others = {kind: path for kind, path in _files(former).items() if path in there}
    free = not others or (_same(former, data) and not others.keys() & data["files"].keys())
    if free and (force or records.is_ours(shared)):
        removed = (own,) if own.exists() and records.is_ours(own) else ()
        return Described(shared, {**data, "files": {**others, **data["files"]}}, {}, removed)
    was_shared = len(others) < len(_files(former)) and others and records.is_ours(shared)
    return Described(own, data, {shared: {**former, "files": others}} if was_shared else {})


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(Fields(read_json(path, "description of an export")).value)
    except (BadInputError, ValueError):
        return {}


def _files(data: Mapping[str, Any]) -> dict[str, str]:
    try:
        return Fields(data).each_text("files")
    except ValueError:
        return {}


def _same(former: Mapping[str, Any], data: Mapping[str, Any]) -> bool:
    return all(former.get(key) == data.get(key) for key in {*former, *data} - {*_OF_ONE_FILE})
