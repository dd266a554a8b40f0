"""Whether a profile can run here: a verdict for each stage, how to fix each problem, and which GPUs would be used.

`examine` collects the facts (machine, environments, weights, access); `judge` derives everything else from them.
"""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sam3d_gs.engines.registry import EngineChoice
from sam3d_gs.engines.spec import EngineSpec, GpuRequest
from sam3d_gs.system.environments import (
    STAGE_ENVIRONMENTS,
    Environment,
    environment_of,
    probe,
    repository_root,
)
from sam3d_gs.system.gpu_allocation import place
from sam3d_gs.system.machine import Machine, inspect_machine
from sam3d_gs.system.nvidia import Gpu
from sam3d_gs.weights.checkpoints import Checkpoints, Store, inspect
from sam3d_gs.weights.hub import Access, Hub

_STAGE_RECIPES = {"phrases": "vllm", "masks": "sam3", "objects": "native"}  # for engines that run in any environment


@dataclass(frozen=True)
class Facts:
    """The state of this machine, without any conclusions."""

    profile: str
    engines: Mapping[str, EngineChoice]  # by stage, in the order of the stages
    machine: Machine
    environments: Mapping[str, Environment]  # stage -> the environment it runs in
    checkpoints: Mapping[str, Checkpoints]  # short name -> state on this disk
    submodules: Mapping[str, bool]  # folder -> filled
    endpoint: str
    token: bool
    offline: bool
    access: Mapping[str, Access] = field(default_factory=dict)  # repository id -> access; empty: not checked
    hub_notes: tuple[str, ...] = ()  # about the set-up of the hub


@dataclass(frozen=True)
class Problem:
    """Something that prevents a stage from running, and the one command (or step) that fixes it."""

    what: str
    fix: str


