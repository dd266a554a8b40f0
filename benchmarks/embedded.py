"""Quality of the embedded engines on procedural scenes, and on real photos with real masks.

    python benchmarks/embedded.py [--scenes 8] [--first 0] [--size 640] [--photos DIR] [--weights FILE] [--each]
    python benchmarks/embedded.py --shapes 40 --meshes FILE ... --photos DIR      # all figures

`--shapes` and `--meshes` need g++, for the ray caster in `training/`, whose README says where to get meshes. The
scenes' shapes come from the families that the object network was trained on, with other seeds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from machine import machine_line, peak_memory_mb
from mask_recall import best_ious, labelled_photos, print_rows, recall_on
from measures import (
    chamfer,
    chamfer_percent,
    direction_error_deg,
    pairs_in_order,
    points_of,
    relative_depth_errors,
    up_error_deg,
)
from procedural.scene import ProceduralScene, make_scene

from sam3d_gs.engines.masks_embedded import EmbeddedMasks
from sam3d_gs.engines.objects_embedded import SHIPPED, EmbeddedObjects
from sam3d_gs.engines.phrases_embedded import EmbeddedPhrases
from sam3d_gs.gaussians.pose import transform
from sam3d_gs.gaussians.reprojection import reprojection_iou
from sam3d_gs.options import EmbeddedObjectOptions, MaskOptions, PhraseOptions
from sam3d_gs.types import InstanceMask, Photo, PlacedObject
from sam3d_gs.workspace import object_id

Result = TypeVar("Result")


@dataclass
class ObjectFigures:
    """One entry per object; seconds have one per scene, divided by its number of objects."""

    chamfer_percent: list[float] = field(default_factory=list)
    direction_deg: list[float] = field(default_factory=list)
    depth_error: list[float] = field(default_factory=list)
    in_order: list[bool] = field(default_factory=list)  # one per pair of objects
    up_deg: list[float] = field(default_factory=list)
    reprojection_iou: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    failed: int = 0


@dataclass
class MaskFigures:
    """Best IoU per true mask: among the kept masks, and among all masks that the engine returned."""

    kept: list[float] = field(default_factory=list)
    proposed: list[float] = field(default_factory=list)
    kept_count: list[int] = field(default_factory=list)
    phrase_seconds: list[float] = field(default_factory=list)
    mask_seconds: list[float] = field(default_factory=list)


def as_photo(scene: ProceduralScene) -> Photo:
    """The scene's photo with its true focal length, as if from EXIF."""
    name = f"scene-{scene.seed:04d}"
    return Photo(Path(f"{name}.png"), name, scene.rgb, sha256=name, focal_px=float(scene.K[0, 0]))


def true_masks(scene: ProceduralScene) -> list[InstanceMask]:
    return [
        InstanceMask(object_id(i, thing.name, 0), thing.name, thing.mask, score=1.0)
        for i, thing in enumerate(scene.objects)
    ]


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    started = time.perf_counter()
    result = work()
    return result, time.perf_counter() - started


def measure_masks(scenes: Sequence[ProceduralScene]) -> MaskFigures:
    """Run phrases, then masks, like the pipeline, without any ground truth."""
    phrase_engine, mask_engine, figures = EmbeddedPhrases(PhraseOptions()), EmbeddedMasks(MaskOptions()), MaskFigures()
    warm = as_photo(scenes[0])
    mask_engine.masks(warm, phrase_engine.phrases(warm))
    for scene in scenes:
        photo, true = as_photo(scene), [thing.mask for thing in scene.objects]
        phrases, phrase_seconds = timed(lambda photo=photo: phrase_engine.phrases(photo))  # type: ignore[misc]
        found, mask_seconds = timed(lambda photo=photo, phrases=phrases: mask_engine.masks(photo, phrases))  # type: ignore[misc]
        kept = [item.mask for item in found if item.dropped is None]
        figures.kept += best_ious(true, kept).tolist()
        figures.proposed += best_ious(true, [item.mask for item in found]).tolist()
        figures.kept_count.append(len(kept))
        figures.phrase_seconds.append(phrase_seconds)
        figures.mask_seconds.append(mask_seconds)
    return figures


