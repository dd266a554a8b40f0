"""`sam3d-gs doctor`: what is installed, what is missing, and how to fix it."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam3d_gs.commands.checkpoints import Folders, Root, as_data, placed, stores
from sam3d_gs.commands.terminal import printable, say, say_json, tell
from sam3d_gs.errors import EXIT_FAILED, Sam3dGsError, UsageError
from sam3d_gs.options import STAGES, Sam3dOptions
from sam3d_gs.weights.repositories import REPOSITORIES, find_repository

if TYPE_CHECKING:
    from sam3d_gs.engines.registry import EngineChoice
    from sam3d_gs.pipeline import Settings
    from sam3d_gs.system.doctor import Diagnosis
    from sam3d_gs.weights.checkpoints import Store

_Name = typer.Option(help="Engine to check instead of the profile's.", show_default=False)


def doctor(
    profile: Annotated[str, typer.Option(help="The profile to check: full or embedded.")] = "full",
    stages: Annotated[str, typer.Option(help="Check only these stages, separated by commas.")] = ",".join(STAGES),
    phrases_engine: Annotated[str, _Name] = "",
    masks_engine: Annotated[str, _Name] = "",
    objects_engine: Annotated[str, _Name] = "",
    online: Annotated[bool, typer.Option("--online", help="Also check access to the weights on the hub.")] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also hash the weights, and check that each torch can use the GPU.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only problems.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    folder: Folders = [],  # noqa: B006  Typer copies it
    workspace: Root = Path(),
) -> None:
    """Check whether this machine can run a profile: environments, weights, access and GPUs. Exit code 1 if not."""
    from sam3d_gs.system.doctor import examine, judge

    engines = _engines(profile, stages, {"phrases": phrases_engine, "masks": masks_engine, "objects": objects_engine})
    places = dict(zip((r.name for r in REPOSITORIES), stores(None, folder, workspace), strict=True))
    diagnosis = judge(examine(profile, engines, places, workspace, online, deep))
    if as_json:
        say_json(_data(diagnosis))
    elif quiet:
        _print_problems(diagnosis)
    else:
        _print(diagnosis)
    if not diagnosis.ready:
        raise typer.Exit(EXIT_FAILED)


def check(profile: str, stages: list[str], settings: Settings) -> None:
    """Check that a run with these options can start. Raises Sam3dGsError, after printing the problems, if not."""
    from sam3d_gs.system.doctor import examine, judge

    engines = {stage: getattr(settings, stage) for stage in stages if stage != "scene"}
    diagnosis = judge(examine(profile, engines, _stores_of(settings), settings.root))
    if not diagnosis.ready:
        _print_problems(diagnosis)
        raise Sam3dGsError(
            "This cannot run here, see above; nothing was started. `sam3d-gs doctor` shows the whole set-up."
        )


def _stores_of(settings: Settings) -> dict[str, Store]:
    """Short name -> the run's weights, except the user's own files in other places, which the engines check."""
    from sam3d_gs.weights.checkpoints import Store
    from sam3d_gs.weights.hub import Hub

    hub = Hub.from_environment()
    found = {}
    for name, options, option in (
        ("qwen3-vl", settings.phrases.options, "model"),
        ("sam3", settings.masks.options, "sam3"),
    ):
        repository_id = getattr(options, option, None)
        if repository_id is not None and not Path(repository_id).exists():
            default = find_repository(name)
            found[name] = Store(default if repository_id == default.id else find_repository(repository_id), hub)
    objects = settings.objects.options
    if not isinstance(objects, Sam3dOptions):
        return found
    default_folder = settings.root / Sam3dOptions.checkpoints
    if objects.checkpoints == default_folder or not objects.checkpoints.exists():
        found["sam-3d-objects"] = Store(placed(find_repository("sam-3d-objects"), {}, settings.root), hub)
    if not getattr(objects, "moge", None) and not getattr(objects, "depth", None):
        own = {find_repository("sam-3d-objects").id: objects.checkpoints}
        found["moge"] = Store(placed(find_repository("moge"), own, settings.root), hub)
    return found


def _print_problems(diagnosis: Diagnosis) -> None:
    for verdict in diagnosis.verdicts:
        for problem in verdict.problems:
            tell(f"{verdict.stage} ({verdict.engine}): {problem.what}. Next: {problem.fix}")


def _engines(profile: str, stages: str, own: dict[str, str]) -> dict[str, EngineChoice]:
    """The engines to examine, with their default options."""
    from sam3d_gs.engines import registry

    names = [name.strip() for name in stages.split(",") if name.strip()]
    for name in names:
        if name not in STAGES:
            raise UsageError(f"Unknown stage {name!r} in --stages. Expected some of {', '.join(STAGES)}.")
    found = {}
    for stage, name in own.items():
        spec = registry.choose_spec(stage, name, profile, ())
        if stage in names:
            found[stage] = registry.EngineChoice(spec, spec.options())
    return found


def _data(diagnosis: Diagnosis) -> dict[str, Any]:
    facts = diagnosis.facts
    machine = asdict(facts.machine)
    machine["cards"] = machine.pop("gpus")  # the key of earlier versions
    return {
        "profile": facts.profile,
        "ready": diagnosis.ready,
        "stages": [{**asdict(verdict), "ready": verdict.ready} for verdict in diagnosis.verdicts],
        "plan": list(diagnosis.plan),
        "machine": machine,
        "environments": {stage: asdict(environment) for stage, environment in facts.environments.items()},
        "checkpoints": [as_data(state) for state in facts.checkpoints.values()],
        "submodules": dict(facts.submodules),
        "hub": {
            "endpoint": facts.endpoint,
            "token": facts.token,
            "offline": facts.offline,
            "notes": list(facts.hub_notes),
            "access": {name: access.state for name, access in facts.access.items()},
        },
    }


def _print(diagnosis: Diagnosis) -> None:
    rows = [*_machine_rows(diagnosis), *_environment_rows(diagnosis), *_weights_rows(diagnosis)]
    for verdict in diagnosis.verdicts:
        rows.append((f"stage {verdict.stage}", f"{verdict.engine}: {'ready' if verdict.ready else 'cannot run'}"))
        rows += [("", f"{problem.what}\n-> {problem.fix}") for problem in verdict.problems]
        rows += [("", note) for note in verdict.notes]
    rows += [("plan" if not number else "", line) for number, line in enumerate(diagnosis.plan)]
    if diagnosis.ready:
        rows.append((f"profile {diagnosis.facts.profile}", "can run here"))
    else:
        how = "run each -> from top to bottom; hf and sam3d-gs are in the environments of the stages"
        rows.append(("to fix", how))
        instead = "" if diagnosis.facts.profile == "embedded" else "; --profile embedded needs none of this"
        rows.append((f"profile {diagnosis.facts.profile}", f"cannot run here{instead}"))
    _table(rows)


def _machine_rows(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    machine = diagnosis.facts.machine
    rows = [("machine", f"{machine.system}, Python {machine.python}")]
    for gpu in machine.gpus:
        free = f"{gpu.free_gib:g} of {gpu.total_gib:g} GiB free, driver {gpu.driver}"
        rows.append((f"GPU {gpu.index}", f"{gpu.name}, {free}"))
    if not machine.gpus:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        reason = "nvidia-smi shows none" if hidden is None else f"CUDA_VISIBLE_DEVICES={hidden}"
        rows.append(("GPUs", f"none ({reason})"))
    rows += [(f"disk: {disk.what}", f"{disk.free_gib:g} GiB free at {disk.folder}") for disk in machine.disks]
    rows.append(("free port", str(machine.free_port) if machine.free_port else "none on 127.0.0.1"))
    return rows


def _environment_rows(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    rows = []
    for environment in {e.name: e for e in diagnosis.facts.environments.values()}.values():
        if environment.problem:
            text = environment.problem
        else:
            versions = [f"{n} {'missing' if v is None else v or 'installed'}" for n, v in environment.packages.items()]
            text = f"Python {environment.python}, {', '.join(versions)}"
            if environment.cuda:
                text += f"; torch: {environment.cuda}"
        rows.append((f"environment {environment.name}", text))
    return rows


def _weights_rows(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    from sam3d_gs.engines.registry import all_specs

    facts = diagnosis.facts
    token = "token found" if facts.token else "no token"
    rows = [("hub", f"{facts.endpoint}, {token}{', HF_HUB_OFFLINE' if facts.offline else ''}")]
    rows += [("", note) for note in facts.hub_notes]
    for state in facts.checkpoints.values():
        access = facts.access.get(state.repository.id)
        access_text = f"access {access.state}" if access else "access not checked (--online)"
        compared = f" by {state.compared_with}" if state.complete else ""
        rows.append((f"weights {state.repository.name}", f"{state.summary}{compared}; {access_text}; {state.where}"))
    for folder, filled in facts.submodules.items():
        user = next(spec.name for spec in all_specs().values() if spec.submodule == folder)
        rows.append((f"submodule {folder}", "filled" if filled else f"empty (only engine {user} needs it)"))
    return rows


def _table(rows: list[tuple[str, str]]) -> None:
    """Print a two-column table: with rich on a terminal, to wrap long cells, else as plain lines."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        pretty = sys.stdout.isatty()
    except ModuleNotFoundError:
        pretty = False
    if not pretty:
        width = max(len(name) for name, _ in rows)
        for name, text in rows:
            for number, line in enumerate(text.splitlines()):
                say(f"{'' if number else name:<{width}}  {line}")
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(name, style="bold"), Text(printable(text)))
    Console(highlight=False).print(table)
