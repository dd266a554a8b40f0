"""Plans which networks are on the device at a time, so that a run fits a given amount of memory.

An object passes four stages: geometry (once per photo), condition, structure, latent. When all networks fit
together with the working memory, one pass does everything and each object is finished before the next begins.
Otherwise stages are split into several passes: a pass loads its networks, works on all objects, and frees the
networks. Between passes the tokens and voxels of the objects wait on the host.

The weights' bytes are exact, from the files' headers. The working memory is an upper estimate, in which the
constants count tensors that are alive at the same time; if it still runs out, `runtime.py` retries object by object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from sam3d_gs.sam3d_torch.config import ConditionConfig, DinoConfig, PointPatchConfig, Sam3dConfig
from sam3d_gs.sam3d_torch.sparse import GATHER_BYTES
from sam3d_gs.sam3d_torch.voxels import VOXEL_LIMIT
from sam3d_gs.system.devices import release_cached

GIB = 1 << 30
STAGES = ("geometry", "condition", "structure", "latent")
# Networks of each stage, by the names under which `Checkpoint` hands them out, and the memory that
# `structure_calls.py` keeps from one object to the next.
PARTS: Mapping[str, tuple[str, ...]] = {
    "geometry": ("moge",),
    "condition": ("structure_condition", "latent_condition"),
    "structure": ("structure_flow", "structure_calls", "structure_decoder"),
    "latent": ("latent_flow", "gaussian_decoder"),
}

UNCOUNTED = 256 << 20  # workspaces of libraries and the allocator's rounding
STREAM_BYTES = 8  # per value of a residual stream: float32, and once more while it is normalised
HALF_TENSORS = 12  # per value of a residual stream in the weights' dtype: qkv, attention, hidden layer before and after
GUIDED = 2  # conditional and unconditional rows side by side
POOLED_SHARE = 0.4  # tokens per voxel after pooling; a surface keeps a quarter, ragged ones more
MOGE_BYTES = GIB // 2  # of its encoder and head at the largest of its token numbers
PIXEL_BYTES = 96  # per pixel of the photo: MoGe's maps at full size
POINTMAP_BYTES = 16  # per pixel of the photo, from then on: the pointmap, and the bands in which it is read


@dataclass(frozen=True)
class Plan:
    """How a run stays within its budget."""

    passes: tuple[tuple[str, ...], ...]  # stages of each pass, in order
    peak_bytes: int  # estimate for the largest pass
    fits: bool  # False: even the leanest plan is estimated above the budget

    def parts(self, stage: str) -> tuple[str, ...]:
        """The networks that may stay on the device during `stage`: those of its pass."""
        (stages,) = (stages for stages in self.passes if stage in stages)
        return tuple(part for name in stages for part in PARTS[name])


def plan(weights: Mapping[str, int], work: Mapping[str, int], budget: int | None) -> Plan:
    """The fewest passes that stay within `budget` bytes; None is no limit.

    Args:
        weights: bytes on the device by part; a part that is missing takes none.
        work: bytes of working memory by stage.
        budget: bytes.
    """

    def need(stages: Sequence[str]) -> int:
        parts = {part for stage in stages for part in PARTS[stage]}
        return sum(weights.get(part, 0) for part in parts) + max(work[stage] for stage in stages) + UNCOUNTED

    passes: list[tuple[str, ...]] = []
    for stage in STAGES:  # weights add up, so filling each pass as far as it goes gives the fewest
        longer = (*passes[-1], stage) if passes else (stage,)
        if passes and budget is not None and need(longer) > budget:
            passes.append((stage,))
        else:
            passes[-1:] = [longer]
    peak = max(need(stages) for stages in passes)
    return Plan(tuple(passes), peak, budget is None or peak <= budget)


def working_bytes(config: Sam3dConfig, dtype: torch.dtype, batch: int, pixels: int) -> dict[str, int]:
    """Upper estimate of every stage's working memory: `batch` objects at a time, of a photo with `pixels` pixels."""
    size = dtype.itemsize
    per_value = _per_value(size)
    pointmap = POINTMAP_BYTES * pixels
    return {
        "geometry": MOGE_BYTES + PIXEL_BYTES * pixels,
        "condition": pointmap + _condition(config, per_value),
        "structure": pointmap + batch * _structure_decoder(config, size),
        "latent": pointmap + batch * max(_latent_flow(config, size, per_value), _gaussian_decoder(config, per_value)),
    }


def _per_value(size: int) -> int:
    """Bytes per value of a residual stream, with weights of `size` bytes."""
    return STREAM_BYTES + HALF_TENSORS * size


