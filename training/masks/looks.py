"""Random light and materials for the ray caster's views, in batches."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from training.objects.animals import COAT, HORN, MANE, PATCH
from training.objects.layout import MATERIAL, MATERIAL_LENGTH, MATERIALS, VIEW, VIEW_LENGTH
from training.objects.people import DARK, SHIRT, SKIN, TROUSERS
from training.objects.vehicles import GLASS, LAMPS, TYRES

_PATTERN_WEIGHTS = (0.42, 0.1, 0.05, 0.16, 0.07, 0.06, 0.06, 0.08)  # in the order of layout.PATTERNS


class Dice:
    """Random tensors on one device from one generator."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator, self.device = generator, generator.device

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(*shape, device=self.device, generator=self.generator) * (high - low) + low

    def log_uniform(self, *shape: int, low: float, high: float) -> Tensor:
        return self.uniform(*shape, low=math.log(low), high=math.log(high)).exp()

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, device=self.device, generator=self.generator)

    def chance(self, *shape: int, probability: float) -> Tensor:
        """1 or 0."""
        return (self.uniform(*shape) < probability).float()

    def below(self, count: int, limit: int) -> Tensor:
        return torch.randint(0, limit, (count,), device=self.device, generator=self.generator)

    def weighted(self, count: int, weights: tuple[float, ...]) -> Tensor:
        chances = torch.tensor(weights, device=self.device)
        return torch.multinomial(chances, count, replacement=True, generator=self.generator)

    def colour(self, *shape: int) -> Tensor:
        """(*shape, 3) of any hue and brightness, greys and muted ones often."""
        hue, value = 6 * self.uniform(*shape), self.uniform(*shape, low=0.05) ** 0.8
        saturation = self.uniform(*shape) ** 1.3
        saturation = torch.where(self.uniform(*shape) < 0.3, 0.15 * saturation, saturation)
        k = torch.stack([(hue + 5) % 6, (hue + 3) % 6, (hue + 1) % 6], -1)
        return value[..., None] * (1 - saturation[..., None] * torch.minimum(k, 4 - k).clamp(0, 1))


def views(dice: Dice, count: int) -> Tensor:
    """(count, VIEW_LENGTH) views with random light and prints; the caller sets rotation and crop."""
    view = torch.zeros(count, VIEW_LENGTH, device=dice.device)

    def put(name: str, values: Tensor) -> None:
        width = values.shape[1] if values.ndim == 2 else 1
        view[:, VIEW[name] : VIEW[name] + width] = values.reshape(count, width)

    sun = torch.stack(
        [0.9 * dice.normal(count), 0.6 * dice.normal(count) + 0.6, dice.uniform(count, low=-0.1, high=1.4)], 1
    )
    strength = dice.uniform(count, 1, high=1.1)
    ambient = dice.uniform(count, 1, low=0.35) - 0.15 * strength
    put("SUN", F.normalize(sun, dim=1))
    put("SUN_RGB", strength * (1 + 0.06 * dice.normal(count, 3)))
    put("SKY_RGB", ambient * (1 + 0.06 * dice.normal(count, 3)))
    put("GROUND_RGB", ambient * dice.uniform(count, 1, low=0.35) * (1 + 0.06 * dice.normal(count, 3)))
    put("SHADE", dice.chance(count, probability=0.85) * dice.uniform(count, low=0.3))
    put("SALT", dice.below(count, 9999).float())
    put("PRINT_AXIS", F.normalize(dice.normal(count, 3) * torch.tensor([0.2, 0.2, 1.0], device=dice.device), dim=1))
    put("PRINT", dice.chance(count, probability=0.2))
    put("PRINT_FREQUENCY", dice.log_uniform(count, low=2.7, high=12))
    put("PRINT_RGB", dice.colour(count))
    return view


