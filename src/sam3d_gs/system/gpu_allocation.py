"""Which GPUs the stages take when all of them work at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sam3d_gs.engines.registry import GpuRequest
from sam3d_gs.options import VllmOptions
from sam3d_gs.system.nvidia import Card

_USABLE = 0.9  # of what is free: the rest is for what the figures leave out

Places = Mapping[str, tuple[str, ...]]  # stage -> indices of nvidia-smi


def place(requests: Mapping[str, GpuRequest], cards: Sequence[Card]) -> Places | None:
    """Cards for every stage that wants one, such that all fit at once; None when they do not.

    The largest request goes first, to the card with the fewest stages and, among those, the most memory left. Without a
    single card everything computes on the CPU, and nothing needs a place.
    """
    left_gib = {card.index: card.free_gib * _USABLE for card in cards}
    places: dict[str, tuple[str, ...]] = {}
    for stage, request in sorted(requests.items(), key=lambda item: -item[1].gib):
        if not request.gib or not cards:
            continue
        crowd = {index: sum(index in taken for taken in places.values()) for index in left_gib}
        best = sorted(left_gib, key=lambda index: (crowd[index], -left_gib[index]))
        chosen = _fewest(request, [index for index in best if not request.on or index in request.on], left_gib)
        if not chosen:
            return None
        for index in chosen:
            left_gib[index] -= request.gib / len(chosen)
        places[stage] = tuple(sorted(chosen))
    return places


def _fewest(request: GpuRequest, best: Sequence[str], left_gib: Mapping[str, float]) -> list[str]:
    """As few of the `best` cards as hold the request: 1, 2, 4, ... (a model's heads divide by these)."""
    number = request.gpus or 1
    while number <= len(best):
        holding = [index for index in best if left_gib[index] >= request.gib / number][:number]
        if len(holding) == number:
            return holding
        if request.gpus:
            break
        number *= 2
    return []


def others_gib(stage: str, places: Places, requests: Mapping[str, GpuRequest]) -> float:
    """What the other stages want of the cards of `stage`: the most on one of them."""
    wanted = [
        sum(requests[other].gib / len(taken) for other, taken in places.items() if other != stage and index in taken)
        for index in places.get(stage, ())
    ]
    return max(wanted, default=0.0)


def for_server(options: VllmOptions, places: Places, requests: Mapping[str, GpuRequest]) -> VllmOptions:
    """The options of the phrases stage with its cards, and with room on them for the stages that share them."""
    taken = places.get("phrases")
    if not taken:
        return options
    return replace(
        options,
        gpus=",".join(taken),
        tensor_parallel=len(taken),
        leave_free_gib=max(options.leave_free_gib, others_gib("phrases", places, requests)),
    )
