"""Accuracy of the camera pitch that the embedded engine estimates in photos.

    python benchmarks/camera_pitch.py --pictures DIR [--labels benchmarks/camera_pitch.csv]

DIR contains COCO's folders train2017 and val2017, or some of their pictures. The cameras' true pitches are unknown:
the labels were estimated by eye, to about 7 degrees, those of val2017 before any estimate was seen; the constants of
`embedded/placement/pitch.py` were tuned on train2017. Labels below the engine's smallest estimate count as that. The
last rows are constant estimates.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from machine import machine_line

from sam3d_gs.embedded.placement.pitch import PITCH_RANGE_DEG
from sam3d_gs.embedded.proposals.objects import find_objects
from sam3d_gs.engines.objects_embedded import EmbeddedObjects
from sam3d_gs.gaussians.pose import quat_to_matrix
from sam3d_gs.options import EmbeddedObjectOptions
from sam3d_gs.photo import load_photo
from sam3d_gs.types import InstanceMask, PlacedObject

LABELS = Path(__file__).with_suffix(".csv")
CONSTANTS_DEG = (5.0, 10.0, 15.0)


def pitch_of(engine: EmbeddedObjects, path: Path) -> float | None:
    """The estimated pitch in degrees below the horizon; None if the engine finds no object."""
    photo = load_photo(path)
    kept = [choice.mask for choice in find_objects(photo) if choice.dropped is None]
    masks = [InstanceMask(f"{i:02d}-object-0", "object", mask, 1.0) for i, mask in enumerate(kept)]
    for made in engine.objects(photo, masks, [item.object_id for item in masks]):
        if isinstance(made, PlacedObject):
            up = quat_to_matrix(made.pose.quat_wxyz)[:, 2]  # an object's z axis points against gravity
            return float(np.degrees(np.arctan2(-up[2], -up[1])))
    return None


def line(name: str, estimates: np.ndarray, labels: np.ndarray) -> str:
    error = estimates - np.maximum(labels, PITCH_RANGE_DEG[0])
    figures = np.abs(error).mean(), np.median(np.abs(error)), np.percentile(np.abs(error), 90), error.mean()
    return f"| {name} | " + " | ".join(f"{figure:.1f}" for figure in figures) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help="folder with train2017 and val2017")
    parser.add_argument("--labels", type=Path, default=LABELS, help="CSV: set, picture, pitch_deg")
    options = parser.parse_args()
    torch.set_num_threads(2)
    engine = EmbeddedObjects(EmbeddedObjectOptions())
    found: dict[str, list[tuple[float, float]]] = {}
    with options.labels.open(newline="") as stream:
        for row in csv.DictReader(stream):
            path = options.pictures / row["set"] / f"{row['picture']}.jpg"
            pitch = pitch_of(engine, path) if path.is_file() else None
            if pitch is not None:
                found.setdefault(row["set"], []).append((pitch, float(row["pitch_deg"])))
    print(machine_line())
    for name, pairs in found.items():
        estimates, labels = np.array(pairs).T
        print(f"\n{len(pairs)} photos of {name}\n\n| pitch | mean error, degrees | median | 90 % | signed |")
        print("|---" * 5 + "|")
        print(line("found", estimates, labels))
        for constant in CONSTANTS_DEG:
            print(line(f"always {constant:g}", np.full_like(labels, constant), labels))


if __name__ == "__main__":
    main()