@dataclass(frozen=True)
class Verdict:
    """Whether one stage can run."""

    stage: str
    engine: str
    environment: str
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]  # worth knowing, but the stage can run

    @property
    def ready(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Diagnosis:
    """The result of `sam3d-gs doctor`."""

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
    """Collect the facts. `online` also checks access to the repositories on the hub; `deep` hashes the weights.

    `stores` maps short names to weights; weights that are not in it are not examined.
    """
    root, hub = repository_root(), Hub.from_environment()
    needed = {name: files for choice in engines.values() for name, files in choice.spec.weights.items()}
    read = {name: stores[name] for name in needed if name in stores}
    with ThreadPoolExecutor() as pool:
        probes = {
            stage: pool.submit(probe, environment_of(choice.spec, profile), choice.spec.modules, root, deep)
            for stage, choice in engines.items()
        }
        access = {
            store.repository.id: pool.submit(hub.access, store.repository.id, store.repository.essential[0])
            for store in (read.values() if online else ())
        }
        return Facts(
            profile,
            engines,
            inspect_machine(workspace, hub.cache),
            {stage: future.result() for stage, future in probes.items()},
            {name: inspect(store, hash_too=deep, also=needed[name]) for name, store in read.items()},
            _submodules(root),
            hub.address,
            hub.token is not None,
            hub.offline,
            {name: future.result() for name, future in access.items()},
            hub.notes(),
        )


def judge(facts: Facts) -> Diagnosis:
    """The verdict on each stage, and the plan."""
    verdicts = tuple(_verdict(facts, choice) for choice in facts.engines.values())
    return Diagnosis(facts, verdicts, _plan(facts))


def _verdict(facts: Facts, choice: EngineChoice) -> Verdict:
    spec = choice.spec
    environment = facts.environments[spec.stage]
    problems, notes = _environment_problems(spec, environment, facts.profile), []
    if spec.submodule and not facts.submodules.get(spec.submodule):
        problems.append(Problem(f"{spec.submodule}/ is empty", _script("fetch_upstream.sh", spec.submodule)))
    for name, needed in spec.weights.items():
        if name not in facts.checkpoints:
            continue  # the user's own files: the engine checks them before it loads any
        state = facts.checkpoints[name]
        bad = [file for file in state.bad if file.name in needed or file.name not in state.repository.essential]
        if bad:
            if spec.downloads_weights and not facts.offline and state.summary == "not here":
                notes.append(
                    f"{state.repository.id} (about {state.repository.gib} GiB) is downloaded on the first start"
                )
            else:
                problems.append(_weights_problem(facts, state, [file.name for file in bad]))
    request = _gpu_request(facts, choice)
    gpu_problems, gpu_notes = _gpu_problems(choice, request, facts.machine.gpus)
    if facts.machine.gpus and request.gib and environment.cuda and not environment.cuda.endswith(", usable"):
        problems.append(Problem(f"torch cannot use the GPU ({environment.cuda})", "NVIDIA driver 580 or newer"))
    return Verdict(spec.stage, spec.name, environment.name, (*problems, *gpu_problems), (*notes, *gpu_notes))


def _environment_problems(spec: EngineSpec, environment: Environment, profile: str) -> list[Problem]:
    if spec.environment == "embedded" or (profile == "embedded" and not spec.install):
        fix = _script("setup_embedded.sh")
    elif spec.install:
        fix = f"{spec.install} (in the environment {environment.name})"
    else:
        fix = _script("setup.sh", "--env", spec.environment or _STAGE_RECIPES[spec.stage])
        if not spec.modules:  # the engine itself needs no packages
            fix = f"export {STAGE_ENVIRONMENTS[spec.stage][0]}=NAME of any environment with sam3d-gs, or {fix}"
    if environment.problem:
        return [Problem(f"environment {environment.name}: {environment.problem}", fix)]
    if environment.missing:
        return [Problem(f"environment {environment.name} lacks {', '.join(environment.missing)}", fix)]
    return []


def _script(name: str, *arguments: str) -> str:
    """The command that runs a script in envs/ from the current folder."""
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
    """The GPU memory that the engine needs; none if its environment has the CPU build of torch."""
    torch = facts.environments[choice.spec.stage].packages.get("torch") or ""
    return GpuRequest() if torch.endswith("+cpu") else choice.gpu


def _gpu_problems(choice: EngineChoice, request: GpuRequest, gpus: Sequence[Gpu]) -> tuple[list[Problem], list[str]]:
    """Problems and notes about GPU memory."""
    spec = choice.spec
    if not request.gib:
        return [], ["the CPU build of torch: runs on the CPU, slowly"] if choice.gpu.gib else []
    alternative = f", or {spec.without_gpu}" if spec.without_gpu else ""
    if not gpus:
        if spec.needs_gpu:
            return [Problem("no NVIDIA GPU (nvidia-smi shows none)", f"a machine with a GPU{alternative}")], []
        return [], ["no NVIDIA GPU: runs on the CPU, slowly"]
    if math.isinf(request.gib):
        return [], []
    spreads = request.gpus is None
    have, free = _memory(request, gpus)
    if have < request.gib and spec.needs_gpu:
        smaller = "a larger GPU, a smaller --model" if spreads else "a larger GPU"
        what = f"needs about {request.gib:g} GiB, {'the GPUs have' if spreads else 'the largest GPU has'} {have:g}"
        return [Problem(what, f"{smaller}{alternative}")], []
    if have < request.gib:
        return [], [f"needs about {request.gib:g} GiB, the largest GPU has {have:g}: see the engine's memory options"]
    return [], [f"needs about {request.gib:g} GiB, only {free:g} GiB are free now"] if free < request.gib else []


def _memory(request: GpuRequest, gpus: Sequence[Gpu]) -> tuple[float, float]:
    """Total and free memory in GiB: of the largest GPU, or of all GPUs if the engine may spread over them."""
    if request.gpus is None:
        return sum(gpu.total_gib for gpu in gpus), sum(gpu.free_gib for gpu in gpus)
    return max(gpu.total_gib for gpu in gpus), max(gpu.free_gib for gpu in gpus)


def _plan(facts: Facts) -> tuple[str, ...]:
    lines = []
    for number, (stage, choice) in enumerate(facts.engines.items(), 1):
        where = _where(choice, _gpu_request(facts, choice), facts.machine.gpus)
        lines.append(f"{number}. {stage} ({choice.name}) in {facts.environments[stage].name} on {where}")
    if "objects" in facts.engines:
        lines.append(f"{len(lines) + 1}. scene in {facts.environments['objects'].name} on the CPU")
    lines.append("The stages run one after another; each frees its memory before the next one starts.")
    return (*lines, *_overlap_plan(facts))


def _where(choice: EngineChoice, request: GpuRequest, gpus: Sequence[Gpu]) -> str:
    if not gpus or not request.gib:
        return "an NVIDIA GPU, and there is none here" if request.gib and choice.spec.needs_gpu else "the CPU"
    unknown = math.isinf(request.gib)
    holding = [gpu for gpu in gpus if unknown or gpu.total_gib >= request.gib]
    emptiest = max(holding or gpus, key=lambda gpu: gpu.free_gib)
    if request.gpus is None:  # the engine chooses its GPUs itself
        spread = not holding and len(gpus) > 1
        where = "GPUs " + "+".join(gpu.index for gpu in gpus) if spread else f"GPU {emptiest.index}"
        fits = _memory(request, gpus)[0] >= request.gib
    else:
        where, fits = f"GPU {emptiest.index}", bool(holding)
        if len(gpus) > 1:
            where = f"CUDA's first GPU (CUDA_VISIBLE_DEVICES={emptiest.index} for the one with the most free memory)"
    if unknown:
        return f"{where}: memory needed is not known for this model"
    return f"{where}, about {request.gib:g} GiB: {'fits' if fits else 'does not fit'}"


def _overlap_plan(facts: Facts) -> list[str]:
    """Whether `run_pipeline.sh --overlap` can run here, and on which GPUs; empty if that cannot be said."""
    gpus, engines = facts.machine.gpus, facts.engines
    requests = {stage: _gpu_request(facts, choice) for stage, choice in engines.items()}
    stuck = not gpus and any(requests[stage].gib and choice.spec.needs_gpu for stage, choice in engines.items())
    if stuck or len(engines) < len(STAGE_ENVIRONMENTS):
        return []
    places = place(requests, gpus)
    if places is None:
        needed = sum(request.gib for request in requests.values())
        return [f"They do not fit at the same time (--overlap), which needs about {needed:g} GiB and 10 % to spare."]
    placed = ", ".join(f"{stage} on GPU {'+'.join(places[stage])}" for stage in engines if stage in places)
    return [f"For several photos they can run at the same time (--overlap): {placed or 'all on the CPU'}."]


def _submodules(root: Path | None) -> dict[str, bool]:
    """Folder -> whether it is checked out; our own outputs in it do not count."""
    found = {}
    for folder in ("sam3", "sam-3d-objects"):
        found[folder] = root is not None and os.path.lexists(root / folder / ".git")
    return found
