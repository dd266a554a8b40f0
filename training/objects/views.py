"""Random cameras, light and materials: rows for the ray caster, with the columns of layout.py."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from training.objects.draw import Draw
from training.objects.layout import MATERIAL, MATERIAL_LENGTH, MATERIALS, PATTERNS, VIEW, VIEW_LENGTH
from training.objects.raycast import Shapes

USUAL_ELEVATION_DEG = (-4.0, 51.0)  # of the camera above the horizon: all of version 1's views
HIGH_ELEVATION_DEG = (51.0, 88.0)
HIGH_SHARE = 0.2
ROLL_SPREAD_DEG = 4.0
TUMBLED_SHARE = 0.7  # of what may lie on any side
WINDOW = 2.1  # half the side of the square that holds every shape
CAST_SHARE = 0.2  # of the objects: one material all over, most without a grain
_PATTERN_WEIGHTS = (0.42, 0.1, 0.05, 0.16, 0.07, 0.06, 0.06, 0.08)  # in the order of layout.PATTERNS


def random_views(draw: Draw, shapes: Shapes, high_share: float = HIGH_SHARE) -> tuple[Tensor, Tensor]:
    """(B, VIEW_LENGTH) rows that show the whole window, and (B, 3) the up direction in the camera frame."""
    count = len(shapes)
    turn, up = _poses(draw, count, shapes.tumbles * draw.chance(TUMBLED_SHARE, count), high_share)
    views = torch.zeros(count, VIEW_LENGTH, device=draw.device)
    put(views, "TURN", turn.reshape(count, 9))
    put(views, "HALF", torch.full((count, 1), WINDOW, device=draw.device))
    put(views, "LEAN", draw.chance(0.6, count, 1) * draw.uniform(count, 1, low=0.03, high=0.3))
    _light(draw, views)
    put(views, "BUMP_HEIGHT", shapes.deformations)
    put(views, "SALT", draw.integers(9999, count, 1).float())
    towards_viewer = torch.tensor([0.2, 0.2, 1.0], device=draw.device)
    put(views, "PRINT_AXIS", F.normalize(draw.normal(count, 3) * towards_viewer, dim=-1))
    put(views, "PRINT", draw.chance(0.2, count, 1).float())
    put(views, "PRINT_FREQUENCY", draw.uniform(count, 1, low=1.0, high=2.5).exp())
    put(views, "PRINT_RGB", draw.colours(count))
    return views, up


def put(rows: Tensor, name: str, values: Tensor) -> None:
    """Write (B, N) values into the columns of views that start at `name`."""
    rows[:, VIEW[name] : VIEW[name] + values.shape[1]] = values


def turned(yaw: Tensor, elevation: Tensor, roll: Tensor) -> Tensor:
    """(B, 3, 3) rotations from the shape frame to cameras pitched down by `elevation`; angles (B,) in rad."""
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, dim=-1).reshape(-1, 3, 3)

    c, s = yaw.cos(), yaw.sin()
    about_y = matrix(c, zero, s, zero, one, zero, -s, zero, c)
    c, s = elevation.cos(), elevation.sin()
    about_x = matrix(one, zero, zero, zero, c, -s, zero, s, c)
    c, s = roll.cos(), roll.sin()
    about_z = matrix(c, -s, zero, s, c, zero, zero, zero, one)
    return about_z @ about_x @ about_y


def _poses(draw: Draw, count: int, tumbled: Tensor, high_share: float) -> tuple[Tensor, Tensor]:
    """(B, 3, 3) shape to camera, and (B, 3) up in the camera frame, which does not depend on tumbling."""
    yaw = draw.uniform(count, high=2 * math.pi)
    usual = draw.uniform(count, low=USUAL_ELEVATION_DEG[0], high=USUAL_ELEVATION_DEG[1])
    high = draw.uniform(count, low=HIGH_ELEVATION_DEG[0], high=HIGH_ELEVATION_DEG[1])
    elevation = torch.where(draw.chance(high_share, count), high, usual).deg2rad()
    roll = draw.normal(count).clamp(-2, 2) * math.radians(ROLL_SPREAD_DEG)
    upright = turned(yaw, elevation, roll)
    w, x, y, z = F.normalize(draw.normal(count, 4), dim=-1).unbind(-1)  # uniform over all rotations
    entries = [
        *(1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        *(2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        *(2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    ]
    tumble = torch.stack(entries, dim=-1).reshape(-1, 3, 3)
    return torch.where(tumbled[:, None, None] > 0, upright @ tumble, upright), upright[:, :, 1]


def _light(draw: Draw, views: Tensor) -> None:
    """Set the light: a sun from above and in front, brighter or darker than the sky, both slightly tinted."""
    count = len(views)

    def tint() -> Tensor:
        return 1 + 0.06 * draw.normal(count, 3)

    towards = [0.9 * draw.normal(count), 0.6 * draw.normal(count) + 0.6, draw.uniform(count, low=-0.1, high=1.4)]
    put(views, "SUN", F.normalize(torch.stack(towards, dim=-1), dim=-1))
    sun = draw.uniform(count, 1, high=1.1)
    sky = draw.uniform(count, 1, low=0.45) - 0.15 * sun
    put(views, "SUN_RGB", sun * tint())
    put(views, "SKY_RGB", sky * tint())
    put(views, "GROUND_RGB", sky * draw.uniform(count, 1, low=0.35) * tint())
    put(views, "SHADE", draw.chance(0.8, count, 1) * draw.uniform(count, 1, low=0.3))


def random_materials(draw: Draw, count: int) -> Tensor:
    """(B, MATERIALS, MATERIAL_LENGTH): often one palette, with patterns of two colours, grain and some gloss."""
    rows = torch.zeros(count, MATERIALS, MATERIAL_LENGTH, device=draw.device)
    shape = (count, MATERIALS)

    def column(name: str, values: Tensor) -> None:
        width = values.shape[-1] if values.ndim == 3 else 1
        rows[..., MATERIAL[name] : MATERIAL[name] + width] = values.reshape(*shape, width)

    colour, palette = draw.colours(*shape), draw.colours(count, 1)
    in_palette = draw.chance(0.35, *shape, 1) & draw.chance(0.6, count, 1, 1)
    colour = torch.where(in_palette, (palette * draw.uniform(*shape, 1, low=0.75, high=1.15)).clamp(0, 1), colour)
    shaded = (colour * draw.uniform(*shape, 1, low=0.4, high=1.4)).clamp(0, 1)
    second = torch.where(draw.chance(0.5, *shape, 1), shaded, draw.colours(*shape))
    weights = torch.tensor(_PATTERN_WEIGHTS, device=draw.device)
    pattern = torch.multinomial(weights, count * MATERIALS, replacement=True, generator=draw.generator)
    axis = F.one_hot(draw.integers(3, *shape), 3).float()
    column("COLOUR", colour)
    column("SECOND", second)
    column("PATTERN", pattern.reshape(shape).float())
    column("FREQUENCY", draw.uniform(*shape, low=0.3, high=2.8).exp())
    column("DIRECTION", torch.where(draw.chance(0.6, *shape, 1), axis, draw.directions(*shape)))
    column("PHASE", draw.uniform(*shape, high=6.28))
    column("GLOSS", draw.chance(0.4, *shape) * draw.uniform(*shape, low=0.03, high=0.6))
    column("SHINE", draw.uniform(*shape, low=1.0, high=5.0).exp())
    column("GRAIN", draw.chance(0.6, *shape) * draw.uniform(*shape, low=0.05, high=0.5))
    column("SHARPNESS", draw.uniform(*shape, low=-0.5, high=2.0).exp())
    column("GRAIN_FREQUENCY", draw.uniform(*shape, low=1.0, high=3.8).exp())
    return rows


def cast(draw: Draw, views: Tensor, materials: Tensor) -> None:
    """Give CAST_SHARE of the objects one plain colour, in place, so that only shading shows their shape."""
    count = len(materials)
    chosen = draw.chance(CAST_SHARE, count)
    one = materials[:, :1].expand_as(materials).clone()
    one[..., MATERIAL["PATTERN"]] = PATTERNS.index("PLAIN")
    one[..., MATERIAL["GRAIN"]] *= draw.chance(0.3, count, 1)
    materials.copy_(torch.where(chosen[:, None, None], one, materials))
    put(views, "PRINT", torch.where(chosen, 0.0, views[:, VIEW["PRINT"]])[:, None])
