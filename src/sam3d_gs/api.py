"""The pipeline from Python: a scene in memory with `reconstruct`, or resumable in a workspace with `run`."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
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
from sam3d_gs.gaussians.check import problem
from sam3d_gs.masks.given.reader import place_arrays
from sam3d_gs.option_flags import one_photo_only
from sam3d_gs.options import PROFILES, STAGES, STAGES_WITH_ENGINES, PhotoOptions, SceneOptions, VllmOptions
from sam3d_gs.pipeline import Settings, Silent, find_workspace, stages_to_run
from sam3d_gs.pipeline import run as run_stages
from sam3d_gs.scene import Scene, make_scene
from sam3d_gs.stages.bookkeeping import StageResult
from sam3d_gs.stages.masks import checked_masks
from sam3d_gs.types import InstanceMask, Photo, Phrase, PlacedObject
from sam3d_gs.workspace import Workspace, object_id

if TYPE_CHECKING:
    from PIL import Image

log = logging.getLogger("sam3d_gs")

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
    from PIL import Image

    from sam3d_gs.photo import load_photo as load_file
    from sam3d_gs.photo import photo_of_image, upright

    options = PhotoOptions(max_side_px)
    options.check()
    if isinstance(source, Photo):
        return dataclasses.replace(source, name=name) if name else source
    if isinstance(source, (str, PathLike)):
        photo = load_file(Path(source), options)
        return dataclasses.replace(photo, name=name) if name else photo
    if isinstance(source, np.ndarray):
        if source.ndim != 3 or source.shape[2] != 3 or source.dtype != np.uint8 or not source.size:
            raise BadInputError(f"The photo is {source.dtype} {source.shape}, expected uint8 (H, W, 3) RGB.")
        source = Image.fromarray(np.ascontiguousarray(source))
    if not isinstance(source, Image.Image):
        raise UsageError(f"The photo is a {type(source).__name__}. Expected a file, a PIL image or an array.")
    try:
        source.load()
        digest = hashlib.sha256(f"{source.mode} {source.size}".encode() + source.tobytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise BadInputError(f"The photo cannot be read: {error}.") from error
    return photo_of_image(upright(source), Path(f"{name or 'photo'}.png"), digest, options)


def reconstruct(
    photo: PhotoArgument,
    *,
    phrases: Sequence[str] | None = None,
    masks: Iterable[np.ndarray] | PathArgument | None = None,
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
        masks: your own: arrays (H, W) at the photo's size, bool, two numbers or probabilities; or a folder or a file
            of masks, of any kind that `--masks` takes.
        profile: "embedded" (CPU) or "full" (the real models).
        seed: of the objects' engine.
        phrases_engine, masks_engine, objects_engine: instead of the profile's: a name, what
            `engine` returns, or an object with the stage's method. An object that you pass in stays loaded, so it can
            be used for the next photo.

    Raises UsageError for arguments that contradict each other, Sam3dGsError when no object came of it.
    """
    if profile not in PROFILES:
        raise UsageError(f"Unknown profile {profile!r}. Expected {' or '.join(PROFILES)}.")
    loaded = load_photo(photo)
    found_phrases: list[Phrase] = []
    if masks is not None:
        if phrases_engine or masks_engine:
            raise UsageError("masks are given, so no engine looks for phrases or masks. Leave one of them out.")
        found = _own_masks(loaded, masks, phrases)
    else:
        engine_of_masks = _resolved("masks", masks_engine, profile, {})
        if not isinstance(engine_of_masks, EngineChoice) or engine_of_masks.needs_phrases:
            found_phrases = _find_phrases(loaded, phrases, phrases_engine, profile)
        elif phrases is not None or phrases_engine:
            raise UsageError(
                f"Engine {engine_of_masks.name!r} of masks, as it is set, needs no phrases. Leave them out."
            )
        found = _find_masks(loaded, found_phrases, engine_of_masks)
    kept = [mask for mask in found if mask.dropped is None]
    if not kept:
        raise Sam3dGsError(f"No mask of {loaded.name} was kept; {len(found)} were dropped.")
    options = {} if seed is None else {"seed": seed}
    placed, failures = _make_objects(loaded, kept, _resolved("objects", objects_engine, profile, options))
    if not placed:
        reason = failures[0].reason if failures else "the engine returned none"
        raise Sam3dGsError(f"No object could be reconstructed from {loaded.name}: {reason}")
    return make_scene(loaded, placed, found_phrases, found, failures)


def _find_phrases(photo: Photo, own: Sequence[str] | None, engine: EngineArgument, profile: str) -> list[Phrase]:
    options = {} if own is None else {"phrases": own}
    with _opened("phrases", _resolved("phrases", engine, profile, options)) as loaded:
        found: list[Phrase] = loaded.phrases(photo)
    if not found:
        raise Sam3dGsError(f"No phrases were found for {photo.name}. Give your own with phrases=[...].")
    return found


