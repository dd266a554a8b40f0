"""The command line: what each subcommand takes, and how results and errors are shown. The work is in pipeline.py.

Only typer may be imported at the top: `--help` must start fast in every environment.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sam3d_gs import __version__
from sam3d_gs.commands.checkpoints import app as checkpoints_app
from sam3d_gs.commands.choices import chosen_stages, engine_name, masks_asked, phrases_asked, scene_asked
from sam3d_gs.commands.doctor import check as check_run
from sam3d_gs.commands.doctor import doctor
from sam3d_gs.commands.masks import MaskWish, clicked, takes_mask_options
from sam3d_gs.commands.objects import object_options, takes_object_options
from sam3d_gs.commands.options import (
    Check,
    Done,
    Engine,
    Follow,
    Force,
    MasksDir,
    MasksEngine,
    MaxPhrases,
    MaxSide,
    ObjectsEngine,
    PassOn,
    Photos,
    Phrases,
    PhrasesEngine,
    PhrasesFile,
    ProfileOption,
    Report,
    Root,
    Stages,
    Turntable,
)
from sam3d_gs.commands.phrases import takes_phrase_options
from sam3d_gs.errors import EXIT_STOPPED, Sam3dGsError
from sam3d_gs.options import (
    STAGES,
    MaskOptions,
    ObjectOptions,
    PhotoOptions,
    PhraseOptions,
    SceneOptions,
)

if TYPE_CHECKING:
    from sam3d_gs.fleet.stage_stream import Relay
    from sam3d_gs.pipeline import Settings

app = typer.Typer(
    name="sam3d-gs",
    help="One photo in, a scene of separate, posed 3D Gaussian objects out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a bug keeps its plain traceback
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(doctor)
app.add_typer(checkpoints_app, name="checkpoints", help="Weights of the full profile: hub -> this disk, verified.")


class _StderrHandler(logging.Handler):
    """Plain lines on whatever sys.stderr is at the moment: the progress bar replaces it while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        print(record.getMessage(), file=sys.stderr)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"sam3d-gs {__version__}")
        raise typer.Exit()


@app.callback()
def _global(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only warnings and results.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more.")] = False,
) -> None:
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    logger = logging.getLogger("sam3d_gs")
    logger.handlers[:] = [_StderrHandler()]
    logger.propagate = False
    logger.setLevel(level)
    if quiet:
        os.environ["SAM3D_GS_QUIET"] = "1"


@app.command()
@takes_mask_options
@takes_object_options
@takes_phrase_options
def run(
    photos: Photos,
    wish: ObjectOptions,
    asking: PhraseOptions,
    mask_wish: MaskWish,
    phrases: Phrases = [],  # noqa: B006  Typer copies it
    phrases_file: PhrasesFile = None,
    masks: MasksDir = None,
    stages: Stages = ",".join(STAGES),
    phrases_engine: PhrasesEngine = "",
    masks_engine: MasksEngine = "",
    objects_engine: ObjectsEngine = "",
    workspace: Root = Path(),
    profile: ProfileOption = "embedded",
    force: Force = False,
    max_phrases: MaxPhrases = PhraseOptions.max_phrases,
    turntable: Turntable = SceneOptions.turntable,
    report: Report = SceneOptions.report,
    max_side_px: MaxSide = PhotoOptions.max_side_px,
    check: Check = False,
    follow: Follow = False,
    pass_on: PassOn = False,
) -> None:
    """All four stages: photo -> phrases -> masks -> objects -> scene and report."""
    from sam3d_gs.pipeline import Settings

    own_phrases = bool(phrases or phrases_file)
    chosen, all_stages = (
        chosen_stages(names, own_phrases, bool(masks), clicked(mask_wish)) for names in (stages, ",".join(STAGES))
    )
    # All options are checked, also those of stages that another environment will run: a slip shows before any work.
    settings = Settings(
        root=workspace.absolute(),
        force=force,
        photo=PhotoOptions(max_side_px),
        phrases=phrases_asked(phrases_engine, profile, asking, max_phrases, phrases, phrases_file, workspace),
        masks=masks_asked(masks_engine, profile, mask_wish, photos, masks, own_phrases),
        objects=object_options(engine_name("objects", objects_engine, profile), wish, photos, workspace),
        scene=scene_asked(turntable, report),
    )
    if check:
        check_run(profile, chosen, settings)
    elif follow or pass_on:
        from sam3d_gs.fleet.stage_stream import Relay

        _run(photos, chosen, settings, Relay(follow, pass_on), all_stages)
    else:
        _run(photos, chosen, settings)


