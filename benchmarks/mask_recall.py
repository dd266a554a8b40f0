"""Recall of the embedded mask proposals on real photos with real masks.

    python benchmarks/mask_recall.py --photos DIR [--baseline]

DIR holds one folder per photo: <name>/<name>.jpg (or .png) and <name>/mask_NN.png, non-zero where the object is.
Masks below half a percent of the photo are left out.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from sam3d_gs.embedded.mask_net import WEIGHTS
from sam3d_gs.embedded.outline import outlined
from sam3d_gs.embedded.regions import MOST_PROPOSALS, propose
from sam3d_gs.embedded.selection import select

SMALLEST_SHARE = 0.005
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    engine: str
    photos: int
    masks: int  # real ones that count
    recall_50: float  # share of the real masks that some proposal meets at IoU 0.5
    recall_75: float
    mean_best_iou: float
    seconds: float  # median over the photos


def labelled_photos(folder: Path) -> list[tuple[str, np.ndarray, list[np.ndarray]]]:
    """(name, photo (H, W, 3) uint8, real masks (H, W) bool) for every photo of the folder, by name."""
    found = []
    for place in sorted(p for p in folder.iterdir() if p.is_dir()):
        photo = next((place / (place.name + s) for s in PHOTO_SUFFIXES if (place / (place.name + s)).exists()), None)
        if photo is None:
            continue
        rgb = np.asarray(Image.open(photo).convert("RGB"))
        masks = [np.asarray(Image.open(m).convert("L")) > 0 for m in sorted(place.glob("mask_*.png"))]
        found.append((place.name, rgb, [m for m in masks if m.mean() > SMALLEST_SHARE]))
    return found


def best_ious(real: Sequence[np.ndarray], proposed: Sequence[np.ndarray]) -> np.ndarray:
    """For every real mask the IoU of the proposal that fits it best, (len(real),)."""
    if not len(real) or not len(proposed):
        return np.zeros(len(real))
    a = np.stack(real).reshape(len(real), -1).astype(np.float32)
    b = np.stack(proposed).reshape(len(proposed), -1).astype(np.float32)
    shared = a @ b.T
    best: np.ndarray = (shared / np.maximum(a.sum(1)[:, None] + b.sum(1) - shared, 1)).max(1)
    return best


def recall_on_photos(folder: Path, baseline: bool = False, weights: Path = WEIGHTS) -> list[Row]:
    """Table rows: all proposals, the best ten, the kept set, and with `baseline` a classical method."""
    photos = labelled_photos(folder)
    engines: dict[str, Callable[[np.ndarray], list[np.ndarray]]] = {
        f"proposals (<= {MOST_PROPOSALS})": lambda rgb: [p.mask for p in propose(rgb, weights=weights)],
        "the best 10 of them": lambda rgb: [p.mask for p in propose(rgb, weights=weights)[:10]],
        "kept objects": lambda rgb: kept_objects(rgb, weights),
    }
    if baseline:
        engines[f"felzenszwalb (<= {MOST_PROPOSALS})"] = felzenszwalb_proposals
    return [_measured(name, engine, photos) for name, engine in engines.items()]


def kept_objects(rgb: np.ndarray, weights: Path = WEIGHTS) -> list[np.ndarray]:
    """The masks the engine gives for every object it describes."""
    return outlined(rgb, [c.mask for c in select(propose(rgb, weights=weights), rgb) if c.dropped is None])


def _measured(
    name: str,
    engine: Callable[[np.ndarray], list[np.ndarray]],
    photos: Sequence[tuple[str, np.ndarray, list[np.ndarray]]],
) -> Row:
    engine(photos[0][1])  # compile and load before the clock starts
    ious, seconds = [], []
    for _, rgb, real in photos:
        started = time.perf_counter()
        proposed = engine(rgb)
        seconds.append(time.perf_counter() - started)
        ious.append(best_ious(real, proposed))
    best = np.concatenate(ious)
    return Row(
        engine=name,
        photos=len(photos),
        masks=len(best),
        recall_50=float(np.mean(best > 0.5)),
        recall_75=float(np.mean(best > 0.75)),
        mean_best_iou=float(best.mean()),
        seconds=statistics.median(seconds),
    )


def felzenszwalb_proposals(rgb: np.ndarray) -> list[np.ndarray]:
    """The classical baseline: graph segments at five scales, ranked by colour contrast, size and border contact."""
    from scipy import ndimage
    from skimage.color import rgb2lab
    from skimage.segmentation import felzenszwalb

    height, width = rgb.shape[:2]
    ratio = 320 / max(height, width)
    small = Image.fromarray(rgb).resize((max(1, round(width * ratio)), max(1, round(height * ratio))))
    pixels = np.asarray(small)
    lab = rgb2lab(pixels)
    ranked: list[tuple[float, np.ndarray]] = []
    for scale in (30, 80, 200, 500, 1200):
        labels = felzenszwalb(pixels, scale=scale, sigma=0.8, min_size=60)
        for number in range(labels.max() + 1):
            mask = labels == number
            share = mask.mean()
            if not 0.003 < share < 0.6:
                continue
            ring = ndimage.binary_dilation(mask, iterations=4) & ~mask
            contrast = float(np.linalg.norm(lab[mask].mean(0) - lab[ring].mean(0)))
            border = np.concatenate((mask[0], mask[-1], mask[:, 0], mask[:, -1])).mean()
            prior = np.exp(-0.5 * (np.log(share / 0.03) / 1.5) ** 2)
            ranked.append((contrast**0.5 * prior * np.exp(-3 * border), mask))
    ranked.sort(key=lambda entry: -entry[0])
    kept: list[np.ndarray] = []
    for _, mask in ranked:
        if len(kept) == MOST_PROPOSALS:
            break
        if not kept or best_ious([mask], kept)[0] < 0.6:
            kept.append(mask)
    return [np.asarray(Image.fromarray(mask).resize((width, height))) for mask in kept]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of photos with real masks")
    parser.add_argument("--baseline", action="store_true", help="also measure a classical method")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="another weights file of the mask net")
    arguments = parser.parse_args()
    rows = recall_on_photos(arguments.photos, arguments.baseline, arguments.weights)
    print(f"{rows[0].photos} photos, {rows[0].masks} real masks above {SMALLEST_SHARE:.1%} of the photo\n")
    print("| engine | recall at IoU .5 | at .75 | mean best IoU | s per photo (median) |")
    print("|---|---|---|---|---|")
    for row in rows:
        print(
            f"| {row.engine} | {row.recall_50:.3f} | {row.recall_75:.3f} | {row.mean_best_iou:.3f} "
            f"| {row.seconds:.2f} |"
        )


if __name__ == "__main__":
    main()
