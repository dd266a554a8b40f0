"""Test cases of `shape_error.py`: held-out shapes in clean pictures, with points on their true surface."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from procedural.raycast import surface_points

from training.objects.draw import Draw
from training.objects.layout import PLANES, VIEW
from training.objects.raycast import Shapes, render
from training.objects.samples import Batch, SampleOptions, make_batch
from training.objects.shapes import pack, shape_of
from training.objects.views import put

FIRST_SEED = 20_000_000  # shapes of the evaluation set; no training draws from here
PICTURE_PX = 320
POINTS = 30_000
FAR = 200.0  # of the camera, in half sides of the picture: rays are as good as parallel


@dataclass(frozen=True)
class Case:
    """One object in one picture. Lengths in half sides of the picture, x right, y down, z away from the viewer.

    With perspective, half sides are measured at z = 0, which is `depth` from the camera, and x = y = 0 on its axis.
    """

    rgb: np.ndarray  # (S, S, 3) uint8
    mask: np.ndarray  # (S, S) bool
    layers: np.ndarray  # (4, S, S) depths towards the viewer, 0 outside the mask
    hollow: np.ndarray  # (S, S) bool
    surface: np.ndarray  # (N, 3) points of the true surface
    up: np.ndarray  # (3,) against gravity, x right, y up, z towards the viewer
    behind: np.ndarray | None = None  # (S, S, 3) 0..1: the back in the picture's light, at the pixel of its front
    depth: float = FAR
    K: np.ndarray = field(default_factory=lambda: _camera(FAR))  # (3, 3) px


def procedural_cases(count: int, further: bool, lean: float = 0.0, first: int = FIRST_SEED) -> Iterator[Case]:
    """Shapes of the evaluation set's families; with `further` also of families that version 1 was not trained on.

    lean: 0 for parallel rays, else 1 over the camera's distance, in the unit of the shape frame.
    """
    options = SampleOptions(PICTURE_PX, plain=True, lean=lean)
    for seed in range(first, first + count):
        shape, tumbles = shape_of(seed, further)
        shapes = pack([shape], [tumbles])
        batch = make_batch(Draw(torch.Generator().manual_seed(seed)), shapes, options)
        if not batch.usable[0]:
            continue
        deformation = [shape.bump_height, shape.bump_frequency, shape.twist_per_unit, shape.taper_per_unit]
        points = surface_points(shape.primitives, np.array(deformation), np.zeros(3), 2.4, POINTS, seed)
        view = batch.views[0].numpy().astype(np.float64)
        turn, half, z = view[:9].reshape(3, 3), view[VIEW["HALF"]], float(batch.centre_depth[0])
        centre = np.append(view[VIEW["CENTRE"] : VIEW["CENTRE"] + 2], z)
        origin, unit, depth = centre, half, FAR
        if lean:
            origin, unit, depth = centre * [0, 0, 1], half * (1 - lean * z), 1 / (lean * half)
        K = _camera(depth)
        K[:2, 2] += (origin - centre)[:2] / half * [1, -1] * (PICTURE_PX / 2)
        yield Case(
            (batch.image[0].permute(1, 2, 0).numpy() * 255).astype(np.uint8),
            batch.mask[0, 0].numpy() > 0.5,
            batch.layers[0].numpy(),
            batch.hollow[0, 0].numpy() > 0.5,
            (points @ turn.T - origin) / unit * [1, -1, -1],
            batch.up[0].numpy(),
            _behind(shapes, batch) if lean == 0 else None,
            depth,
            K,
        )


def _camera(depth: float) -> np.ndarray:
    """K (3, 3) of a picture whose half side is 1 at this depth."""
    focal = depth * PICTURE_PX / 2
    return np.array([[focal, 0, PICTURE_PX / 2], [0, focal, PICTURE_PX / 2], [0, 0, 1.0]])


def _behind(shapes: Shapes, batch: Batch) -> np.ndarray:
    """(S, S, 3): the back of the batch's only shape in the same light, at the pixels of its front."""
    views = batch.views.clone()
    half_turn = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    put(views, "TURN", (half_turn @ views[0, VIEW["TURN"] : VIEW["TURN"] + 9].view(3, 3)).view(1, 9))
    put(views, "SUN", (half_turn @ views[0, VIEW["SUN"] : VIEW["SUN"] + 3])[None])
    put(views, "CENTRE", views[:, VIEW["CENTRE"] : VIEW["CENTRE"] + 2] * torch.tensor([-1.0, 1.0]))
    planes = render(shapes, views, batch.materials, PICTURE_PX)
    rgb = planes[0, PLANES["RGB"] : PLANES["RGB"] + 3]
    return np.asarray(rgb.clamp(0, 1).flip(-1).permute(1, 2, 0).numpy())
