"""Errors of the shapes that the embedded object net predicts: one object, one picture, parallel rays.

    python -m training.objects.shape_error [--count 120] [--further] [--weights shipped FILE ...] [--meshes FILE ...]

Held-out procedural shapes are rendered one by one in clean pictures, from cameras as in the training. The result of the
embedded pipeline without placement (crop, net, shell of Gaussians) is compared with uniform samples of the true
surface, including its inside and back:

- Chamfer: mean distance to the nearest point of the other set, averaged over both directions;
- F@3 %: harmonic mean of the shares of points that have one of the other set within 3 %;
- thickness: mean absolute error of the distance between first entry and last exit, over the visible pixels;
- behind: mean absolute error of the colours of the back, in the picture's light; for procedural shapes;
- up: median angle between the true and the predicted up direction; for nets that predict it.

All but F, behind and up are in % of the object's extent, the longest side of its box along the camera's axes. The
offset in depth, which cannot be seen in one picture, is fitted first. `truth-2` and `truth-4` build the shell from the
true first and last, or all four, depths: the limit for any net. --meshes takes triangle meshes (.obj, .stl), with four
views each (mesh_cases.py).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from machine import machine_line
from measures import surface_samples

from sam3d_gs.embedded.shape.appearance import FineDetail, back_colours, front_colours
from sam3d_gs.embedded.shape.crops import Crop, crop_object
from sam3d_gs.embedded.shape.inflate import inflate
from sam3d_gs.embedded.shape.object_net import (
    MIN_THICKNESS,
    Cavity,
    TwoLayers,
    load_object_net,
    predict,
    shipped_weights,
)
from sam3d_gs.embedded.shape.surfel_builder import build_surfels
from sam3d_gs.embedded.shape.surfels import to_gaussians
from training.objects.cases import PICTURE_PX, POINTS, Case, procedural_cases

COARSE_POINTS = 3000  # enough to find the offset in depth
TRUTH_PX = 224
F_THRESHOLD = 0.03


@dataclass
class Scores:
    chamfer: list[float] = field(default_factory=list)
    f_score: list[float] = field(default_factory=list)
    thickness: list[float] = field(default_factory=list)
    behind: list[float] = field(default_factory=list)
    up_deg: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of crop and net


def true_layers(case: Case, crop: Crop, count: int) -> TwoLayers:
    """The prediction of a perfect net with two or four layers."""
    row, column = _photo_pixels(case, crop)
    zoom = PICTURE_PX / 2 / crop.half_px  # crop half-sides per picture half-side
    first, exit_, entry, last = (plane[row, column].astype(np.float32) * zoom for plane in case.layers)
    thickness = np.maximum(first - last, MIN_THICKNESS)
    cavity = None
    if count == 4:
        hollow = case.hollow[row, column].astype(np.float32)
        cavity = Cavity(hollow, (first - exit_) / thickness, (entry - last) / thickness)
    grey = np.full((*first.shape, 3), 0.5, np.float32)
    return TwoLayers(first, thickness, grey, np.ones_like(first), cavity)


def _photo_pixels(case: Case, crop: Crop) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns (R, R) of the picture's pixels nearest to the crop's pixels."""
    from scipy.ndimage import distance_transform_edt

    side = len(crop.coverage)
    offset = ((np.arange(side) + 0.5) / side * 2 - 1) * crop.half_px
    at = [np.clip((center + offset).astype(int), 0, PICTURE_PX - 1) for center in crop.center_px]
    nearest = distance_transform_edt(~case.mask, return_distances=False, return_indices=True)
    row, column = np.meshgrid(at[1], at[0], indexing="ij")
    return nearest[0][row, column], nearest[1][row, column]


def made_points(case: Case, crop: Crop, layers: TwoLayers, count: int = POINTS) -> np.ndarray:
    """(count, 3) points of the shell of Gaussians, in the frame of the case up to an offset in depth."""
    surfels = build_surfels(case.rgb, case.mask, crop, layers, case.K, case.depth, seed=0)
    return surface_samples(to_gaussians(surfels, np.eye(3), np.array([0, 0, case.depth]), 1.0), count)


