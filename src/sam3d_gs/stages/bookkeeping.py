"""What all stages share: checking whether results are up to date, and recording the work in the manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sam3d_gs import edits
from sam3d_gs import manifest as manifests
from sam3d_gs.engines.registry import EngineChoice
from sam3d_gs.errors import BadInputError, Sam3dGsError, command
from sam3d_gs.files import sha256_of
from sam3d_gs.manifest import Item, StageRecord, fingerprint
from sam3d_gs.option_flags import EngineOptions, flag_names, flags_of
from sam3d_gs.options import SceneOptions
from sam3d_gs.redaction import redacted
from sam3d_gs.types import Photo
from sam3d_gs.workspace import Workspace

log = logging.getLogger("sam3d_gs")

_END_BYTES = 1 << 20  # hashed at the end of a weight file; the zip directories of the official ones are smaller

Progress = Callable[[int, int, str], None]  # done, total, current item


def no_progress(done: int, total: int, what: str) -> None:
    """A progress callback that does nothing."""


@dataclass(frozen=True)
class Context:
    """The inputs of a stage besides its engine and options."""

    workspace: Workspace
    photo: Photo
    force: bool = False
    progress: Progress = no_progress


@dataclass(frozen=True)
class StageResult:
    """The outcome of a stage, for the caller to print. `status` determines the exit code."""

    stage: str
    status: Literal["done", "partial", "up to date"]
    summary: str  # one short line, e.g. "5 masks kept, 3 dropped"
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()


def recorded(workspace: Workspace, stage: str) -> StageRecord | None:
    """The manifest's record of a stage; None if it has never run.

    Raises BadInputError if it names a file that is not the photo's.
    """
    manifest = manifests.load(workspace.manifest)
    record = manifest.stages.get(stage) if manifest else None
    for path in {**_files(record), **record.stamps} if record else ():
        recorded_path(workspace, path)
    return record


def recorded_path(workspace: Workspace, relative: str) -> Path:
    """A file that the manifest names. Raises BadInputError if it is not the photo's."""
    return workspace.own_file(relative, workspace.manifest)


def _files(record: StageRecord) -> dict[str, int]:
    """Path relative to the workspace root -> bytes, of everything the stage made."""
    return {**record.outputs, **{item.output: item.size for item in record.items.values()}}


def finished(workspace: Workspace, stage: str, photo_argument: Path) -> StageRecord:
    """The record of a stage that has results. Raises Sam3dGsError, naming the command to run, if it has none."""
    record = recorded(workspace, stage)
    if record is None or record.status == "failed" or (record.status == "running" and not record.items):
        raise Sam3dGsError(
            f"No {stage} for {photo_argument.name} in {workspace.root}. Run {command(stage, photo_argument)} first."
        )
    return record


def record_as_done(workspace: Workspace, stage: str, record: StageRecord) -> None:
    """Record that a stage has its result, because the user has made it."""
    manifest = manifests.load(workspace.manifest)
    assert manifest is not None, "the stage has run before"
    manifests.save(workspace.manifest, manifest.with_stage(stage, dataclasses.replace(record, status="done")))


def intact(workspace: Workspace, record: StageRecord, kept: Collection[Path] = ()) -> bool:
    """Whether every output in the record exists as it was written. Files in `kept` need only exist."""
    return all(
        path.is_file() if path in kept else _size(path) == size and not edits.is_edited(workspace, record, path)
        for path, size in ((recorded_path(workspace, name), size) for name, size in _files(record).items())
    )


