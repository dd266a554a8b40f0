"""What every stage does around its own work: is it up to date, record what happened, survive being killed."""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from sam3d_gs import manifest as manifests
from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.files import atomic_path, clear_temporary
from sam3d_gs.manifest import Item, Manifest, StageRecord
from sam3d_gs.types import Photo
from sam3d_gs.workspace import Workspace

log = logging.getLogger("sam3d_gs")

Progress = Callable[[int, int, str], None]  # done, total, what is being worked on


def no_progress(done: int, total: int, what: str) -> None:
    """The default progress: none."""


@dataclass(frozen=True)
class Context:
    """What a stage is given beside its options."""

    workspace: Workspace
    photo: Photo
    force: bool = False
    progress: Progress = no_progress


@dataclass(frozen=True)
class StageResult:
    """What happened, for the caller to show. `status` decides the exit code."""

    stage: str
    status: Literal["done", "partial", "up to date"]
    summary: str  # one short line, e.g. "5 masks kept, 3 dropped"
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


def prepare(workspace: Workspace, photo: Photo) -> None:
    """Make the photo's folder: the manifest that owns it and the picture all stages refer to."""
    if manifests.load(workspace.manifest) is None:
        manifests.save(
            workspace.manifest,
            Manifest(
                photo={
                    "name": workspace.photo,
                    "file": str(photo.path),
                    "sha256": photo.sha256,
                    "width_px": photo.width_px,
                    "height_px": photo.height_px,
                }
            ),
        )
    if not _same_size(workspace.image_png, photo):
        with atomic_path(workspace.image_png) as temporary:
            Image.fromarray(photo.rgb).save(temporary, compress_level=3)


def _same_size(image_png: Path, photo: Photo) -> bool:
    try:
        with Image.open(image_png) as image:
            return image.size == (photo.width_px, photo.height_px)
    except OSError:
        return False


@contextmanager
def locked(workspace: Workspace, waits: bool = False) -> Iterator[None]:
    """One process per photo at a time. When another one is at work: waits for its end, or raises Sam3dGsError."""
    workspace.run_dir.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows: no lock
        yield
        return
    with (workspace.run_dir / ".lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
        except OSError as error:
            raise Sam3dGsError(
                f"Another sam3d-gs is working on {workspace.photo!r} in {workspace.root}. Wait for it to end."
            ) from error
        yield


def recorded(workspace: Workspace, stage: str) -> StageRecord | None:
    """The manifest's record of a stage, None when it never ran."""
    manifest = manifests.load(workspace.manifest)
    return manifest.stages.get(stage) if manifest else None


def finished(workspace: Workspace, stage: str, photo_argument: Path) -> StageRecord:
    """The record of a stage that has results; an error that names the command to run otherwise."""
    record = recorded(workspace, stage)
    if record is None or record.status == "failed" or (record.status == "running" and not record.items):
        raise Sam3dGsError(
            f"No {stage} for {photo_argument.name} in {workspace.root}. Run `sam3d-gs {stage} {photo_argument}` first."
        )
    return record


def intact(workspace: Workspace, record: StageRecord) -> bool:
    """True when every file the record names is still there with its size."""
    files = {**record.outputs, **{item.output: item.size for item in record.items.values()}}
    return all(_size(workspace.root / path) == size for path, size in files.items())


def item_intact(workspace: Workspace, item: Item) -> bool:
    return _size(workspace.root / item.output) == item.size


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


@dataclass
class Recorder:
    """Keeps one stage's record in the manifest current while the stage works."""

    context: Context
    stage: str
    record: StageRecord
    started_s: float = field(default_factory=time.perf_counter)

    def add_output(self, *paths: Path) -> None:
        workspace = self.context.workspace
        added = {workspace.relative(path): path.stat().st_size for path in paths}
        self._update(outputs={**self.record.outputs, **added})

    def add_item(self, object_id: str, input_hash: str, path: Path, seconds: float) -> None:
        item = Item(input_hash, self.context.workspace.relative(path), path.stat().st_size, round(seconds, 3))
        self._update(items={**self.record.items, object_id: item})
        self.save()

    def add_error(self, object_id: str, reason: str) -> None:
        self._update(errors={**self.record.errors, object_id: reason})
        self.save()

    def finish(self, status: manifests.Status) -> None:
        self._update(status=status)
        self.save()

    def save(self) -> None:
        self._update(seconds=round(time.perf_counter() - self.started_s, 3), peak_memory_mb=round(peak_memory_mb(), 1))
        path = self.context.workspace.manifest
        manifest = manifests.load(path)
        assert manifest is not None, "prepare() writes the manifest before any stage"
        manifests.save(path, manifest.with_stage(self.stage, self.record))

    def _update(self, **changes: Any) -> None:
        self.record = dataclasses.replace(self.record, **changes)


@contextmanager
def recording(
    context: Context,
    stage: str,
    engine: str,
    options: Mapping[str, Any],
    inputs: Mapping[str, str],
    licences: Mapping[str, str] | None = None,
    items: Mapping[str, Item] | None = None,
) -> Iterator[Recorder]:
    """Record a stage from its start ("running") to its end; a failure is recorded with its reason and raised on.

    `items` are results of an interrupted run that still hold. Files of the former record that the new one does not
    name are removed when the stage ends well, so that no leftovers lie beside the results.
    """
    workspace = context.workspace
    former = recorded(workspace, stage)
    record = StageRecord(
        status="running",
        engine=engine,
        options=dict(options),
        inputs=dict(inputs),
        items=dict(items or {}),
        licences=dict(licences or {}),
    )
    recorder = Recorder(context, stage, record)
    recorder.save()
    try:
        yield recorder
    except Exception as error:
        reason = str(error) if isinstance(error, Sam3dGsError) else f"{type(error).__name__}: {error}"
        recorder.add_error("stage", reason)
        recorder.finish("failed")
        raise
    if recorder.record.status == "running":
        recorder.finish("done")
    if former is not None:
        _remove_stale(workspace, former, recorder.record)


def _remove_stale(workspace: Workspace, former: StageRecord, current: StageRecord) -> None:
    keep = {*current.outputs, *(item.output for item in current.items.values())}
    for path in {*former.outputs, *(item.output for item in former.items.values())} - keep:
        (workspace.root / path).unlink(missing_ok=True)


def clear_leftovers(workspace: Workspace) -> None:
    """Remove temporary files of killed runs from the photo's own folders."""
    for folder in _own_folders(workspace):
        clear_temporary(folder)
    clear_temporary(workspace.multi_dir, f"{workspace.photo}.")  # shared with other photos, which may be at work


def _own_folders(workspace: Workspace) -> tuple[Path, ...]:
    masks = workspace.masks_dir
    return workspace.run_dir, masks, masks / "dropped", workspace.objects_dir, workspace.single_dir


def peak_memory_mb() -> float:
    """Highest resident memory of this process so far, in MB; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def plain_options(options: Any) -> dict[str, Any]:
    """A stage's options for the manifest: everything but the engine, as plain JSON values."""
    return dict(manifests.plain({k: v for k, v in dataclasses.asdict(options).items() if k != "engine"}))


def asked(options: Any) -> dict[str, Any]:
    """`plain_options` less those that say how the work is done and not what comes out (see `options.SAME_RESULT`)."""
    how = {f.name for f in dataclasses.fields(options) if f.metadata.get("same_result")}
    return {name: value for name, value in plain_options(options).items() if name not in how}
