"""The command line: arguments of each subcommand, and output of results and errors. The work is in pipeline.py.

Only typer may be imported at the top, so that `--help` is fast in every environment.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam3d_gs import __version__
from sam3d_gs.commands.checkpoints import app as checkpoints_app
from sam3d_gs.commands.clean import clean
from sam3d_gs.commands.doctor import check as check_run
from sam3d_gs.commands.doctor import doctor
from sam3d_gs.commands.engine_options import EngineArgs, takes_engine_options
from sam3d_gs.commands.help_pages import HelpTyper
from sam3d_gs.commands.options import (
    Check,
    Done,
    Engine,
    Follow,
    Force,
    MasksEngine,
    MaxSide,
    ObjectsEngine,
    PassOn,
    Photos,
    PhrasesEngine,
    ProfileOption,
    Report,
    Root,
    Stages,
    Turntable,
)
from sam3d_gs.commands.status import status
from sam3d_gs.commands.terminal import StderrHandler, open_streams, say_path, tell
from sam3d_gs.errors import EXIT_FAILED, EXIT_STOPPED, BadInputError, UnexpectedError, UsageError, as_one_line
from sam3d_gs.options import EXPORT_SPZ_VERSION, STAGES, PhotoOptions, SceneOptions

if TYPE_CHECKING:
    from sam3d_gs.engines.registry import EngineChoice
    from sam3d_gs.fleet.stage_stream import StageStream
    from sam3d_gs.pipeline import Settings

app = HelpTyper(
    name="sam3d-gs",
    help="One photo in, a scene of separate, posed 3D Gaussian objects out.",
    pretty_exceptions_enable=False,  # plain tracebacks
    add_completion=False,
)

app.command()(doctor)
app.command()(status)
app.command()(clean)
app.add_typer(checkpoints_app, name="checkpoints", help="Download and verify the weights of the full profile.")


def _print_version(requested: bool) -> None:
    if requested:
        print(f"sam3d-gs {__version__}")
        raise typer.Exit()


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only results and warnings.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print more details.")] = False,
) -> None:
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    logger = logging.getLogger("sam3d_gs")
    logger.handlers[:] = [StderrHandler()]
    logger.propagate = False
    logger.setLevel(level)
    if quiet:
        os.environ["SAM3D_GS_QUIET"] = "1"


@app.command()
@takes_engine_options("phrases", "masks", "objects")
def run(
    photos: Photos,
    phrases_args: EngineArgs,
    masks_args: EngineArgs,
    objects_args: EngineArgs,
    stages: Stages = ",".join(STAGES),
    phrases_engine: PhrasesEngine = "",
    masks_engine: MasksEngine = "",
    objects_engine: ObjectsEngine = "",
    workspace: Root = Path(),
    profile: ProfileOption = "embedded",
    force: Force = False,
    turntable: Turntable = SceneOptions.turntable,
    report: Report = SceneOptions.report,
    max_side_px: MaxSide = PhotoOptions.max_side_px,
    check: Check = False,
    follow: Follow = False,
    pass_on: PassOn = False,
) -> None:
    """Run all four stages: photo -> phrases -> masks -> objects -> scene and report."""
    from sam3d_gs.pipeline import Settings, stages_to_run

    root = workspace.absolute()
    # Check all options before any work, including those of stages that run in another environment.
    masks = masks_args.choose(masks_engine, profile, root, photos)
    phrases = _phrases_for(masks, phrases_args, phrases_engine, profile, root)
    chosen, all_stages = (stages_to_run(_listed(names), phrases, masks) for names in (stages, ",".join(STAGES)))
    settings = Settings(
        root=root,
        force=force,
        photo=PhotoOptions(max_side_px),
        phrases=phrases,
        masks=masks,
        objects=objects_args.choose(objects_engine, profile, root, photos),
        scene=_scene_options(turntable, report),
    )
    if check:
        check_run(profile, chosen, settings)
    elif follow or pass_on:
        from sam3d_gs.fleet.stage_stream import StageStream

        _run(photos, chosen, settings, StageStream(follow, pass_on), all_stages)
    else:
        _run(photos, chosen, settings)


@app.command()
@takes_engine_options("phrases")
def phrases(
    photos: Photos,
    phrases_args: EngineArgs,
    engine: Engine = "",
    workspace: Root = Path(),
    profile: ProfileOption = "embedded",
    force: Force = False,
    max_side_px: MaxSide = PhotoOptions.max_side_px,
) -> None:
    """Name the objects: photo -> phrases.json."""
    from sam3d_gs.pipeline import Settings

    root = workspace.absolute()
    choice = phrases_args.choose(engine, profile, root, photos)
    _run(photos, ["phrases"], Settings(root, force, PhotoOptions(max_side_px), phrases=choice))


@app.command()
@takes_engine_options("phrases", "masks", only={"phrases": ("phrases", "phrases_file")})
def masks(
    photos: Photos,
    phrases_args: EngineArgs,
    masks_args: EngineArgs,
    engine: Engine = "",
    workspace: Root = Path(),
    profile: ProfileOption = "embedded",
    force: Force = False,
    max_side_px: MaxSide = PhotoOptions.max_side_px,
) -> None:
    """Mask each named object: photo + phrases -> PNG masks and masks.json."""
    from sam3d_gs.pipeline import Settings

    root = workspace.absolute()
    choice = masks_args.choose(engine, profile, root, photos)
    phrases = _phrases_for(choice, phrases_args, "", profile, root)
    settings = Settings(root, force, PhotoOptions(max_side_px), phrases=phrases, masks=choice)
    _run(photos, ["phrases", "masks"] if phrases_args else ["masks"], settings)


@app.command()
@takes_engine_options("objects")
def objects(
    photos: Photos,
    objects_args: EngineArgs,
    engine: Engine = "",
    workspace: Root = Path(),
    profile: ProfileOption = "embedded",
    force: Force = False,
    max_side_px: MaxSide = PhotoOptions.max_side_px,
) -> None:
    """Lift every mask to 3D Gaussians: photo + masks -> one .pt per object."""
    from sam3d_gs.pipeline import Settings

    root = workspace.absolute()
    choice = objects_args.choose(engine, profile, root, photos)
    _run(photos, ["objects"], Settings(root, force, PhotoOptions(max_side_px), objects=choice))


@app.command()
def scene(
    photos: Photos,
    workspace: Root = Path(),
    force: Force = False,
    turntable: Turntable = SceneOptions.turntable,
    report: Report = SceneOptions.report,
    max_side_px: MaxSide = PhotoOptions.max_side_px,
) -> None:
    """Merge the objects: .pt files -> .ply of each and of all, scene JSON, pictures, report."""
    from sam3d_gs.pipeline import Settings

    options = _scene_options(turntable, report)
    _run(photos, ["scene"], Settings(workspace.absolute(), force, PhotoOptions(max_side_px), scene=options))


@app.command()
@takes_engine_options("masks", "objects", only={"masks": ("masks_dir",)})
def reconstruct(
    photos: Photos,
    masks_args: EngineArgs,
    objects_args: EngineArgs,
    engine: Engine = "",
    workspace: Root = Path(),
    profile: ProfileOption = "embedded",
    force: Force = False,
    turntable: Turntable = SceneOptions.turntable,
    report: Report = SceneOptions.report,
    max_side_px: MaxSide = PhotoOptions.max_side_px,
) -> None:
    """Run objects and scene in one process: photo + masks -> .pt files -> scene and report."""
    from sam3d_gs.pipeline import Settings

    root = workspace.absolute()
    settings = Settings(
        root,
        force,
        PhotoOptions(max_side_px),
        masks=masks_args.choose("", profile, root, photos),
        objects=objects_args.choose(engine, profile, root, photos),
        scene=_scene_options(turntable, report),
    )
    _run(photos, [*(["masks"] if masks_args else []), "objects", "scene"], settings)


def _phrases_for(masks: EngineChoice, phrases_args: EngineArgs, engine: str, profile: str, root: Path) -> EngineChoice:
    """The phrases engine. Raises UsageError for phrase options if the masks engine needs no phrases."""
    if not masks.needs_phrases and phrases_args:
        flag = phrases_args.flag()
        if masks.spec.chosen_by:
            raise UsageError(
                f"{flag} is about objects to look for, but --masks gives the masks already. Leave one of them out."
            )
        raise UsageError(f"--box and --point select one object without phrases. Leave {flag} out.")
    return phrases_args.choose(engine, profile, root)


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",")]


def _scene_options(turntable: str, report: bool) -> SceneOptions:
    options = SceneOptions(turntable, report)
    options.check()
    return options


@app.command()
def view(
    photo: Done,
    workspace: Root = Path(),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0: any free port.")] = 8080,
    browser: Annotated[bool, typer.Option(help="Open a browser window.")] = True,
) -> None:
    """Open a photo's scene in the interactive 3D viewer."""
    from sam3d_gs.pipeline import find_workspace
    from sam3d_gs.report.viewer import serve

    serve(find_workspace(workspace.absolute(), photo), port=port, open_browser=browser)


