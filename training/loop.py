"""The training loop of all nets: one annealed schedule, which can be interrupted and resumed.

The schedule depends only on the number of steps, never on time. Steps are grouped in *legs*. At the end of a leg the
state is rounded to the precision of a checkpoint and saved, and the random generators are seeded by the number of the
next leg. A run can stop after any leg and resume later with the same result as without the interruption: bit for bit on
a CPU, and on a GPU as far as its kernels are deterministic.

    progress = train(net, task, Settings(total_steps=60_000), Path("runs/objects"), torch.device("cuda"), minutes=9)
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sam3d_gs.errors import BadInputError, Sam3dGsError
from training.checkpoint import State, load, rounded, save
from training.distributed import Group
from training.recording import Recording

SAVING_SECONDS = 5.0  # kept back of the budget


@dataclass(frozen=True)
class Settings:
    """The schedule of a run. It is stored in the checkpoint; resuming with other values is an error."""

    total_steps: int
    leg_steps: int = 250
    learning_rate: float = 1.5e-3  # at its peak
    warmup_steps: int = 400
    floor_share: float = 0.005  # of the peak, at the end
    weight_decay: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    clip_norm: float = 1.0
    average_decay: float = 0.999
    bf16_on_cpu: bool = False  # on CUDA it is always bf16
    cards: int = 1  # GPUs, each with its own batch; the name is kept for older checkpoints
    seed: int = 0


class Task(Protocol):
    """The data and losses of one net."""

    batch_size: int

    def batch(self, generator: torch.Generator) -> Any:
        """A batch on the device. All random numbers come from `generator`, which is on the same device."""

    def losses(self, net: Callable[..., Any], batch: Any) -> dict[str, Tensor]:
        """Name -> scalar; "total" is minimised. bf16 autocast may be on: call `.float()` on the output of `net`."""

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Figures of the averaged net for the log, always on the same samples. May be empty."""


@dataclass(frozen=True)
class Progress:
    step: int
    total_steps: int

    @property
    def finished(self) -> bool:
        return self.step >= self.total_steps


def learning_rate(step: int, settings: Settings) -> float:
    """Linear warm-up, then half a cosine down to the floor at the last step; `step` counts from 0."""
    warmup = min(1.0, (step + 1) / settings.warmup_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * step / max(settings.total_steps - 1, 1)))
    return settings.learning_rate * warmup * (settings.floor_share + (1 - settings.floor_share) * cosine)


