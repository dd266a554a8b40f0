"""Options that belong to no engine, declared once for the commands that take them; engine_options.py has the others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sam3d_gs.options import RESULTS_PANEL

_PIPE_PANEL = "Stages at the same time, in processes of their own"

Photos = Annotated[
    list[Path],
    typer.Argument(help="One or more photos.", show_default=False, metavar="PHOTO", envvar="SAM3D_GS_PHOTO"),
]
Done = Annotated[
    Path, typer.Argument(help="A photo, or its name in the workspace.", show_default=False, metavar="PHOTO")
]
Root = Annotated[
    Path,
    typer.Option("--workspace", "-w", help="Root of all output folders.", envvar="SAM3D_GS_WORKSPACE", file_okay=False),
]
ProfileOption = Annotated[
    str,
    typer.Option(
        "--profile",
        help="Which engines to use: embedded (CPU, nothing to download) or full (the real models).",
        envvar="SAM3D_GS_PROFILE",
    ),
]
Check = Annotated[
    bool,
    typer.Option("--check", help="Only check that all stages, environments and weights are ready."),
]
Follow = Annotated[
    bool,
    typer.Option(
        "--follow",
        help="Take each photo once `sam3d-gs run --pass-on`, before it in a pipe, has finished it.",
        rich_help_panel=_PIPE_PANEL,
    ),
]
PassOn = Annotated[
    bool,
    typer.Option(
        "--pass-on",
        help="Tell `sam3d-gs run --follow`, after it in a pipe, of each finished photo; results go to stderr.",
        rich_help_panel=_PIPE_PANEL,
    ),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Do the work again even if it is up to date.")]
MaxSide = Annotated[
    int, typer.Option("--max-side-px", min=16, help="Scale larger photos down to this longer side, in pixels.")
]
Engine = Annotated[str, typer.Option("--engine", help="Engine; the profile's when not given.", show_default=False)]
PhrasesEngine = Annotated[
    str, typer.Option(help="Engine of phrases; the profile's when not given.", show_default=False)
]
MasksEngine = Annotated[str, typer.Option(help="Engine of masks; the profile's when not given.", show_default=False)]
ObjectsEngine = Annotated[
    str, typer.Option(help="Engine of objects; the profile's when not given.", show_default=False)
]
Stages = Annotated[
    str,
    typer.Option("--stages", help="Only these, e.g. objects,scene; your own phrases and masks are read before them."),
]
Turntable = Annotated[
    str, typer.Option(help="Turntables: webp, gif (of the scene) or none.", rich_help_panel=RESULTS_PANEL)
]
Report = Annotated[bool, typer.Option(help="Write report.html.", rich_help_panel=RESULTS_PANEL)]
