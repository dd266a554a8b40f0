"""The options of the masks stage, declared once for the two commands that take them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sam3d_gs.errors import UsageError
from sam3d_gs.options import ACCELERATIONS, DEVICES, PRECISIONS, SAM3_ENGINES, SAM3_SCORE_THRESHOLD, MaskOptions

_SAM3 = "Engines sam3 and sam3-official: SAM 3"

MaskWish = dict[str, Any]  # what was typed, by the names of _FLAGS


def _sam3(help: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=_SAM3, **more)


# Field of MaskOptions -> how it is typed, and what stands for "not given".
_FLAGS: dict[str, tuple[Any, Any]] = {
    "max_objects": (
        Annotated[int, typer.Option("--max-objects", min=1, help="Keep at most this many masks.")],
        MaskOptions.max_objects,
    ),
    "score_threshold": (
        Annotated[
            float | None,
            typer.Option(
                "--score-threshold",
                min=0,
                max=1,
                help=f"Drop masks scored below; {SAM3_SCORE_THRESHOLD} with SAM 3, else 0, when not given.",
            ),
        ],
        None,
    ),
    "min_area_percent": (
        Annotated[
            float,
            typer.Option(
                "--min-area-percent", min=0, max=100, help="Drop masks smaller than this part of the photo, in %."
            ),
        ],
        MaskOptions.min_area_percent,
    ),
    "border_filter": (
        Annotated[
            bool,
            typer.Option(
                "--border-filter/--no-border-filter", help="Drop background and what lies mostly outside the photo."
            ),
        ],
        MaskOptions.border_filter,
    ),
    "boxes": (
        Annotated[list[str], _sam3("x0,y0,x1,y1 in pixels of the photo: mask this one object.", "--box")],
        [],
    ),
    "points": (
        Annotated[list[str], _sam3("x,y in pixels of the photo: mask the one object there.", "--point")],
        [],
    ),
    "phrase_thresholds": (
        Annotated[
            list[str], _sam3('PHRASE=SCORE: a threshold for one phrase, e.g. "red cup=0.3".', "--phrase-threshold")
        ],
        [],
    ),
    "sam3": (Annotated[str, _sam3("Checkpoint: a folder or a hub repository.", "--sam3")], MaskOptions.sam3),
    "device": (Annotated[str, _sam3(f"{', '.join(DEVICES)}.", "--sam3-device", "--device")], MaskOptions.device),
    "precision": (
        Annotated[str, _sam3(f"{', '.join(PRECISIONS)}; auto is bf16 on CUDA, else fp32.", "--sam3-precision")],
        MaskOptions.precision,
    ),
    "acceleration": (
        Annotated[
            str, _sam3(f"{', '.join(ACCELERATIONS)}; auto is a CUDA graph on CUDA, else plain.", "--sam3-acceleration")
        ],
        MaskOptions.acceleration,
    ),
}
_DEVICE_ALONE = Annotated[str, _sam3(f"{', '.join(DEVICES)}.", "--sam3-device")]
_CHOICES = {"device": DEVICES, "precision": PRECISIONS, "acceleration": ACCELERATIONS}
_SAM3_ONLY = ("boxes", "points", "phrase_thresholds", "sam3", "device", "precision", "acceleration")
_TYPED = {
    "boxes": "--box",
    "points": "--point",
    "phrase_thresholds": "--phrase-threshold",
    "device": "--sam3-device",
    "precision": "--sam3-precision",
    "acceleration": "--sam3-acceleration",
}


def takes_mask_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of the masks stage to a command, which receives them as its argument `mask_wish`.

    Where --device is taken (`run` has that of objects), the one of masks is --sam3-device alone.
    """
    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "mask_wish"]
    flags = dict(_FLAGS)
    if "device" in {p.name for p in own}:
        flags["device"] = _DEVICE_ALONE, MaskOptions.device

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        wish = {name: given.pop(f"mask_{name}") for name in flags}
        command(**given, mask_wish=wish)

    added = [
        inspect.Parameter(
            f"mask_{name}", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation
        )
        for name, (annotation, default) in flags.items()
    ]
    signature = inspect.Signature([*own, *added])
    with_options.__signature__ = signature  # type: ignore[attr-defined]  # what Typer reads
    with_options.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    return with_options


def mask_options(
    engine: str, wish: MaskWish, photos: Sequence[Path], masks_dir: Path | None, own_phrases: bool
) -> MaskOptions:
    """The options with their engine, checked, paths absolute. Raises UsageError when they contradict each other."""
    given = dict(wish)
    changed = [name for name in _SAM3_ONLY if given[name] != _FLAGS[name][1]]
    if changed and engine not in SAM3_ENGINES:
        raise UsageError(
            f"{_flag(changed[0])} is for engines {' and '.join(SAM3_ENGINES)} of masks, not {engine!r}. "
            "Choose one of them or leave it out."
        )
    for name, known in _CHOICES.items():
        if given[name] not in known:
            raise UsageError(f"Unknown {_flag(name)} {given[name]!r}. Expected {' or '.join(known)}.")
    given["boxes"] = tuple(_numbers("--box", text, 4) for text in given["boxes"])
    given["points"] = tuple(_numbers("--point", text, 2) for text in given["points"])
    given["phrase_thresholds"] = tuple(_phrase_threshold(text) for text in given["phrase_thresholds"])
    if given["boxes"] or given["points"]:
        if own_phrases:
            raise UsageError("--box and --point mask what lies there, without phrases. Leave the phrases out.")
        if len(photos) > 1:
            raise UsageError(f"--box and --point are of one photo, {len(photos)} are given. Run them one by one.")
    if given["score_threshold"] is None:
        given["score_threshold"] = SAM3_SCORE_THRESHOLD if engine in SAM3_ENGINES else MaskOptions.score_threshold
    if Path(given["sam3"]).exists():
        given["sam3"] = str(Path(given["sam3"]).absolute())
    return MaskOptions(engine, masks_dir=masks_dir and masks_dir.absolute(), **given)


def clicked(wish: MaskWish) -> bool:
    """Whether the user points at objects, so that nothing has to be named."""
    return bool(wish["boxes"] or wish["points"])


def _flag(name: str) -> str:
    return _TYPED.get(name, f"--{name.replace('_', '-')}")


def _numbers(flag: str, text: str, count: int) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != count or not all(abs(value) < 1e6 for value in values):
        expected, example = ("x0,y0,x1,y1", "10,20,300,400") if count == 4 else ("x,y", "150,200")
        raise UsageError(f"{flag} {text!r} is not {expected} in pixels, e.g. {flag} {example}.")
    if count == 4 and not (values[0] < values[2] and values[1] < values[3]):
        raise UsageError(f"{flag} {text}: the second corner must lie right of and below the first.")
    return values


def _phrase_threshold(text: str) -> tuple[str, float]:
    phrase, equals, score = text.rpartition("=")
    try:
        value = float(score)
    except ValueError:
        value = -1.0
    if not (equals and phrase.strip() and 0 <= value <= 1):
        raise UsageError(
            f'--phrase-threshold {text!r} is not PHRASE=SCORE with a score from 0 to 1, e.g. "red cup=0.3".'
        )
    return phrase.strip(), value
