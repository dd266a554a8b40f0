"""What the options of a command line choose together: stages, engines, and the options of each stage."""

from __future__ import annotations

from pathlib import Path

from sam3d_gs.commands.masks import MaskWish, mask_options
from sam3d_gs.commands.phrases import phrase_options
from sam3d_gs.errors import UsageError
from sam3d_gs.options import PROFILES, STAGES, MaskOptions, PhraseOptions, SceneOptions


def chosen_stages(wish: str, own_phrases: bool, own_masks: bool, clicks: bool) -> list[str]:
    """The stages to run, in order. Own masks replace the search for phrases and masks, boxes and points for phrases.

    Own phrases and masks are read whenever a stage that wants them is asked for; up to date, that takes no time.
    """
    names = [name.strip() for name in wish.split(",")]
    for name in names:
        if name not in STAGES:
            raise UsageError(f"Unknown stage {name!r} in --stages. Expected some of {','.join(STAGES)}.")
    chosen = set(names)
    if own_masks:
        chosen -= {"phrases"}
        chosen |= {"masks"} if "objects" in chosen else set()
    elif clicks:
        chosen -= {"phrases"}
    elif own_phrases and "masks" in chosen:
        chosen |= {"phrases"}
    return [stage for stage in STAGES if stage in chosen]


def engine_name(stage: str, engine: str, profile: str) -> str:
    """The engine that was named, else the profile's. Raises UsageError for an unknown one."""
    if profile not in PROFILES:
        raise UsageError(f"Unknown profile {profile!r}. Expected {' or '.join(PROFILES)}.")
    from sam3d_gs.engines import ENGINES

    name = engine or PROFILES[profile][stage]
    if name in ENGINES[stage]:
        return name
    if engine:
        raise UsageError(f"Unknown engine {name!r} for {stage}. Expected {' or '.join(ENGINES[stage])}.")
    raise UsageError(
        f"Profile {profile!r} uses engine {name!r} for {stage}, which this version does not have yet. "
        "Use --profile embedded."
    )


def phrases_asked(
    engine: str,
    profile: str,
    asking: PhraseOptions,
    max_phrases: int,
    own: list[str],
    own_file: Path | None,
    workspace: Path,
) -> PhraseOptions:
    from sam3d_gs.workspace import server_log

    name = own_or_engine("phrases", engine, profile, bool(own or own_file), "--phrases or --phrases-file")
    return phrase_options(name, asking, max_phrases, own, own_file, server_log(workspace.absolute()))


def masks_asked(
    engine: str, profile: str, wish: MaskWish, photos: list[Path], own: Path | None, own_phrases: bool
) -> MaskOptions:
    name = own_or_engine("masks", engine, profile, own is not None, "--masks DIR")
    return mask_options(name, wish, photos, own, own_phrases)


def own_or_engine(stage: str, engine: str, profile: str, given: bool, option: str) -> str:
    """The user's own input means the engine "given"."""
    if given and engine not in ("", "given"):
        raise UsageError(f"{option} is for engine 'given', not {engine!r}. Leave one of them out.")
    if engine == "given" and not given:
        raise UsageError(f"Engine 'given' of {stage} needs {option}.")
    return "given" if given else engine_name(stage, engine, profile)


def scene_asked(turntable: str, report: bool) -> SceneOptions:
    if turntable not in ("webp", "gif", "none"):
        raise UsageError(f"Unknown turntable {turntable!r}. Expected webp, gif or none.")
    return SceneOptions(turntable, report)