@app.command()
def export(
    photo: Done,
    form: Annotated[str, typer.Option("--format", help="spz, compressed.ply (PlayCanvas) or ply.")] = "spz",
    frame: Annotated[
        str,
        typer.Option(
            help="opencv or opengl: the camera frame. y-up, z-up or ros (x forward, z up): level, origin on the floor "
            "below the camera."
        ),
    ] = "opencv",
    known_size: Annotated[
        str,
        typer.Option(
            metavar="OBJECT=METRES",
            help="Scale the scene so that the longest edge of this object's box has this length, e.g. 00-mug-0=0.1.",
            show_default=False,
        ),
    ] = "",
    spz_version: Annotated[
        int, typer.Option(help="Of an .spz: 3, or 2 for older readers (GaussianSplats3D, spz-js).")
    ] = EXPORT_SPZ_VERSION,
    workspace: Root = Path(),
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace an export that was edited; it is kept under another name.")
    ] = False,
) -> None:
    """Write the scene compressed, in another frame or in metres: <photo>[.<frame>].<format>, and poses as .json."""
    from sam3d_gs.assets.scene_export import export_scene, read_known_size
    from sam3d_gs.pipeline import find_workspace

    found = find_workspace(workspace.absolute(), photo)
    size = read_known_size(known_size) if known_size else None
    for path in export_scene(found, form, frame, size, force=force, spz_version=spz_version):
        say_path(path)