def _find_masks(photo: Photo, phrases: Sequence[Phrase], engine: Any) -> list[InstanceMask]:
    with _opened("masks", engine) as loaded:
        found = checked_masks(loaded.masks(photo, phrases), (photo.height_px, photo.width_px))
        for warning in getattr(loaded, "warnings", ()):
            log.warning("%s: %s", photo.name, warning)
        return found


def _make_objects(
    photo: Photo, masks: Sequence[InstanceMask], engine: Any
) -> tuple[list[PlacedObject], list[FailedObject]]:
    placed: list[PlacedObject] = []
    failures: list[FailedObject] = []
    with _opened("objects", engine) as loaded:
        for result in loaded.objects(photo, masks, [mask.object_id for mask in masks]):
            if isinstance(result, FailedObject):
                failures.append(result)
            elif reason := problem(result.gaussians):
                failures.append(FailedObject(result.object_id, reason))
            else:
                placed.append(result)
    return placed, failures


def _own_masks(
    photo: Photo, masks: Iterable[np.ndarray] | PathArgument, names: Sequence[str] | None
) -> list[InstanceMask]:
    if isinstance(masks, (str, PathLike)):
        if names is not None:
            raise UsageError("The masks' file names say what they show. Leave phrases out, or give arrays.")
        return _find_masks(photo, [], _resolved("masks", "", "embedded", {"masks_dir": Path(masks)}))
    arrays = list(masks)
    if isinstance(names, str):
        raise UsageError(f"phrases is {names!r}. Expected a list with a phrase for each mask.")
    names = ["object"] * len(arrays) if names is None else list(names)
    if len(names) != len(arrays):
        raise UsageError(f"{len(arrays)} masks and {len(names)} phrases: give a phrase for each mask, or none.")
    placed, warnings = place_arrays([np.asarray(array) for array in arrays], names, photo)
    for warning in warnings:
        log.warning("%s: %s", photo.name, warning)
    made = [InstanceMask(object_id(i, item.name, 0), item.name, item.mask, 1.0) for i, item in enumerate(placed)]
    return checked_masks(made, (photo.height_px, photo.width_px))


@contextmanager
def _opened(stage: str, engine: Any) -> Iterator[Any]:
    """A choice as a built engine, closed when the block ends; an engine that is built already stays open."""
    if not isinstance(engine, EngineChoice):
        if isinstance(engine, type) or not hasattr(engine, stage):
            raise UsageError(
                f"{engine!r} is no engine of {stage}: it needs a method `{stage}` and must be an instance."
            )
        yield engine
        return
    with tempfile.TemporaryDirectory(prefix="sam3d_gs-") as folder:
        if isinstance(engine.options, VllmOptions):  # nothing is written below the current folder
            log_file = Path(folder, "vllm.log")
            engine = dataclasses.replace(engine, options=dataclasses.replace(engine.options, server_log=log_file))
        loaded = registry.load(engine)
        try:
            yield loaded
        finally:
            close = getattr(loaded, "close", None)
            if close is not None:
                close()


