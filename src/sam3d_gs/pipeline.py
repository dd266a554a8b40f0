"""Run stages over photos: stage by stage, so that an engine is built once for all photos and gone before the next."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sam3d_gs.engines import load_engine
from sam3d_gs.errors import EXIT_PARTIAL, BadInputError, Sam3dGsError, UsageError
from sam3d_gs.files import sha256_of
from sam3d_gs.options import MaskOptions, ObjectOptions, PhotoOptions, PhraseOptions, SceneOptions
from sam3d_gs.photo import load_photo
from sam3d_gs.stages.bookkeeping import Context, Progress, StageResult, clear_leftovers, locked, prepare
from sam3d_gs.types import Photo
from sam3d_gs.workspace import Workspace, folder_name

log = logging.getLogger("sam3d_gs")


@dataclass(frozen=True)
class Settings:
    """Everything a run was asked for."""

    root: Path
    force: bool = False
    photo: PhotoOptions = field(default_factory=PhotoOptions)
    phrases: PhraseOptions = field(default_factory=PhraseOptions)
    masks: MaskOptions = field(default_factory=MaskOptions)
    objects: ObjectOptions = field(default_factory=ObjectOptions)
    scene: SceneOptions = field(default_factory=SceneOptions)
    waits: bool = False  # for a photo that another process works on, instead of giving it up


class Show(Protocol):
    """How the caller shows what happens."""

    def stage(self, workspace: Workspace, result: StageResult) -> None: ...

    def failed(self, photo: Path, stage: str, error: Sam3dGsError) -> None: ...

    def progress(self, photo: str, stage: str) -> Progress: ...


def run(
    photos: Iterable[Path],
    stages: Sequence[str],
    settings: Settings,
    show: Show,
    finished: Callable[[Path], None] = lambda photo: None,
) -> int:
    """Run `stages` on every photo; returns the exit code.

    A photo that fails is shown and left out of the later stages; the others go on. 0 when all is well, 3 when some
    objects or photos failed, 1 when nothing came of any photo. `photos` may come in as time goes by; `finished` is
    told of each that has been through all stages, as soon as it has.
    """
    going: Iterable[Path] = _each_once(photos)
    partial = False
    first_error: Sam3dGsError | None = None
    for stage in stages:
        well: list[Path] = []
        with closing(_Step(stage, settings)) as step:
            for path in going:
                try:
                    workspace, result = _run_one(path, step, settings, show)
                except UsageError:
                    raise
                except Sam3dGsError as error:
                    first_error = first_error or error
                    show.failed(path, stage, error)
                else:
                    partial = partial or result.status == "partial"
                    show.stage(workspace, result)
                    well.append(path)
                    if stage == stages[-1]:
                        finished(path)
        going = well
    if not stages:  # the user's own phrases or masks leave a process nothing to do
        for path in going:
            finished(path)
    if first_error and not going:
        return first_error.exit_code
    return EXIT_PARTIAL if partial or first_error else 0


def _each_once(photos: Iterable[Path]) -> Iterator[Path]:
    seen: set[Path] = set()
    for path in map(Path.absolute, photos):
        if path not in seen:
            seen.add(path)
            yield path


def _run_one(path: Path, step: _Step, settings: Settings, show: Show) -> tuple[Workspace, StageResult]:
    photo = load_photo(path, settings.photo)
    workspace = workspace_of(settings.root, photo)
    with locked(workspace, settings.waits):
        clear_leftovers(workspace)
        prepare(workspace, photo)
        context = Context(workspace, photo, settings.force, show.progress(workspace.photo, step.stage))
        try:
            return workspace, step.run(context)
        finally:
            context.progress(1, 1, "")


class _Step:
    """One stage with its engine, which is built when the first photo needs it."""

    def __init__(self, stage: str, settings: Settings) -> None:
        self.stage = stage
        self._options: Any = getattr(settings, stage)
        self._loaded: Any = None

    def run(self, context: Context) -> StageResult:
        from sam3d_gs.stages import masks, objects, phrases, scene

        if self.stage == "scene":
            return scene.run(context, self._options)
        runs: dict[str, Callable[..., StageResult]] = {
            "phrases": phrases.run,
            "masks": masks.run,
            "objects": objects.run,
        }
        return runs[self.stage](context, self._options, self._engine)

    def _engine(self) -> Any:
        if self._loaded is None:
            self._loaded = load_engine(self.stage, self._options.engine, self._options)
        return self._loaded

    def close(self) -> None:
        """Let the engine give back what it holds (a server, GPU memory) before the next stage starts."""
        close = getattr(self._loaded, "close", None)
        if close is not None:
            close()
        self._loaded = None


def workspace_of(root: Path, photo: Photo) -> Workspace:
    return Workspace(root, folder_name(root, photo.name, photo.sha256))


def find_workspace(root: Path, argument: Path) -> Workspace:
    """The workspace of a photo that has been worked on, by the photo's file or by its name in the workspace.

    Raises BadInputError when neither is known.
    """
    if argument.is_file():
        workspace = Workspace(root, folder_name(root, argument.stem, sha256_of(argument)))
    elif argument.name in ("", ".", "..") or len(argument.parts) != 1:
        raise BadInputError(f"No such photo: {argument}.")
    else:
        workspace = Workspace(root, argument.name)
    if not workspace.manifest.exists():
        known = ", ".join(sorted(w.photo for w in all_workspaces(root))) or "none"
        raise BadInputError(f"{argument} has not been worked on in {root}. Photos there: {known}.")
    return workspace


def all_workspaces(root: Path) -> Iterator[Workspace]:
    runs = Workspace(root, "x").run_dir.parent
    for manifest in sorted(runs.glob("*/manifest.json")):
        yield Workspace(root, manifest.parent.name)
