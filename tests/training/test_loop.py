"""A run in pieces is the same run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sam3d_gs.errors import BadInputError, Sam3dGsError
from training import checkpoint
from training.loop import Settings, learning_rate, schedule, train

CPU = torch.device("cpu")
SETTINGS = Settings(total_steps=6, leg_steps=3, warmup_steps=2)


class Line:
    """Learn y = 2 x, from a few random pictures each step."""

    batch_size = 4

    def batch(self, generator: torch.Generator) -> Tensor:
        return torch.randn(4, 3, 2, 2, generator=generator)

    def losses(self, net: Callable[..., Any], batch: Tensor) -> dict[str, Tensor]:
        noise = 0.01 * torch.randn(4, 3, 2, 2)  # as dropout would, from the global generator
        return {"total": (net(batch) - 2 * batch + noise).square().mean()}

    def validate(self, net: nn.Module) -> dict[str, float]:
        points = torch.randn(64, 3, 2, 2, generator=torch.Generator().manual_seed(1))
        return {"error": float((net(points) - 2 * points).abs().mean())}


def make_net() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 3, 1))


def same(first: checkpoint.State | None, second: checkpoint.State | None) -> bool:
    assert first is not None and second is not None
    return all(
        torch.equal(value, getattr(second, group)[name])
        for group in checkpoint.STORED
        for name, value in getattr(first, group).items()
    )


def test_three_and_three_steps_are_six(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_net()
    assert train(whole, Line(), SETTINGS, tmp_path / "whole", CPU).finished
    # Out of time after one leg: the second piece starts from the file alone.
    clock = itertools.count(0, 40)
    with monkeypatch.context() as patch:
        patch.setattr("training.loop.time.monotonic", lambda: float(next(clock)))
        progress = train(make_net(), Line(), SETTINGS, tmp_path / "pieces", CPU, minutes=1.5)
    assert progress.step == 3 and not progress.finished
    last = make_net()
    assert train(last, Line(), SETTINGS, tmp_path / "pieces", CPU).finished
    for a, b in zip(whole.parameters(), last.parameters(), strict=True):
        assert torch.equal(a, b)
    assert same(checkpoint.load(tmp_path / "whole"), checkpoint.load(tmp_path / "pieces"))


def test_memory_and_file_hold_the_same(tmp_path: Path) -> None:
    net = make_net()
    train(net, Line(), SETTINGS, tmp_path, CPU)
    state = checkpoint.load(tmp_path)
    assert state is not None and state.step == 6
    for name, weight in net.named_parameters():
        assert torch.equal(weight, state.weights[name])
    assert [folder.name for folder in sorted(tmp_path.glob("step-*"))] == ["step-00000006"]


@pytest.mark.slow
def test_learns(tmp_path: Path) -> None:
    train(
        make_net(),
        Line(),
        Settings(total_steps=400, leg_steps=100, learning_rate=0.02, average_decay=0.98),
        tmp_path,
        CPU,
    )
    lines = [json.loads(text) for text in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [100, 200, 300, 400]
    assert lines[-1]["total"] < 0.1 * lines[0]["total"]
    assert 0 < lines[-1]["val_error"] < 0.5  # the untrained net has 1.6


def test_the_rate_warms_up_and_anneals_to_the_floor() -> None:
    settings = Settings(total_steps=1000, warmup_steps=100, learning_rate=1.0, floor_share=0.01)
    rates = [learning_rate(step, settings) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert max(rates) > 0.97
    assert rates[-1] == pytest.approx(0.01)
    assert all(b <= a for a, b in itertools.pairwise(rates[100:]))


def test_large_states_are_cut_into_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PART_BYTES", 100)
    net = make_net()
    train(net, Line(), SETTINGS, tmp_path, CPU)
    parts = sorted((tmp_path / "step-00000006").iterdir())
    assert len(parts) == 21  # 251 parameters, 8 bytes each
    state = checkpoint.load(tmp_path)
    assert state is not None and torch.equal(state.weights["2.bias"], net.get_parameter("2.bias"))
    parts[3].unlink()
    with pytest.raises(BadInputError, match="is an incomplete checkpoint"):
        checkpoint.load(tmp_path)


def test_other_settings_or_another_net_are_refused(tmp_path: Path) -> None:
    train(make_net(), Line(), SETTINGS, tmp_path, CPU)
    with pytest.raises(BadInputError, match="warmup_steps"):
        train(make_net(), Line(), Settings(total_steps=6, leg_steps=3, warmup_steps=9), tmp_path, CPU)
    with pytest.raises(BadInputError, match="another net"):
        train(nn.Conv2d(3, 3, 1), Line(), SETTINGS, tmp_path, CPU)


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    train(make_net(), Line(), SETTINGS, tmp_path / "good", CPU)

    class Broken(Line):
        def losses(self, net: Callable[..., Any], batch: Tensor) -> dict[str, Tensor]:
            return {"total": net(batch).mean() * float("nan")}

    with pytest.raises(Sam3dGsError, match="became NaN or infinite"):
        train(make_net(), Broken(), SETTINGS, tmp_path / "bad", CPU)
    assert checkpoint.load(tmp_path / "bad") is None


def test_a_short_schedule_has_a_short_warm_up_and_memory() -> None:
    long, short = schedule(60_000), schedule(100, learning_rate=1e-3)
    assert (long.warmup_steps, long.average_decay) == (400, 0.999)
    assert short.warmup_steps == 5
    assert short.average_decay == pytest.approx(5 / 6)
    assert learning_rate(5, short) > 0.98e-3
    assert schedule(1).warmup_steps == 1


def test_bf16_is_asked_for_on_a_cpu(tmp_path: Path) -> None:
    seen: list[torch.dtype] = []

    class Watched(Line):
        def losses(self, net: Callable[..., Any], batch: Tensor) -> dict[str, Tensor]:
            said = net(batch)
            seen.append(said.dtype)
            return {"total": (said.float() - 2 * batch).square().mean()}

    train(make_net(), Watched(), SETTINGS, tmp_path / "exact", CPU)
    train(make_net(), Watched(), schedule(3, bf16_on_cpu=True), tmp_path / "quick", CPU)
    assert seen == 6 * [torch.float32] + 3 * [torch.bfloat16]
