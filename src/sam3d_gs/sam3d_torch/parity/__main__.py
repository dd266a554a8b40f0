"""Compare our modules with recorded numbers: find the cases, run our modules, print one line per case.

`python -m sam3d_gs.sam3d_torch.parity DIR`: DIR holds `<case>.json` and the .safetensors files it lists. Exit code 0
when every output of every case is within the case's tolerance, 1 when one is not, 2 when there is nothing to run.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor

from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.sam3d_torch.parity.case import Case, case_names, read_case, to_device
from sam3d_gs.sam3d_torch.parity.compare import Verdict, compare

EXIT_OK, EXIT_APART, EXIT_USAGE = 0, 1, 2
AREAS = ("image", "placement", "voxels", "flows", "run")  # modules of this package that hold RUNNERS

Runner = Callable[[Case], dict[str, Tensor]]


@dataclass(frozen=True)
class Outcome:
    """The result of one case: a verdict per output, or the reason why there is none."""

    case: str
    verdicts: tuple[Verdict, ...] = ()
    reason: str = ""
    seconds: float = field(default=0.0, compare=False)

    @property
    def ok(self) -> bool:
        return bool(self.verdicts) and all(verdict.ok for verdict in self.verdicts)

    @property
    def worst(self) -> Verdict | None:
        """The output that uses the largest share of its tolerance; failures come first."""
        return max(self.verdicts, key=lambda v: (not v.ok, v.share), default=None)


def load_runners(areas: Sequence[str] = AREAS) -> tuple[dict[str, Runner], dict[str, str]]:
    """Runners by case-name prefix, and the reason for every area that cannot be imported."""
    runners: dict[str, Runner] = {}
    broken: dict[str, str] = {}
    for area in areas:
        try:
            module = importlib.import_module(f"{__package__}.{area}" if "." not in area else area)
            runners.update(module.RUNNERS)
        except Exception as error:  # the others can still be compared
            broken[area] = _reason(error)
    return runners, broken


def runner_of(name: str, runners: dict[str, Runner]) -> Runner | None:
    """The runner with the longest prefix of the case's name."""
    prefixes = [prefix for prefix in runners if name.startswith(prefix)]
    return runners[max(prefixes, key=len)] if prefixes else None


def run_case(folder: Path, name: str, runners: dict[str, Runner], device: str) -> Outcome:
    """Read, run and compare one case; an error becomes its outcome."""
    runner = runner_of(name, runners)
    if runner is None:
        return Outcome(name, reason="nothing here runs it")
    start = time.perf_counter()
    try:
        case = read_case(folder, name)
        with torch.inference_mode():
            ours = runner(to_device(_without_answers(case), device))
        verdicts = tuple(compare(case, ours))
    except Exception as error:
        return Outcome(name, reason=_reason(error), seconds=time.perf_counter() - start)
    reason = "" if verdicts else "it records no output"
    return Outcome(name, verdicts, reason, time.perf_counter() - start)


def _without_answers(case: Case) -> Case:
    """The case without the recorded values: a runner sees only names, shapes and dtypes of the outputs."""
    return replace(case, outputs={name: torch.zeros_like(tensor) for name, tensor in case.outputs.items()})


def table(outcomes: Sequence[Outcome], broken: Mapping[str, str]) -> str:
    """One line per case, then one line for every failure."""
    rows = [("case", "outputs", "worst output", "error", "allowed", "metric", "seconds", "ok")]
    for outcome in outcomes:
        worst = outcome.worst
        shown = (
            (worst.output, f"{worst.error:.1e}", f"{worst.limit.value:.1e}", worst.limit.metric)
            if worst
            else ("-", "-", "-", "-")
        )
        seconds = f"{outcome.seconds:.1f}"
        rows.append((outcome.case, str(len(outcome.verdicts)), *shown, seconds, "yes" if outcome.ok else "NO"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for outcome in outcomes:
        if outcome.reason:
            lines.append(f"{outcome.case}: {outcome.reason}")
        for verdict in outcome.verdicts:
            if not verdict.ok:
                what = verdict.note or f"{verdict.limit.metric} error {verdict.error:.2e}"
                lines.append(f"{outcome.case} {verdict.output}: {what}, allowed {verdict.limit.value:.0e}")
    lines += [f"parity/{area}.py cannot be imported, its cases are not run: {why}" for area, why in broken.items()]
    good = sum(outcome.ok for outcome in outcomes)
    lines.append(f"{good} of {len(outcomes)} cases within tolerance.")
    return "\n".join(lines)


def exact_arithmetic() -> None:
    """Pure float32 and deterministic sums: no TF32, one thread, one convolution algorithm."""
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sam3d_gs.sam3d_torch.parity",
        description="Compare our modules with numbers recorded from upstream's.",
        epilog="Exit code: 0 all within tolerance, 1 not all, 2 nothing to run.",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="holds <case>.json and its .safetensors")
    parser.add_argument(
        "--only", metavar="CASE", action="append", help="a case, or a pattern such as 'ss_*'; repeatable"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args(argv)
    try:
        names = _chosen(case_names(options.folder), options.only)
        if options.device == "cuda" and not torch.cuda.is_available():
            raise BadInputError("torch finds no CUDA GPU. Leave out --device or use --device cpu.")
    except Sam3dGsError as error:
        print(error, file=sys.stderr)
        return EXIT_USAGE
    exact_arithmetic()
    runners, broken = load_runners()
    outcomes = [run_case(options.folder, name, runners, options.device) for name in names]
    print(table(outcomes, broken))
    return EXIT_OK if all(outcome.ok for outcome in outcomes) else EXIT_APART


def _chosen(names: list[str], patterns: list[str] | None) -> list[str]:
    if patterns is None:
        return names
    chosen = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
    if not chosen:
        raise BadInputError(f"No case is called {' or '.join(patterns)}. There are: {', '.join(names)}.")
    return chosen


def _reason(error: Exception) -> str:
    """The error in one line, with the line of code it came from."""
    text = str(error).strip().splitlines()
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text[0] if text else 'no message'}{where}"


if __name__ == "__main__":
    sys.exit(main())
