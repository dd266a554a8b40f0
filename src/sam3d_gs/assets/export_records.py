"""What `sam3d-gs export` has written for a photo, so that an export that a user has edited is not written over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sam3d_gs import edits
from sam3d_gs.errors import BadInputError
from sam3d_gs.files import read_json, write_json
from sam3d_gs.json_values import Fields
from sam3d_gs.manifest import Stamp
from sam3d_gs.workspace import Workspace

SCHEMA = 1


@dataclass(frozen=True)
class ExportRecords:
    """The exports of a photo by path below the workspace."""

    workspace: Workspace
    stamps: Mapping[str, Stamp]

    def is_ours(self, path: Path) -> bool:
        """Whether a file was exported and is as it was then, or is not there."""
        stamp = self.stamps.get(self.workspace.relative(path))
        return not path.exists() or (stamp is not None and not edits.differs(path, None, stamp))

    def make_room(self, path: Path, force: bool) -> None:
        """Before an export replaces a file: refuse, or keep it under another name, unless it is an unchanged export.

        Raises BadInputError for an export that was edited, unless `force`. A file that was never recorded is only kept.
        """
        if self.is_ours(path):
            return
        if not force and self.workspace.relative(path) in self.stamps:
            raise BadInputError(
                f"{path} was edited since it was exported, and is kept. --force replaces it; yours is then kept as "
                f"{self.workspace.set_aside(path).name}."
            )
        edits.set_aside(self.workspace, [path], why="an export replaces it")

    def with_files(self, *paths: Path) -> ExportRecords:
        """With these files, which were just written; saved."""
        new = {self.workspace.relative(path): edits.stamp(path) for path in paths}
        records = ExportRecords(self.workspace, {**self.stamps, **new})
        rows = {name: asdict(stamp) for name, stamp in records.stamps.items()}
        write_json(self.workspace.exports_json, {"schema": SCHEMA, "files": rows})
        return records


def read_records(workspace: Workspace) -> ExportRecords:
    """The exports so far; none when there is no file of them or it is damaged."""
    try:
        rows = Fields(read_json(workspace.exports_json, "list of exports")).fields("files", Fields({}))
        stamps = {name: Stamp.read(rows.fields(name)) for name in rows.value}
    except (BadInputError, ValueError):
        stamps = {}
    return ExportRecords(workspace, stamps)
