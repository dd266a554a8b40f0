"""The eight families of shapes, and one shape per seed.

The embedded object net was trained on the same families with seeds 0 to 160,000 and validated on 10,000,000 to
10,002,048. Scenes of the evaluation set use seeds from FIRST_SEED on.
"""

from __future__ import annotations

import numpy as np

from procedural.grown import organic, plant, soup
from procedural.made import boxy, flat, furniture, revolve, vehicle
from procedural.parts import chance
from procedural.shape import Shape

FIRST_SEED = 20_000_000

FAMILIES = {
    "soup": (soup, 0.18),
    "organic": (organic, 0.22),
    "revolve": (revolve, 0.12),
    "furniture": (furniture, 0.2),
    "boxy": (boxy, 0.11),
    "vehicle": (vehicle, 0.06),
    "plant": (plant, 0.05),
    "flat": (flat, 0.06),
}
_GROWN = {"soup", "organic", "plant", "flat"}  # bumps and twists are common on these, rare on the others


def make_shape(seed: int, family: str | None = None) -> Shape:
    """The shape of this seed; unless `family` is given, its family is drawn with the weights above."""
    rng = np.random.default_rng(seed)
    weights = np.array([weight for _, weight in FAMILIES.values()])
    drawn = str(rng.choice(list(FAMILIES), p=weights / weights.sum()))
    family = drawn if family is None else family
    grammar, _ = FAMILIES[family]
    builder = grammar(rng)
    deformation: dict[str, float] = {}
    if chance(rng, 0.3 if family in _GROWN else 0.06):
        deformation |= {"bump_height": rng.uniform(0.005, 0.05), "bump_frequency": rng.uniform(3, 14)}
    if chance(rng, 0.12 if family in _GROWN else 0.02):
        deformation["twist_per_unit"] = rng.uniform(-1, 1)
    if chance(rng, 0.12):
        deformation["taper_per_unit"] = rng.uniform(-0.4, 0.4)
    return builder.shape(family, **deformation)
