"""Seconds and Gaussians per object of the embedded objects engine.

    python benchmarks/objects_speed.py [PHOTO MASK...]

Without arguments, a drawn picture of twelve shapes at 1024 px is used. Prints a Markdown table of medians.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sam3d_gs.engines.objects_embedded import EmbeddedObjects
from sam3d_gs.options import EmbeddedObjectOptions
from sam3d_gs.types import InstanceMask, Photo, PlacedObject

REPEATS = 3
THREADS = 2


def drawn_photo() -> tuple[np.ndarray, list[np.ndarray]]:
    """Twelve ellipses of growing size on grey, 1024 x 768."""
    y, x = np.mgrid[:768, :1024] + 0.5
    noise = np.random.default_rng(0).integers(-12, 12, (768, 1024, 3))
    rgb = np.full((768, 1024, 3), 150) + noise
    masks = []
    for i in range(12):
        column, row = i % 4, i // 4
        mask = ((x - 140 - 250 * column) / (50 + 6 * i)) ** 2 + ((y - 130 - 250 * row) / (45 + 6 * i)) ** 2 < 1
        rgb[mask] = np.array([40 + 15 * i, 200 - 12 * i, 90]) + noise[mask]
        masks.append(mask)
    return rgb.astype(np.uint8), masks


def main() -> None:
    torch.set_num_threads(THREADS)
    if len(sys.argv) > 2:
        rgb = np.asarray(Image.open(sys.argv[1]).convert("RGB"))
        arrays = [np.asarray(Image.open(path).convert("L")) > 127 for path in sys.argv[2:]]
    else:
        rgb, arrays = drawn_photo()
    photo = Photo(Path("benchmark.png"), "benchmark", rgb, "0")
    masks = [InstanceMask(f"{i:02d}-object-0", "object", array, 1.0) for i, array in enumerate(arrays)]
    wanted = [mask.object_id for mask in masks]

    print(f"{rgb.shape[1]} x {rgb.shape[0]} px, {len(masks)} objects, {THREADS} threads, median of {REPEATS}\n")
    print("| engine | seconds a photo | seconds an object | CPU seconds an object | Gaussians an object |")
    print("|---|---|---|---|---|")
    for name, weights in (("network", "shipped"), ("inflation", None)):
        engine = EmbeddedObjects(EmbeddedObjectOptions(), weights)
        seconds, cpu_seconds, counts = [], [], []
        for _ in range(REPEATS):
            start, cpu_start = time.perf_counter(), time.process_time()
            results = list(engine.objects(photo, masks, wanted))
            seconds.append(time.perf_counter() - start)
            cpu_seconds.append(time.process_time() - cpu_start)
            counts = [len(r.gaussians) for r in results if isinstance(r, PlacedObject)]
        median, cpu = statistics.median(seconds), statistics.median(cpu_seconds)
        each = f"{median / len(masks):.3f} | {cpu / len(masks):.3f} | {statistics.mean(counts):,.0f}"
        print(f"| {name} | {median:.2f} | {each} |")


if __name__ == "__main__":
    main()