def _condition(config: Sam3dConfig, per_value: int) -> int:
    stages = (config.structure_condition, config.latent_condition)
    values = []
    for stage in stages:
        for embedder, inputs in stage.embedders:
            if isinstance(embedder, DinoConfig):
                # Pictures of both stages go through shared weights in one pass.
                values.append(2 * len(inputs) * _tokens(embedder) * embedder.vit.width)
            else:
                values.append(embedder.input_px**2 * embedder.width)  # one map at a time
    return max(values) * per_value + sum(context_tokens(stage) * stage.width * 4 for stage in stages)


def structure_calls_bytes(config: Sam3dConfig, dtype: torch.dtype, batch: int) -> int:
    """Memory that the calls of the structure flow keep: the context's keys and values, and a call's tensors."""
    flow, size = config.structure_flow, dtype.itemsize
    tokens = sum(latent.tokens for latent in flow.latents.values())
    keys_values = 2 * flow.blocks * context_tokens(config.structure_condition) * flow.width * size
    return batch * (keys_values + GUIDED * tokens * flow.width * _per_value(size))


def _structure_decoder(config: Sam3dConfig, size: int) -> int:
    decoder, side = config.structure_decoder, config.structure_flow.resolution
    largest = max((side << level) ** 3 * width for level, width in enumerate(decoder.channels))
    return largest * (2 * STREAM_BYTES + 4 * size)


def _latent_flow(config: Sam3dConfig, size: int, per_value: int) -> int:
    flow = config.latent_flow
    pooled = int(VOXEL_LIMIT * POOLED_SHARE)
    keys_values = 2 * flow.blocks * context_tokens(config.latent_condition) * flow.width * size
    blocks = GUIDED * pooled * flow.width * per_value
    # The last blocks hold the features of the way up and those of the way down, for both groups at once.
    joined = GUIDED * VOXEL_LIMIT * 2 * flow.io_channels[0]
    convolutions = GATHER_BYTES + 2 * joined * size
    skips = GUIDED * VOXEL_LIMIT * flow.io_channels[0] * per_value
    return keys_values + max(blocks, convolutions + skips)


def _gaussian_decoder(config: Sam3dConfig, per_value: int) -> int:
    widest = max(config.gaussian_decoders.values(), key=lambda d: d.gaussians_per_voxel)
    return VOXEL_LIMIT * (widest.width * per_value + 3 * 14 * widest.gaussians_per_voxel * 4)


def context_tokens(condition: ConditionConfig) -> int:
    """Number of condition tokens of one object."""
    return sum(_tokens(embedder) * len(inputs) for embedder, inputs in condition.embedders)


def _tokens(embedder: DinoConfig | PointPatchConfig) -> int:
    if isinstance(embedder, PointPatchConfig):
        return (embedder.input_px // embedder.patch_px) ** 2
    patches = (embedder.input_px // embedder.vit.patch_px) ** 2
    return 1 + patches + (embedder.vit.registers if embedder.prenorm else 0)


class Networks:
    """The networks on the device: loaded on first use, kept until `keep` frees them."""

    def __init__(self, load: Mapping[str, Callable[[], object]]) -> None:
        self._load = load
        self._there: dict[str, object] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self._there)

    def get(self, part: str) -> object:
        if part not in self._there:
            self._there[part] = self._load[part]()
        return self._there[part]

    def keep(self, parts: Iterable[str]) -> None:
        """Free all other networks and their memory."""
        dropped = [part for part in self._there if part not in set(parts)]
        for part in dropped:
            del self._there[part]
        if dropped:
            release_cached()


def budget_bytes(device: torch.device, vram_gib: float | None) -> int | None:
    """Bytes a run may use on `device`: the user's limit, or what is free; None when unknown."""
    asked = None if vram_gib is None else int(vram_gib * GIB)
    if device.type != "cuda":
        return asked
    free, _ = torch.cuda.mem_get_info(_index(device))
    free += torch.cuda.memory_reserved(device)  # this process may use what it already holds
    return free if asked is None else min(asked, free)


def set_limit(device: torch.device, vram_gib: float | None) -> None:
    """Make PyTorch enforce the user's limit, so that a plan that is too optimistic fails; None lifts it."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        share = 1.0 if vram_gib is None else min(1.0, vram_gib * GIB / total)
        torch.cuda.set_per_process_memory_fraction(share, _index(device))


def _index(device: torch.device) -> int:
    """The index of a GPU: not all of PyTorch's functions take "cuda" for the current one."""
    return torch.cuda.current_device() if device.index is None else device.index


# MPS, CPU, and libraries with their own allocations (cuBLAS, cuDNN) raise plain RuntimeErrors.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "ALLOC_FAILED", "ALLOCATION_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means out of memory, in any of torch's forms."""
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and any(sign in str(error) for sign in _OUT_OF_MEMORY)
    )
