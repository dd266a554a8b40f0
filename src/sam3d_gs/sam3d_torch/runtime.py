"""The SAM 3D Objects runtime: a photo and masks in, Gaussians with a pose out, object by object.

What depends on the photo alone (depth, tokens of the full view) is computed once. Every object is preprocessed once
and seen by DINO once, for both stages. `memory.py` plans which networks are on the device at a time. Noise is
drawn on the CPU from the object's own seed, so it is the same on every device and does not depend on other objects.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.sam3d_torch import memory, pose
from sam3d_gs.sam3d_torch.checkpoints.network_source import NetworkSource
from sam3d_gs.sam3d_torch.condition import raw_tokens
from sam3d_gs.sam3d_torch.contract import Failure, PhotoGeometry, Request, Result, RuntimeOptions
from sam3d_gs.sam3d_torch.gaussian_decoder import GaussianFields
from sam3d_gs.sam3d_torch.pointmap import pixel_intrinsics, to_pytorch3d
from sam3d_gs.sam3d_torch.preprocess import ObjectInputError, full_image, object_inputs
from sam3d_gs.sam3d_torch.presets import Effort, effort
from sam3d_gs.sam3d_torch.sampler import (
    latent_noise,
    sample_latent_batch,
    sample_structure,
    structure_noise,
)
from sam3d_gs.sam3d_torch.structure_calls import StructureCalls
from sam3d_gs.sam3d_torch.voxels import downsample, surface
from sam3d_gs.system.devices import choose_device, release_cached
from sam3d_gs.types import Pose

log = logging.getLogger("sam3d_gs")

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
PHOTO_IMAGE = "rgb_image"  # the one input of the condition that is the same for all objects of a photo
SHAPE = "shape"

_T = TypeVar("_T")


@dataclass
class _Photo:
    """A photo and what is computed once from it."""

    rgb: np.ndarray
    geometry: PhotoGeometry
    image: Tensor  # (1, 3, S, S), the full view
    tokens: list[dict[str, Tensor]] | None = None  # of the full view, per stage


@dataclass
class _Job:
    """An object in progress."""

    request: Request
    failure: str | None = None
    tokens: list[Tensor] = field(default_factory=list)  # condition (1, T, C) of both stages
    scale: Tensor | None = None
    shift: Tensor | None = None
    latents: dict[str, Tensor] = field(default_factory=dict)
    pose: Pose | None = None
    coords: Tensor | None = None
    downsample: int = 1
    slat: Tensor | None = None
    gaussians: GaussianFields | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def park(self, device: torch.device | str) -> None:
        """Move the tensors that a later stage needs."""
        self.tokens = [tokens.to(device) for tokens in self.tokens]
        self.latents = {name: latent.to(device) for name, latent in self.latents.items()}
        self.coords = None if self.coords is None else self.coords.to(device)


class Sam3dRuntime:
    """The networks of one checkpoint on one device.

    Building it takes no device memory: networks are loaded on first use. Raises Sam3dGsError when device, options and
    checkpoint do not fit together.
    """

    def __init__(self, checkpoint: NetworkSource, options: RuntimeOptions = RuntimeOptions()) -> None:
        self.options = options
        self.config = checkpoint.config
        self.device = choose_device(options.device)
        self.dtype = choose_dtype(options.dtype, self.device, self.config.dtype)
        try:
            self.effort: Effort = effort(
                self.config,
                options.preset,
                steps=options.steps,
                slat_steps=options.slat_steps,
                gaussians_per_voxel=options.gaussians_per_voxel,
            )
        except ValueError as error:
            raise BadInputError(f"{checkpoint.folder}: {error}. Leave --gaussians-per-voxel out.") from error
        self._checkpoint = checkpoint
        self._finds_depth = False  # True once `geometry` was called
        where = (self.device, self.dtype)
        self._networks = memory.Networks(
            {
                "moge": lambda: checkpoint.moge(*where),
                "structure_condition": lambda: checkpoint.structure_condition(*where),
                "latent_condition": lambda: checkpoint.latent_condition(*where),
                "structure_flow": lambda: checkpoint.structure_flow(*where),
                "structure_calls": lambda: StructureCalls(self._network("structure_flow")),
                "structure_decoder": lambda: checkpoint.structure_decoder(*where),
                "latent_flow": lambda: checkpoint.latent_flow(*where),
                "gaussian_decoder": lambda: checkpoint.gaussian_decoder(self.effort.gaussians_per_voxel, *where),
            }
        )

    def plan(self, pixels: int) -> memory.Plan:
        """How the stages share the memory for a photo of `pixels` pixels."""
        needed = {part: size for part, size in self._weights.items() if part != "moge" or self._finds_depth}
        needed["structure_calls"] = memory.structure_calls_bytes(self.config, self.dtype, self.options.batch)
        work = memory.working_bytes(self.config, self.dtype, self.options.batch, pixels)
        if self.options.vram_gib is not None:
            memory.set_limit(self.device, self.options.vram_gib)
        return memory.plan(needed, work, memory.budget_bytes(self.device, self.options.vram_gib))

    @cached_property
    def _weights(self) -> Mapping[str, int]:
        """Bytes by network."""
        return self._checkpoint.weight_bytes(self.dtype, self.effort.gaussians_per_voxel)

    def close(self) -> None:
        """Free the device's memory."""
        self._networks.keep(())
        if self.options.vram_gib is not None:
            memory.set_limit(self.device, None)

    def geometry(self, rgb: np.ndarray) -> PhotoGeometry:
        """MoGe's pointmap and camera of a photo, (H, W, 3) uint8 RGB. Raises Sam3dGsError without MoGe or memory."""
        height, width = rgb.shape[:2]
        self._finds_depth = True
        self._networks.keep(self.plan(height * width).parts("geometry"))
        started_s = self._now()
        found = self._infer_geometry(rgb)
        if found is None:
            self._networks.keep(memory.PARTS["geometry"])
            release_cached()
            found = self._infer_geometry(rgb)
        if found is None:
            raise Sam3dGsError(f"Not enough memory on {self.device} for the depth of a {width} x {height} px photo.")
        points, normalised = found
        K = pixel_intrinsics(normalised, (width, height))
        return PhotoGeometry(to_pytorch3d(points), K, "arbitrary (MoGe)", self._now() - started_s)

    def _infer_geometry(self, rgb: np.ndarray) -> tuple[Tensor, Tensor] | None:
        """None when there is not enough memory."""
        try:
            with torch.inference_mode():
                geometry = self._network("moge").infer(torch.tensor(rgb, device=self.device))
            return geometry.points, geometry.intrinsics
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise
            return None

    def reconstruct(
        self, rgb: np.ndarray, geometry: PhotoGeometry, requests: Sequence[Request]
    ) -> Iterator[Result | Failure]:
        """Yield the objects of a photo, each as soon as it is finished or has failed.

        Args:
            rgb: (H, W, 3) uint8 RGB.
            geometry: of this photo, from `geometry` or the caller's own.
            requests: the objects; none depends on the others (but see RuntimeOptions.batch).
        """
        plan = self.plan(rgb.shape[0] * rgb.shape[1])
        log.debug("Stages by pass: %s; at most %.1f GiB.", plan.passes, plan.peak_bytes / memory.GIB)
        if not plan.fits:
            log.warning(
                "This may need %.1f GiB of memory, more than may be used; objects that do not fit are left out.",
                plan.peak_bytes / memory.GIB,
            )
        geometry = PhotoGeometry(geometry.pointmap.to(self.device), geometry.K, geometry.scale_source)
        photo = _Photo(rgb, geometry, full_image(rgb, self.config.preprocess, self.device))
        passes = [[s for s in stages if s != "geometry"] for stages in plan.passes if stages != ("geometry",)]
        jobs = deque(_Job(request) for request in requests)
        for number, stages in enumerate(passes):
            last = number == len(passes) - 1
            self._networks.keep(plan.parts(stages[0]))
            going: deque[_Job] = deque()
            while jobs:  # emptied as we go, so that finished objects leave the device
                alive = [jobs.popleft() for _ in range(min(self.options.batch, len(jobs)))]
                for job in alive:
                    job.park(self.device)
                for stage in stages:
                    if alive:
                        self._attempt(stage, photo, alive)
                    yield from (Failure(j.request.object_id, j.failure) for j in alive if j.failure)
                    alive = [job for job in alive if not job.failure]
                if last:
                    yield from map(_result, alive)
                else:
                    for job in alive:
                        job.park("cpu")
                    going += alive
            jobs = going

    def _attempt(self, stage: str, photo: _Photo, jobs: Sequence[_Job]) -> None:
        """Run a stage; if memory runs out, repeat it for each object alone with nothing else on the device."""
        if self._run(stage, photo, jobs):
            return
        log.info("Out of memory in the %s stage; trying again with less on the device.", stage)
        for job in jobs:
            self._networks.keep(memory.PARTS[stage])
            release_cached()
            if not self._run(stage, photo, [job]):
                release_cached()
                job.failure = f"Not enough memory on {self.device} in the {stage} stage{_voxels(job)}."

    def _run(self, stage: str, photo: _Photo, jobs: Sequence[_Job]) -> bool:
        """False when memory ran out; the jobs are then unchanged."""
        work = {"condition": self._condition, "structure": self._structure, "latent": self._latent}[stage]
        try:
            with torch.inference_mode():
                work(photo, jobs)
            return True
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error):
                raise
            return False

    def _condition(self, photo: _Photo, jobs: Sequence[_Job]) -> None:
        """Crops to condition tokens of both stages."""
        stages = [self._network("structure_condition"), self._network("latent_condition")]
        if photo.tokens is None:
            with self._timed("photo", jobs):
                photo.tokens = raw_tokens(stages, {PHOTO_IMAGE: photo.image})
        for job in jobs:
            with self._timed("preprocess", [job]):
                try:
                    inputs = object_inputs(
                        photo.rgb, job.request.mask, photo.geometry.pointmap, self.config.preprocess, full=photo.image
                    )
                except ObjectInputError as error:
                    job.failure = _sentence(error)
                    continue
            with self._timed("condition", [job]):
                own = {name: tensor for name, tensor in inputs.tensors.items() if name != PHOTO_IMAGE}
                raw = raw_tokens(stages, own)
                job.tokens = [
                    stage.assemble({**shared, **crops})
                    for stage, shared, crops in zip(stages, photo.tokens, raw, strict=True)
                ]
            job.scale, job.shift = inputs.scale, inputs.shift

    def _structure(self, photo: _Photo, jobs: Sequence[_Job]) -> None:
        """Condition tokens to pose and voxels."""
        calls, decoder = self._network("structure_calls"), self._network("structure_decoder")
        noise = [
            job.request.structure_noise
            or structure_noise(self.config.structure_flow, _generator(job.request.seed, 1), self.device)
            for job in jobs
        ]
        with self._timed("structure", jobs):
            ends = sample_structure(
                calls,
                torch.cat([job.tokens[0] for job in jobs]),
                {name: torch.cat([drawn[name].to(self.device) for drawn in noise]) for name in noise[0]},
                self.effort.structure,
            )
        for i, job in enumerate(jobs):
            with self._timed("occupancy", [job]):
                self._voxels(job, {name: end[i : i + 1] for name, end in ends.items()}, decoder)

    def _voxels(self, job: _Job, latents: dict[str, Tensor], decoder: Any) -> None:
        if not _finite(*latents.values()):
            job.failure = self._not_finite("first")
            return
        factor = 1
        coords = job.request.coords
        if coords is None:
            resolution = self.config.latent_flow.resolution
            logits = decoder(latents[SHAPE])
            if not _finite(logits):
                job.failure = self._not_finite("first")
                return
            coords, factor = downsample(surface(logits), resolution)
        if not len(coords):
            job.failure = "The first stage left no voxel occupied. Try another --seed, or a cleaner mask."
            return
        try:
            placed = pose.to_opencv(pose.decode(latents, _there(job.scale), _there(job.shift), factor))
        except pose.PoseError as error:
            job.failure = _sentence(error) + " Try another --seed."
            return
        job.coords, job.downsample, job.pose = coords.to(self.device), factor, placed
        job.latents = latents

    def _latent(self, photo: _Photo, jobs: Sequence[_Job]) -> None:
        """Voxels to Gaussians."""
        flow, decoder = self._network("latent_flow"), self._network("gaussian_decoder")
        noise, coords = [], [_there(job.coords) for job in jobs]
        for job, voxels in zip(jobs, coords, strict=True):
            drawn = job.request.latent_noise
            if drawn is None:
                channels = self.config.latent_flow.in_channels
                drawn = latent_noise(len(voxels), channels, _generator(job.request.seed, 2), self.device)
            noise.append(drawn)
        with self._timed("latent", jobs):
            ends = sample_latent_batch(flow, coords, [job.tokens[1] for job in jobs], noise, self.effort.latent)
        mean = torch.tensor(self.config.latent_mean, device=self.device)
        std = torch.tensor(self.config.latent_std, device=self.device)
        for job, voxels, end in zip(jobs, coords, ends, strict=True):
            with self._timed("decode", [job]):
                slat = end * std + mean
                made = decoder.gaussians(decoder(slat, voxels), voxels)
                if not _finite(slat, made.means, made.scales, made.quats, made.opacity_logits, made.sh0):
                    job.failure = self._not_finite("second")
                    continue
                job.slat, job.gaussians = slat, made

    def _not_finite(self, stage: str) -> str:
        cure = "--seed" if self.dtype == torch.float32 else "--seed, or --dtype fp32"
        return f"The {stage} stage gave NaN or infinite values. Try another {cure}."

    def _network(self, part: str) -> Any:
        return self._networks.get(part)

    @contextmanager
    def _timed(self, step: str, jobs: Sequence[_Job]) -> Iterator[None]:
        started_s = self._now()
        yield
        if self.options.timed:
            for job in jobs:
                job.seconds[step] = job.seconds.get(step, 0.0) + (self._now() - started_s) / len(jobs)

    def _now(self) -> float:
        if self.options.timed and self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def object_seed(seed: int, object_id: str) -> int:
    """The seed of one object, from the user's seed and the object's id only: other objects do not change it."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{object_id}".encode()).digest()[:4], "big")


def choose_dtype(name: str, device: torch.device, trained: str) -> torch.dtype:
    """A dtype by name; "auto" is float32 on the CPU, elsewhere the dtype that the checkpoint names."""
    if name == "auto":
        return torch.float32 if device.type == "cpu" else getattr(torch, trained)
    return DTYPES[name]


def _generator(seed: int, stage: int) -> torch.Generator:
    """One generator per stage, so that a stage can be repeated alone."""
    return torch.Generator().manual_seed((seed << 2) + stage)


def _finite(*tensors: Tensor) -> bool:
    return bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all())


def _sentence(error: ValueError) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."


def _voxels(job: _Job) -> str:
    return "" if job.coords is None else f" ({len(job.coords)} voxels)"


def _there(value: _T | None) -> _T:
    """The value, which an earlier stage has set."""
    assert value is not None
    return value


def _result(job: _Job) -> Result:
    return Result(
        object_id=job.request.object_id,
        gaussians=_there(job.gaussians),
        pose=_there(job.pose),
        coords=_there(job.coords),
        latents=job.latents,
        slat=_there(job.slat),
        downsample=job.downsample,
        seconds=job.seconds,
    )
