"""Run stages over photos, with every engine built once and closed before the next one needs the GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from sam3d_gs.engines import registry
from sam3d_gs.engines.registry import EngineChoice
from sam3d_gs.errors import EXIT_PARTIAL, BadInputError, Sam3dGsError, UsageError
from sam3d_gs.files import sha256_of
from sam3d_gs.options import PhotoOptions, SceneOptions
from sam3d_gs.photo import load_photo
from sam3d_gs.stages.bookkeeping import Context, Progress, StageResult
from sam3d_gs.stages.claim import claimed
from sam3d_gs.types import Photo
from sam3d_gs.workspace import Workspace, folder_name

CACHED_PHOTO_BYTES = 1 << 30  # decoded photos kept for the later stages of one call


def _default(stage: str) -> Callable[[], EngineChoice]:
    return lambda: registry.choose(stage)


@dataclass(frozen=True)
class Settings:
    """Everything a run was asked for."""

    root: Path
    force: bool = False
    photo: PhotoOptions = field(default_factory=PhotoOptions)
    phrases: EngineChoice = field(default_factory=_default("phrases"))
    masks: EngineChoice = field(default_factory=_default("masks"))
    objects: EngineChoice = field(default_factory=_default("objects"))
    scene: SceneOptions = field(default_factory=SceneOptions)
    waits: bool = False  # for a photo that another process works on, instead of giving it up


class Show(Protocol):
    """How the caller shows what happens."""

    def stage(self, photo: Path, workspace: Workspace, result: StageResult) -> None: ...

    def failed(self, photo: Path, stage: str, error: Sam3dGsError) -> None: ...

    def progress(self, photo: str, stage: str) -> Progress: ...


class Silent:
    """Shows nothing."""

    def stage(self, photo: Path, workspace: Workspace, result: StageResult) -> None:
        pass

    def failed(self, photo: Path, stage: str, error: Sam3dGsError) -> None:
        pass

    def progress(self, photo: str, stage: str) -> Progress:
        return lambda done, total, what: None


class StageRunner:
    """One stage with its engine: run it on any number of photos, then close it.

    ``with StageRunner("masks", settings) as runner: runner.run(load_photo(path))``. The engine is built when the first
    photo needs it, or by `load`. Photos are claimed one by one, so several runners, also in other processes, may share
    a workspace.
    """

    def __init__(self, stage: str, settings: Settings, show: Show | None = None) -> None:
        self.stage = stage
        self.settings = settings
        self._show = show or Silent()
        self._engine: Any = None

    def __enter__(self) -> StageRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def uses_gpu(self) -> bool:
        """Whether its engine holds GPU memory, so that no other should be loaded beside it."""
        return self.stage != "scene" and bool(getattr(self.settings, self.stage).gpu.gib)

    def load(self) -> Any:
        """Build the engine, unless that has been done. Raises Sam3dGsError when it cannot work here."""
        if self._engine is None:
            self._engine = registry.load(getattr(self.settings, self.stage))
        return self._engine

    def run(self, photo: Photo) -> tuple[Workspace, StageResult]:
        """Run the stage on one photo, or find that it is up to date.

        Raises Sam3dGsError when nothing came of it, or another process works on the photo.
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
        """Let the engine give back what it holds: a server, GPU memory. The next photo builds it again."""
        engine, self._engine = self._engine, None
        close = getattr(engine, "close", None)
        if close is not None:
            close()


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
    decoded = _DecodedPhotos(settings.photo)
    partial = False
    first_error: Sam3dGsError | None = None
    for group in _passes(stages, settings):
        well: list[Path] = []
        with ExitStack() as opened:
            runners = [opened.enter_context(StageRunner(stage, settings, show)) for stage in group]
            for path in going:
                for runner in runners:
                    try:
                        workspace, result = runner.run(decoded.get(path))
                    except UsageError:
                        raise
                    except Sam3dGsError as error:
                        first_error = first_error or error
                        show.failed(path, runner.stage, error)
                        break
                    partial = partial or result.status == "partial"
                    show.stage(path, workspace, result)
                else:
                    well.append(path)
                    if not group or group[-1] == stages[-1]:
                        finished(path)
        going = well
    if first_error and not going:
        return first_error.exit_code
    return EXIT_PARTIAL if partial or first_error else 0


def _passes(stages: Sequence[str], settings: Settings) -> list[list[str]]:
    """The stages in groups. Those of a group go together over each photo; the groups follow one another.

    Engines on the CPU share a group, so that a photo is finished before the next begins. An engine that holds GPU
    memory has one of its own: it is built once for all photos, and closed before the next is built.
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
    """Photos as they are needed, each decoded once per call while CACHED_PHOTO_BYTES hold them."""

    def __init__(self, options: PhotoOptions) -> None:
        self._options = options
        self._photos: dict[Path, Photo] = {}

    def get(self, path: Path) -> Photo:
        if path not in self._photos:
            photo = load_photo(path, self._options)
            while self._photos and sum(p.rgb.nbytes for p in self._photos.values()) > CACHED_PHOTO_BYTES:
                del self._photos[next(iter(self._photos))]
            self._photos[path] = photo
        return self._photos[path]


def _each_once(photos: Iterable[Path]) -> Iterator[Path]:
    seen: set[Path] = set()
    for path in map(Path.absolute, photos):
        if path not in seen:
            seen.add(path)
            yield path


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
    """Those of all photos that have been worked on, by name."""
    runs = Workspace(root, "x").run_dir.parent
    for manifest in sorted(runs.glob("*/manifest.json")):
        yield Workspace(root, manifest.parent.name)