@app.command()
@takes_phrase_options
def phrases(
    photos: Photos,
    asking: PhraseOptions,
    phrases: Phrases = [],  # noqa: B006
    phrases_file: PhrasesFile = None,
    engine: Engine = "",
    workspace: Root = Path(),
    profile: ProfileOption = "embedded",
    force: Force = False,
    max_phrases: MaxPhrases = PhraseOptions.max_phrases,
    max_side_px: MaxSide = PhotoOptions.max_side_px,
) -> None:
    """Name the objects: photo -> phrases.json."""
    from sam3d_gs.pipeline import Settings

    options = phrases_asked(engine, profile, asking, max_phrases, phrases, phrases_file, workspace)
    settings = Settings(workspace.absolute(), force, PhotoOptions(max_side_px), phrases=options)
    _run(photos, ["phrases"], settings)


@app.command()
@takes_mask_options
def masks(
    photos: Photos,
    mask_wish: MaskWish,
    phrases: Phrases = [],  # noqa: B006
    phrases_file: PhrasesFile = None,
    masks: MasksDir = None,
    engine: Engine = "",
    workspace: Root = Path(),
    profile: ProfileOption = "embedded",
    force: Force = False,
    max_side_px: MaxSide = PhotoOptions.max_side_px,
) -> None:
    """Mask each named object: photo + phrases -> PNG masks and masks.json."""
    from sam3d_gs.pipeline import Settings

    own_phrases = bool(phrases or phrases_file)
    settings = Settings(
        workspace.absolute(),
        force,
        PhotoOptions(max_side_px),
        phrases=phrases_asked(
            "", profile, PhraseOptions(), PhraseOptions.max_phrases, phrases, phrases_file, workspace
        ),
        masks=masks_asked(engine, profile, mask_wish, photos, masks, own_phrases),
    )
    _run(photos, ["phrases", "masks"] if own_phrases else ["masks"], settings)


@app.command()
@takes_object_options
def objects(
    photos: Photos,
    wish: ObjectOptions,
    engine: Engine = "",
    workspace: Root = Path(),
    profile: ProfileOption = "embedded",
    force: Force = False,
    max_side_px: MaxSide = PhotoOptions.max_side_px,
) -> None:
    """Lift every mask to 3D Gaussians: photo + masks -> one .pt per object."""
    from sam3d_gs.pipeline import Settings

    options = object_options(engine_name("objects", engine, profile), wish, photos, workspace)
    settings = Settings(workspace.absolute(), force, PhotoOptions(max_side_px), objects=options)
    _run(photos, ["objects"], settings)


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

    options = scene_asked(turntable, report)
    _run(photos, ["scene"], Settings(workspace.absolute(), force, PhotoOptions(max_side_px), scene=options))


@app.command()
@takes_object_options
def reconstruct(
    photos: Photos,
    wish: ObjectOptions,
    masks: MasksDir = None,
    engine: Engine = "",
    workspace: Root = Path(),
    profile: ProfileOption = "embedded",
    force: Force = False,
    turntable: Turntable = SceneOptions.turntable,
    report: Report = SceneOptions.report,
    max_side_px: MaxSide = PhotoOptions.max_side_px,
) -> None:
    """Objects and scene in one process: photo + masks -> .pt files -> scene and report."""
    from sam3d_gs.pipeline import Settings

    settings = Settings(
        workspace.absolute(),
        force,
        PhotoOptions(max_side_px),
        masks=MaskOptions("given", masks_dir=masks.absolute()) if masks else MaskOptions(),
        objects=object_options(engine_name("objects", engine, profile), wish, photos, workspace),
        scene=scene_asked(turntable, report),
    )
    _run(photos, [*(["masks"] if masks else []), "objects", "scene"], settings)