def measure_objects(scenes: Sequence[ProceduralScene], engine: EmbeddedObjects) -> ObjectFigures:
    """Errors of shape and placement of every object, given the true masks and the true focal length."""
    figures = ObjectFigures()
    list(engine.objects(as_photo(scenes[0]), true_masks(scenes[0]), [true_masks(scenes[0])[0].object_id]))
    for scene in scenes:
        photo, masks = as_photo(scene), true_masks(scene)
        wanted = [item.object_id for item in masks]
        made, seconds = timed(lambda p=photo, m=masks, w=wanted: list(engine.objects(p, m, w)))  # type: ignore[misc]
        figures.seconds.append(seconds / len(masks))
        placed = {item.object_id: item for item in made if isinstance(item, PlacedObject)}
        figures.failed += len(masks) - len(placed)
        _compare(scene, masks, placed, figures)
    return figures


def _compare(
    scene: ProceduralScene, masks: Sequence[InstanceMask], placed: dict[str, PlacedObject], figures: ObjectFigures
) -> None:
    made_depths, true_depths = [], []
    for i, (thing, item) in enumerate(zip(scene.objects, masks, strict=True)):
        if item.object_id not in placed:
            continue
        made, true = placed[item.object_id], thing.surface_camera
        points = points_of(made, len(true))
        made_centre, true_centre = ((p.min(0) + p.max(0)) / 2 for p in (points, true))
        figures.chamfer_percent.append(chamfer_percent(points, true))
        figures.direction_deg.append(direction_error_deg(made_centre, true_centre))
        figures.up_deg.append(up_error_deg(made, scene.up_camera))
        in_camera, others = transform(made.gaussians, made.pose), (scene.ids > 0) & (scene.ids != i + 1)
        figures.reprojection_iou.append(reprojection_iou(in_camera, made.K, thing.mask, others))
        made_depths.append(made_centre[2])
        true_depths.append(true_centre[2])
    if len(made_depths) > 1:
        figures.depth_error += relative_depth_errors(made_depths, true_depths).tolist()
        figures.in_order += pairs_in_order(made_depths, true_depths)


def chamfer_floor_percent(scenes: Sequence[ProceduralScene]) -> float:
    """The Chamfer distance of two samplings of the same surface: the part of the figures that is not an error."""
    values = []
    for scene in scenes:
        for thing in scene.objects:
            half = thing.surface[::2], thing.surface[1::2]
            # Halving the points makes them sqrt(2) sparser.
            values.append(100 * chamfer(*half) / float(np.ptp(thing.surface, axis=0).max()) / np.sqrt(2))
    return float(np.mean(values))


def row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


def head(*names: str) -> str:
    return row(*names) + "\n" + "|---" * len(names) + "|"


def recall(values: Iterable[float], threshold: float) -> str:
    return f"{np.mean(np.asarray(list(values)) > threshold):.3f}"


def print_masks(figures: MaskFigures, objects: int) -> None:
    print(f"\nMasks, {objects} true masks; {np.mean(figures.kept_count):.1f} kept per scene\n")
    print(head("", "recall at IoU .5", "at .75", "mean best IoU"))
    for name, values in (("kept", figures.kept), ("kept and dropped", figures.proposed)):
        print(row(name, recall(values, 0.5), recall(values, 0.75), f"{np.mean(values):.3f}"))


