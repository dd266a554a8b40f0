"""Time and peak memory of the scene stage on a synthetic photo of large objects, without the engines.

    python benchmarks/scene_stage.py                                  # 12 objects of 860,000 Gaussians, 12 MP
    python benchmarks/scene_stage.py --objects 3 --gaussians 20000    # small

Objects are spheres with overlapping discs as masks. Each measurement is a separate process; peak memory is its resident
set, which includes pages mapped from the .pt files.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from machine import machine_line, peak_memory_mb
from PIL import Image
from render import spheres

from sam3d_gs.engines import registry
from sam3d_gs.gaussians.pt import write_pt
from sam3d_gs.masks.files import write_masks
from sam3d_gs.options import SceneOptions
from sam3d_gs.photo import load_photo
from sam3d_gs.stages import scene
from sam3d_gs.stages.bookkeeping import Context, recording
from sam3d_gs.stages.claim import claimed
from sam3d_gs.types import InstanceMask, Photo, PlacedObject, Pose
from sam3d_gs.workspace import Workspace, object_id

DEPTH = 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=12)
    parser.add_argument("--gaussians", type=int, default=860_000, help="number per object")
    parser.add_argument("--size", type=int, nargs=2, default=(4000, 3000), metavar="PX", help="size of the photo")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="folder for temporary files")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        run_stage(arguments.folder)
        return
    print(machine_line())
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="sam3d_gs-scene-") as folder:
        make_workspace(Path(folder), arguments.objects, arguments.gaussians, tuple(arguments.size))
        print("\n| seconds | of them CPU | peak MB |\n|---:|---:|---:|")
        for _ in range(arguments.repeats):
            command = [sys.executable, __file__, "--child", "--folder", folder]
            result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print(result.stdout.strip())


def make_workspace(root: Path, objects: int, gaussians: int, size: tuple[int, int]) -> None:
    """Write the photo, masks and .pt files that the earlier stages would write."""
    Image.new("RGB", size, (200, 200, 200)).save(root / "photo.png")
    photo = load_photo(root / "photo.png")
    with claimed(root, photo) as workspace:
        pass
    context = Context(workspace, photo)
    masks = [disc(photo, number, objects) for number in range(objects)]
    with recording(context, "masks", registry.choose("masks"), {}) as recorder:
        recorder.add_output(*write_masks(workspace, masks, "made up"))
    one = spheres(gaussians, count=1)
    one = replace(one, means=one.means - one.means.mean(0))
    K = np.array([[size[0], 0.0, size[0] / 2], [0.0, size[0], size[1] / 2], [0.0, 0.0, 1.0]])
    with recording(context, "objects", registry.choose("objects"), {}) as recorder:
        for mask in masks:
            middle = [*(np.add(mask.box_xyxy[:2], mask.box_xyxy[2:]) / 2), 1.0]
            pose = Pose(np.array([1.0, 0.0, 0.0, 0.0]), np.linalg.inv(K) @ middle * DEPTH, 0.5)
            path = workspace.object_pt(mask.object_id)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_pt(path, PlacedObject(mask.object_id, mask.phrase, one, pose, K, size))
            recorder.add_item(mask.object_id, "", path, 0.0)


def disc(photo: Photo, number: int, of: int) -> InstanceMask:
    """One of several overlapping discs on a circle."""
    angle = 2 * np.pi * number / of
    rows, columns = np.ogrid[: photo.height_px, : photo.width_px]
    middle = np.array([photo.width_px, photo.height_px]) / 2 + photo.height_px / 3 * np.array(
        [np.cos(angle), np.sin(angle)]
    )
    inside = np.hypot(columns - middle[0], rows - middle[1]) < photo.height_px / 9
    return InstanceMask(object_id(number, "sphere", 0), "sphere", inside, 0.9)


def run_stage(root: Path) -> None:
    photo = load_photo(root / "photo.png")
    start, cpu_start = time.perf_counter(), time.process_time()
    scene.run(Context(Workspace(root, photo.name), photo, force=True), SceneOptions())
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    print(f"| {seconds:.1f} | {cpu:.1f} | {peak_memory_mb():,.0f} |")


if __name__ == "__main__":
    main()
