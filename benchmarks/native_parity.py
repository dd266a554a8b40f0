"""The native runtime compared with the official SAM 3D Objects package, on one photo and mask, with the same noise.

    python benchmarks/native_parity.py PHOTO MASK --checkpoints DIR --official DIR
    python benchmarks/native_parity.py PHOTO MASK --checkpoints DIR --dtype bf16 --against fp32

--official is a checkout of the official repository, in an environment that can import it; both then load the same
checkpoints. Without it, the runtime is compared with itself in another dtype. Prints Markdown tables: differences of
voxels, Gaussians and pose, and seconds and memory.

Both get the same pointmap, the same initial noise of stage 1, and stage-2 noise by voxel position, so that common
voxels start from the same values. Each runs once to warm up and once for the timing. The official half was written from
the package's source and has not been run by us: it needs the trained weights and the package.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from machine import machine_line
from PIL import Image
from torch import Tensor

from sam3d_gs.engines import sam3d_official as official
from sam3d_gs.engines.objects_native import to_gaussians
from sam3d_gs.errors import BadInputError
from sam3d_gs.gaussians.orbit import object_cameras
from sam3d_gs.gaussians.pose import quat_to_matrix
from sam3d_gs.gaussians.render import render
from sam3d_gs.photo import load_photo
from sam3d_gs.sam3d_torch.checkpoints.checkpoint import Checkpoint
from sam3d_gs.sam3d_torch.config import Sam3dConfig
from sam3d_gs.sam3d_torch.contract import Failure, PhotoGeometry, Request, Result, RuntimeOptions
from sam3d_gs.sam3d_torch.runtime import Sam3dRuntime
from sam3d_gs.sam3d_torch.sampler import structure_noise
from sam3d_gs.types import Gaussians, Pose

VIEWS = 8
SIDE_PX = 400
SEEN = 1 / 255  # alpha above which a pixel belongs to the object
GIB = 1 << 30


@dataclass(frozen=True)
class Noise:
    """The initial noise of both samplers. Stage 2 has noise for every possible voxel, so it is the same for both."""

    structure: Mapping[str, Tensor]  # by latent, (1, tokens, channels)
    field: Tensor  # (R, R, R, channels)

    def at(self, voxels: Tensor) -> Tensor:
        """The noise (N, channels) at voxels (N, 3), on their device."""
        x, y, z = voxels.long().cpu().unbind(1)
        return self.field[x, y, z].to(voxels.device)


def draw_noise(config: Sam3dConfig, seed: int) -> Noise:
    """Standard normal noise from the CPU generator."""
    generator = torch.Generator().manual_seed(seed)
    flow = config.latent_flow
    structure = structure_noise(config.structure_flow, generator, "cpu")
    return Noise(structure, torch.randn(*(flow.resolution,) * 3, flow.in_channels, generator=generator))


@dataclass(frozen=True)
class Inputs:
    """The inputs for one object, the same for every subject."""

    rgb: np.ndarray  # (H, W, 3) uint8
    mask: np.ndarray  # (H, W) bool
    pointmap: Tensor  # (H, W, 3) float32, PyTorch3D camera, NaN where invalid
    noise: Noise
    voxels: Tensor | None = None  # (N, 3) in place of what stage 1 would find


@dataclass(frozen=True)
class SubjectResult:
    """A subject's result for one object, with time and memory."""

    voxels: np.ndarray  # (N, 3) int
    gaussians: Gaussians  # object frame
    pose: Pose  # to the OpenCV camera frame
    seconds: float
    peak_gib: float | None = None  # of GPU memory; None: not measured


class Subject(Protocol):
    """An implementation to compare."""

    name: str

    def run(self, inputs: Inputs) -> SubjectResult: ...

    def close(self) -> None:
        """Free the GPU memory."""


class Native:
    """Our runtime."""

    def __init__(self, checkpoint: Checkpoint, options: RuntimeOptions) -> None:
        self.runtime = Sam3dRuntime(checkpoint, options)
        self.name = f"native {str(self.runtime.dtype).removeprefix('torch.')}"

    def run(self, inputs: Inputs) -> SubjectResult:
        """The result for one object. Raises BadInputError if the object cannot be reconstructed."""
        request = Request("object", inputs.mask, structure_noise=inputs.noise.structure, coords=inputs.voxels)
        voxels = self._make(inputs, request).coords  # the warm-up tells how many voxels the noise of stage 2 is for
        request = replace(request, latent_noise=inputs.noise.at(voxels))
        made, seconds, peak_gib = _measured(lambda: self._make(inputs, request), self.runtime.device)
        return SubjectResult(made.coords.cpu().numpy(), to_gaussians(made.gaussians), made.pose, seconds, peak_gib)

    def close(self) -> None:
        self.runtime.close()

    def _make(self, inputs: Inputs, request: Request) -> Result:
        geometry = PhotoGeometry(inputs.pointmap, np.eye(3), "given")
        (made,) = self.runtime.reconstruct(inputs.rgb, geometry, [request])
        if isinstance(made, Failure):
            raise BadInputError(f"{self.name} failed: {made.reason}")
        return made


