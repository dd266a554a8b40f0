"""The pipeline from Python: a scene in memory with `reconstruct`, or resumable in a workspace with `run`."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from sam3d_gs.engines import registry
from sam3d_gs.engines.api import FailedObject
from sam3d_gs.engines.registry import EngineChoice
from sam3d_gs.engines.spec import EngineSpec
from sam3d_gs.errors import BadInputError, Sam3dGsError, UsageError
from sam3d_gs.options import STAGES, PhotoOptions, SceneOptions
from sam3d_gs.pipeline import Settings, Silent, find_workspace
from sam3d_gs.pipeline import run as run_stages
from sam3d_gs.scene import Scene, make_scene
from sam3d_gs.stages.bookkeeping import StageResult
from sam3d_gs.types import InstanceMask, Photo, Phrase, PlacedObject
from sam3d_gs.workspace import Workspace, object_id

if TYPE_CHECKING:
    from PIL import Image

PathArgument: TypeAlias = "str | PathLike[str]"
PhotoArgument: TypeAlias = "Photo | str | PathLike[str] | np.ndarray | Image.Image"
EngineArgument: TypeAlias = "str | EngineChoice | Any"
"""An engine's name, what `engine` returns, or any object that fulfils the stage's Protocol."""


def load_photo(source: PhotoArgument, *, name: str = "", max_side_px: int = PhotoOptions.max_side_px) -> Photo:
    """A photo as the pipeline sees it: upright, RGB, at most `max_side_px` on its longer side.

    Args:
        source: a file, a PIL image, or an array (H, W, 3) uint8 RGB.
        name: what to call it; by default the file's stem, or "photo".

    Raises BadInputError when it cannot be read.
    """
    from sam3d_gs.photo import load_photo as load_file
    from sam3d_gs.photo import photo_of_image

    options = PhotoOptions(max_side_px)
    if isinstance(source, Photo):
        return source
    if isinstance(source, (str, PathLike)):
        photo = load_file(Path(source), options)
        return photo if not name else _renamed(photo, name)
    from PIL import Image

    if isinstance(source, np.ndarray):
        if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8:
            raise BadInputError(f"The photo is {source.dtype} {source.shape}, expected uint8 (H, W, 3) RGB.")
        source = Image.fromarray(source)
    digest = hashlib.sha256(f"{source.mode} {source.size}".encode() + source.tobytes()).hexdigest()
    return photo_of_image(source, Path(f"{name or 'photo'}.png"), digest, options)


def _renamed(photo: Photo, name: str) -> Photo:
    return dataclasses.replace(photo, name=name)


def reconstruct(
    photo: PhotoArgument,
    *,
    phrases: Sequence[str] | None = None,
    masks: Sequence[np.ndarray] | PathArgument | None = None,
    profile: str = "embedded",
    seed: int | None = None,
    phrases_engine: EngineArgument = "",
    masks_engine: EngineArgument = "",
    objects_engine: EngineArgument = "",
) -> Scene:
    """Reconstruct one photo in memory; nothing is written.

    Args:
        photo: a `Photo`, a file, a PIL image, or an array (H, W, 3) uint8 RGB.
        phrases: what to look for; by default the engine of phrases finds out. With `masks`, their names.
        masks: your own: arrays (H, W) bool at the photo's size, or a folder of mask pictures.
        profile: "embedded" (CPU) or "full" (the real models).
        seed: of the objects' engine.
        phrases_engine, masks_engine, objects_engine: instead of the profile's: a name, what
            `engine` returns, or an object with the stage's method. An object that you pass in stays loaded, so it can
            be used for the next photo.

    Raises UsageError for arguments that contradict each other, Sam3dGsError when no object came of it.
    """
    loaded = load_photo(photo)
    chosen_phrases: list[Phrase] = []
    if masks is None:
        chosen_phrases = _find_phrases(loaded, phrases, phrases_engine, profile)
        found = _find_masks(loaded, chosen_phrases, masks_engine, profile)
    else:
        if phrases_engine or masks_engine:
            raise UsageError("masks are given, so no engine looks for phrases or masks. Leave one of them out.")
        found = _own_masks(loaded, masks, phrases)
    kept = [mask for mask in found if mask.dropped is None]
    if not kept:
        raise Sam3dGsError(f"No mask of {loaded.name} was kept; {len(found)} were dropped.")
    options = {} if seed is None else {"seed": seed}
    placed: list[PlacedObject] = []
    failures: list[FailedObject] = []
    with _engine("objects", objects_engine, profile, options) as engine:
        for result in engine.objects(loaded, kept, [mask.object_id for mask in kept]):
            (failures if isinstance(result, FailedObject) else placed).append(result)
    if not placed:
        reason = failures[0].reason if failures else "the engine returned none"
        raise Sam3dGsError(f"No object could be reconstructed from {loaded.name}: {reason}")
    return make_scene(loaded, placed, chosen_phrases, found, failures)


def _find_phrases(photo: Photo, own: Sequence[str] | None, engine: EngineArgument, profile: str) -> list[Phrase]:
    options = {} if own is None else {"phrases": tuple(own)}
    with _engine("phrases", engine, profile, options) as loaded:
        found: list[Phrase] = loaded.phrases(photo)
    if not found:
        raise Sam3dGsError(f"No phrases were found for {photo.name}. Give your own with phrases=[...].")
    return found


def _find_masks(photo: Photo, phrases: Sequence[Phrase], engine: EngineArgument, profile: str) -> list[InstanceMask]:
    with _engine("masks", engine, profile, {}) as loaded:
        found: list[InstanceMask] = loaded.masks(photo, phrases)
    return found


def _own_masks(
    photo: Photo, masks: Sequence[np.ndarray] | PathArgument, names: Sequence[str] | None
) -> list[InstanceMask]:
    if isinstance(masks, (str, PathLike)):
        if names is not None:
            raise UsageError("The masks' file names say what they show. Leave phrases out, or give arrays.")
        with _engine("masks", "", "embedded", {"masks_dir": Path(masks)}) as engine:
            found: list[InstanceMask] = engine.masks(photo, [])
        return found
    names = ["object"] * len(masks) if names is None else list(names)
    if len(names) != len(masks):
        raise UsageError(f"{len(masks)} masks and {len(names)} phrases: give a phrase for each mask, or none.")
    made = []
    for number, (mask, name) in enumerate(zip(masks, names, strict=True)):
        if np.shape(mask) != (photo.height_px, photo.width_px):
            raise BadInputError(
                f"Mask {number} has shape {np.shape(mask)}, the photo {(photo.height_px, photo.width_px)}."
            )
        inside = np.asarray(mask) > 0
        made.append(
            InstanceMask(object_id(number, name, 0), name, inside, 1.0, dropped=None if inside.any() else "empty mask")
        )
    return made


@contextmanager
def _engine(stage: str, engine: EngineArgument, profile: str, options: Mapping[str, Any]) -> Iterator[Any]:
    """The engine while the block runs; one that was passed in as an object stays open."""
    if not isinstance(engine, (str, EngineChoice)):
        if options:
            raise UsageError(f"{', '.join(options)} cannot be set on an engine that is built already. Leave it out.")
        yield engine
        return
    choice = _choice(stage, engine, profile, options)
    loaded = registry.load(choice)
    try:
        yield loaded
    finally:
        close = getattr(loaded, "close", None)
        if close is not None:
            close()


def _choice(stage: str, engine: str | EngineChoice, profile: str, options: Mapping[str, Any]) -> EngineChoice:
    if isinstance(engine, EngineChoice):
        registry.refuse_foreign(engine.spec, options)
        made = dataclasses.replace(engine.options, **options)
        made.check()
        choice = EngineChoice(engine.spec, made)
    else:
        choice = registry.choose(stage, engine, profile, **options)
    return dataclasses.replace(choice, options=choice.options.resolved(Path.cwd()))


# ---- resumable, in a workspace -------------------------------------------------------------------------------------


@dataclass
class RunResult:
    """What became of one photo."""

    photo: Path
    stages: dict[str, StageResult] = field(default_factory=dict)  # those that ran or were up to date
    error: Sam3dGsError | None = None  # why it did not get further
    workspace: Workspace | None = None  # all its paths; None when it could not even be opened

    @property
    def ok(self) -> bool:
        """Whether every stage was done, with all objects."""
        return self.error is None and all(result.status != "partial" for result in self.stages.values())

    def scene(self) -> Scene:
        """The scene in memory. Raises the error of the run when there is none."""
        if self.error is not None:
            raise self.error
        assert self.workspace is not None, "a run without an error has a workspace"
        return _read_scene(self.workspace)


def run(photo: PathArgument, workspace: PathArgument = ".", **options: Any) -> RunResult:
    """Run the pipeline on one photo in a workspace, as `sam3d-gs run` does: resumable, with pictures and a report.

    See `run_many` for the options. Raises UsageError for options that do not fit, and the photo's own Sam3dGsError.
    """
    [result] = run_many([photo], workspace, **options)
    if result.error is not None:
        raise result.error
    return result


def run_many(
    photos: Iterable[PathArgument],
    workspace: PathArgument = ".",
    *,
    stages: Sequence[str] = STAGES,
    profile: str = "embedded",
    force: bool = False,
    phrases: Sequence[str] | None = None,
    masks: PathArgument | None = None,
    seed: int | None = None,
    phrases_engine: str | EngineChoice = "",
    masks_engine: str | EngineChoice = "",
    objects_engine: str | EngineChoice = "",
    turntable: str = SceneOptions.turntable,
    report: bool = SceneOptions.report,
    max_side_px: int = PhotoOptions.max_side_px,
) -> list[RunResult]:
    """The same for many photos: one that fails has its `error`, and the others go on. Engines are built once.

    Args:
        photos: files.
        workspace: root of all output folders.
        stages: some of "phrases", "masks", "objects", "scene".
        force: do the work again even if it is up to date.
        phrases: your own, for every photo.
        masks: a folder of masks or cut-outs.
        turntable: "webp", "gif" or "none".

    The other arguments are those of `reconstruct`. Raises UsageError for options that do not fit.
    """
    root = Path(workspace).absolute()
    paths = [Path(fspath(photo)).absolute() for photo in photos]
    given: dict[str, dict[str, Any]] = {"phrases": {"phrases": tuple(phrases)} if phrases is not None else {}}
    given["masks"] = {"masks_dir": Path(masks)} if masks is not None else {}
    given["objects"] = {"seed": seed} if seed is not None else {}
    engines = {"phrases": phrases_engine, "masks": masks_engine, "objects": objects_engine}
    choices = {stage: _choice(stage, engines[stage], profile, given[stage]) for stage in engines}
    chosen = [s for s in STAGES if s in stages and (s != "phrases" or choices["masks"].needs_phrases)]
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown:
        raise UsageError(f"Unknown stage {unknown[0]!r}. Expected some of {', '.join(STAGES)}.")
    settings = Settings(
        root,
        force,
        PhotoOptions(max_side_px),
        phrases=choices["phrases"],
        masks=choices["masks"],
        objects=choices["objects"],
        scene=SceneOptions(turntable, report),
    )
    results = {path: RunResult(path) for path in paths}
    run_stages(paths, chosen, settings, _Collect(results))
    return [results[path] for path in paths]


class _Collect(Silent):
    """Keeps what happens, by photo."""

    def __init__(self, results: dict[Path, RunResult]) -> None:
        self._results = results

    def stage(self, photo: Path, workspace: Workspace, result: StageResult) -> None:
        self._results[photo].workspace = workspace
        self._results[photo].stages[result.stage] = result

    def failed(self, photo: Path, stage: str, error: Sam3dGsError) -> None:
        self._results[photo].error = error


def load_scene(photo: PathArgument, workspace: PathArgument = ".") -> Scene:
    """A finished scene of a workspace, by the photo's file or its name there. Raises BadInputError."""
    return _read_scene(find_workspace(Path(workspace).absolute(), Path(fspath(photo))))