def print_objects(rows: dict[str, ObjectFigures], floor: float) -> None:
    print(f"\nObjects, true masks and focal length given (Chamfer of the surface with itself: {floor:.2f} %)\n")
    print(
        head(
            "engine",
            "Chamfer % mean (median)",
            "direction ° median",
            "depth error % median (p90)",
            "pairs in order %",
            "up ° median (p90)",
            "re-projection IoU mean",
            "failed",
            "s per object",
        )
    )
    for name, f in rows.items():
        depth, up = 100 * np.asarray(f.depth_error or [np.nan]), np.asarray(f.up_deg)
        print(
            row(
                name,
                f"{np.mean(f.chamfer_percent):.2f} ({np.median(f.chamfer_percent):.2f})",
                f"{np.median(f.direction_deg):.2f}",
                f"{np.median(depth):.1f} ({np.percentile(depth, 90):.1f})",
                f"{100 * np.mean(f.in_order) if f.in_order else np.nan:.0f}",
                f"{np.median(up):.1f} ({np.percentile(up, 90):.1f})",
                f"{np.mean(f.reprojection_iou):.3f}",
                str(f.failed),
                f"{np.median(f.seconds):.2f}",
            )
        )


def print_each(scenes: Sequence[ProceduralScene], figures: ObjectFigures) -> None:
    """Print one line per object; only if none failed, since the lists do not contain failed objects."""
    things = [
        (str(scene.seed), thing.name, f"{thing.mask.sum() / thing.amodal_mask.sum():.0%}")
        for scene in scenes
        for thing in scene.objects
    ]
    columns = (figures.chamfer_percent, figures.direction_deg, figures.up_deg, figures.reprojection_iou)
    print("\n" + head("scene", "object", "visible", "Chamfer %", "direction °", "up °", "re-projection IoU"))
    for names, *values in zip(things, *columns, strict=True):
        print(row(*names, *(f"{value:.2f}" for value in values)))


def print_photos(folder: Path) -> None:
    rows = recall_on(labelled_photos(folder))
    if not rows:
        raise SystemExit(f"{folder}: no photo with masks is there.")
    print(f"\nMasks on {rows[0].photos} real photos, {rows[0].masks} true masks\n")
    print_rows(rows)


def print_scenes(arguments: argparse.Namespace) -> None:
    """Print the tables of masks and objects on procedural scenes."""
    seeds = range(arguments.first, arguments.first + arguments.scenes)
    scenes, seconds = timed(lambda: [make_scene(seed, arguments.size) for seed in seeds])
    count = sum(len(scene.objects) for scene in scenes)
    print(f"{len(scenes)} procedural scenes, {count} objects, {arguments.size} px, made in {seconds:.0f} s")

    masks = measure_masks(scenes)
    print_masks(masks, count)
    rows = {
        "network": measure_objects(scenes, EmbeddedObjects(EmbeddedObjectOptions(), arguments.weights or SHIPPED)),
        "inflation": measure_objects(scenes, EmbeddedObjects(EmbeddedObjectOptions(), weights=None)),
    }
    print_objects(rows, chamfer_floor_percent(scenes))
    if arguments.each and not rows["network"].failed:
        print_each(scenes, rows["network"])
    print(
        f"\nSeconds per scene (median): phrases {np.median(masks.phrase_seconds):.2f}, "
        f"masks {np.median(masks.mask_seconds):.2f}. Peak memory of this process: {peak_memory_mb():.0f} MB."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=8, help="number of procedural scenes; 0 skips their tables")
    parser.add_argument("--first", type=int, default=0, help="seed of the first scene")
    parser.add_argument("--size", type=int, default=640, help="longer side of their photos, pixels")
    parser.add_argument("--photos", type=Path, help="also a folder of real photos with masks")
    parser.add_argument(
        "--shapes", type=int, default=0, help="also this many single shapes, compared with their true surface"
    )
    parser.add_argument("--meshes", type=Path, nargs="+", default=[], help="also triangle meshes, .obj or .stl")
    parser.add_argument("--weights", type=Path, help="other weights of the object network")
    parser.add_argument("--each", action="store_true", help="print a line for every object")
    arguments = parser.parse_args()

    print(machine_line())
    if arguments.scenes:
        print_scenes(arguments)
    if arguments.photos:
        print_photos(arguments.photos)
    if arguments.shapes or arguments.meshes:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
        from training.objects.shape_error import report

        report(arguments.shapes, [str(arguments.weights or SHIPPED), "inflation"], arguments.meshes)


if __name__ == "__main__":
    main()
