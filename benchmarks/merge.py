"""Speed of merging .pt files into one scene .ply, compared with writing the same number of bytes.

    python benchmarks/merge.py                                # 12 objects of 860,000 Gaussians, as from SAM 3D Objects
    python benchmarks/merge.py --objects 3 --gaussians 20000  # small

Every measurement is a new process; plain and merge alternate, and the ratio is the median over the pairs. Peak memory
is the resident set minus that after the imports. "plain" writes one block of random bytes to a file repeatedly; "merge"
opens the .pt files and merges them into the scene .ply; "merge + singles" also writes each object's own .ply, which is
twice the bytes, and is compared with plain writing of as many. Each process is timed twice: until the system has taken
the bytes, and until fsync has written them to disk. If the first takes no longer than a copy in memory (a quiet machine
with fast storage, tmpfs), merging is limited by computation and the ratio is higher, so report the file system and the
load with the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sam3d_gs.gaussians.merge import merge_objects, open_objects
from sam3d_gs.gaussians.ply import PROPERTIES, header
from sam3d_gs.gaussians.pt import open_pt, write_pt
from sam3d_gs.types import Gaussians, PlacedObject, Pose

MIB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=12)
    parser.add_argument("--gaussians", type=int, default=860_000, help="number per object")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="folder for temporary files")
    parser.add_argument("--child", choices=["plain", "merge", "singles"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(arguments.child, arguments.folder)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="sam3d_gs-merge-") as folder:
        make_objects(Path(folder), arguments.objects, arguments.gaussians)
        report(Path(folder), arguments.objects * arguments.gaussians, arguments.pairs)


def make_objects(folder: Path, objects: int, gaussians: int) -> None:
    """Write random .pt files of one photo; the values do not affect the time."""
    rng = np.random.default_rng(0)
    K = np.array([[1000.0, 0.0, 512.0], [0.0, 1000.0, 384.0], [0.0, 0.0, 1.0]])
    for i in range(objects):
        quats = rng.standard_normal((gaussians, 4), np.float32)
        made = Gaussians(
            means=rng.random((gaussians, 3), np.float32) - np.float32(0.5),
            quats=quats / np.linalg.norm(quats, axis=1, keepdims=True),
            log_scales=rng.random((gaussians, 3), np.float32) - np.float32(6.0),
            opacity_logits=rng.standard_normal(gaussians, np.float32),
            sh0=rng.standard_normal((gaussians, 3), np.float32),
        )
        turn = rng.standard_normal(4)
        pose = Pose(turn / np.linalg.norm(turn), np.array([0.0, 0.0, 5.0]), 0.5)
        write_pt(folder / f"{i:02d}-thing-0.pt", PlacedObject(f"{i:02d}-thing-0", "thing", made, pose, K, (1024, 768)))


def report(folder: Path, total: int, pairs: int) -> None:
    rows: dict[str, list[dict[str, float]]] = {"plain": [], "merge": [], "singles": []}
    run_child("merge", folder)  # warms the page cache with the .pt files
    for _ in range(pairs):
        for kind, results in rows.items():
            results.append(run_child(kind, folder))
    size = total * 4 * len(PROPERTIES)
    print(f"{total:,} Gaussians, {size / MIB:,.0f} MiB; medians of {pairs} pairs\n")
    print("| | to page cache, s | x plain | to disk, s | x plain | peak MiB above imports |\n|---|---|---|---|---|---|")
    for kind, label, copies in (("plain", "plain", 1), ("merge", "merge", 1), ("singles", "merge + singles", 2)):
        cells = [label]
        for clock in ("cache_s", "disk_s"):
            seconds = [row[clock] for row in rows[kind]]
            plain = [row[clock] for row in rows["plain"]]
            ratio = statistics.median(mine / (copies * base) for mine, base in zip(seconds, plain, strict=True))
            cells += [f"{statistics.median(seconds):.3f}", f"{ratio:.2f}"]
        cells.append(f"{statistics.median(row['peak_mib'] for row in rows[kind]):.0f}")
        print(f"| {' | '.join(cells)} |")
    one = open_pt(next(folder.glob("*.pt"))).header.count * 4 / MIB
    print(f"\nOne object is {one * 14:.0f} MiB as arrays and {one * len(PROPERTIES):.0f} MiB in a .ply.")


def run_child(kind: str, folder: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", kind, "--folder", str(folder)]
    return dict(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))


def measure(kind: str, folder: Path) -> dict[str, float]:
    sources = sorted(folder.glob("*.pt"))
    target = folder / "out" / "scene.ply"
    target.parent.mkdir(exist_ok=True)
    written = [target]
    counts = [open_pt(path).header.count for path in sources]  # also imports torch before the clock starts
    before = peak_mib()
    if kind == "plain":
        block = np.random.default_rng(0).standard_normal((max(counts), len(PROPERTIES)), np.float32).data
    start = time.perf_counter()
    if kind == "plain":
        with target.open("wb", buffering=0) as stream:
            stream.write(header(sum(counts)))
            for count in counts:
                stream.write(block[:count])
    elif kind == "merge":
        merge_objects(open_objects(sources), target)
    else:
        written += [target.with_name(f"{path.stem}.ply") for path in sources]
        merge_objects(open_objects(sources), target, lambda object_id: target.with_name(f"{object_id}.ply"))
    cache_s = time.perf_counter() - start
    for path in written:
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
    disk_s = time.perf_counter() - start
    for path in written:
        path.unlink()
    return {"cache_s": cache_s, "disk_s": disk_s, "peak_mib": peak_mib() - before}


def peak_mib() -> float:
    """Peak resident set of this process so far, in MiB (Linux)."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
