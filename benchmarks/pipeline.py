"""The whole `sam3d-gs run` on a photo, twice, as a child process: seconds of each stage, wall time, peak memory.

    python benchmarks/pipeline.py [PHOTO] [--side 1024] [--repeat 1]

The first run starts with an empty cache of compiled code; later ones repeat all work (--force) with a warm cache. The
goal for later runs, with a photo of 1024 px and at most 12 objects on two cores, is 20 s and 2 GB.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from machine import machine_line

from sam3d_gs import manifest
from sam3d_gs.files import read_json
from sam3d_gs.options import STAGES
from sam3d_gs.pipeline import all_workspaces

REACH_S, REACH_MB = 20.0, 2048.0
SAMPLE = Path(__file__).resolve().parents[1] / "assets" / "sample.jpg"


@dataclass(frozen=True)
class RunFigures:
    """Time and memory of one call of the program."""

    wall_s: float
    peak_mb: float
    stage_s: Mapping[str, float]
    objects: int


def measure_run(photo: Path, root: Path, side_px: int, cache: Path) -> RunFigures:
    """Run all stages on `photo` in a child process. Raises CalledProcessError if it fails."""
    command = [sys.executable, "-m", "sam3d_gs", "run", str(photo), "--workspace", str(root), "--profile", "embedded"]
    command += ["--max-side-px", str(side_px), "--force"]
    started = time.perf_counter()
    child = subprocess.Popen(
        command, env=os.environ | {"NUMBA_CACHE_DIR": str(cache)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    wall_s = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    workspace = next(all_workspaces(root))
    recorded = manifest.load(workspace.manifest)
    stages = recorded.stages if recorded else {}
    return RunFigures(
        wall_s=wall_s,
        peak_mb=usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10),
        stage_s={name: stages[name].seconds for name in STAGES},
        objects=len(read_json(workspace.scene_json, "scene")["objects"]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path, nargs="?", default=SAMPLE, help="default: the shipped sample")
    parser.add_argument("--side", type=int, default=1024, help="largest longer side of the photo, in pixels")
    parser.add_argument("--repeat", type=int, default=1, help="number of warm runs")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        root, cache = Path(scratch, "workspace"), Path(scratch, "cache")
        runs = [measure_run(arguments.photo, root, arguments.side, cache) for _ in range(1 + max(1, arguments.repeat))]
    print(machine_line())
    print(f"{arguments.photo.name}, at most {arguments.side} px, {runs[0].objects} objects, profile embedded\n")
    print("| run | " + " | ".join(f"{stage} s" for stage in STAGES) + " | wall s | peak MB |")
    print("|---" * (len(STAGES) + 3) + "|")
    for number, run in enumerate(runs):
        cells = [f"{run.stage_s[stage]:.1f}" for stage in STAGES] + [f"{run.wall_s:.1f}", f"{run.peak_mb:.0f}"]
        print(f"| {'first' if number == 0 else 'warm'} | " + " | ".join(cells) + " |")
    best = min(runs[1:], key=lambda run: run.wall_s)
    print(f"\nGoal: {REACH_S:.0f} s and {REACH_MB:.0f} MB. ", end="")
    print(f"Best warm run: {best.wall_s / REACH_S:.0%} of the time, {best.peak_mb / REACH_MB:.0%} of the memory.")


if __name__ == "__main__":
    main()
