"""Whether a profile can run here: per stage a verdict and how to fix each problem, and a plan over the cards.

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

from sam3d_gs.engines.registry import EngineChoice, EngineSpec, GpuRequest
from sam3d_gs.system.environments import (
    STAGE_ENVIRONMENTS,
    Environment,
    environment_of,
    probe,
    repository_root,
)
from sam3d_gs.system.gpu_allocation import place
from sam3d_gs.system.machine import Machine, look
from sam3d_gs.system.nvidia import Card
from sam3d_gs.weights.checkpoints import Checkpoints, Store, inspect
from sam3d_gs.weights.hub import Access, Hub

_STAGE_RECIPES = {"phrases": "vllm", "masks": "sam3", "objects": "native"}  # for an engine that any environment holds


@dataclass(frozen=True)
class Facts:
    """Everything that was found out; nothing here is an opinion."""

    profile: str
    engines: Mapping[str, EngineChoice]  # by stage, in the order of the stages
    machine: Machine
    environments: Mapping[str, Environment]  # stage -> where it runs
    checkpoints: Mapping[str, Checkpoints]  # short name -> what is here
    submodules: Mapping[str, bool]  # folder -> filled
    endpoint: str
    token: bool
    offline: bool
    access: Mapping[str, Access] = field(default_factory=dict)  # repository id -> answer; empty: not asked


@dataclass(frozen=True)
class Problem:
    """What keeps a stage from running, and the one command (or step) that fixes it."""

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
    engines: Mapping[str, EngineChoice],
    stores: Mapping[str, Store],
    workspace: Path,
    online: bool = False,
    deep: bool = False,
) -> Facts:
    """Look at this machine. The hub is asked only when `online`; `deep` hashes the weights.

    `stores` are by short name; weights that are not in it are left to the engines.
    """
    root, hub = repository_root(), Hub.from_environment()
    needed = {name: files for choice in engines.values() for name, files in choice.spec.weights.items()}
    read = {name: stores[name] for name in needed if name in stores}
    with ThreadPoolExecutor() as pool:
        probes = {
            stage: pool.submit(probe, environment_of(choice.spec), choice.spec.modules, root, deep)
            for stage, choice in engines.items()
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
        )


def judge(facts: Facts) -> Diagnosis:
    verdicts = tuple(_verdict(facts, choice) for choice in facts.engines.values())
    return Diagnosis(facts, verdicts, _plan(facts))


def _verdict(facts: Facts, choice: EngineChoice) -> Verdict:
    spec = choice.spec
    environment = facts.environments[spec.stage]
    problems, notes = _environment_problems(spec, environment), []
    if spec.submodule and not facts.submodules.get(spec.submodule):
        problems.append(Problem(f"{spec.submodule}/ is empty", _script("fetch_upstream.sh", spec.submodule)))
    for name, needed in spec.weights.items():
        if name not in facts.checkpoints:
            continue  # the user's own files: the engine judges them before it loads any
        state = facts.checkpoints[name]
        bad = [file for file in state.bad if file.name in needed or file.name not in state.repository.essential]
        if bad:
            if spec.downloads_weights and not facts.offline and state.summary == "not here":
                notes.append(f"{state.repository.id} (about {state.repository.gib} GiB) comes on the first start")
            else:
                problems.append(_weights_problem(facts, state, [file.name for file in bad]))
    request = _gpu_request(facts, choice)
    card_problem, card_notes = _card(choice, request, facts.machine.cards)
    if facts.machine.cards and request.gib and environment.cuda and not environment.cuda.endswith(", usable"):
        problems.append(Problem(f"torch cannot use the GPU ({environment.cuda})", "NVIDIA driver 580 or newer"))
    return Verdict(spec.stage, spec.name, environment.name, (*problems, *card_problem), (*notes, *card_notes))


def _environment_problems(spec: EngineSpec, environment: Environment) -> list[Problem]:
    if spec.environment == "embedded":
        fix = _script("setup_embedded.sh")
    elif spec.install:
        fix = f"{spec.install} (in the environment {environment.name})"
    else:
        fix = _script("setup.sh", "--env", spec.environment or _STAGE_RECIPES[spec.stage])
    if not spec.modules and not spec.install:  # nothing of its own to install
        fix = f"export {STAGE_ENVIRONMENTS[spec.stage][0]}=NAME of any environment with sam3d-gs, or {fix}"
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


def _gpu_request(facts: Facts, choice: EngineChoice) -> GpuRequest:
    """What the engine wants of the GPUs; nothing where its environment has the CPU build of torch."""
    torch = facts.environments[choice.spec.stage].packages.get("torch") or ""
    return GpuRequest() if torch.endswith("+cpu") else choice.gpu


def _card(choice: EngineChoice, request: GpuRequest, cards: Sequence[Card]) -> tuple[list[Problem], list[str]]:
    spec = choice.spec
    if not request.gib:
        return [], ["the CPU build of torch: runs on the CPU, slowly"] if choice.gpu.gib else []
    otherwise = f", or {spec.without_gpu}" if spec.without_gpu else ""
    if not cards:
        if spec.needs_gpu:
            return [Problem("no NVIDIA GPU (nvidia-smi shows none)", f"a machine with a GPU{otherwise}")], []
        return [], ["no NVIDIA GPU: runs on the CPU, slowly"]
    if math.isinf(request.gib):
        return [], []
    spreads = request.gpus is None
    have, free = _memory(request, cards)
    if have < request.gib and spec.needs_gpu:
        smaller = "a larger GPU, a smaller --model" if spreads else "a larger GPU"
        what = f"needs about {request.gib:g} GiB, {'the GPUs have' if spreads else 'the largest GPU has'} {have:g}"
        return [Problem(what, f"{smaller}{otherwise}")], []
    if have < request.gib:
        return [], [f"needs about {request.gib:g} GiB, the largest GPU has {have:g}: see its memory options"]
    return [], [f"needs about {request.gib:g} GiB, now only {free:g} are free"] if free < request.gib else []


def _memory(request: GpuRequest, cards: Sequence[Card]) -> tuple[float, float]:
    """GiB in all and free now: of the largest GPU, or of all that a model server may spread over."""
    if request.gpus is None:
        return sum(card.total_gib for card in cards), sum(card.free_gib for card in cards)
    return max(card.total_gib for card in cards), max(card.free_gib for card in cards)


def _plan(facts: Facts) -> tuple[str, ...]:
    lines = []
    for number, (stage, choice) in enumerate(facts.engines.items(), 1):
        where = _where(choice, _gpu_request(facts, choice), facts.machine.cards)
        lines.append(f"{number}. {stage} ({choice.name}) in {facts.environments[stage].name} on {where}")
    if "objects" in facts.engines:
        lines.append(f"{len(lines) + 1}. scene in {facts.environments['objects'].name} on the CPU")
    lines.append("One after another: each gives its memory back before the next starts.")
    return (*lines, *_side_by_side(facts))


def _where(choice: EngineChoice, request: GpuRequest, cards: Sequence[Card]) -> str:
    if not cards or not request.gib:
        return "an NVIDIA GPU, which is not here" if request.gib and choice.spec.needs_gpu else "the CPU"
    unknown = math.isinf(request.gib)
    holding = [card for card in cards if unknown or card.total_gib >= request.gib]
    emptiest = max(holding or cards, key=lambda card: card.free_gib)
    if request.gpus is None:  # it chooses by itself
        spread = not holding and len(cards) > 1
        where = "GPUs " + "+".join(card.index for card in cards) if spread else f"GPU {emptiest.index}"
        fits = _memory(request, cards)[0] >= request.gib
    else:
        where, fits = f"GPU {emptiest.index}", bool(holding)
        if len(cards) > 1:
            where = f"CUDA's first GPU (CUDA_VISIBLE_DEVICES={emptiest.index} for the one with the most free memory)"
    if unknown:
        return f"{where}: how much memory it needs, its name does not tell"
    return f"{where}, about {request.gib:g} GiB: {'fits' if fits else 'does not fit'}"


def _side_by_side(facts: Facts) -> list[str]:
    """What becomes of `run_pipeline.sh --overlap` here."""
    cards, engines = facts.machine.cards, facts.engines
    requests = {stage: _gpu_request(facts, choice) for stage, choice in engines.items()}
    stuck = not cards and any(requests[stage].gib and choice.spec.needs_gpu for stage, choice in engines.items())
    if stuck or len(engines) < len(STAGE_ENVIRONMENTS):
        return []
    places = place(requests, cards)
    if places is None:
        needed = sum(request.gib for request in requests.values())
        return [f"Not at the same time (--overlap): side by side they need about {needed:g} GiB, and a tenth to spare."]
    seats = ", ".join(f"{stage} on GPU {'+'.join(places[stage])}" for stage in engines if stage in places)
    return [f"Or several photos at the same time, with run_pipeline.sh --overlap: {seats or 'all on the CPU'}."]


def _submodules(root: Path | None) -> dict[str, bool]:
    """A folder counts as filled when upstream's own files are in it, not only our outputs."""
    found = {}
    for folder in ("sam3", "sam-3d-objects"):
        found[folder] = root is not None and os.path.lexists(root / folder / ".git")
    return found
