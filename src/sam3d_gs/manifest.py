"""manifest.json: which outputs were made, by which engine, with which options, from which inputs.

A stage reads only files recorded here, never a wildcard, so files of an earlier run cannot end up in a scene.

schema 1: first version.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from sam3d_gs import __version__
from sam3d_gs.errors import BadInputError
from sam3d_gs.files import exists, read_json, write_json
from sam3d_gs.json_values import Fields
from sam3d_gs.options import STAGES

SCHEMA = 1
Status = Literal["running", "done", "partial", "failed"]


@dataclass(frozen=True)
class Stamp:
    """A file as it was written, to tell later whether a user has edited it."""

    sha256: str  # of its bytes
    mtime_us: int  # when it was written, microseconds: while this and its size stay, the bytes need not be read

    @staticmethod
    def read(row: Fields) -> Stamp:
        """Raises ValueError."""
        return Stamp(row.text("sha256"), row.whole("mtime_us"))


@dataclass(frozen=True)
class Item:
    """The result for one object, recorded so that a stage can resume object by object."""

    input: str  # hash of everything it was made from
    output: str  # path relative to the workspace root
    size: int  # bytes, to detect changed and missing files
    seconds: float = 0.0


@dataclass(frozen=True)
class StageRecord:
    """What one stage did, for one photo."""

    status: Status
    engine: str  # "-" for the scene stage
    options: Mapping[str, Any]
    inputs: Mapping[str, str]  # name -> hash
    outputs: Mapping[str, int] = field(default_factory=dict)  # path relative to the workspace root -> bytes
    items: Mapping[str, Item] = field(default_factory=dict)  # object id -> its result
    stamps: Mapping[str, Stamp] = field(default_factory=dict)  # path -> what was written, of files that users may edit
    errors: Mapping[str, str] = field(default_factory=dict)  # object id, or "stage", -> reason
    licences: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    tool_version: str = __version__

    def same_work(self, engine: str, options: Mapping[str, Any], inputs: Mapping[str, str]) -> bool:
        """Whether the engine, the inputs and `options`, those that affect the result, are the same as recorded."""
        same_options = all(self.options.get(name, options) == value for name, value in plain(options).items())
        return self.engine == engine and same_options and self.inputs == dict(inputs)


@dataclass(frozen=True)
class Manifest:
    """A photo, and the records of its stages."""

    photo: Mapping[str, Any]  # name, file, sha256, width_px, height_px
    stages: Mapping[str, StageRecord] = field(default_factory=dict)

    def with_stage(self, stage: str, record: StageRecord) -> Manifest:
        return dataclasses.replace(self, stages={**self.stages, stage: record})


def load(path: Path) -> Manifest | None:
    """The manifest at `path`; None if there is none. Raises BadInputError if it is damaged or has another schema."""
    if not exists(path):
        return None
    try:
        data = Fields(read_json(path, "manifest"))
        if (schema := data.value.get("schema")) != SCHEMA:
            raise BadInputError(
                f"{path} has schema {schema!r:.40}, this version reads {SCHEMA}. "
                "Use the version that wrote it, or delete it to start over."
            )
        photo, stages = data.fields("photo"), data.fields("stages")
        read = {name: _record(stages.fields(name)) for name in stages.value if name in STAGES}
        known = {"name": photo.text("name", ""), "sha256": photo.text("sha256"), "file": photo.path("file", "")}
        sizes = {name: photo.whole(name, 0) for name in ("width_px", "height_px")}
    except ValueError as error:
        raise BadInputError(f"{path} is not a manifest of this program: {error}. Delete it to start over.") from error
    return Manifest(photo={**known, **sizes}, stages=read)


def save(path: Path, manifest: Manifest) -> None:
    stages = {name: plain(dataclasses.asdict(record)) for name, record in manifest.stages.items()}
    write_json(path, {"schema": SCHEMA, "tool_version": __version__, "photo": dict(manifest.photo), "stages": stages})


def photo_hash(path: Path) -> str | None:
    """The SHA-256 of the manifest's photo; None if there is no readable manifest."""
    try:
        manifest = load(path)
    except BadInputError:
        return None
    return None if manifest is None else str(manifest.photo["sha256"])


def fingerprint(value: Any) -> str:
    """A hash of JSON-like data: 16 hex digits, the same in every process."""
    return hashlib.sha256(json.dumps(plain(value), sort_keys=True).encode()).hexdigest()[:16]


def _record(row: Fields) -> StageRecord:
    """Raises ValueError."""
    status = row.text("status")
    if status not in get_args(Status):
        raise ValueError(f"status is {status!r:.40}, expected {', '.join(get_args(Status))}")
    items, stamps = row.fields("items", Fields({})), row.fields("stamps", Fields({}))
    return StageRecord(
        status=cast(Status, status),
        engine=row.text("engine"),
        options=row.fields("options", Fields({})).value,
        inputs=row.each_text("inputs"),
        outputs=row.each_whole("outputs"),
        items={object_id: _item(items.fields(object_id)) for object_id in items.value},
        stamps={path: Stamp.read(stamps.fields(path)) for path in stamps.value},
        errors=row.each_text("errors"),
        licences=row.each_text("licences"),
        seconds=row.number("seconds", 0.0),
        peak_memory_mb=row.number("peak_memory_mb", 0.0),
        tool_version=row.text("tool_version", ""),
    )


def _item(row: Fields) -> Item:
    return Item(row.text("input"), row.text("output"), row.whole("size"), row.number("seconds", 0.0))


def plain(value: Any) -> Any:
    """`value` as it would be after a JSON round trip: tuples become lists, paths become strings."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