class Official:
    """The official package, Gaussians only, with our noise instead of its own."""

    name = "official"

    def __init__(self, checkout: Path, pipeline_yaml: Path, steps: int | None, slat_steps: int | None) -> None:
        self._pipeline = official.load_pipeline(checkout, pipeline_yaml)
        self._steps = {"stage1_inference_steps": steps, "stage2_inference_steps": slat_steps}

    def run(self, inputs: Inputs) -> SubjectResult:
        if inputs.voxels is not None:
            raise BadInputError("The official package finds its voxels itself.")
        rgba = official.rgba(inputs.rgb, inputs.mask)

        def make() -> dict[str, Any]:
            with _given_noise(self._pipeline, inputs.noise):
                return self._pipeline.run(
                    rgba,
                    pointmap=inputs.pointmap.cpu(),
                    decode_formats=["gaussian"],
                    **official.GAUSSIANS_ONLY,
                    **self._steps,
                )

        make()
        made, seconds, peak_gib = _measured(make, torch.device(self._pipeline.device))
        gaussians, pose = official.gaussians(made["gaussian"][0]), official.pose(made)
        return SubjectResult(made["coords"][:, 1:].cpu().numpy(), gaussians, pose, seconds, peak_gib)

    def close(self) -> None:
        del self._pipeline
        official.free()


@contextmanager
def _given_noise(pipeline: Any, noise: Noise) -> Iterator[None]:
    """Make both generators of the official pipeline start from `noise` within the block.

    Each draws its initial state in `_generate_noise(shape, device)`. The one of stage 2 does not get the voxels, so
    they are taken from the enclosing call of `sample_slat`.
    """
    structure, latent = pipeline.models["ss_generator"], pipeline.models["slat_generator"]
    sample_slat, voxels = pipeline.sample_slat, []

    def noted(slat_input: Any, coords: Tensor, *args: Any, **kwargs: Any) -> Any:
        voxels.append(coords[:, 1:])  # without the batch column
        return sample_slat(slat_input, coords, *args, **kwargs)

    pipeline.sample_slat = noted
    structure._generate_noise = lambda shape, device: {name: noise.structure[name].to(device) for name in shape}
    latent._generate_noise = lambda shape, device: noise.at(voxels[-1])[None].to(device)
    try:
        yield
    finally:
        del pipeline.sample_slat, structure._generate_noise, latent._generate_noise


def _measured(make: Callable[[], Any], device: torch.device) -> tuple[Any, float, float | None]:
    """The result of `make`, its seconds, and the peak GPU memory allocated by tensors, in GiB."""
    on_card = device.type == "cuda"
    if on_card:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    start = time.perf_counter()
    made = make()
    if on_card:
        torch.cuda.synchronize(device)
    seconds = time.perf_counter() - start
    return made, seconds, torch.cuda.max_memory_allocated(device) / GIB if on_card else None


@dataclass(frozen=True)
class Difference:
    """The differences of a result from the reference."""

    occupancy_iou: float
    psnr_db: tuple[float, ...]  # per view; infinite for equal pictures
    rotation_deg: float
    translation_percent: float  # of the reference's distance from the camera
    scale_percent: float


def difference(
    reference: SubjectResult, other: SubjectResult, views: int = VIEWS, side_px: int = SIDE_PX
) -> Difference:
    """The differences of `other` from `reference`; pictures have `side_px` x `side_px` pixels."""
    first, second = reference.pose, other.pose
    turned = quat_to_matrix(first.quat_wxyz).T @ quat_to_matrix(second.quat_wxyz)
    moved = np.linalg.norm(second.translation - first.translation) / np.linalg.norm(first.translation)
    # The angle from its sine and cosine: the cosine alone cannot tell small angles.
    sine = np.linalg.norm(turned - turned.T) / (2 * math.sqrt(2))
    return Difference(
        occupancy_iou=iou(reference.voxels, other.voxels),
        psnr_db=psnr_db(reference.gaussians, other.gaussians, views, side_px),
        rotation_deg=math.degrees(math.atan2(sine, (np.trace(turned) - 1) / 2)),
        translation_percent=100 * float(moved),
        scale_percent=100 * abs(second.scale / first.scale - 1),
    )


