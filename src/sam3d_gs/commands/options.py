"""Options that several commands take, declared once; those of one stage are in phrases.py, masks.py and objects.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# Help panels.
_INPUT, _RESULT, _PIPE = "Enter from outside", "Results", "Stages at the same time, in processes of their own"

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
    typer.Option("--check", help="Do nothing but look whether all stages, environments and weights are ready."),
]
Follow = Annotated[
    bool,
    typer.Option(
        "--follow",
        help="Take each photo when `sam3d-gs run --pass-on` before it in a pipe has finished it.",
        rich_help_panel=_PIPE,
    ),
]
PassOn = Annotated[
    bool,
    typer.Option(
        "--pass-on",
        help="Tell `sam3d-gs run --follow` after it in a pipe of each finished photo; results are shown on stderr.",
        rich_help_panel=_PIPE,
    ),
]
Force = Annotated[bool, typer.Option("--force", "-f", help="Do the work again even if it is up to date.")]
MaxSide = Annotated[int, typer.Option(min=16, help="Work on larger photos at this size, in pixels.")]
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
    typer.Option("--stages", help="Only these, e.g. objects,scene; what you enter from outside is read before them."),
]

Phrases = Annotated[
    list[str],
    typer.Option("--phrases", help="Your own phrase, once for each kind of object.", rich_help_panel=_INPUT),
]
PhrasesFile = Annotated[
    Path | None,
    typer.Option(help="Your own phrases: .txt with one a line, or .json.", rich_help_panel=_INPUT, dir_okay=False),
]
MasksDir = Annotated[
    Path | None,
    typer.Option("--masks", help="Your own masks: a folder of PNG/JPG masks or RGBA cut-outs.", rich_help_panel=_INPUT),
]
MaxPhrases = Annotated[int, typer.Option(min=1, help="At most this many phrases.")]
Turntable = Annotated[str, typer.Option(help="Turntables: webp, gif (of the scene) or none.", rich_help_panel=_RESULT)]
Report = Annotated[bool, typer.Option(help="Write report.html.", rich_help_panel=_RESULT)]
