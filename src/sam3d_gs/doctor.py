"""Whether a profile can run here: per stage a verdict and the one command that mends it, and a plan over the cards.

`examine` collects the facts (machine, environments, weights, access), `judge` draws the conclusions from facts alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sam3d_gs.checkpoints import Checkpoints, Store, inspect
from sam3d_gs.environments import ENGINE_MODULES, Environment, environment_of, probe, repository_root
from sam3d_gs.hub import Access, Hub
from sam3d_gs.machine import Card, Machine, look
from sam3d_gs.options import PhraseOptions
from sam3d_gs.repositories import ENGINE_FILES
from sam3d_gs.vlm.model import needed_mib

# Engine -> GPU memory in GiB, about; `vllm` depends on its model. What was measured and what not is in the README.
_NEEDS_GIB = {"sam3": 7.5, "sam3-official": 7.5, "sam3d-objects": 16.0, "native": 8.0}
_ONLY_ON_CARDS = {"vllm": "--phrases-engine openai", "sam3d-objects": "--objects-engine native"}  # -> what else to do
_FETCHES_ITSELF = ("vllm",)  # its server downloads an open model on its first start
_SUBMODULES = {"sam3-official": "sam3", "sam3d-objects": "sam-3d-objects"}
_RECIPES = {"vllm": "vllm", "sam3": "sam3", "sam3-official": "sam3"}  # names of envs/setup.sh; else the engine's own


@dataclass(frozen=True)
class Facts:
    """Everything that was found out; nothing here is an opinion."""

    profile: str
    engines: Mapping[str, str]  # stage -> engine, in the order of the stages
    machine: Machine
    environments: Mapping[str, Environment]  # stage -> where it runs
    checkpoints: Mapping[str, Checkpoints]  # short name -> what is here
    submodules: Mapping[str, bool]  # folder -> filled
    endpoint: str
    token: bool
    offline: bool
    access: Mapping[str, Access] = field(default_factory=dict)  # repository id -> answer; empty: not asked
    model: str = PhraseOptions.model  # of engine vllm


@dataclass(frozen=True)
class Problem:
    """What keeps a stage from running, and the one command (or step) that mends it."""

    what: str
    fix: str


@dataclass(frozen=True)
class Verdict:
    """One stage."""

    stage: str
    engine: str
    environment: str
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]  # worth knowing, no hindrance

    @property
    def ready(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Diagnosis:
    """What `sam3d-gs doctor` says."""

    facts: Facts
    verdicts: tuple[Verdict, ...]
    plan: tuple[str, ...]

    @property
    def ready(self) -> bool:
        return all(verdict.ready for verdict in self.verdicts)


def examine(
    profile: str,
    engines: Mapping[str, str],
    stores: Mapping[str, Store],
    workspace: Path,
    online: bool = False,
    deep: bool = False,
    model: str = PhraseOptions.model,
) -> Facts:
    """Look at this machine. The hub is asked only when `online`; `deep` hashes the weights.

    `stores` are by short name; weights that are not in it are left to the engines.
    """
    root, hub = repository_root(), Hub.from_environment()
    needed = {name: files for key in engines.items() for name, files in ENGINE_FILES.get(key, {}).items()}
    read = {name: stores[name] for name in needed if name in stores}
    with ThreadPoolExecutor() as pool:
        probes = {
            stage: pool.submit(probe, environment_of(stage, engine), ENGINE_MODULES[engine], root, deep)
            for stage, engine in engines.items()
        }
        asked = {
            store.repository.id: pool.submit(hub.access, store.repository.id, store.repository.essential[0])
            for store in (read.values() if online else ())
        }
        return Facts(
            profile,
            engines,
            look(workspace, hub.cache),
            {stage: future.result() for stage, future in probes.items()},
            {name: inspect(store, hash_too=deep, also=needed[name]) for name, store in read.items()},
            _submodules(root),
            hub.endpoint,
            hub.token is not None,
            hub.offline,
            {name: future.result() for name, future in asked.items()},
            model,
        )


def judge(facts: Facts) -> Diagnosis:
    verdicts = tuple(_verdict(facts, stage, engine) for stage, engine in facts.engines.items())
    return Diagnosis(facts, verdicts, _plan(facts))


def _verdict(facts: Facts, stage: str, engine: str) -> Verdict:
    environment = facts.environments[stage]
    problems, notes = _environment_problems(engine, environment), []
    if (folder := _SUBMODULES.get(engine)) and not facts.submodules.get(folder):
        problems.append(Problem(f"{folder}/ is empty", f"bash envs/fetch_upstream.sh {folder}"))
    for name, needed in ENGINE_FILES.get((stage, engine), {}).items():
        if name not in facts.checkpoints:
            continue  # the user's own files: the engine judges them before it loads any
        state = facts.checkpoints[name]
        bad = [file for file in state.bad if file.name in needed or file.name not in state.repository.essential]
        if bad:
            if engine in _FETCHES_ITSELF and not facts.offline and state.summary == "not here":
                notes.append(f"{state.repository.id} (about {state.repository.gib} GiB) comes on the first start")
            else:
                problems.append(_weights_problem(facts, state, [file.name for file in bad]))
    card_problem, card_notes = _card(engine, needed_gib(engine, facts.model), environment, facts.machine.cards)
    return Verdict(stage, engine, environment.name, (*problems, *card_problem), (*notes, *card_notes))


def _environment_problems(engine: str, environment: Environment) -> list[Problem]:
    recipe = _RECIPES.get(engine, engine)
    fix = "bash envs/setup_embedded.sh" if engine == "embedded" else f"bash envs/setup.sh --env {recipe}"
    if environment.problem:
        return [Problem(f"environment {environment.name}: {environment.problem}", fix)]
    if environment.missing:
        return [Problem(f"environment {environment.name} lacks {', '.join(environment.missing)}", fix)]
    return []


def _weights_problem(facts: Facts, state: Checkpoints, names: Sequence[str]) -> Problem:
    repository = state.repository
    what = f"weights {repository.id}: {state.summary}"
    access = facts.access.get(repository.id)
    if access is not None and not access.granted:
        return Problem(f"{what}, access {access.state}", access.advice)
    if repository.gated and not facts.token:
        page = f"https://huggingface.co/{repository.id}"
        return Problem(f"{what}, and no token", f"hf auth login (once access is granted at {page})")
    if any(file.state != "missing" for file in state.bad):
        return Problem(what, f"sam3d-gs checkpoints verify --repair {repository.name}")
    extra = "" if all(repository.wants(name) for name in names) else "--all "
    return Problem(what, f"sam3d-gs checkpoints download {extra}{repository.name}")


def needed_gib(engine: str, model: str = PhraseOptions.model) -> float:
    """GPU memory an engine wants, about; 0 for those that run on the CPU alone, and where nobody knows."""
    if engine == "vllm":
        return round((needed_mib(model) or 0) / 1024, 1)
    return _NEEDS_GIB.get(engine, 0.0)


def _card(engine: str, need: float, environment: Environment, cards: Sequence[Card]) -> tuple[list[Problem], list[str]]:
    """`need` is in GiB; 0 for a model of unknown size."""
    if not need and engine not in _ONLY_ON_CARDS:
        return [], []
    if engine == "vllm" and (environment.packages.get("torch") or "").endswith("+cpu"):
        return [], ["the CPU build of torch: runs on the CPU, slowly"]
    otherwise = _ONLY_ON_CARDS.get(engine, "")
    if not cards:
        if otherwise:
            return [Problem("no CUDA card (nvidia-smi shows none)", f"a machine with a card, or {otherwise}")], []
        return [], ["no CUDA card: runs on the CPU, slowly"]
    have, free = _memory(engine, cards)
    if have < need and otherwise:
        smaller = "a larger card, a smaller --model" if engine == "vllm" else "a larger card"
        what = f"wants about {need:g} GiB, the largest card has {have:g}"
        return [Problem(what, f"{smaller}, or {otherwise}")], []
    if have < need:
        return [], [f"wants about {need:g} GiB, the largest card has {have:g}: see its memory options"]
    return [], [f"wants about {need:g} GiB, now only {free:g} are free"] if free < need else []


def _memory(engine: str, cards: Sequence[Card]) -> tuple[float, float]:
    """GiB in all and free now: of the largest card, or of all that a model server may spread over."""
    if engine == "vllm":
        return sum(card.total_gib for card in cards), sum(card.free_gib for card in cards)
    return max(card.total_gib for card in cards), max(card.free_gib for card in cards)


def _plan(facts: Facts) -> tuple[str, ...]:
    cards, lines = facts.machine.cards, []
    for number, (stage, engine) in enumerate(facts.engines.items(), 1):
        need = needed_gib(engine, facts.model)
        where = "the CPU"
        if need and cards:
            largest = max(cards, key=lambda card: card.total_gib)
            spread = engine == "vllm" and largest.total_gib < need and len(cards) > 1
            names = "cards " + "+".join(card.index for card in cards) if spread else f"card {largest.index}"
            fits = "fits" if _memory(engine, cards if spread else [largest])[0] >= need else "does not fit"
            where = f"{names}, about {need:g} GiB: {fits}"
        elif engine in _ONLY_ON_CARDS:
            where = "a CUDA card, which is not here"
        lines.append(f"{number}. {stage} ({engine}) in {facts.environments[stage].name} on {where}")
    lines.append("One after another: each gives its memory back before the next starts.")
    if len(cards) > 1 and "vllm" in facts.engines.values():
        lines.append("With --keep-server the language model stays on its card while the next stages use another.")
    return tuple(lines)


def _submodules(root: Path | None) -> dict[str, bool]:
    """A folder counts as filled when upstream's own files are in it, not only our outputs."""
    found = {}
    for folder in ("sam3", "sam-3d-objects"):
        found[folder] = root is not None and os.path.lexists(root / folder / ".git")
    return found
