"""`sam3d-gs doctor`: what is here, what is missing, and how to fix it."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sam3d_gs.commands.checkpoints import Folders, Root, as_data, placed, stores
from sam3d_gs.errors import EXIT_FAILED, Sam3dGsError, UsageError
from sam3d_gs.options import STAGES, Sam3dOptions
from sam3d_gs.weights.repositories import REPOSITORIES, find_repository

if TYPE_CHECKING:
    from sam3d_gs.engines.registry import EngineChoice
    from sam3d_gs.pipeline import Settings
    from sam3d_gs.system.doctor import Diagnosis
    from sam3d_gs.weights.checkpoints import Store

_Name = typer.Option(help="Instead of the profile's engine.", show_default=False)


def doctor(
    profile: Annotated[str, typer.Option(help="Which profile is to run: full or embedded.")] = "full",
    stages: Annotated[str, typer.Option(help="Only these, separated by commas.")] = ",".join(STAGES),
    phrases_engine: Annotated[str, _Name] = "",
    masks_engine: Annotated[str, _Name] = "",
    objects_engine: Annotated[str, _Name] = "",
    online: Annotated[bool, typer.Option("--online", help="Ask the hub who may read what.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Hash the weights, and ask each torch for its card.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only what keeps the profile from running.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Machine-readable.")] = False,
    folder: Folders = [],  # noqa: B006  Typer copies it
    workspace: Root = Path(),
) -> None:
    """Can this machine run it? Machine, environments, weights and access -> verdicts and a plan; exit 1 if not."""
    from sam3d_gs.system.doctor import examine, judge

    engines = _engines(profile, stages, {"phrases": phrases_engine, "masks": masks_engine, "objects": objects_engine})
    places = dict(zip((r.name for r in REPOSITORIES), stores(None, folder, workspace), strict=True))
    diagnosis = judge(examine(profile, engines, places, workspace, online, deep))
    if as_json:
        print(json.dumps(_data(diagnosis), indent=2, ensure_ascii=False))
    elif quiet:
        _print_problems(diagnosis)
    else:
        _print(diagnosis)
    if not diagnosis.ready:
        raise typer.Exit(EXIT_FAILED)


def check(profile: str, stages: list[str], settings: Settings) -> None:
    """The same for a run with its options: silent when it can start. Raises Sam3dGsError."""
    from sam3d_gs.system.doctor import examine, judge

    engines = {stage: getattr(settings, stage) for stage in stages if stage != "scene"}
    diagnosis = judge(examine(profile, engines, _stores_of(settings), settings.root))
    if not diagnosis.ready:
        _print_problems(diagnosis)
        raise Sam3dGsError(
            "This cannot run here, see above; nothing was started. `sam3d-gs doctor` shows all there is."
        )


def _stores_of(settings: Settings) -> dict[str, Store]:
    """Where the run's weights are; files of the user's own, outside the usual places, are left to the engines."""
    from sam3d_gs.weights.checkpoints import Store
    from sam3d_gs.weights.hub import Hub

    hub = Hub.from_environment()
    found = {}
    for name, options, option in (
        ("qwen3-vl", settings.phrases.options, "model"),
        ("sam3", settings.masks.options, "sam3"),
    ):
        wanted = getattr(options, option, None)
        if wanted is not None and not Path(wanted).exists():
            usual = find_repository(name)
            found[name] = Store(usual if wanted == usual.id else find_repository(wanted), hub)
    objects = settings.objects.options
    if not isinstance(objects, Sam3dOptions):
        return found
    usual_folder = settings.root / Sam3dOptions.checkpoints
    if objects.checkpoints == usual_folder or not objects.checkpoints.exists():
        found["sam-3d-objects"] = Store(placed(find_repository("sam-3d-objects"), {}, settings.root), hub)
    if not getattr(objects, "moge", None) and not getattr(objects, "depth", None):
        own = {find_repository("sam-3d-objects").id: objects.checkpoints}
        found["moge"] = Store(placed(find_repository("moge"), own, settings.root), hub)
    return found


def _print_problems(diagnosis: Diagnosis) -> None:
    for verdict in diagnosis.verdicts:
        for problem in verdict.problems:
            print(f"{verdict.stage} ({verdict.engine}): {problem.what}. Next: {problem.fix}", file=sys.stderr)


def _engines(profile: str, stages: str, own: dict[str, str]) -> dict[str, EngineChoice]:
    """The engines to examine, with their default options."""
    from sam3d_gs.engines import registry

    wanted = [name.strip() for name in stages.split(",") if name.strip()]
    for name in wanted:
        if name not in STAGES:
            raise UsageError(f"Unknown stage {name!r} in --stages. Expected some of {', '.join(STAGES)}.")
    found = {}
    for stage, name in own.items():
        spec = registry.choose_spec(stage, name, profile, ())
        if stage in wanted:
            found[stage] = registry.EngineChoice(spec, spec.options())
    return found


def _data(diagnosis: Diagnosis) -> dict[str, Any]:
    facts = diagnosis.facts
    return {
        "profile": facts.profile,
        "ready": diagnosis.ready,
        "stages": [{**asdict(verdict), "ready": verdict.ready} for verdict in diagnosis.verdicts],
        "plan": list(diagnosis.plan),
        "machine": asdict(facts.machine),
        "environments": {stage: asdict(environment) for stage, environment in facts.environments.items()},
        "checkpoints": [as_data(state) for state in facts.checkpoints.values()],
        "submodules": dict(facts.submodules),
        "hub": {
            "endpoint": facts.endpoint,
            "token": facts.token,
            "offline": facts.offline,
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
        rows.append(("to fix", "each -> from top to bottom; hf and sam3d-gs come with the environments of the stages"))
        instead = "" if diagnosis.facts.profile == "embedded" else "; --profile embedded needs none of this"
        rows.append((f"profile {diagnosis.facts.profile}", f"cannot run here{instead}"))
    _table(rows)


def _machine_rows(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    machine = diagnosis.facts.machine
    rows = [("machine", f"{machine.system}, Python {machine.python}")]
    for card in machine.cards:
        free = f"{card.free_gib:g} of {card.total_gib:g} GiB free, driver {card.driver}"
        rows.append((f"card {card.index}", f"{card.name}, {free}"))
    if not machine.cards:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        rows.append(
            ("cards", f"none ({'nvidia-smi shows none' if hidden is None else f'CUDA_VISIBLE_DEVICES={hidden}'})")
        )
    rows += [(f"disk: {disk.what}", f"{disk.free_gib:g} GiB free at {disk.folder}") for disk in machine.disks]
    rows.append(("free port", str(machine.free_port) if machine.free_port else "none on 127.0.0.1"))
    return rows


def _environment_rows(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    rows = []
    for environment in {e.name: e for e in diagnosis.facts.environments.values()}.values():
        if environment.problem:
            text = environment.problem
        else:
            versions = [f"{n} {'missing' if v is None else v or '(there)'}" for n, v in environment.packages.items()]
            text = f"Python {environment.python}, {', '.join(versions)}"
            if environment.cuda:
                text += f"; its torch says: {environment.cuda}"
        rows.append((f"environment {environment.name}", text))
    return rows


def _weights_rows(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    from sam3d_gs.engines.registry import all_specs

    facts = diagnosis.facts
    token = "token found" if facts.token else "no token"
    rows = [("hub", f"{facts.endpoint}, {token}{', HF_HUB_OFFLINE' if facts.offline else ''}")]
    for state in facts.checkpoints.values():
        access = facts.access.get(state.repository.id)
        said = f"access {access.state}" if access else "access not asked (--online)"
        compared = f" by {state.compared_with}" if state.complete else ""
        rows.append((f"weights {state.repository.name}", f"{state.summary}{compared}; {said}; {state.where}"))
    for folder, filled in facts.submodules.items():
        user = next(spec.name for spec in all_specs().values() if spec.submodule == folder)
        rows.append((f"submodule {folder}", "filled" if filled else f"empty (engine {user} alone needs it)"))
    return rows


def _table(rows: list[tuple[str, str]]) -> None:
    """With rich on a terminal, which folds long cells; else plain lines, which a pipe or a log keeps whole."""
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
                print(f"{'' if number else name:<{width}}  {line}")
        return
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows:
        table.add_row(Text(name, style="bold"), Text(text))
    Console(highlight=False).print(table)
