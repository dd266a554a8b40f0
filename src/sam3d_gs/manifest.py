"""manifest.json: what was made, by which engine, with which options, from which inputs.

A stage reads what the manifest recorded, never a wildcard, so leftovers of an older run cannot enter a scene.

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
    """One object's result inside a stage, so that a stage can be continued object by object."""

    input: str  # hash of what it was made from
    output: str  # path below the workspace root
    size: int  # bytes, to notice a file changed or lost
    seconds: float = 0.0


@dataclass(frozen=True)
class StageRecord:
    """What one stage did."""

    status: Status
    engine: str  # "-" for the scene stage
    options: Mapping[str, Any]
    inputs: Mapping[str, str]  # name -> hash
    outputs: Mapping[str, int] = field(default_factory=dict)  # path below the workspace root -> bytes
    items: Mapping[str, Item] = field(default_factory=dict)  # object id -> its result
    errors: Mapping[str, str] = field(default_factory=dict)  # object id, or "stage", -> reason
    licences: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    tool_version: str = __version__

    def same_work(self, engine: str, options: Mapping[str, Any], inputs: Mapping[str, str]) -> bool:
        """True when this record answers the same question. `options`: those that matter to the answer."""
        same_options = all(self.options.get(name, options) == value for name, value in plain(options).items())
        return self.engine == engine and same_options and self.inputs == dict(inputs)


@dataclass(frozen=True)
class Manifest:
    """All stages of one photo."""

    photo: Mapping[str, Any]  # name, file, sha256, width_px, height_px
    stages: Mapping[str, StageRecord] = field(default_factory=dict)

    def with_stage(self, stage: str, record: StageRecord) -> Manifest:
        return dataclasses.replace(self, stages={**self.stages, stage: record})


def load(path: Path) -> Manifest | None:
    """The manifest at `path`, None when there is none. BadInputError when it is damaged or of another schema."""
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
            raise TypeError("photo.sha256 is not text")
    except (KeyError, TypeError, AttributeError) as error:
        raise BadInputError(
            f"{path} is not a manifest of this program ({error!r}). Delete it to start over."
        ) from error
    return Manifest(photo=photo, stages=stages)


def save(path: Path, manifest: Manifest) -> None:
    stages = {name: plain(dataclasses.asdict(record)) for name, record in manifest.stages.items()}
    write_json(path, {"schema": SCHEMA, "tool_version": __version__, "photo": dict(manifest.photo), "stages": stages})


def photo_hash(path: Path) -> str | None:
    """The hash of the photo a manifest belongs to; None when there is no readable manifest."""
    try:
        manifest = load(path)
    except BadInputError:
        return None
    return None if manifest is None else str(manifest.photo["sha256"])


def fingerprint(value: Any) -> str:
    """A short stable hash of plain data."""
    return hashlib.sha256(json.dumps(plain(value), sort_keys=True).encode()).hexdigest()[:16]


def _record(value: Mapping[str, Any]) -> StageRecord:
    known = {f.name for f in dataclasses.fields(StageRecord)}
    items = {key: Item(**item) for key, item in value.get("items", {}).items()}
    return StageRecord(**{**{k: v for k, v in value.items() if k in known}, "items": items})


def plain(value: Any) -> Any:
    """Options as JSON would give them back: tuples become lists, paths text."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