def refuse_to_replace(context: Context, stage: str, edited: Collection[Path], why: str) -> None:
    """Raise BadInputError when there are edited files: what the stage makes would replace them.

    `why`: a clause, what has changed since.
    """
    if not edited:
        return
    first = next(iter(edited))
    raise BadInputError(
        f"{edits.names(edited)} in {first.parent}: edited by hand, and {why}. The edit is kept, and the {stage} stage "
        f"did not run. To replace it, run {command(stage, context.photo.path, '--force')}; yours is then kept as "
        f"{context.workspace.set_aside(first).name}."
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


@dataclass
class Recorder:
    """Updates one stage's record in the manifest while the stage runs."""

    context: Context
    stage: str
    record: StageRecord
    kept: Collection[Path] = ()  # edited files, which this stage does not write
    started_s: float = field(default_factory=time.perf_counter)
    started_ns: int = field(default_factory=time.time_ns)

    def add_output(self, *paths: Path) -> None:
        workspace = self.context.workspace
        written = [path for path in paths if path not in self.kept]
        added = {workspace.relative(path): path.stat().st_size for path in written}
        self._update(outputs={**self.record.outputs, **added})
        self._stamp(*written)

    def add_item(self, object_id: str, input_hash: str, path: Path, seconds: float) -> None:
        item = Item(input_hash, self.context.workspace.relative(path), path.stat().st_size, round(seconds, 3))
        self._update(items={**self.record.items, object_id: item})
        self._stamp(path)
        self.save()

    def _stamp(self, *paths: Path) -> None:
        workspace = self.context.workspace
        stamps = {workspace.relative(path): edits.stamp(path) for path in paths if workspace.is_editable(path)}
        self._update(stamps={**self.record.stamps, **stamps})

    def remember(self, former: StageRecord | None) -> None:
        """After a failure: take over the stamps of files that were not written, so that edits of them still show."""
        stamps = former.stamps if former else {}
        old = {name: stamp for name, stamp in stamps.items() if self._is_older(self.context.workspace.root / name)}
        self._update(stamps={**old, **self.record.stamps})

    def _is_older(self, path: Path) -> bool:
        try:
            return path.stat().st_mtime_ns < self.started_ns
        except OSError:
            return False

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
        if manifest is None:
            raise BadInputError(f"{path} was removed while the stage ran. Run the same command again.")
        manifests.save(path, manifest.with_stage(self.stage, self.record))

    def _update(self, **changes: Any) -> None:
        self.record = dataclasses.replace(self.record, **changes)


@contextmanager
def recording(
    context: Context,
    stage: str,
    choice: EngineChoice | SceneOptions,
    inputs: Mapping[str, str],
    items: Mapping[str, Item] | None = None,
    kept: Collection[Path] = (),
) -> Iterator[Recorder]:
    """Record a stage from its start ("running") to its end; a failure is recorded with its reason and raised again.

    `items`: results of an earlier run that are reused. `kept`: edited files that stay. All other edited files of the
    earlier run are set aside first. If the stage succeeds, files that only the former record names are removed, so
    that no stale files remain.
    """
    workspace = context.workspace
    former = recorded(workspace, stage)
    reused = {*kept, *(workspace.root / item.output for item in (items or {}).values())}
    edits.set_aside(workspace, [path for path in edits.edited_files(workspace, former) if path not in reused])
    names = {workspace.relative(path) for path in reused}
    record = StageRecord(
        status="running",
        engine=choice.name if isinstance(choice, EngineChoice) else "-",
        options=plain_options(choice.options if isinstance(choice, EngineChoice) else choice),
        inputs=dict(inputs),
        outputs={name: size for name, size in (former.outputs if former else {}).items() if name in names},
        items=dict(items or {}),
        stamps={name: stamp for name, stamp in (former.stamps if former else {}).items() if name in names},
        licences=dict(choice.licences) if isinstance(choice, EngineChoice) else {},
    )
    recorder = Recorder(context, stage, record, kept)
    recorder.save()
    try:
        yield recorder
    except Exception as error:
        reason = str(error) if isinstance(error, Sam3dGsError) else f"{type(error).__name__}: {error}"
        recorder.add_error("stage", reason)
        recorder.remember(former)
        recorder.finish("failed")
        raise
    if recorder.record.status == "running":
        recorder.finish("done")
    if former is not None:
        _remove_stale(workspace, former, recorder.record)


def _remove_stale(workspace: Workspace, former: StageRecord, current: StageRecord) -> None:
    for path in _files(former).keys() - _files(current).keys():
        recorded_path(workspace, path).unlink(missing_ok=True)


def peak_memory_mb() -> float:
    """Peak resident memory of this process, in MB; 0 on Windows."""
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def plain_options(options: Any) -> dict[str, Any]:
    """A stage's options as JSON values, for the manifest, without keys and passwords."""
    hidden = {
        name: redacted(getattr(options, name)) for name, flag in flags_of(type(options)).items() if flag.may_hold_key
    }
    return dict(manifests.plain({**dataclasses.asdict(options), **hidden}))


def result_options(options: Any) -> dict[str, Any]:
    """`plain_options` without those that do not change the result (`same_result` in `option_flags.Flag`)."""
    ignored = {f.name for f in dataclasses.fields(options) if _same_result(f)}
    return {name: value for name, value in plain_options(options).items() if name not in ignored}


def _same_result(field: dataclasses.Field[Any]) -> bool:
    flag = field.metadata.get("flag")
    return bool(field.metadata.get("same_result") or (flag and flag.same_result))


def input_hashes(options: EngineOptions) -> dict[str, str]:
    """Option name -> hash of the file or folder it names, for options whose content affects the result.

    Raises BadInputError if a file or folder is missing.
    """
    found = {}
    for name, flag in flags_of(type(options)).items():
        value = getattr(options, name)
        if flag.content and value:
            hashed = _content_hash(flag_names(name, flag)[0], flag.content, value)
            found.update({name: hashed} if hashed else {})
    return found


def _content_hash(flag: str, content: str, value: Path | str) -> str:
    path = Path(value)
    if content == "weights":
        return fingerprint(_weights_outline(path))
    if content == "path" and not path.is_file():
        if not path.is_dir():
            raise BadInputError(f"No such folder or file for {flag}: {path}.")
        return fingerprint([[file.name, sha256_of(file)] for file in sorted(path.iterdir()) if file.is_file()])
    if path.is_file():
        return sha256_of(path)
    if isinstance(value, str):  # a value that may be a file name but need not be
        return ""
    raise BadInputError(f"No such file for {flag}: {path}.")


def _weights_outline(path: Path) -> list[list[Any]]:
    """Name, size and a hash of the end of every file, to tell checkpoints apart without reading gigabytes.

    The end suffices: a file written by torch.save ends with a zip directory that has a checksum of every tensor.
    """
    files = [path] if path.is_file() else [*path.glob("*"), *path.glob("checkpoints/*")]
    return [[file.name, *_size_and_end(file)] for file in sorted(files, key=lambda f: f.name) if file.is_file()]


def _size_and_end(path: Path) -> tuple[int, str]:
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size - _END_BYTES))
        return size, hashlib.sha256(stream.read()).hexdigest()