def _resolved(
    stage: str, engine: EngineArgument, profile: str, options: Mapping[str, Any], root: Path | None = None
) -> Any:
    """An engine's choice with these options, paths absolute (`root`: the workspace); a built engine as it is."""
    if isinstance(engine, str):
        choice = registry.choose(stage, engine, profile, **options)
    elif isinstance(engine, EngineChoice):
        if engine.spec.stage != stage:
            raise UsageError(f"Engine {engine.name!r} is for {engine.spec.stage}, not for {stage}.")
        given = {f.name: getattr(engine.options, f.name) for f in dataclasses.fields(engine.options)}
        registry.refuse_foreign(engine.spec, options)
        choice = registry.with_options(engine.spec, **{**given, **options})
    else:
        if options:
            raise UsageError(f"{', '.join(options)} cannot be set on an engine that is built already. Leave it out.")
        return engine
    return dataclasses.replace(choice, options=choice.options.resolved(root or Path.cwd()))


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
        if self.workspace is None:
            raise BadInputError(f"Nothing was run on {self.photo}, so it has no scene. Check the stages.")
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
        masks: a folder or a file of masks, of any kind that `--masks` takes.
        turntable: "webp", "gif" or "none".

    The other arguments are those of `reconstruct`. Raises UsageError for options that do not fit.
    """
    if isinstance(photos, (str, PathLike)) or isinstance(stages, str):
        raise UsageError("photos and stages are lists. For one photo there is `run`.")
    root = Path(workspace).absolute()
    paths = [Path(fspath(photo)).absolute() for photo in photos]
    given: dict[str, dict[str, Any]] = {
        "phrases": {} if phrases is None else {"phrases": phrases},
        "masks": {} if masks is None else {"masks_dir": Path(masks)},
        "objects": {} if seed is None else {"seed": seed},
    }
    engines = {"phrases": phrases_engine, "masks": masks_engine, "objects": objects_engine}
    choices: dict[str, EngineChoice] = {}
    for stage, engine in engines.items():
        if not isinstance(engine, (str, EngineChoice)):
            raise UsageError(
                f"{stage}_engine is a built engine, which `reconstruct` takes. Give a name or `engine(...)`."
            )
        choices[stage] = _resolved(stage, engine, profile, given[stage], root)
        one_photo_only(choices[stage].options, paths)
    if not choices["masks"].needs_phrases and (phrases is not None or phrases_engine):
        raise UsageError("The masks, as they are set, need no phrases. Leave the phrases out.")
    settings = Settings(
        root,
        force,
        PhotoOptions(max_side_px),
        phrases=choices["phrases"],
        masks=choices["masks"],
        objects=choices["objects"],
        scene=SceneOptions(turntable, report),
    )
    settings.photo.check()
    settings.scene.check()
    chosen = stages_to_run(stages, choices["phrases"], choices["masks"])
    results = {path: RunResult(path) for path in paths}
    run_stages(paths, chosen, settings, _Collect(root, results))
    return [results[path] for path in paths]


class _Collect(Silent):
    """Keeps what happens, by photo."""

    def __init__(self, root: Path, results: dict[Path, RunResult]) -> None:
        self._root, self._results = root, results

    def stage(self, photo: Path, workspace: Workspace, result: StageResult) -> None:
        self._results[photo].workspace = workspace
        self._results[photo].stages[result.stage] = result

    def failed(self, photo: Path, stage: str, error: Sam3dGsError) -> None:
        result = self._results[photo]
        result.error = error
        if result.workspace is None:
            with suppress(Sam3dGsError, OSError):  # there is none when the photo could not be read
                result.workspace = find_workspace(self._root, photo)


def load_scene(photo: PathArgument, workspace: PathArgument = ".") -> Scene:
    """A finished scene of a workspace, by the photo's file or its name there, with what was edited in its files.

    Raises BadInputError.
    """
    return _read_scene(find_workspace(Path(workspace).absolute(), Path(fspath(photo))))


def _read_scene(workspace: Workspace) -> Scene:
    from sam3d_gs.gaussians.pt import read_pt
    from sam3d_gs.manifest import load
    from sam3d_gs.masks.files import read_masks
    from sam3d_gs.photo import load_photo as load_file
    from sam3d_gs.phrase_files import read_phrases
    from sam3d_gs.stages.scene import objects_now

    manifest = load(workspace.manifest)
    record = manifest.stages.get("objects") if manifest else None
    if manifest is None or record is None or not record.items:
        raise BadInputError(f"No objects of {workspace.photo} in {workspace.root}. Run the objects stage first.")
    photo = load_file(workspace.image_png, PhotoOptions(sys.maxsize))  # it has the size that masks and K refer to
    photo = dataclasses.replace(photo, name=workspace.photo, sha256=str(manifest.photo["sha256"]))
    placed = [read_pt(workspace.own_file(item.output, workspace.manifest)) for item in record.items.values()]
    placed = objects_now(workspace, record, placed)
    masks = read_masks(workspace, (photo.width_px, photo.height_px))
    phrases = read_phrases(workspace.phrases_json) if workspace.phrases_json.exists() else []
    failures = [FailedObject(key, reason) for key, reason in record.errors.items()]
    return make_scene(photo, placed, phrases, masks, failures)


# ---- engines -------------------------------------------------------------------------------------------------------


def list_engines(stage: str = "") -> list[EngineSpec]:
    """Every engine there is, those of installed plugins included; of one stage, if it is named."""
    if stage not in ("", *STAGES_WITH_ENGINES):
        raise UsageError(f"Stage {stage!r} has no engines. Expected {' or '.join(STAGES_WITH_ENGINES)}.")
    return [spec for spec in registry.all_specs().values() if stage in ("", spec.stage)]


def engine(stage: str, name: str = "", *, profile: str = "embedded", **options: Any) -> EngineChoice:
    """An engine with options, for `reconstruct` and `run`, or to be built and used alone:
    ``engine("masks", "sam3", device="cpu").load().masks(photo, phrases)``.

    Raises UsageError for an unknown engine, and for an option that it does not take.
    """
    return registry.choose(stage, name, profile, **options)