def schedule(total_steps: int, **others: Any) -> Settings:
    """Settings with a warm-up and a moving average of at most a twentieth of the schedule."""
    settings = Settings(total_steps, **others)
    twentieth = max(total_steps // 20, 1)
    return replace(
        settings,
        warmup_steps=min(settings.warmup_steps, twentieth),
        average_decay=min(settings.average_decay, 1 - 1 / (twentieth + 1)),
    )


def silence(*layers: nn.Conv2d | nn.Linear) -> None:
    """Set the layers to zero, so that residual blocks that end in them start as the identity (easier for deep nets)."""
    for layer in layers:
        nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def train(
    net: nn.Module,
    task: Task,
    settings: Settings,
    run: Path,
    device: torch.device,
    minutes: float = math.inf,
    *,
    compile_net: bool = False,
    validate_every_legs: int = 10,
    group: Group = Group(),
) -> Progress:
    """Train from the newest checkpoint in `run`, or from the start, until the end or for `minutes`.

    Appends one line per leg to `run/metrics.jsonl` and prints it. Stops early if another leg would not fit in the time.
    Raises BadInputError if the checkpoint has other settings or is of another net, Sam3dGsError if the loss is not
    finite.
    """
    deadline = time.monotonic() + 60 * minutes - SAVING_SECONDS
    learner = _Learner(net, settings, device, compile_net, group)
    generator = torch.Generator(device)
    state = load(run)
    if state is not None:
        learner.restore(state)
    leg_seconds = 0.0
    while learner.step < settings.total_steps and group.broadcast(time.monotonic() + leg_seconds < deadline):
        started = time.monotonic()
        leg = learner.step // settings.leg_steps
        _seed(settings.seed, leg, group.rank, generator)
        end = min((leg + 1) * settings.leg_steps, settings.total_steps)
        steps = end - learner.step
        means = learner.run_leg(task, generator, end)
        if group.is_leader:
            save(learner.state(), run)
        leg_seconds = time.monotonic() - started
        if not group.is_leader:
            continue
        line = {"step": learner.step, "of": settings.total_steps, "seconds": round(leg_seconds, 2)}
        line |= {"samples_per_s": round(steps * task.batch_size * group.count / leg_seconds, 1), **means}
        if (leg + 1) % validate_every_legs == 0 or learner.step == settings.total_steps:
            line |= {f"val_{name}": round(value, 5) for name, value in task.validate(learner.average).items()}
        _log(run, line)
    return Progress(learner.step, settings.total_steps)


class _Learner:
    """The net, its moving average and the optimiser."""

    def __init__(
        self, net: nn.Module, settings: Settings, device: torch.device, compile_net: bool, group: Group
    ) -> None:
        self.settings, self.device, self.group, self.step = settings, device, group, 0
        self.net = net.to(device).train()
        self.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        self.average = copy.deepcopy(self.net).eval().requires_grad_(False)
        self.names = [name for name, _ in self.net.named_parameters()]
        if [name for name, _ in self.net.named_buffers()]:
            raise BadInputError(
                "Checkpoints contain parameters only: remove the net's buffers, or make them non-persistent."
            )
        self.weights: list[Tensor] = list(self.net.parameters())
        self.averages: list[Tensor] = list(self.average.parameters())
        self.call: Any = torch.compile(self.net) if compile_net else self.net
        self.record = compile_net and device.type == "cuda"
        self.recording: Recording | None = None
        self.optimizer = torch.optim.AdamW(
            self.weights,
            settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            fused=True,
        )
        if device.type == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
            torch.backends.cudnn.benchmark = True

    def run_leg(self, task: Task, generator: torch.Generator, end: int) -> dict[str, float]:
        """Train up to step `end`, then round the state. Returns the mean losses and the last learning rate."""
        sums: dict[str, Tensor] = {}
        start = self.step
        while self.step < end:
            for name, value in self._advance(task, generator).items():
                sums[name] = sums.get(name, torch.zeros((), device=self.device)) + value.detach().float()
        self.group.average_(list(sums.values()))
        means = {name: round(float(value) / (end - start), 5) for name, value in sums.items()}
        if not math.isfinite(means["total"]):
            raise Sam3dGsError(
                f"The loss became NaN or infinite before step {end}. The last checkpoint is kept; "
                "start a new run from it with a lower learning rate."
            )
        self._round()
        return {"rate": learning_rate(end - 1, self.settings), **means}

    def _advance(self, task: Task, generator: torch.Generator) -> dict[str, Tensor]:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, self.settings)
        with torch.no_grad():
            batch = task.batch(generator)
        losses = self._study(task, batch)
        self.group.average_([weight.grad for weight in self.weights if weight.grad is not None])
        norm = nn.utils.clip_grad_norm_(self.weights, self.settings.clip_norm)
        self.optimizer.step()
        self.step += 1
        # Young averages forget faster, or the first random weights would stay in them for long.
        decay = min(self.settings.average_decay, self.step / (self.step + 9))
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, self.weights, 1 - decay)
        return losses | {"gradient": norm}

    def _study(self, task: Task, batch: Any) -> dict[str, Tensor]:
        """The losses of a batch; computes the gradients of the weights."""

        def study(batch: Any) -> dict[str, Tensor]:
            self.optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                losses = task.losses(self.call, batch)
            losses["total"].backward()
            return {name: value.detach() for name, value in losses.items()}

        if not self.record:
            return study(batch)
        if self.recording is None:
            self.recording = Recording(study, batch)
        return self.recording(batch)

    def _autocast(self) -> AbstractContextManager[Any]:
        quick = self.device.type == "cuda" or self.settings.bf16_on_cpu
        return torch.autocast(self.device.type, torch.bfloat16, enabled=quick)

    @torch.no_grad()
    def _round(self) -> None:
        for weight, average in zip(self.weights, self.averages, strict=True):
            moments = self.optimizer.state[weight]
            weight.copy_(rounded("weights", weight))
            average.copy_(rounded("average", average))
            moments["exp_avg"].copy_(rounded("moment1", moments["exp_avg"]))
            moments["exp_avg_sq"].copy_(rounded("moment2", moments["exp_avg_sq"]))

    def state(self) -> State:
        moments = [self.optimizer.state[weight] for weight in self.weights]
        return State(
            self.step,
            _plain(self.settings),
            dict(zip(self.names, self.weights, strict=True)),
            dict(zip(self.names, self.averages, strict=True)),
            {name: m["exp_avg"] for name, m in zip(self.names, moments, strict=True)},
            {name: m["exp_avg_sq"] for name, m in zip(self.names, moments, strict=True)},
        )

    def restore(self, state: State) -> None:
        wanted = _plain(self.settings)
        if state.settings != wanted:
            other = sorted(k for k in wanted | state.settings if wanted.get(k) != state.settings.get(k))
            raise BadInputError(
                f"The checkpoint at step {state.step} has other settings ({', '.join(other)}). "
                "Repeat the command with those values, or start in a new folder."
            )
        shapes = {name: weight.shape for name, weight in zip(self.names, self.weights, strict=True)}
        if {name: value.shape for name, value in state.weights.items()} != shapes:
            raise BadInputError("The checkpoint is of another net. Start in a new folder.")
        with torch.no_grad():
            for name, weight, average in zip(self.names, self.weights, self.averages, strict=True):
                weight.copy_(state.weights[name])
                average.copy_(state.average[name])
        moments = {
            i: {
                "step": torch.tensor(float(state.step)),
                # With the strides of the weight, which the fused optimiser insists on.
                "exp_avg": torch.empty_like(weight).copy_(state.moment1[name]),
                "exp_avg_sq": torch.empty_like(weight).copy_(state.moment2[name]),
            }
            for i, (name, weight) in enumerate(zip(self.names, self.weights, strict=True))
        }
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.step = state.step


def _plain(settings: Settings) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(settings).items()}


def _seed(seed: int, leg: int, rank: int, generator: torch.Generator) -> None:
    """Seed all random generators for one leg, including torch's own, which dropout uses."""
    value = seed * 1_000_003 + rank * 500_009 + leg
    torch.manual_seed(value)
    generator.manual_seed(value)


def _log(run: Path, line: dict[str, Any]) -> None:
    text = json.dumps(line)
    print(text, flush=True)
    with (run / "metrics.jsonl").open("a") as stream:
        stream.write(text + "\n")
