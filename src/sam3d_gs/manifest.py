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
from typing import Any, Literal

from sam3d_gs import __version__
from sam3d_gs.errors import BadInputError
from sam3d_gs.files import read_json, write_json

SCHEMA = 1
Status = Literal["running", "done", "partial", "failed"]


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
    if not path.exists():
        return None
    data = read_json(path, "manifest")
    try:
        if data["schema"] != SCHEMA:
            raise BadInputError(
                f"{path} has schema {data['schema']}, this version reads {SCHEMA}. "
                "Use the version that wrote it, or start over with `sam3d-gs clean`."
            )
        stages = {name: _record(value) for name, value in data["stages"].items()}
        photo = dict(data["photo"])
        if not isinstance(photo["sha256"], str):
            raise TypeError("photo.sha256 is not a string")
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInputError(
            f"{path} is not a manifest of this program ({error!r}). Delete it to start over."
        ) from error
    return Manifest(photo=photo, stages=stages)


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


def _record(value: Mapping[str, Any]) -> StageRecord:
    known = {f.name for f in dataclasses.fields(StageRecord)}
    items = {key: Item(**item) for key, item in value.get("items", {}).items()}
    return StageRecord(**{**{k: v for k, v in value.items() if k in known}, "items": items})


def plain(value: Any) -> Any:
    """`value` as it would be after a JSON round trip: tuples become lists, paths become strings."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
