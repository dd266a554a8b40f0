"""Rendering speed: `python benchmarks/render.py` prints a table. The first picture may take seconds to compile."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from sam3d_gs.gaussians.render import Camera, auto_backend, render
from sam3d_gs.report.pictures import save_animation, turntable
from sam3d_gs.types import Gaussians

SIDE_PX = 512
K = np.array([[520.0, 0.0, 256.0], [0.0, 520.0, 256.0], [0.0, 0.0, 1.0]])


def spheres(n: int, count: int = 12) -> Gaussians:
    """N splats on the surfaces of several spheres in front of the camera, without gaps."""
    rng = np.random.default_rng(0)
    normals = rng.normal(size=(n, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    sphere = rng.integers(0, count, n)
    centres = rng.uniform([-1.3, -1.1, 3.0], [1.3, 1.1, 5.0], (count, 3))
    radii = rng.uniform(0.25, 0.5, count)
    spacing = radii * np.sqrt(4 * np.pi / (n / count))
    log_scales = np.log(spacing[sphere])[:, None] + np.log([0.7, 0.7, 0.15])
    half_way = np.column_stack([1 + normals[:, 2], -normals[:, 1], normals[:, 0], np.zeros(n)])  # turns z to the normal
    rgb = rng.uniform(0.2, 0.9, (count, 3))[sphere] * (0.6 + 0.4 * normals[:, 1:2])
    return Gaussians(
        means=(centres[sphere] + radii[sphere, None] * normals).astype(np.float32),
        quats=(half_way / np.linalg.norm(half_way, axis=1, keepdims=True)).astype(np.float32),
        log_scales=log_scales.astype(np.float32),
        opacity_logits=np.full(n, 4, np.float32),
        sh0=((rgb - 0.5) / 0.28209479).astype(np.float32),
    )


def median_s(task: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        task()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--turntable-frames", type=int, default=48)
    options = parser.parse_args()

    camera = Camera(K, SIDE_PX, SIDE_PX, np.eye(4))
    scene = spheres(1000)
    first = median_s(lambda: render(scene, camera), 1)
    print(
        f"backend {auto_backend()}, {os.cpu_count()} processors; first picture (import, compile or cache) {first:.1f} s"
    )
    print(f"\n| Gaussians | ms per {SIDE_PX}x{SIDE_PX} picture | covered |\n|---:|---:|---:|")
    for n in (100_000, 200_000, 500_000):
        scene = spheres(n)
        alpha = render(scene, camera).alpha
        took = median_s(lambda scene=scene: render(scene, camera), options.repeats)  # type: ignore[misc]
        print(f"| {n:,} | {1000 * took:.0f} | {100 * (alpha > 0.5).mean():.0f} % |")

    scene, frames = spheres(200_000), options.turntable_frames
    start = time.perf_counter()
    pictures = turntable(scene, K, (SIDE_PX, SIDE_PX), frames, SIDE_PX)
    rendered = time.perf_counter()
    print(f"\nturntable of {frames} frames, {len(scene):,} Gaussians: {rendered - start:.1f} s")
    with tempfile.TemporaryDirectory() as folder:
        for suffix in ("webp", "gif"):
            path = Path(folder, f"turn.{suffix}")
            start = time.perf_counter()
            save_animation(pictures, path)
            print(f"{suffix}: {time.perf_counter() - start:.1f} s, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
