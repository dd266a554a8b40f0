"""Which GPU each stage uses when all stages run at the same time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sam3d_gs.engines.spec import GpuRequest
from sam3d_gs.options import VllmOptions
from sam3d_gs.system.nvidia import Gpu

_USABLE = 0.9  # of the free memory; the rest covers what the estimates leave out

Places = Mapping[str, tuple[str, ...]]  # stage -> nvidia-smi indices


def place(requests: Mapping[str, GpuRequest], gpus: Sequence[Gpu]) -> Places | None:
    """GPUs for every stage that needs them, so that all fit at the same time; None if they do not fit.

    The largest request is placed first, on the GPU with the fewest stages and, among those, the most memory left.
    Without GPUs all stages run on the CPU, and the result is empty.
    """
    left_gib = {gpu.index: gpu.free_gib * _USABLE for gpu in gpus}
    places: dict[str, tuple[str, ...]] = {}
    for stage, request in sorted(requests.items(), key=lambda item: -item[1].gib):
        if not request.gib or not gpus:
            continue
        stages_on = {index: sum(index in taken for taken in places.values()) for index in left_gib}
        best = sorted(left_gib, key=lambda index: (stages_on[index], -left_gib[index]))
        chosen = _fewest(request, [index for index in best if not request.on or index in request.on], left_gib)
        if not chosen:
            return None
        for index in chosen:
            left_gib[index] -= request.gib / len(chosen)
        places[stage] = tuple(sorted(chosen))
    return places


def _fewest(request: GpuRequest, best: Sequence[str], left_gib: Mapping[str, float]) -> list[str]:
    """The smallest group of the `best` GPUs that holds the request; empty if none does.

    Groups have 1, 2, 4, ... GPUs, since a model's attention heads divide by these.
    """
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
    """Memory that the other stages need on the GPUs of `stage`: the largest sum on one GPU, in GiB."""
    needed = [
        sum(requests[other].gib / len(taken) for other, taken in places.items() if other != stage and index in taken)
        for index in places.get(stage, ())
    ]
    return max(needed, default=0.0)


def for_server(options: VllmOptions, places: Places, requests: Mapping[str, GpuRequest]) -> VllmOptions:
    """`options` with the GPUs of the phrases stage, leaving memory for the other stages on them."""
    taken = places.get("phrases")
    if not taken:
        return options
    return replace(
        options,
        gpus=",".join(taken),
        tensor_parallel=len(taken),
        leave_free_gib=max(options.leave_free_gib, others_gib("phrases", places, requests)),
    )