def compare(made: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Chamfer distance and F-score, both in %, after the best offset in depth (golden section)."""
    from scipy.spatial import cKDTree

    extent = float(np.ptp(true, axis=0).max())
    few_made, few_true = made[:COARSE_POINTS], true[:: -(-len(true) // COARSE_POINTS)]
    tree = cKDTree(few_true)

    def coarse(offset: float) -> float:
        moved = few_made + np.array((0, 0, offset))
        return float(tree.query(moved)[0].mean() + cKDTree(moved).query(few_true)[0].mean())

    middle = float(np.mean(few_true[:, 2]) - np.mean(few_made[:, 2]))
    offset = _least(coarse, middle - 0.3 * extent, middle + 0.3 * extent, 0.002 * extent)
    moved = made + np.array((0, 0, offset))
    forth, back = cKDTree(true).query(moved)[0] / extent, cKDTree(moved).query(true)[0] / extent
    precision, recall = (forth < F_THRESHOLD).mean(), (back < F_THRESHOLD).mean()
    f_score = 2 * precision * recall / max(precision + recall, 1e-9)
    return 50 * float(forth.mean() + back.mean()), 100 * float(f_score)


def _least(value: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    ratio = (np.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    at_a, at_b = value(a), value(b)
    while high - low > tolerance:
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - ratio * (high - low)
            at_a = value(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + ratio * (high - low)
            at_b = value(b)
    return float((low + high) / 2)


def thickness_percent(case: Case, crop: Crop, layers: TwoLayers) -> float:
    side = len(crop.coverage)
    row, column = np.nonzero(case.mask)
    at = [
        np.clip(((pixel + 0.5 - center) / crop.half_px + 1) / 2 * side, 0, side - 1).astype(int)
        for pixel, center in ((row, crop.center_px[1]), (column, crop.center_px[0]))
    ]
    made = layers.thickness[at[0], at[1]] * crop.half_px / (PICTURE_PX / 2)
    true = (case.layers[0] - case.layers[3])[row, column]
    return 100 * float(np.abs(made - true).mean()) / float(np.ptp(case.surface, axis=0).max())


def behind_percent(case: Case, crop: Crop, layers: TwoLayers) -> float:
    """Mean absolute error of the colours of the back, in %; needs `case.behind`."""
    assert case.behind is not None
    inside = crop.coverage > 0.5
    front = front_colours(case.rgb, case.mask, crop, len(inside))
    made = back_colours(layers, crop, front, inside, FineDetail.of(front, inside, 1.0), seed=0)
    return 100 * float(np.abs(made - case.behind[_photo_pixels(case, crop)])[inside].mean())


def engine(name: str) -> Callable[[Case], tuple[Crop, TwoLayers]]:
    """The function that predicts a case: "inflation", "truth-2", "truth-4", "shipped" or a weights file."""
    if name == "inflation":
        return lambda case: _with(crop_object(case.rgb, case.mask), inflate)
    if name.startswith("truth-"):
        count = int(name.removeprefix("truth-"))
        return lambda case: _with(
            crop_object(case.rgb, case.mask, TRUTH_PX), lambda crop: true_layers(case, crop, count)
        )
    net = load_object_net(shipped_weights() if name == "shipped" else Path(name))
    return lambda case: _with(
        crop_object(case.rgb, case.mask, net.config.side_px), lambda crop: predict(net, [crop])[0]
    )


def _with(crop: Crop, answer: Callable[[Crop], TwoLayers]) -> tuple[Crop, TwoLayers]:
    return crop, answer(crop)


def score(cases: Sequence[Case], name: str) -> Scores:
    scores, answer = Scores(), engine(name)
    for case in cases:
        started = time.perf_counter()
        crop, layers = answer(case)
        scores.seconds.append(time.perf_counter() - started)
        chamfer, f_score = compare(made_points(case, crop, layers), case.surface)
        scores.chamfer.append(chamfer)
        scores.f_score.append(f_score)
        scores.thickness.append(thickness_percent(case, crop, layers))
        if case.behind is not None:
            scores.behind.append(behind_percent(case, crop, layers))
        if layers.up is not None:
            cosine = layers.up @ case.up / np.linalg.norm(layers.up)
            scores.up_deg.append(float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))))
    return scores


def print_table(title: str, rows: dict[str, Scores]) -> None:
    print(f"\n{title}\n\n| | Chamfer % mean (median) | F@3 % | thickness error % | behind % | up ° median | s |")
    print("|---" * 7 + "|")
    for name, s in rows.items():
        up = f"{np.median(s.up_deg):.1f}" if s.up_deg else "–"
        cells = (
            f"{np.mean(s.chamfer):.2f} ({np.median(s.chamfer):.2f})",
            f"{np.mean(s.f_score):.1f}",
            f"{np.mean(s.thickness):.2f}",
            f"{np.mean(s.behind):.1f}" if s.behind else "–",
            up,
            f"{np.median(s.seconds):.2f}",
        )
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def report(
    count: int, weights: Sequence[str], meshes: Sequence[Path] = (), further: bool = False, lean: float = 0.0
) -> None:
    """Print a table for `count` held-out shapes and one for `meshes`, if there are any."""
    if count:
        cases = list(procedural_cases(count, further, lean))
        print_table(f"{len(cases)} held-out procedural shapes", {name: score(cases, name) for name in weights})
    if meshes:
        from training.objects.mesh_cases import mesh_cases

        cases = list(mesh_cases(meshes, PICTURE_PX, POINTS))
        print_table(f"{len(cases)} views of {len(meshes)} meshes", {name: score(cases, name) for name in weights})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=120, help="number of procedural shapes")
    parser.add_argument(
        "--lean", type=float, default=0.0, help="perspective of the rays; 0: parallel, 0.45: a close camera"
    )
    parser.add_argument("--further", action="store_true", help="also families that version 1 was not trained on")
    parser.add_argument("--weights", nargs="+", default=["inflation", "shipped", "truth-2", "truth-4"])
    parser.add_argument("--meshes", type=Path, nargs="+", default=[], help="also triangle meshes, .obj or .stl")
    options = parser.parse_args()
    torch.set_num_threads(2)
    print(machine_line())
    report(options.count, options.weights, options.meshes, options.further, options.lean)


if __name__ == "__main__":
    main()