@app.command()
def status(
    photos: Annotated[
        list[Path] | None,
        typer.Argument(help="Photos, or their names in the workspace; all when none is given.", metavar="PHOTO"),
    ] = None,
    workspace: Root = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
) -> None:
    """What is done: a table of stages and objects of each photo."""
    from sam3d_gs.commands import status as module
    from sam3d_gs.pipeline import all_workspaces, find_workspace

    root = workspace.absolute()
    found = [find_workspace(root, path) for path in photos] if photos else list(all_workspaces(root))
    if as_json:
        print(json.dumps([module.as_data(w) for w in found], indent=2, ensure_ascii=False))
    elif not found:
        print(f"No photo has been worked on in {root}.")
    else:
        print("\n\n".join(module.as_table(w) for w in found))


@app.command()
def view(
    photo: Done,
    workspace: Root = Path(),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")] = 8080,
    browser: Annotated[bool, typer.Option(help="Open a browser window.")] = True,
) -> None:
    """Open the live 3D viewer on the scene of a photo."""
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
            help="opencv or opengl: the camera's. y-up, z-up or ros (x forward, z up): level, on the floor below it."
        ),
    ] = "opencv",
    known_size: Annotated[
        str,
        typer.Option(
            metavar="OBJECT=METRES",
            help="Scale all so that the longest edge of this object's box has this length, e.g. 00-mug-0=0.1.",
            show_default=False,
        ),
    ] = "",
    workspace: Root = Path(),
) -> None:
    """Write the scene compressed, in another frame or in metres: <photo>[.<frame>].<format>, and a .json with poses."""
    from sam3d_gs.assets.scene_export import export_scene, read_known_size
    from sam3d_gs.pipeline import find_workspace

    found = find_workspace(workspace.absolute(), photo)
    for path in export_scene(found, form, frame, read_known_size(known_size) if known_size else None):
        print(path)


@app.command()
def clean(
    photos: Annotated[list[Path], typer.Argument(help="Photos, or their names in the workspace.", metavar="PHOTO")],
    workspace: Root = Path(),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
) -> None:
    """Remove the outputs of a photo, and nothing else."""
    from sam3d_gs.commands.clean import clean as remove
    from sam3d_gs.pipeline import find_workspace

    for found in [find_workspace(workspace.absolute(), path) for path in photos]:
        for path in remove(found, dry_run):
            print(path)


def _run(
    photos: list[Path],
    stages: list[str],
    settings: Settings,
    relay: Relay | None = None,
    all_stages: Sequence[str] = (),
) -> None:
    """Show the work of `stages`, in this process alone or, with a relay, in one of those that do `all_stages`."""
    from sam3d_gs import pipeline
    from sam3d_gs.commands.console import Console

    with Console(len(photos) > 1, alone=relay is None) as console:
        try:
            if relay is None:
                code = pipeline.run(photos, stages, settings, console)
            else:
                settings = relay.settle(settings, stages, all_stages)
                code = pipeline.run(relay.photos(photos), stages, settings, console, relay.pass_on)
        except KeyboardInterrupt:
            if relay is None or relay.leads:  # one of them says it for all
                print("Stopped. Finished work is kept; the same command goes on from there.", file=sys.stderr)
            code = EXIT_STOPPED
    if code:
        raise typer.Exit(code)


def main() -> None:
    """Entry point: errors a user can mend are one line and an exit code, bugs keep their traceback."""
    try:
        app()
    except Sam3dGsError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output went away, e.g. `| head`
        sys.stdout = None  # so that nothing is flushed at exit
        sys.exit(1)
