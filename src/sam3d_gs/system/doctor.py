"""Whether a profile can run here: per stage a verdict and the one command that mends it, and a plan over the cards.

`examine` collects the facts (machine, environments, weights, access), `judge` draws the conclusions from facts alone.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sam3d_gs.options import PhraseOptions
from sam3d_gs.system.environments import (
    ENGINE_MODULES,
    STAGE_ENVIRONMENTS,
    Environment,
    environment_of,
    probe,
    repository_root,
)
from sam3d_gs.system.gpu_allocation import Wish, needed_gib, place
from sam3d_gs.system.machine import Machine, look
from sam3d_gs.system.nvidia import Card
from sam3d_gs.weights.checkpoints import Checkpoints, Store, inspect
from sam3d_gs.weights.hub import Access, Hub
from sam3d_gs.weights.repositories import ENGINE_FILES

# Engine -> what else to do.
_ONLY_ON_CARDS = {"vllm": "--phrases-engine openai --base-url URL", "sam3d-objects": "--objects-engine native"}
_FETCHES_ITSELF = ("vllm",)  # its server downloads an open model on its first start
SUBMODULES = {"sam3-official": "sam3", "sam3d-objects": "sam-3d-objects"}  # engine -> the folder of its source
# Names that envs/setup.sh knows: the engine's own environment, or the usual one of the stage.
_RECIPES = {"sam3d-objects": "sam3d-objects"}
_STAGE_RECIPES = {"phrases": "vllm", "masks": "sam3", "objects": "native"}


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
    problems, notes = _environment_problems(stage, engine, environment), []
    if (folder := SUBMODULES.get(engine)) and not facts.submodules.get(folder):
        problems.append(Problem(f"{folder}/ is empty", _script("fetch_upstream.sh", folder)))
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
    need_gib = _need_gib(facts, stage)
    card_problem, card_notes = _card(engine, need_gib, facts.machine.cards)
    if facts.machine.cards and need_gib and environment.cuda and not environment.cuda.endswith(", usable"):
        problems.append(Problem(f"torch cannot use the card ({environment.cuda})", "NVIDIA driver 580 or newer"))
    return Verdict(stage, engine, environment.name, (*problems, *card_problem), (*notes, *card_notes))


def _environment_problems(stage: str, engine: str, environment: Environment) -> list[Problem]:
    recipe = _RECIPES.get(engine, _STAGE_RECIPES[stage])
    fix = _script("setup_embedded.sh") if engine == "embedded" else _script("setup.sh", "--env", recipe)
    if not ENGINE_MODULES[engine]:  # nothing of its own to install
        fix = f"export {STAGE_ENVIRONMENTS[stage][0]}=NAME of any environment with sam3d-gs, or {fix}"
    if environment.problem:
        return [Problem(f"environment {environment.name}: {environment.problem}", fix)]
    if environment.missing:
        return [Problem(f"environment {environment.name} lacks {', '.join(environment.missing)}", fix)]
    return []


def _script(name: str, *arguments: str) -> str:
    """The command that runs a script of envs/, from the folder where the user is."""
    root = repository_root()
    if root is None:
        return shlex.join(["bash", f"envs/{name}", *arguments]) + " in a clone of the repository"
    path = root / "envs" / name
    return shlex.join(["bash", str(path.relative_to(root) if Path.cwd() == root else path), *arguments])


def _weights_problem(facts: Facts, state: Checkpoints, names: Sequence[str]) -> Problem:
    repository = state.repository
    what = f"weights {repository.id}: {state.summary}"
    access = facts.access.get(repository.id)
    if access is not None and not access.granted:
        return Problem(f"{what}, access {access.state}", access.advice)
    if repository.gated and not facts.token:
        page = f"https://huggingface.co/{repository.id}"
        fetch = f"sam3d-gs checkpoints download {repository.name}"
        return Problem(f"{what}, and no token", f"hf auth login && {fetch} (once access is granted at {page})")
    if any(file.state != "missing" for file in state.bad):
        return Problem(what, f"sam3d-gs checkpoints verify --repair {repository.name}")
    extra = "" if all(repository.wants(name) for name in names) else "--all "
    return Problem(what, f"sam3d-gs checkpoints download {extra}{repository.name}")


def _need_gib(facts: Facts, stage: str) -> float:
    """GPU memory a stage wants; 0 on the CPU, also where its environment has the CPU build of torch."""
    torch = facts.environments[stage].packages.get("torch") or ""
    return 0.0 if torch.endswith("+cpu") else needed_gib(facts.engines[stage], facts.model)


def _card(engine: str, need: float, cards: Sequence[Card]) -> tuple[list[Problem], list[str]]:
    """`need` is in GiB; infinite for a model of unknown size."""
    if not need:
        return [], ["the CPU build of torch: runs on the CPU, slowly"] if needed_gib(engine) else []
    otherwise = _ONLY_ON_CARDS.get(engine, "")
    if not cards:
        if otherwise:
            return [Problem("no CUDA card (nvidia-smi shows none)", f"a machine with a card, or {otherwise}")], []
        return [], ["no CUDA card: runs on the CPU, slowly"]
    if math.isinf(need):
        return [], []
    have, free = _memory(engine, cards)
    if have < need and otherwise:
        smaller = "a larger card, a smaller --model" if engine == "vllm" else "a larger card"
        what = f"wants about {need:g} GiB, {'the cards have' if engine == 'vllm' else 'the largest card has'} {have:g}"
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
        where = _where(engine, _need_gib(facts, stage), cards)
        lines.append(f"{number}. {stage} ({engine}) in {facts.environments[stage].name} on {where}")
    if "objects" in facts.engines:
        lines.append(f"{len(lines) + 1}. scene in {facts.environments['objects'].name} on the CPU")
    lines.append("One after another: each gives its memory back before the next starts.")
    return (*lines, *_side_by_side(facts))


def _where(engine: str, need: float, cards: Sequence[Card]) -> str:
    """`need` is in GiB."""
    if not cards or not need:
        return "a CUDA card, which is not here" if need and engine in _ONLY_ON_CARDS else "the CPU"
    holding = [card for card in cards if math.isinf(need) or card.total_gib >= need]
    emptiest = max(holding or cards, key=lambda card: card.free_gib)
    if engine == "vllm":  # it chooses by itself
        spread = not holding and len(cards) > 1
        where = "cards " + "+".join(card.index for card in cards) if spread else f"card {emptiest.index}"
        fits = _memory(engine, cards)[0] >= need
    else:
        where, fits = f"card {emptiest.index}", bool(holding)
        if len(cards) > 1:
            where = f"CUDA's first card (CUDA_VISIBLE_DEVICES={emptiest.index} for that with the most free memory)"
    if math.isinf(need):
        return f"{where}: how much memory it wants, its name does not tell"
    return f"{where}, about {need:g} GiB: {'fits' if fits else 'does not fit'}"


def _side_by_side(facts: Facts) -> list[str]:
    """What becomes of `run_pipeline.sh --overlap` here."""
    cards, engines = facts.machine.cards, facts.engines
    wishes = {
        stage: Wish(_need_gib(facts, stage), cards=None if name == "vllm" else 1) for stage, name in engines.items()
    }
    stuck = not cards and any(wishes[stage].gib and name in _ONLY_ON_CARDS for stage, name in engines.items())
    if stuck or len(engines) < len(STAGE_ENVIRONMENTS):
        return []
    places = place(wishes, cards)
    if places is None:
        wanted = sum(wish.gib for wish in wishes.values())
        return [f"Not at the same time (--overlap): side by side they want about {wanted:g} GiB, and a tenth to spare."]
    seats = ", ".join(f"{stage} on card {'+'.join(places[stage])}" for stage in engines if stage in places)
    return [f"Or several photos at the same time, with run_pipeline.sh --overlap: {seats or 'all on the CPU'}."]


def _submodules(root: Path | None) -> dict[str, bool]:
    """A folder counts as filled when upstream's own files are in it, not only our outputs."""
    found = {}
    for folder in ("sam3", "sam-3d-objects"):
        found[folder] = root is not None and os.path.lexists(root / folder / ".git")
    return found
