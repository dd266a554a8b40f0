"""Recall of the embedded mask proposals on real photos with real masks.

    python benchmarks/mask_recall.py --photos DIR [--baseline]
    python benchmarks/mask_recall.py --coco panoptic_val2017.json --pictures val2017

DIR has one folder per photo: <name>/<name>.jpg (or .png) and <name>/mask_NN.png, non-zero where the object is. --coco
takes panoptic annotations in COCO's format, with PNGs in a folder of the same name next to the file; things count,
stuff (sky, wall, grass) does not. Masks below half a percent of the photo are ignored.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from sam3d_gs.embedded.proposals.mask_net import WEIGHTS
from sam3d_gs.embedded.proposals.outline import outlined
from sam3d_gs.embedded.proposals.regions import MOST_PROPOSALS, propose
from sam3d_gs.embedded.proposals.selection import select

SMALLEST_SHARE = 0.005
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png")
_FEW = 10

LabelledPhoto = tuple[str, np.ndarray, list[np.ndarray]]  # name, (H, W, 3) uint8, real masks (H, W) bool


@dataclass(frozen=True)
class Row:
    """One row of the table."""

    engine: str
    photos: int
    masks: int  # real ones that count
    recall_50: float  # share of the real masks that some proposal meets at IoU 0.5
    recall_75: float
    mean_best_iou: float
    proposed: float  # masks a photo
    right: float  # share of them that meet a real mask at IoU 0.5
    seconds: float  # median over the photos


def labelled_photos(folder: Path) -> list[LabelledPhoto]:
    """Every photo in the folder with its real masks, sorted by name."""
    found = []
    for place in sorted(p for p in folder.iterdir() if p.is_dir()):
        photo = next((place / (place.name + s) for s in PHOTO_SUFFIXES if (place / (place.name + s)).exists()), None)
        if photo is None:
            continue
        rgb = np.asarray(Image.open(photo).convert("RGB"))
        masks = [np.asarray(Image.open(m).convert("L")) > 0 for m in sorted(place.glob("mask_*.png"))]
        found.append((place.name, rgb, [m for m in masks if m.mean() > SMALLEST_SHARE]))
    return found


def coco_photos(annotations: Path, pictures: Path) -> Iterator[LabelledPhoto]:
    """The photos in a panoptic annotation file that exist and show things; a PNG's colour is a segment's number."""
    coco = json.loads(annotations.read_text())
    things = {category["id"] for category in coco["categories"] if category["isthing"]}
    names = {image["id"]: image["file_name"] for image in coco["images"]}
    for item in sorted(coco["annotations"], key=lambda item: item["file_name"]):
        photo, segments = pictures / names[item["image_id"]], annotations.with_suffix("") / item["file_name"]
        if not (photo.is_file() and segments.is_file()):
            continue
        numbers = np.asarray(Image.open(segments).convert("RGB")).astype(np.int64) @ (1, 256, 256**2)
        masks = [numbers == s["id"] for s in item["segments_info"] if s["category_id"] in things and not s["iscrowd"]]
        masks = [mask for mask in masks if mask.mean() > SMALLEST_SHARE]
        if masks:
            yield photo.stem, np.asarray(Image.open(photo).convert("RGB")), masks


def best_ious(real: Sequence[np.ndarray], proposed: Sequence[np.ndarray]) -> np.ndarray:
    """(len(real),) best IoU of any proposal, for every real mask."""
    if not len(real) or not len(proposed):
        return np.zeros(len(real))
    a = np.stack(real).reshape(len(real), -1).astype(np.float32)
    b = np.stack(proposed).reshape(len(proposed), -1).astype(np.float32)
    shared = a @ b.T
    best: np.ndarray = (shared / np.maximum(a.sum(1)[:, None] + b.sum(1) - shared, 1)).max(1)
    return best


@dataclass
class _Tally:
    """The results of one engine on all photos."""

    best: list[float] = field(default_factory=list)  # of every real mask
    hits: list[bool] = field(default_factory=list)  # of every proposed one
    seconds: list[float] = field(default_factory=list)

    def add(self, real: Sequence[np.ndarray], proposed: Sequence[np.ndarray], seconds: float) -> None:
        self.best += best_ious(real, proposed).tolist()
        self.hits += (best_ious(proposed, real) > 0.5).tolist()
        self.seconds.append(seconds)

    def row(self, engine: str) -> Row:
        best, photos = np.array(self.best), len(self.seconds)
        return Row(
            engine=engine,
            photos=photos,
            masks=len(best),
            recall_50=float(np.mean(best > 0.5)),
            recall_75=float(np.mean(best > 0.75)),
            mean_best_iou=float(best.mean()),
            proposed=len(self.hits) / photos,
            right=float(np.mean(self.hits)) if self.hits else 0.0,
            seconds=statistics.median(self.seconds),
        )


def recall_on(photos: Iterable[LabelledPhoto], baseline: bool = False, weights: Path = WEIGHTS) -> list[Row]:
    """Table rows: all proposals, the best ten, the kept masks and, with `baseline`, a classical method."""
    all_name, few_name, kept_name = f"proposals (<= {MOST_PROPOSALS})", f"the best {_FEW} of them", "kept objects"
    tallies = {name: _Tally() for name in (all_name, few_name, kept_name)}
    classical = f"felzenszwalb (<= {MOST_PROPOSALS})"
    if baseline:
        tallies[classical] = _Tally()
    for number, (_, rgb, real) in enumerate(photos):
        if number == 0:
            propose(rgb, weights=weights)  # compile and load before the clock starts
        started = time.perf_counter()
        proposals = propose(rgb, weights=weights)
        proposed = time.perf_counter() - started
        chosen = [choice.mask for choice in select(proposals, rgb) if choice.dropped is None]
        kept = outlined(rgb, chosen) if chosen else []
        masks = [proposal.mask for proposal in proposals]
        tallies[all_name].add(real, masks, proposed)
        tallies[few_name].add(real, masks[:_FEW], proposed)
        tallies[kept_name].add(real, kept, time.perf_counter() - started)
        if baseline:
            started = time.perf_counter()
            segments = felzenszwalb_proposals(rgb)
            tallies[classical].add(real, segments, time.perf_counter() - started)
    return [tally.row(name) for name, tally in tallies.items() if tally.seconds]


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


def print_rows(rows: Sequence[Row]) -> None:
    print(
        "| engine | recall at IoU .5 | at .75 | mean best IoU | masks a photo | of them right | s per photo (median) |"
    )
    print("|---" * 7 + "|")
    for row in rows:
        print(
            f"| {row.engine} | {row.recall_50:.3f} | {row.recall_75:.3f} | {row.mean_best_iou:.3f} "
            f"| {row.proposed:.1f} | {row.right:.2f} | {row.seconds:.2f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--photos", type=Path, help="folder of photos with real masks")
    where.add_argument("--coco", type=Path, help="panoptic annotations in COCO's format")
    parser.add_argument("--pictures", type=Path, help="folder of the photos in --coco")
    parser.add_argument("--baseline", action="store_true", help="also measure a classical method")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="another weights file of the mask net")
    arguments = parser.parse_args()
    if arguments.coco and not arguments.pictures:
        parser.error("--coco needs --pictures, the folder of its photos")
    source = arguments.coco or arguments.photos
    photos: Iterable[LabelledPhoto]
    try:
        photos = coco_photos(source, arguments.pictures) if arguments.coco else labelled_photos(source)
        rows = recall_on(photos, arguments.baseline, arguments.weights)
    except (OSError, json.JSONDecodeError) as error:
        parser.exit(3, f"{source} cannot be read: {error}\n")
    if not rows:
        parser.exit(3, f"{source}: no photo with masks is there.\n")
    print(f"{rows[0].photos} photos, {rows[0].masks} real masks above {SMALLEST_SHARE:.1%} of the photo\n")
    print_rows(rows)


if __name__ == "__main__":
    main()