def _read_scene(workspace: Workspace) -> Scene:
    from sam3d_gs.gaussians.pt import read_pt
    from sam3d_gs.manifest import load
    from sam3d_gs.masks.files import read_masks
    from sam3d_gs.photo import load_photo as load_file
    from sam3d_gs.phrase_files import read_phrases

    manifest = load(workspace.manifest)
    record = manifest.stages.get("objects") if manifest else None
    if manifest is None or record is None or not record.items:
        raise BadInputError(f"No objects of {workspace.photo} in {workspace.root}. Run the objects stage first.")
    photo = load_file(workspace.image_png)
    photo = dataclasses.replace(photo, name=workspace.photo, sha256=str(manifest.photo["sha256"]))
    placed = [read_pt(workspace.root / item.output) for item in record.items.values()]
    masks = read_masks(workspace, (photo.width_px, photo.height_px))
    phrases = read_phrases(workspace.phrases_json) if workspace.phrases_json.exists() else []
    failures = [FailedObject(key, reason) for key, reason in record.errors.items()]
    return make_scene(photo, placed, phrases, masks, failures)


# ---- engines -------------------------------------------------------------------------------------------------------


def list_engines(stage: str = "") -> list[EngineSpec]:
    """Every engine there is, those of installed plugins included; of one stage, if it is named."""
    return [spec for spec in registry.all_specs().values() if stage in ("", spec.stage)]


def engine(stage: str, name: str = "", *, profile: str = "embedded", **options: Any) -> EngineChoice:
    """An engine with options, for `reconstruct` and `run`, or to be built and used alone:
    ``engine("masks", "sam3", device="cpu").load().masks(photo, phrases)``.

    Raises UsageError for an unknown engine, and for an option that it does not take.
    """
    return _choice(stage, name, profile, options)
