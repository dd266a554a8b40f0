"""Options shared by several commands. Those of the engines are in engine_options.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam3d_gs.options import RESULTS_PANEL

_PIPE_PANEL = "Stages in parallel processes"

Photos = Annotated[
    list[Path],
    typer.Argument(
        help="One or more photos.",
        show_default=False,
        metavar="PHOTO",
        envvar="SAM3D_GS_PHOTO",
        readable=False,  # one that cannot be read fails by itself
    ),
]
Done = Annotated[
    Path,
    typer.Argument(help="A photo, or its name in the workspace.", show_default=False, metavar="PHOTO", readable=False),
]
Root = Annotated[
    Path,
    typer.Option("--workspace", "-w", help="Root of all output folders.", envvar="SAM3D_GS_WORKSPACE", file_okay=False),
]
ProfileOption = Annotated[
    str,
    typer.Option(
        "--profile",
        help="Default engines: embedded (CPU, nothing to download) or full (large models, GPU).",
        envvar="SAM3D_GS_PROFILE",
    ),
]
Check = Annotated[
    bool,
    typer.Option("--check", help="Only check that all stages can run: environments, weights, GPUs."),
]
Follow = Annotated[
    bool,
    typer.Option(
        "--follow",
        help="Process each photo as soon as `sam3d-gs run --pass-on`, earlier in the pipe, has finished it.",
        rich_help_panel=_PIPE_PANEL,
    ),
]
PassOn = Annotated[
    bool,
    typer.Option(
        "--pass-on",
        help="Pass each finished photo to `sam3d-gs run --follow`, next in the pipe; results go to stderr.",
        rich_help_panel=_PIPE_PANEL,
    ),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Run again even if the results are up to date.")]
MaxSide = Annotated[
    int, typer.Option("--max-side-px", min=16, help="Scale down photos whose longer side exceeds this, in pixels.")
]
Engine = Annotated[
    str, typer.Option("--engine", help="Engine of this stage. Default: the profile's.", show_default=False)
]
PhrasesEngine = Annotated[
    str, typer.Option(help="Engine of the phrases stage. Default: the profile's.", show_default=False)
]
MasksEngine = Annotated[
    str, typer.Option(help="Engine of the masks stage. Default: the profile's.", show_default=False)
]
ObjectsEngine = Annotated[
    str, typer.Option(help="Engine of the objects stage. Default: the profile's.", show_default=False)
]
Stages = Annotated[
    str,
    typer.Option("--stages", help="Run only these, e.g. objects,scene. Your own phrases and masks are still read."),
]
Turntable = Annotated[
    str,
    typer.Option(
        help="Format of the turntable animations: webp, gif (of the scene only) or none.", rich_help_panel=RESULTS_PANEL
    ),
]
Report = Annotated[bool, typer.Option(help="Write report.html.", rich_help_panel=RESULTS_PANEL)]
