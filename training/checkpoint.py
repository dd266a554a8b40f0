"""A training state as a folder of small files: `<run>/step-00012000/part-0.pt`, `part-1.pt`, ...

Weights, their moving average and both moments of AdamW are stored in 16 bits, 8 bytes per parameter. `rounded` rounds
a state in memory in the same way. The loop rounds at every step at which it could save, so interrupted and
uninterrupted runs give the same numbers.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sam3d_gs.errors import BadInputError

PART_BYTES = 14 << 20  # small enough for places that pass on files of at most 16 MiB
# Half precision keeps 11 bits, for values of about 1; moments span many magnitudes, which bfloat16 does.
STORED = {"weights": torch.float16, "average": torch.float16, "moment1": torch.bfloat16, "moment2": torch.bfloat16}


@dataclass(frozen=True)
class State:
    """Everything needed to resume a run. Each group maps parameter names to float32 tensors of the same shapes."""

    step: int  # steps done
    settings: dict[str, Any]  # plain values; a run with others is another run
    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    moment1: dict[str, Tensor]
    moment2: dict[str, Tensor]


def rounded(group: str, values: Tensor) -> Tensor:
    """The float32 values after a round trip through a file of this group."""
    return values.to(STORED[group]).float()


def save(state: State, run: Path) -> Path:
    """Write a checkpoint and remove the run's older ones; return its folder. A killed save leaves the older one."""
    target = run / f"step-{state.step:08d}"
    partial = run / f".partial-{target.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    layout = {name: list(tensor.shape) for name, tensor in state.weights.items()}
    flat = torch.cat([_flat(getattr(state, group), group, layout) for group in STORED])
    parts = list(flat.split(PART_BYTES // 2))
    header = {"step": state.step, "settings": state.settings, "layout": layout, "parts": len(parts)}
    for i, part in enumerate(parts):
        content: dict[str, Any] = {"values": part.clone()}  # a slice alone would be saved with all it was cut from
        torch.save(content | header if i == 0 else content, partial / f"part-{i}.pt")
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)
    for older in _checkpoints(run):
        if older != target:
            shutil.rmtree(older)
    return target


def load(run: Path) -> State | None:
    """The newest checkpoint of a run, on the CPU; None if there is none.

    Raises BadInputError if files are missing or invalid.
    """
    found = _checkpoints(run)
    if not found:
        return None
    try:
        first = torch.load(found[-1] / "part-0.pt", weights_only=True)
        others = [torch.load(found[-1] / f"part-{i}.pt", weights_only=True) for i in range(1, first["parts"])]
        flat = torch.cat([part["values"] for part in (first, *others)])
        layout: dict[str, list[int]] = first["layout"]
        count = sum(int(torch.Size(shape).numel()) for shape in layout.values())
        groups = {
            group: _shaped(chunk.view(STORED[group]).float(), layout)
            for group, chunk in zip(STORED, flat.split(count), strict=True)
        }
        return State(first["step"], first["settings"], **groups)
    except (OSError, KeyError, RuntimeError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())[:160]
        raise BadInputError(
            f"{found[-1]} is an incomplete checkpoint ({reason}). Restore all its files, or remove it to start again."
        ) from error


def _checkpoints(run: Path) -> list[Path]:
    return sorted(run.glob("step-*"))


def _flat(values: Mapping[str, Tensor], group: str, layout: Mapping[str, list[int]]) -> Tensor:
    """(N,) int16: the bits of all values in the order of `layout`, so that groups of different types share a file."""
    return torch.cat([values[name].detach().reshape(-1).to(STORED[group]).cpu() for name in layout]).view(torch.int16)


def _shaped(flat: Tensor, layout: Mapping[str, list[int]]) -> dict[str, Tensor]:
    sizes = [int(torch.Size(shape).numel()) for shape in layout.values()]
    pieces = flat.split(sizes)
    return {name: piece.reshape(shape) for (name, shape), piece in zip(layout.items(), pieces, strict=True)}
