"""Procedural shapes by number, packed into the arrays that the ray caster reads."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from procedural import families, grown, made, parts, shape
from procedural.families import make_shape
from procedural.parts import chance
from procedural.shape import ROW_LENGTH, Shape, ShapeBuilder

from sam3d_gs.files import atomic_path
from training.objects import animals, boxes, hollow_and_thin, people, vehicles
from training.objects.hollow_and_thin import frame_chair, greenery, lamp, open_box, person, thin, vessel
from training.objects.layout import MAX_PRIMITIVES
from training.objects.raycast import BUILD, Shapes

Grammar = Callable[[np.random.Generator], Shape]


def _tapered(family: str, grammar: Callable[[np.random.Generator], ShapeBuilder]) -> Grammar:
    """The builder's shape; one in ten is tapered towards its top."""

    def make(rng: np.random.Generator) -> Shape:
        taper = {"taper_per_unit": rng.uniform(-0.3, 0.3)} if chance(rng, 0.1) else {}
        return grammar(rng).shape(family, **taper)

    return make


# Beside the eight families of the evaluation set, which version 1 of the net was trained on alone.
FURTHER: dict[str, tuple[Grammar, float]] = {
    "vessel": (_tapered("vessel", vessel), 0.14),
    "open box": (_tapered("open box", open_box), 0.1),
    "box": (_tapered("box", boxes.box), 0.12),
    "frame chair": (_tapered("frame chair", frame_chair), 0.1),
    "lamp": (_tapered("lamp", lamp), 0.05),
    "greenery": (_tapered("greenery", greenery), 0.09),
    "figure": (_tapered("figure", person), 0.08),
    "person": (people.someone, 0.1),
    "mammal": (animals.mammal, 0.07),
    "bird": (animals.bird, 0.03),
    "vehicle": (vehicles.vehicle, 0.06),
    "two-wheeler": (lambda rng: vehicles.two_wheeler(rng)[0], 0.03),
    "thin": (_tapered("thin", thin), 0.07),
}
FURTHER_SHARE = 0.5
TUMBLING = {"soup": 0.35, "organic": 0.35, "plant": 0.35, "flat": 0.35, "thin": 0.6}  # chance to lie on any side
TUMBLING_ELSE = 0.08
_GRAMMARS = (families, grown, made, parts, shape, animals, boxes, hollow_and_thin, people, vehicles)


@dataclass(frozen=True)
class PoolChoice:
    """A choice of shapes: `count` numbers, starting at `first`."""

    count: int
    first: int = 0
    further: bool = True  # also the families that version 1 did not know


def shape_of(seed: int, further: bool) -> tuple[Shape, bool]:
    """The shape of this number, and whether it may lie on any side.

    Without `further` it is `procedural.families.make_shape(seed)`, as in the evaluation set.
    """
    rng = np.random.default_rng((seed, 1))
    if further and chance(rng, FURTHER_SHARE):
        weights = np.array([weight for _, weight in FURTHER.values()])
        family = str(rng.choice(list(FURTHER), p=weights / weights.sum()))
        grammar, _ = FURTHER[family]
        made_shape = grammar(rng)
    else:
        made_shape = make_shape(seed)
    return made_shape, chance(rng, TUMBLING.get(made_shape.family, TUMBLING_ELSE))


def pack(shapes: list[Shape], tumbles: list[bool]) -> Shapes:
    """Shapes as arrays on the CPU."""
    rows = np.zeros((len(shapes), MAX_PRIMITIVES, ROW_LENGTH), np.float32)
    for i, one in enumerate(shapes):
        rows[i, : len(one.primitives)] = one.primitives
    deformations = [(s.bump_height, s.bump_frequency, s.twist_per_unit, s.taper_per_unit) for s in shapes]
    return Shapes(
        torch.from_numpy(rows),
        torch.tensor([len(s.primitives) for s in shapes], dtype=torch.int32),
        torch.tensor(deformations, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(tumbles, dtype=torch.float32),
    )


def make_pool(choice: PoolChoice, processes: int | None = None) -> Shapes:
    """All shapes of a choice, on the CPU; independent of the machine and the number of processes."""
    processes = processes or os.cpu_count() or 1
    edges = np.linspace(choice.first, choice.first + choice.count, 4 * processes + 1).astype(int)
    ranges = [(int(a), int(b), choice.further) for a, b in itertools.pairwise(edges) if a < b]
    if processes == 1 or choice.count < 1000:
        arrays = [_range(r) for r in ranges]
    else:
        with multiprocessing.get_context("fork").Pool(processes) as pool:
            arrays = pool.map(_range, ranges)
    return Shapes(*(torch.from_numpy(np.concatenate(column)) for column in zip(*arrays, strict=True)))


def kept_pool(choice: PoolChoice) -> Shapes:
    """`make_pool`, cached in a file next to the compiled ray caster."""
    code = "".join(Path(module.__file__ or "").read_text() for module in _GRAMMARS)
    key = hashlib.sha256(f"{choice} {code} {Path(__file__).read_text()}".encode()).hexdigest()[:12]
    path = BUILD / f"pool-{key}.pt"
    if path.is_file():
        return Shapes(**torch.load(path, weights_only=True))
    pool = make_pool(choice)
    with atomic_path(path) as temporary:
        torch.save(asdict(pool), temporary)
    return pool


def _range(bounds: tuple[int, int, bool]) -> tuple[np.ndarray, ...]:
    """Shapes as NumPy arrays: sending these between processes needs no shared memory, unlike tensors."""
    first, end, further = bounds
    drawn = [shape_of(seed, further) for seed in range(first, end)]
    packed = pack([one for one, _ in drawn], [tumbles for _, tumbles in drawn])
    return tuple(t.numpy() for t in (packed.rows, packed.counts, packed.deformations, packed.tumbles))