def _run(
    photos: list[Path],
    stages: list[str],
    settings: Settings,
    stream: StageStream | None = None,
    all_stages: Sequence[str] = (),
) -> None:
    """Run `stages` and print the results; with a `stream`, as one of the processes that run `all_stages`."""
    from sam3d_gs import pipeline
    from sam3d_gs.commands.console import Console

    with Console(len(photos) > 1, alone=stream is None) as console:
        try:
            if stream is None:
                code = pipeline.run(photos, stages, settings, console)
            else:
                settings = stream.assign_gpus(settings, stages, all_stages)
                code = pipeline.run(stream.photos(photos), stages, settings, console, stream.pass_on)
        except KeyboardInterrupt:
            if stream is None or stream.is_first:  # print it once for all processes
                tell("Stopped. Finished work is kept; run the same command again to resume.")
            code = EXIT_STOPPED
    if code:
        raise typer.Exit(code)


def main() -> None:
    """Entry point: an error becomes one line and its exit code; an unexpected one has its traceback with -v."""
    open_streams()
    try:
        app()
    except BrokenPipeError:  # the reader of our output has ended, e.g. `| head`
        _leave(EXIT_FAILED)
    except Exception as error:
        if isinstance(error, FileNotFoundError) and not _in_a_folder():
            error = BadInputError("The current folder was removed. Change to another one and try again.")
        failure = as_one_line(error)
        if isinstance(failure, UnexpectedError):
            logging.getLogger("sam3d_gs").debug("", exc_info=error)
        tell(f"Error: {failure}")
        _leave(failure.exit_code)


def _in_a_folder() -> bool:
    try:
        return bool(os.getcwd())
    except OSError:
        return False


def _leave(code: int) -> None:
    """Exit. What stdout did not take must not be tried again at the end, which would print a second error."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)