def iou(first: np.ndarray, second: np.ndarray) -> float:
    """IoU of two sets of voxels, (N, 3) and (M, 3)."""
    a, b = ({tuple(voxel) for voxel in voxels.tolist()} for voxels in (first, second))
    return len(a & b) / len(a | b) if a | b else 1.0


def psnr_db(reference: Gaussians, other: Gaussians, views: int, side_px: int) -> tuple[float, ...]:
    """PSNR of pictures on white, from a circle around the object; only pixels that either of the two covers count."""
    yaws_deg = [360.0 * i / views for i in range(views)]
    found = []
    for camera in object_cameras(reference, yaws_deg, side_px):
        a, b = render(reference, camera), render(other, camera)
        squares = np.square(a.rgb.astype(np.float64) - b.rgb)[(a.alpha > SEEN) | (b.alpha > SEEN)]
        mean = float(squares.mean()) if squares.size else 0.0
        found.append(-10 * math.log10(mean) if mean > 0 else math.inf)
    return tuple(found)


def report(
    reference: SubjectResult,
    rows: Sequence[tuple[str, SubjectResult]],
    name: str,
    views: int = VIEWS,
    side_px: int = SIDE_PX,
) -> str:
    """Two Markdown tables: time and memory of both, and differences from the reference."""
    lines = ["| | voxels | Gaussians | seconds | GPU memory, GiB |", "|---|---|---|---|---|"]
    for who, result in ((name, reference), *rows):
        peak = "-" if result.peak_gib is None else f"{result.peak_gib:.2f}"
        lines.append(f"| {who} | {len(result.voxels):,} | {len(result.gaussians):,} | {result.seconds:.2f} | {peak} |")
    lines += [
        "",
        f"| from {name} | occupancy IoU | PSNR mean / worst, dB | rotation, deg | translation, % | scale, % |",
        "|---|---|---|---|---|---|",
    ]
    for who, result in rows:
        d = difference(reference, result, views, side_px)
        psnr = f"{sum(d.psnr_db) / len(d.psnr_db):.1f} / {min(d.psnr_db):.1f}"
        pose = f"{d.rotation_deg:.3f} | {d.translation_percent:.3f} | {d.scale_percent:.3f}"
        lines.append(f"| {who} | {d.occupancy_iou:.4f} | {psnr} | {pose} |")
    return "\n".join(lines)


def compare(reference: Subject, subject: Subject, inputs: Inputs, views: int = VIEWS, side_px: int = SIDE_PX) -> str:
    """Run both on the same inputs; the subject also with the reference's voxels, to compare stage 2 alone."""
    first = reference.run(inputs)
    reference.close()
    own = subject.run(inputs)
    given = subject.run(replace(inputs, voxels=torch.from_numpy(first.voxels)))
    subject.close()
    same_pose = replace(given, pose=own.pose)  # given voxels do not say whether they were shrunk; the pose must
    rows = [(subject.name, own), (f"{subject.name}, voxels of {reference.name}", same_pose)]
    return report(first, rows, reference.name, views, side_px)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo", type=Path)
    parser.add_argument("mask", type=Path, help="mask of the photo's size, white on the object")
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder with pipeline.yaml")
    parser.add_argument("--official", type=Path, help="checkout of the official repository")
    parser.add_argument(
        "--against", choices=("fp32", "bf16", "fp16"), default="fp32", help="dtype of the reference, without --official"
    )
    parser.add_argument("--moge", type=Path, help="MoGe weights, if they are not found automatically")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--slat-steps", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--views", type=int, default=VIEWS, help="number of pictures for the PSNR")
    parser.add_argument("--side-px", type=int, default=SIDE_PX, help="width and height of the pictures")
    options = parser.parse_args(argv)

    rgb = load_photo(options.photo).rgb
    mask = np.asarray(Image.open(options.mask).convert("L")) > 127
    checkpoint = Checkpoint(options.checkpoints, moge=options.moge)

    def native(dtype: str) -> Native:
        chosen = RuntimeOptions(options.device, dtype, steps=options.steps, slat_steps=options.slat_steps)
        return Native(checkpoint, chosen)

    subject = native(options.dtype)
    pointmap = subject.runtime.geometry(rgb).pointmap
    subject.close()
    inputs = Inputs(rgb, mask, pointmap, draw_noise(checkpoint.config, options.seed))
    reference: Subject = native(options.against)
    if options.official is not None:
        yaml = Path(checkpoint.folder) / "pipeline.yaml"
        reference = Official(options.official, yaml, options.steps, options.slat_steps)

    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    size = f"{rgb.shape[1]} x {rgb.shape[0]} px"
    print(f"{machine_line()}, {card}, torch {torch.__version__}; {size}, seed {options.seed}\n")
    print(compare(reference, subject, inputs, options.views, options.side_px))


if __name__ == "__main__":
    main()
