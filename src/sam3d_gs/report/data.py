"""What the report shows, as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sam3d_gs.engines.api import FailedObject
from sam3d_gs.gaussians.packed import Packed
from sam3d_gs.types import InstanceMask, ObjectDescription, Photo, Phrase, SceneDescription


@dataclass(frozen=True)
class StageReport:
    """What one stage did, for the table of the run."""

    name: str
    status: str  # done, partial, failed
    engine: str
    seconds: float
    peak_memory_mb: float | None = None
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class ObjectReport:
    """One object of the scene and its pictures; what is None or missing is left out of the page."""

    object: ObjectDescription
    splats: Packed | None = None  # for the 3D view, from `view3d.pack_object`
    contact_sheet: Path | None = None
    turntable: Path | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class ReportData:
    """Everything on the page."""

    photo: Photo
    scene: SceneDescription
    objects: Sequence[ObjectReport]  # in the order of the scene's
    phrases: Sequence[Phrase] = ()
    masks: Sequence[InstanceMask] = ()  # kept and dropped
    failures: Sequence[FailedObject] = ()
    overlay: Path | None = None
    turntable: Path | None = None
    stages: Sequence[StageReport] = ()
    licences: Mapping[str, str] = field(default_factory=dict)  # model -> licence
    files: Mapping[str, str] = field(default_factory=dict)  # what -> path below the workspace
    version: str = ""