def materials(dice: Dice, count: int) -> Tensor:
    """(count, MATERIALS, MATERIAL_LENGTH) random materials, often from one palette."""
    rows = torch.zeros(count, MATERIALS, MATERIAL_LENGTH, device=dice.device)
    size = (count, MATERIALS)
    first, palette = dice.colour(*size), dice.colour(count, 1)
    alike = (dice.uniform(*size, 1) < 0.35) & (dice.uniform(count, 1, 1) < 0.6)
    first = torch.where(alike, (palette * dice.uniform(*size, 1, low=0.75, high=1.15)).clamp(0, 1), first)
    shade = (first * dice.uniform(*size, 1, low=0.4, high=1.4)).clamp(0, 1)
    second = torch.where(dice.uniform(*size, 1) < 0.5, shade, dice.colour(*size))
    axis = F.one_hot(dice.below(count * MATERIALS, 3), 3).float().view(*size, 3)
    direction = torch.where(dice.uniform(*size, 1) < 0.6, axis, F.normalize(dice.normal(*size, 3), dim=-1))
    columns = {
        "COLOUR": first,
        "SECOND": second,
        "PATTERN": dice.weighted(count * MATERIALS, _PATTERN_WEIGHTS).float().view(*size, 1),
        "FREQUENCY": dice.log_uniform(*size, 1, low=1.35, high=16),
        "DIRECTION": direction,
        "PHASE": dice.uniform(*size, 1, high=6.28),
        "GLOSS": dice.chance(*size, 1, probability=0.4) * dice.uniform(*size, 1, low=0.03, high=0.6),
        "SHINE": dice.log_uniform(*size, 1, low=2.7, high=150),
        "GRAIN": dice.chance(*size, 1, probability=0.6) * dice.uniform(*size, 1, low=0.05, high=0.5),
        "SHARPNESS": dice.log_uniform(*size, 1, low=0.6, high=7.4),
        "GRAIN_FREQUENCY": dice.log_uniform(*size, 1, low=2.7, high=45),
    }
    for name, values in columns.items():
        rows[..., MATERIAL[name] : MATERIAL[name] + values.shape[-1]] = values
    return rows


def _painted(rows: Tensor, part: int, colour: Tensor, gloss: float = 0.0) -> None:
    """Give a share `part` of the rows one plain colour, in place."""
    rows[:, part, :] = 0
    for name in ("COLOUR", "SECOND"):
        rows[:, part, MATERIAL[name] : MATERIAL[name] + 3] = colour
    rows[:, part, MATERIAL["GLOSS"]], rows[:, part, MATERIAL["SHINE"]] = gloss, 40.0


def dress(dice: Dice, rows: Tensor) -> Tensor:
    """Change materials to those of people: skin tone, hair and shoes; the rest is unchanged."""
    rows = rows.clone()
    tone = torch.tensor([0.95, 0.74, 0.6], device=dice.device) ** dice.uniform(len(rows), 1, low=0.7, high=2.2)
    tone = tone * dice.uniform(len(rows), 1, low=0.3) ** 0.6
    _painted(rows, SKIN, tone)
    hair = torch.tensor([0.5, 0.35, 0.2], device=dice.device) ** dice.uniform(len(rows), 1, low=0.4, high=3.0)
    _painted(rows, DARK, hair)
    for part in (SHIRT, TROUSERS):  # cloth does not shine
        rows[:, part, MATERIAL["GLOSS"]] = 0
    return rows


def glaze(dice: Dice, rows: Tensor) -> Tensor:
    """Change materials to those of cars: dark or bright windows, tyres, lamps; the paint is unchanged."""
    rows = rows.clone()
    bright = dice.uniform(len(rows), 1) ** 2
    _painted(rows, GLASS, 0.05 + 0.7 * bright * (1 + 0.1 * dice.normal(len(rows), 3)), gloss=0.5)
    _painted(rows, TYRES, dice.uniform(len(rows), 1, low=0.02, high=0.15).expand(-1, 3))
    _painted(rows, LAMPS, dice.uniform(len(rows), 1, low=0.5).expand(-1, 3), gloss=0.3)
    return rows


def furs(dice: Dice, rows: Tensor) -> Tensor:
    """Materials of animals: a white, grey, brown or black coat, often with a pattern in a second such colour."""
    rows, count = rows.clone(), len(rows)

    def natural() -> Tensor:
        warm = torch.tensor([0.85, 0.62, 0.4], device=dice.device) ** dice.uniform(count, 1, high=1.6)
        return warm * dice.uniform(count, 1, low=0.04, high=1.1)

    coat, second = natural(), natural()
    alike = coat * dice.uniform(count, 1, low=0.5, high=1.5)
    for part, own, other in ((COAT, coat, second), (PATCH, second, coat), (MANE, natural(), alike)):
        plain = dice.uniform(count, 1) < 0.5
        rows[:, part, MATERIAL["COLOUR"] : MATERIAL["COLOUR"] + 3] = own.clamp(0, 1)
        rows[:, part, MATERIAL["SECOND"] : MATERIAL["SECOND"] + 3] = torch.where(plain, alike, other).clamp(0, 1)
        rows[:, part, MATERIAL["GLOSS"]] = 0
    _painted(rows, HORN, natural() * 0.4)
    return rows
