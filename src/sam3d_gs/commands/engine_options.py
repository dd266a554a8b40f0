"""The options of engines on the command line: flags from the registry, and an engine with its options from flags."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from sam3d_gs.engines import registry
from sam3d_gs.engines.registry import EngineChoice
from sam3d_gs.engines.spec import EngineSpec
from sam3d_gs.option_flags import Flag, flag_names, flags_of, one_photo_only

FLAG_ORDER = ("objects", "phrases", "masks")  # if two stages use the same spelling, the first one keeps it


@dataclass(frozen=True)
class EngineArgs:
    """The options of one stage that were set, by option name."""

    stage: str
    typed: Mapping[str, Any]
    from_environment: Mapping[str, Any]  # ignored by engines that do not take them

    def __bool__(self) -> bool:
        return bool(self.typed)

    def flag(self) -> str:
        """The spelling of the first option typed."""
        name = next(iter(self.typed))
        return next(spec.flag(name) for spec in registry.specs_of(self.stage) if spec.takes(name))

    def choose(self, engine: str, profile: str, workspace: Path, photos: Sequence[Path] = ()) -> EngineChoice:
        """The engine with its options, checked and with absolute paths.

        Raises UsageError for an unknown engine, an option that it does not take, or an invalid value.
        """
        spec = registry.choose_spec(self.stage, engine, profile, self.typed)
        settings = {name: value for name, value in self.from_environment.items() if spec.takes(name)}
        choice = registry.with_options(spec, **{**settings, **self.typed})
        one_photo_only(choice.options, photos)
        return replace(choice, options=choice.options.resolved(workspace))


def takes_engine_options(
    *stages: str, only: Mapping[str, Sequence[str]] | None = None
) -> Callable[..., Callable[..., None]]:
    """Add the options of all engines of `stages` to a command, which receives them as `phrases_args`, `masks_args`, ...

    `only` limits a stage to the given options.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        parameters, origins = _parameters(stages, only or {})

        @functools.wraps(command)
        def with_options(context: typer.Context, **given: Any) -> None:
            args = _collect(stages, origins, given, context)
            command(**given, **{f"{stage}_args": args[stage] for stage in stages})

        taken = {f"{stage}_args" for stage in stages}
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name not in taken]
        first = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        signature = inspect.Signature([first, *own, *parameters])
        with_options.__signature__ = signature  # type: ignore[attr-defined]  # read by Typer
        with_options.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        return with_options

    return decorate


def _parameters(
    stages: Sequence[str], only: Mapping[str, Sequence[str]]
) -> tuple[list[inspect.Parameter], dict[str, tuple[str, str, Flag]]]:
    """The command's parameters, and parameter name -> (stage, option, flag)."""
    parameters: dict[str, inspect.Parameter] = {}
    origins = {}
    used: set[str] = set()
    for stage in sorted(stages, key=FLAG_ORDER.index):
        for name, takers in _options_of(stage).items():
            if name not in only.get(stage, (name,)):
                continue
            flag = flags_of(takers[0].options)[name]
            names = [spelling for spelling in flag_names(name, flag) if spelling not in used]
            if not names:
                raise ValueError(f"two options are spelled {flag_names(name, flag)[0]}: rename that of {stage}")
            used.update(names)
            key = f"{stage}_option_{name}"
            origins[key] = stage, name, flag
            annotation = _annotation(stage, name, flag, takers, names)
            kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
            parameters[key] = inspect.Parameter(key, kind, default=None, annotation=annotation)
    in_order = [p for stage in stages for key, p in parameters.items() if origins[key][0] == stage]
    return in_order, origins


def _options_of(stage: str) -> dict[str, list[EngineSpec]]:
    """Option -> the engines that take it."""
    found: dict[str, list[EngineSpec]] = {}
    for spec in registry.specs_of(stage):
        for name in flags_of(spec.options):
            found.setdefault(name, []).append(spec)
    return found


def _annotation(stage: str, name: str, flag: Flag, takers: Sequence[EngineSpec], names: Sequence[str]) -> Any:
    options: Any = takers[0].options  # mypy takes dataclasses for unhashable
    hint = _type_hints(options)[name]
    kind, listed = _plain_type(hint, flag)
    limits: dict[str, Any] = {"min": flag.min, "max": flag.max} if kind in (int, float) else {}
    if kind is Path:
        limits = {"dir_okay": flag.content != "file"}
    if kind is bool and getattr(takers[0].options, name):
        names = [f"{spelling}/--no-{spelling.removeprefix('--')}" for spelling in names]
    info = typer.Option(
        *names,
        help=flag.help + _default_text(name, takers),
        metavar=flag.metavar or None,
        envvar=flag.envvar or None,
        rich_help_panel=flag.panel or _panel(stage, takers),
        show_default=False,
        **limits,
    )
    return Annotated[(list[kind] if listed else kind) | None, info]  # type: ignore[valid-type]


@functools.cache
def _type_hints(options: type) -> dict[str, Any]:
    return get_type_hints(options)


def _plain_type(hint: Any, flag: Flag) -> tuple[Any, bool]:
    """(type of one value, whether the option may be repeated)."""
    if get_origin(hint) is tuple:
        return (str if flag.parse else get_args(hint)[0]), True
    if get_args(hint):  # X | None
        hint = next(kind for kind in get_args(hint) if kind is not type(None))
    return (str if flag.parse else hint), False


def _panel(stage: str, takers: Sequence[EngineSpec]) -> str | None:
    """The heading that names the engines; None if every engine of the stage takes it, apart from the user's input."""
    independent = [spec for spec in registry.specs_of(stage) if not spec.chosen_by]
    if all(spec in takers for spec in independent):
        return None
    names = [spec.name for spec in takers]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{stage.capitalize()}: engine{'s' if len(names) > 1 else ''} {listed}"


def _default_text(name: str, takers: Sequence[EngineSpec]) -> str:
    """The default as a sentence for --help, per engine if they differ."""
    by_default: dict[Any, list[str]] = {}
    for spec in takers:
        by_default.setdefault(getattr(spec.options, name), []).append(spec.name)
    if len(by_default) > 1:
        each = (f"{value} for {' and '.join(names)}" for value, names in by_default.items())
        return f" Default: {'; '.join(each)}."
    default = next(iter(by_default))
    if isinstance(default, bool):
        return " On by default." if default else ""
    return "" if default in (None, "", ()) else f" Default: {default}."


def _collect(
    stages: Sequence[str], origins: Mapping[str, tuple[str, str, Flag]], given: dict[str, Any], context: typer.Context
) -> dict[str, EngineArgs]:
    """Stage -> the engines' options, removed from the values `given` by Typer."""
    typed: dict[str, dict[str, Any]] = {stage: {} for stage in stages}
    environment: dict[str, dict[str, Any]] = {stage: {} for stage in stages}
    for key, (stage, name, flag) in origins.items():
        value = given.pop(key)
        if value is None or value == []:
            continue
        if isinstance(value, list):
            value = tuple(flag.parse(one) if flag.parse else one for one in value)
        elif flag.parse:
            value = flag.parse(value)
        source = context.get_parameter_source(key)
        is_variable = source is not None and source.name == "ENVIRONMENT"
        (environment if is_variable else typed)[stage][name] = value
    return {stage: EngineArgs(stage, typed[stage], environment[stage]) for stage in stages}
