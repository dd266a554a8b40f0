"""The options of the objects stage, declared once for the three commands that take them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sam3d_gs.errors import UsageError
from sam3d_gs.options import DEVICES, DTYPES, GAUSSIANS_PER_VOXEL, PRESETS, ObjectOptions

_PANEL = "SAM 3D Objects: engines native and sam3d-objects"


def _checkpoint(help: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=_PANEL, **more)


# Field of ObjectOptions -> how it is typed. The defaults are those of ObjectOptions.
_FLAGS: dict[str, Any] = {
    "seed": Annotated[int, typer.Option(min=0, help="Random seed.")],
    "fov_deg": Annotated[
        float | None,
        typer.Option(
            "--fov",
            min=5,
            max=150,
            help="Field of view along the longer side, in degrees, when EXIF has no focal length; else 55, and 30 for "
            "what the embedded engine sees on a plain ground.",
        ),
    ],
    "pitch_deg": Annotated[
        float | None,
        typer.Option(
            "--pitch",
            min=-45,
            max=85,
            help="How far the camera looks below the horizon, in degrees, if you know it; else the embedded engine "
            "estimates it.",
        ),
    ],
    "checkpoints": Annotated[
        Path,
        _checkpoint("Folder of the checkpoints, with pipeline.yaml; below the workspace if not found from here."),
    ],
    "moge": Annotated[
        Path | None, _checkpoint("MoGe's model.pt, when it is not beside the checkpoints.", dir_okay=False)
    ],
    "preset": Annotated[
        str, _checkpoint("draft (few steps), normal (the checkpoint's own) or quality (twice as many).")
    ],
    "steps": Annotated[int | None, _checkpoint("Steps for shape and pose; the preset's when not given.", min=1)],
    "slat_steps": Annotated[int | None, _checkpoint("Steps for the looks; the preset's when not given.", min=1)],
    "gaussians_per_voxel": Annotated[int | None, _checkpoint("4 or 32; the preset's when not given.")],
    "depth": Annotated[
        Path | None,
        _checkpoint("Your own depth instead of MoGe: .npy or .exr in metres, .png in millimetres.", dir_okay=False),
    ],
    "intrinsics": Annotated[
        str | None, _checkpoint("Camera for --depth: fx,fy,cx,cy in pixels, or a file with a 3 x 3 matrix.")
    ],
    "dtype": Annotated[str, _checkpoint("auto, fp16, bf16 or fp32.")],
    "device": Annotated[str, _checkpoint("auto, cuda, cpu or mps.")],
    "vram_gib": Annotated[
        float | None,
        _checkpoint("Stay within this much memory, in GiB, by loading the networks in turn.", "--vram", min=0.5),
    ],
}
# All but these two are for some engines only: `_TAKEN` says which.
_FOR_ALL = ("seed", "fov_deg")
_TAKEN = {
    "embedded": ("pitch_deg",),
    "native": tuple(name for name in _FLAGS if name not in (*_FOR_ALL, "pitch_deg")),
    "sam3d-objects": ("checkpoints", "preset", "steps", "slat_steps", "gaussians_per_voxel"),
}


def takes_object_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of the objects stage to a command, which receives them as its argument `wish`."""

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        wish = ObjectOptions(**{name: given.pop(name) for name in _FLAGS})
        command(**given, wish=wish)

    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "wish"]
    added = [
        inspect.Parameter(
            name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=getattr(ObjectOptions, name), annotation=annotation
        )
        for name, annotation in _FLAGS.items()
    ]
    signature = inspect.Signature([*own, *added])
    with_options.__signature__ = signature  # type: ignore[attr-defined]  # what Typer reads
    with_options.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    return with_options


def object_options(engine: str, wish: ObjectOptions, photos: Sequence[Path], workspace: Path) -> ObjectOptions:
    """The options with their engine, checked, paths absolute. Raises UsageError when they contradict each other."""
    taken_here = (*_FOR_ALL, *_TAKEN.get(engine, ()))
    for name in _FLAGS:
        if getattr(wish, name) != getattr(ObjectOptions, name) and name not in taken_here:
            fit = " or ".join(repr(other) for other, taken in _TAKEN.items() if name in taken)
            raise UsageError(f"{_flag(name)} is for engine {fit} of objects, not {engine!r}. Leave it out.")
    for name, known in (("preset", PRESETS), ("dtype", DTYPES), ("device", DEVICES)):
        if getattr(wish, name) not in known:
            raise UsageError(f"Unknown {name} {getattr(wish, name)!r}. Expected {' or '.join(known)}.")
    if wish.gaussians_per_voxel not in (None, *GAUSSIANS_PER_VOXEL):
        expected = " or ".join(map(str, GAUSSIANS_PER_VOXEL))
        raise UsageError(f"--gaussians-per-voxel is {wish.gaussians_per_voxel}. Expected {expected}.")
    if wish.intrinsics and not wish.depth:
        raise UsageError("--intrinsics goes with --depth; MoGe finds its own camera. Leave it out or add --depth.")
    if wish.moge and wish.depth:
        raise UsageError("--depth takes the place of MoGe. Leave --moge or --depth out.")
    if wish.depth and len(photos) > 1:
        raise UsageError(f"--depth is of one photo, {len(photos)} are given. Run them one by one.")
    if "checkpoints" not in taken_here:
        return replace(wish, engine=engine)
    checkpoints = wish.checkpoints
    if not checkpoints.exists():
        checkpoints = workspace / checkpoints
    return replace(
        wish,
        engine=engine,
        checkpoints=checkpoints.absolute(),
        moge=wish.moge and wish.moge.absolute(),
        depth=wish.depth and wish.depth.absolute(),
    )


def _flag(name: str) -> str:
    return {"vram_gib": "--vram", "pitch_deg": "--pitch"}.get(name, f"--{name.replace('_', '-')}")
