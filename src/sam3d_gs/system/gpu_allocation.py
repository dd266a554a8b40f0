"""How much memory of a CUDA card each stage wants, and which cards they take when all of them work at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sam3d_gs.options import MaskOptions, ObjectOptions, PhraseOptions
from sam3d_gs.system.nvidia import Card
from sam3d_gs.vlm.model import needed_mib

# Engine -> GPU memory in GiB, about; `vllm` depends on its model. What was measured and what not is in docs/engines.md.
_NEEDS_GIB = {"sam3": 7.5, "sam3-official": 7.5, "sam3d-objects": 16.0, "native": 8.0}
_USABLE = 0.9  # of what is free: the rest is for what the figures leave out

Places = Mapping[str, tuple[str, ...]]  # stage -> indices of nvidia-smi


@dataclass(frozen=True)
class Wish:
    """What a stage wants of the cards."""

    gib: float  # 0: it computes on the CPU; infinite: nobody knows
    on: tuple[str, ...] = ()  # only on these cards; none named: on any
    cards: int | None = 1  # spread over so many; None: over as few as hold it


def needed_gib(engine: str, model: str = PhraseOptions.model) -> float:
    """GPU memory an engine wants, about; 0 for those that run on the CPU alone."""
    if engine == "vllm":
        mib = needed_mib(model)
        return round(mib / 1024, 1) if mib else math.inf
    return _NEEDS_GIB.get(engine, 0.0)


def wish_of(options: Any) -> Wish:
    """By the options of a stage."""
    if isinstance(options, PhraseOptions):
        on = tuple(part.strip() for part in options.gpus.split(",") if part.strip())
        return Wish(needed_gib(options.engine, options.model), on, options.tensor_parallel)
    if not isinstance(options, (MaskOptions, ObjectOptions)) or options.device not in ("auto", "cuda"):
        return Wish(0.0)
    limit = getattr(options, "vram_gib", None)
    return Wish(limit if limit and options.engine == "native" else needed_gib(options.engine))


def place(wishes: Mapping[str, Wish], cards: Sequence[Card]) -> Places | None:
    """Cards for every stage that wants one, such that all fit at once; None when they do not.

    The largest wish goes first, to the card with the fewest stages and, among those, the most memory left. Without a
    single card everything computes on the CPU, and nothing needs a place.
    """
    left_gib = {card.index: card.free_gib * _USABLE for card in cards}
    places: dict[str, tuple[str, ...]] = {}
    for stage, wish in sorted(wishes.items(), key=lambda item: -item[1].gib):
        if not wish.gib or not cards:
            continue
        crowd = {index: sum(index in taken for taken in places.values()) for index in left_gib}
        best = sorted(left_gib, key=lambda index: (crowd[index], -left_gib[index]))
        chosen = _fewest(wish, [index for index in best if not wish.on or index in wish.on], left_gib)
        if not chosen:
            return None
        for index in chosen:
            left_gib[index] -= wish.gib / len(chosen)
        places[stage] = tuple(sorted(chosen))
    return places


def _fewest(wish: Wish, best: Sequence[str], left_gib: Mapping[str, float]) -> list[str]:
    """As few of the `best` cards as hold the wish: 1, 2, 4, ... (a model's heads divide by these)."""
    number = wish.cards or 1
    while number <= len(best):
        holding = [index for index in best if left_gib[index] >= wish.gib / number][:number]
        if len(holding) == number:
            return holding
        if wish.cards:
            break
        number *= 2
    return []


def others_gib(stage: str, places: Places, wishes: Mapping[str, Wish]) -> float:
    """What the other stages want of the cards of `stage`: the most on one of them."""
    wanted = [
        sum(wishes[other].gib / len(taken) for other, taken in places.items() if other != stage and index in taken)
        for index in places.get(stage, ())
    ]
    return max(wanted, default=0.0)


def for_server(options: PhraseOptions, places: Places, wishes: Mapping[str, Wish]) -> PhraseOptions:
    """The options of the phrases stage with its cards, and with room on them for the stages that share them."""
    taken = places.get("phrases")
    if not taken:
        return options
    return replace(
        options,
        gpus=",".join(taken),
        tensor_parallel=len(taken),
        leave_free_gib=max(options.leave_free_gib, others_gib("phrases", places, wishes)),
    )
