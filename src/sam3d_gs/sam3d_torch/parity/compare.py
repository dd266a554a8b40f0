"""Errors of our outputs against the recorded ones, and their tolerances."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor

from sam3d_gs.sam3d_torch.parity.case import Case

Metric = Literal["relative L2", "absolute", "rotation", "exact", "Jaccard"]

# Tolerances that a case gives to a group of outputs, not to one by its name.
_GROUPS: Mapping[str, tuple[str, ...]] = {
    "condition_tokens": ("*cond_tokens*",),
    "against_converged": ("*converged_*",),
    "focal_shift_dependent_outputs": ("focal", "shift", "intrinsics", "depth", "points", "pointmap_pytorch3d"),
}
_NUMBER = re.compile(r"\d+\.?\d*(?:e-?\d+)?")


@dataclass(frozen=True)
class Limit:
    """The metric for one output and the largest error allowed."""

    metric: Metric
    value: float


@dataclass(frozen=True)
class Verdict:
    """One output compared with the recorded one."""

    output: str
    error: float  # in the limit's metric; infinite when the two cannot be compared
    limit: Limit
    note: str = ""  # why they cannot be compared

    @property
    def ok(self) -> bool:
        return self.error <= self.limit.value

    @property
    def share(self) -> float:
        """Error as a share of the allowed error, to compare outputs of one case."""
        if self.error == 0:
            return 0.0
        return self.error / self.limit.value if self.limit.value > 0 else math.inf


def compare(case: Case, ours: Mapping[str, Tensor]) -> list[Verdict]:
    """One verdict for every recorded output, in the order of their names."""
    verdicts = []
    for name, recorded in sorted(case.outputs.items()):
        limit = limit_of(case.meta.get("tolerance", {}), name, recorded)
        if name in ours:
            verdicts.append(_verdict(name, ours[name].detach().cpu(), recorded, limit))
        else:
            verdicts.append(Verdict(name, math.inf, limit, "not produced"))
    return verdicts


def limit_of(tolerance: Mapping[str, Any], name: str, recorded: Tensor) -> Limit:
    """The limit that the case's `tolerance` sets for one output.

    `metric` and `value` hold for all outputs. Every other key is an output's name, the last part of its name, a
    pattern, or a group; its value is a number, or words with a number ("absolute 1e-3"). Integers and booleans are
    exact, except for voxels where the words allow a Jaccard index.
    """
    words = str(tolerance.get("metric", "")).lower()
    last = name.rsplit(".", 1)[-1]
    if not recorded.is_floating_point():
        shared = re.search(r"jaccard\D*(\d+\.?\d*)", json.dumps(dict(tolerance)).lower())
        if shared and last.startswith("coords"):
            return Limit("Jaccard", 1.0 - float(shared[1]))
        return Limit("exact", 0.0)
    if "mask" in last and "masks exact" in words:
        return Limit("exact", 0.0)
    if last == "rotation" and "rotation matrix" in words:
        return Limit("rotation", float(tolerance["value"]))

    text: object = tolerance.get("value", 1e-5)
    for key, given in tolerance.items():
        if key not in ("metric", "value") and any(
            fnmatchcase(name, pattern) or last == pattern for pattern in _GROUPS.get(key, (key,))
        ):
            text = given
            if isinstance(given, str):
                words = given.lower()
    number = _NUMBER.search(str(text).lower())
    value = float(number[0]) if number else 0.0
    if value == 0:
        return Limit("exact", 0.0)
    return Limit("absolute" if words.startswith(("absolute", "max abs")) else "relative L2", value)


def _verdict(name: str, ours: Tensor, recorded: Tensor, limit: Limit) -> Verdict:
    if limit.metric == "Jaccard":
        return Verdict(name, 1.0 - jaccard(ours, recorded), limit)
    if ours.squeeze().shape != recorded.squeeze().shape:  # axes of length one do not matter
        return Verdict(name, math.inf, limit, f"shape {tuple(ours.shape)}, recorded {tuple(recorded.shape)}")
    ours = ours.reshape(recorded.shape)
    if limit.metric == "exact":
        return Verdict(name, _differing(ours, recorded), limit)

    a, b = ours.double(), recorded.double()
    if other := int((_kind(a) != _kind(b)).sum()):
        return Verdict(name, math.inf, limit, f"NaN or infinity at other places ({other} entries)")
    if name.rsplit(".", 1)[-1] in ("rotation", "rotations") and b.shape[-1] == 4:
        if limit.metric == "rotation":
            return Verdict(name, _largest(_matrix(a) - _matrix(b)), limit)
        a = torch.where((a * b).sum(-1, keepdim=True) < 0, -a, a)  # q and -q are one rotation
    finite = b.isfinite()
    difference = a[finite] - b[finite]
    if limit.metric == "absolute":
        return Verdict(name, _largest(difference), limit)
    return Verdict(name, _relative(difference, b[finite]), limit)


def jaccard(ours: Tensor, recorded: Tensor) -> float:
    """Intersection over union of the rows, in any order; (N, 3) or (N, 4) voxels."""
    a, b = ({tuple(row) for row in rows.tolist()} for rows in (ours, recorded))
    return len(a & b) / len(a | b) if a | b else 1.0


def _differing(a: Tensor, b: Tensor) -> float:
    """Share of entries that are not the same number; NaN equals NaN."""
    if a.is_floating_point() or b.is_floating_point():
        a, b = a.double(), b.double()
        same = (a == b) | (a.isnan() & b.isnan())
    else:
        same = a.long() == b.long()
    return 1.0 - float(same.double().mean()) if same.numel() else 0.0


def _kind(x: Tensor) -> Tensor:
    """0 where finite, 1 where NaN, 2 and 3 where plus and minus infinity."""
    return x.isnan() + 2 * x.isposinf() + 3 * x.isneginf()


def _largest(difference: Tensor) -> float:
    return float(difference.abs().max()) if difference.numel() else 0.0


def _relative(difference: Tensor, recorded: Tensor) -> float:
    norm = float(recorded.norm())
    return float(difference.norm()) / (norm if norm > 0 else 1.0)


def _matrix(quat_wxyz: Tensor) -> Tensor:
    """(..., 4) quaternions, normalised here -> (..., 3, 3) rotation matrices."""
    w, x, y, z = (quat_wxyz / quat_wxyz.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)
