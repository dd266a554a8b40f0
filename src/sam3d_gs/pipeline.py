"""Running stages over photos. Each engine is built once, and closed before the next one needs the GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from sam3d_gs.engines import registry
from sam3d_gs.engines.registry import EngineChoice
from sam3d_gs.errors import EXIT_PARTIAL, BadInputError, Sam3dGsError, UsageError, as_one_line
from sam3d_gs.files import exists, sha256_of
from sam3d_gs.options import STAGES, PhotoOptions, SceneOptions
from sam3d_gs.photo import load_photo
from sam3d_gs.stages.bookkeeping import Context, Progress, StageResult
from sam3d_gs.stages.claim import claimed
from sam3d_gs.types import Photo
from sam3d_gs.workspace import Workspace, folder_name, is_reserved

log = logging.getLogger("sam3d_gs")

CACHED_PHOTO_BYTES = 1 << 30  # decoded photos kept for later stages


def _default(stage: str) -> Callable[[], EngineChoice]:
    return lambda: registry.choose(stage)


@dataclass(frozen=True)
class Settings:
    """What to run and how: the workspace, and the engine and options of each stage."""

    root: Path
    force: bool = False
    photo: PhotoOptions = field(default_factory=PhotoOptions)
    phrases: EngineChoice = field(default_factory=_default("phrases"))
    masks: EngineChoice = field(default_factory=_default("masks"))
    objects: EngineChoice = field(default_factory=_default("objects"))
    scene: SceneOptions = field(default_factory=SceneOptions)
    waits: bool = False  # if another process works on a photo: wait for it instead of failing


class Show(Protocol):
    """Callbacks by which the caller reports progress, results and errors."""

    def stage(self, photo: Path, workspace: Workspace, result: StageResult) -> None: ...

    def failed(self, photo: Path, stage: str, error: Sam3dGsError) -> None: ...

    def progress(self, photo: str, stage: str) -> Progress: ...


class Silent:
    """A `Show` that prints nothing."""

    def stage(self, photo: Path, workspace: Workspace, result: StageResult) -> None:
        pass

    def failed(self, photo: Path, stage: str, error: Sam3dGsError) -> None:
        pass

    def progress(self, photo: str, stage: str) -> Progress:
        return lambda done, total, what: None


class StageRunner:
    """One stage with its engine: run it on any number of photos, then close it.

    ``with StageRunner("masks", settings) as runner: runner.run(load_photo(path))``. The engine is built when the first
    photo needs it, or by `load`. Each photo is locked while it is processed, so several runners, even in different
    processes, can share a workspace.
    """

    def __init__(self, stage: str, settings: Settings, show: Show | None = None) -> None:
        self.stage = stage
        self.settings = settings
        self._show = show or Silent()
        self._engine: Any = None
        self._cannot_load: Exception | None = None

    def __enter__(self) -> StageRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def uses_gpu(self) -> bool:
        """Whether its engine uses GPU memory, so that no other engine should be loaded at the same time."""
        return self.stage != "scene" and bool(getattr(self.settings, self.stage).gpu.gib)

    def load(self) -> Any:
        """The engine, built on the first call. Raises Sam3dGsError if it cannot run here.

        What went wrong once is not tried again for the next photo: a server may take ten minutes to fail.
        """
        if self._engine is None and self._cannot_load is None:
            try:
                self._engine = registry.load(getattr(self.settings, self.stage))
            except Exception as error:
                self._cannot_load = as_one_line(error)
        if self._cannot_load is not None:
            raise self._cannot_load
        return self._engine

    def run(self, photo: Photo) -> tuple[Workspace, StageResult]:
        """Run the stage on one photo, unless it is up to date.

        Raises Sam3dGsError if the stage fails, or if another process works on the photo.
        """
        with claimed(self.settings.root, photo, self.settings.waits) as workspace:
            progress = self._show.progress(workspace.photo, self.stage)
            context = Context(workspace, photo, self.settings.force, progress)
            try:
                return workspace, self._run(context)
            finally:
                progress(1, 1, "")

    def _run(self, context: Context) -> StageResult:
        from sam3d_gs.stages import masks, objects, phrases, scene

        if self.stage == "scene":
            return scene.run(context, self.settings.scene)
        runs: dict[str, Callable[..., StageResult]] = {
            "phrases": phrases.run,
            "masks": masks.run,
            "objects": objects.run,
        }
        return runs[self.stage](context, getattr(self.settings, self.stage), self.load)

    def close(self) -> None:
        """Close the engine, which frees its GPU memory or stops its server. The next photo builds a new one."""
        engine, self._engine, self._cannot_load = self._engine, None, None
        close = getattr(engine, "close", None)
        if close is not None:
            try:
                close()
            except Exception as error:  # the results are there
                log.warning("The engine of the %s stage did not close: %s", self.stage, as_one_line(error))


def run(
    photos: Iterable[Path],
    stages: Sequence[str],
    settings: Settings,
    show: Show,
    finished: Callable[[Path], None] = lambda photo: None,
) -> int:
    """Run `stages` on every photo and return the exit code.

    A photo that fails, for whatever reason, is reported and skipped in later stages. The code is 0 if all succeed, 3 if
    some objects or photos fail, and that of the first error (usually 1) if all photos fail. `photos` may be a generator
    that waits for more photos; `finished` is called with each photo as soon as it has passed all stages.
    """
    remaining: Iterable[Path] = _each_once(photos)
    groups = _passes(stages, settings)
    decoded = _DecodedPhotos(settings.photo, keep=len(groups) > 1)
    partial = False
    first_error: Sam3dGsError | None = None
    for group in groups:
        succeeded: list[Path] = []
        with ExitStack() as opened:
            runners = [opened.enter_context(StageRunner(stage, settings, show)) for stage in group]
            for path in remaining:
                for runner in runners:
                    try:
                        workspace, result = runner.run(decoded.get(path))
                    except UsageError:
                        raise
                    except Exception as error:  # whatever it is, it is this photo's: the others go on
                        failure = as_one_line(error)
                        first_error = first_error or failure
                        show.failed(path, runner.stage, failure)
                        break
                    partial = partial or result.status == "partial"
                    show.stage(path, workspace, result)
                else:
                    succeeded.append(path)
                    if not group or group[-1] == stages[-1]:
                        finished(path)
        remaining = succeeded
    if first_error and not remaining:
        return first_error.exit_code
    return EXIT_PARTIAL if partial or first_error else 0


def _passes(stages: Sequence[str], settings: Settings) -> list[list[str]]:
    """The stages in groups, one pass over the photos for each.

    Consecutive stages on the CPU share a group, so that a photo is finished before the next one starts. A stage that
    uses GPU memory is a group of its own: its engine is built once for all photos and closed before the next is built.
    """
    groups: list[list[str]] = [[]]
    alone = False
    for stage in stages:
        uses_gpu = StageRunner(stage, settings).uses_gpu
        if groups[-1] and (uses_gpu or alone):
            groups.append([])
        groups[-1].append(stage)
        alone = uses_gpu
    return groups


class _DecodedPhotos:
    """Photos as they are needed. With `keep`, each is decoded once per call as long as CACHED_PHOTO_BYTES hold them."""

    def __init__(self, options: PhotoOptions, keep: bool) -> None:
        self._options, self._keep = options, keep
        self._photos: dict[Path, Photo] = {}

    def get(self, path: Path) -> Photo:
        if path in self._photos:
            return self._photos[path]
        photo = load_photo(path, self._options)
        if not self._keep:  # the stages of one pass follow each other
            self._photos.clear()
        if sum(p.rgb.nbytes for p in self._photos.values()) < CACHED_PHOTO_BYTES:
            self._photos[path] = photo
        return photo


def stages_to_run(names: Sequence[str], phrases: EngineChoice, masks: EngineChoice) -> list[str]:
    """The stages to run, in order. Masks that need no phrases leave that stage out.

    The user's own phrases and masks are read whenever a stage that needs them is asked for; that takes no time if they
    are up to date. Raises UsageError for an unknown stage.
    """
    for name in names:
        if name not in STAGES:
            raise UsageError(f"Unknown stage {name!r}. Expected some of {','.join(STAGES)}.")
    chosen = set(names)
    if not masks.needs_phrases:
        chosen -= {"phrases"}
    elif phrases.spec.chosen_by and "masks" in chosen:
        chosen |= {"phrases"}
    if masks.spec.chosen_by and "objects" in chosen:
        chosen |= {"masks"}
    return [stage for stage in STAGES if stage in chosen]


def _each_once(photos: Iterable[Path]) -> Iterator[Path]:
    seen: set[Path] = set()
    for path in map(Path.absolute, photos):
        if path not in seen:
            seen.add(path)
            yield path


def find_workspace(root: Path, argument: Path) -> Workspace:
    """The workspace of a photo that has been processed, given its file or its name in the workspace.

    Raises BadInputError if there is none.
    """
    if exists(argument) and argument.is_file():
        workspace = Workspace(root, folder_name(root, argument.stem, sha256_of(argument)))
    elif argument.name in ("", ".", "..") or len(argument.parts) != 1 or is_reserved(argument.name):
        raise BadInputError(f"No such photo: {argument}.")
    else:
        workspace = Workspace(root, argument.name)
    if not exists(workspace.manifest):
        known = ", ".join(sorted(w.photo for w in all_workspaces(root))) or "none"
        raise BadInputError(f"{argument} has not been processed in {root}. Photos there: {known}.")
    return workspace


def all_workspaces(root: Path) -> Iterator[Workspace]:
    """The workspaces of all photos that have been processed, sorted by name."""
    runs = Workspace(root, "x").run_dir.parent
    folders = sorted(runs.iterdir()) if exists(runs) else []
    for folder in folders:
        if folder.is_dir() and not is_reserved(folder.name) and _has_manifest(folder):
            yield Workspace(root, folder.name)


def _has_manifest(folder: Path) -> bool:
    try:
        return exists(folder / "manifest.json")
    except BadInputError:  # the folder is closed: whoever reads its manifest says so
        return True
