"""Speed and memory of the native runtime at full size, with random weights of the official shapes.

    python benchmarks/native_gpu.py                 # on an NVIDIA GPU: all tables, about three minutes
    python benchmarks/native_gpu.py --only stages   # one table
    python benchmarks/native_gpu.py --size tiny --device cpu   # tests the script

Speed depends on the number of weights, not on their values. The voxels of an object are generated here, as a thin crust
of a lumpy shape, to have a known number. Prints Markdown tables. "Floor" is the time of the arithmetic that remains
after all exact savings, at the GPU's rate for one large matrix product, measured in the same run.
"""

from __future__ import annotations

import argparse
import gc
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from machine import machine_line
from torch import Tensor

from sam3d_gs.engines.objects_native import to_gaussians
from sam3d_gs.sam3d_torch.config import LatentFlowConfig, Sam3dConfig, StructureFlowConfig
from sam3d_gs.sam3d_torch.contract import Failure, PhotoGeometry, Request, Result, RuntimeOptions
from sam3d_gs.sam3d_torch.layers import Groups
from sam3d_gs.sam3d_torch.memory import context_tokens
from sam3d_gs.sam3d_torch.runtime import Sam3dRuntime
from sam3d_gs.sam3d_torch.sampler import network_calls
from sam3d_gs.sam3d_torch.structure_calls import StructureCalls

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the repository root, which holds `synthetic`
from synthetic.checkpoints import SIZES, RandomNetworks

GIB = 1 << 30
TERA = 1e12
VOXELS = (10_000, 27_000, 42_000)
USUAL = 27_000  # of a typical object
PHOTO_PX = (1080, 1440)
OBJECTS = 12
REPEATS = 3
ONE_GROUP, BOTH_GROUPS = Groups(True, False), Groups(True, True)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device, repeats: int = REPEATS) -> float:
    """Median time of several calls, after one to warm up."""
    work()
    took = []
    for _ in range(repeats):
        synchronize(device)
        started = time.perf_counter()
        work()
        synchronize(device)
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def crust(count: int, resolution: int, seed: int = 0) -> Tensor:
    """(count, 3) int32 voxels of a lumpy closed surface about two voxels thick, those nearest to it first."""
    axis = (torch.arange(resolution, dtype=torch.float32) + 0.5) / resolution - 0.5
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    direction = points / points.norm(dim=-1, keepdim=True)
    lumps = torch.zeros(points.shape[:3])
    generator = torch.Generator().manual_seed(seed)
    for k in range(1, 4):
        waves = torch.randn(3, 2, generator=generator) * 2 * k
        lumps += (direction @ waves).sin().prod(-1) / k

    def shell(radius: float, thickness: float) -> Tensor:
        distance = points.norm(dim=-1) - radius * (1 + 0.12 * lumps)
        return distance.abs() < thickness / resolution / 2

    thickness, low, high = 2.0, 0.05, 0.49
    while shell(high, thickness).sum() < count:  # the largest shape is not enough: make it thicker
        thickness += 0.25
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if shell(middle, thickness).sum() < count else (low, middle)
    return torch.argwhere(shell(high, thickness))[:count].int()


@dataclass(frozen=True)
class Work:
    """Floating-point operations for one object; a multiply-add counts as two."""

    structure: float
    latent: float
    decode: float


def transformer_flops(
    tokens: int, config: StructureFlowConfig | LatentFlowConfig, context: int, keys: int | None = None
) -> tuple[float, float]:
    """Operations of one block over `tokens` tokens: per group, and additionally for cross-attention to the context."""
    width = config.width
    own = 2 * tokens * width * width * (4 + 2 * config.mlp_ratio) + 4 * tokens * (keys or tokens) * width
    look = 4 * tokens * width * width + 4 * tokens * context * width
    return own, look


def flops(config: Sam3dConfig, runtime: Sam3dRuntime, voxels: int, tokens: int, pairs: tuple[int, int]) -> Work:
    """The operations that remain after the exact savings.

    Args:
        config: configuration of the networks.
        runtime: has the numbers of steps.
        voxels: number of occupied voxels.
        tokens: number of voxels after pooling.
        pairs: numbers of existing neighbours, at full and at half resolution.
    """
    flow, context = config.structure_flow, context_tokens(config.structure_condition)
    own, look = transformer_flops(flow.latents["shape"].tokens, flow, context)
    sampler = runtime.effort.structure
    structure = flow.blocks * (network_calls(sampler) * own + sampler.steps * look)
    structure += flow.blocks * 4 * context * flow.cond_width * flow.width  # keys and values, once

    latent_flow, context = config.latent_flow, context_tokens(config.latent_condition)
    own, look = transformer_flops(tokens, latent_flow, context)
    sampler = runtime.effort.latent
    calls = network_calls(sampler)
    width, io = latent_flow.width, latent_flow.io_channels[0]
    fine, coarse = pairs
    down = 2 * fine * 2 * io * io + 2 * coarse * (io * width + width * width)
    up = 2 * tokens * 27 * 2 * width * io + 2 * fine * (io * io + 2 * io * io + io * io)
    latent = latent_flow.blocks * (calls * own + sampler.steps * look) + sampler.steps * down + calls * up
    latent += latent_flow.blocks * 4 * context * latent_flow.cond_width * width

    decoder = config.gaussian_decoders[runtime.effort.gaussians_per_voxel]
    window = 150  # voxels that share a window with one, on such a crust
    decode = decoder.blocks * voxels * (2 * decoder.width**2 * (4 + 2 * decoder.mlp_ratio) + 4 * window * decoder.width)
    return Work(structure, latent, decode)


def product_rate(device: torch.device, dtype: torch.dtype, side: int = 8192) -> float:
    """Operations per second in one large product of random matrices."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / seconds(lambda: a @ b, device, 10)


class Bench:
    """The networks, built once, and the options of all tables."""

    def __init__(self, size: str, device: torch.device, dtype: str) -> None:
        made = SIZES[size]()
        self.tiny = size == "tiny"
        self.source = RandomNetworks(made, seed=0, device=device)
        self.config = made.config
        self.device, self.dtype = device, dtype
        height, width = (120, 160) if self.tiny else PHOTO_PX
        generator = np.random.default_rng(0)
        coarse = generator.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
        self.rgb = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
        rows, columns = np.mgrid[:height, :width]
        self.mask = np.hypot(rows - height / 2, columns - width / 2) < height / 4
        z = 2 + 0.2 * torch.rand(height, width)
        x, y = (torch.from_numpy(a.astype(np.float32)) for a in (columns / width - 0.5, rows / width - 0.375))
        pointmap = torch.stack([-x * z, -y * z, z], dim=-1).to(device)
        self.geometry = PhotoGeometry(
            pointmap, np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]]), "none"
        )

    def runtime(self, **options: object) -> Sam3dRuntime:
        return Sam3dRuntime(self.source, RuntimeOptions(**{"device": str(self.device), "dtype": self.dtype, **options}))  # type: ignore[arg-type]

    def request(self, voxels: int, seed: int = 0) -> Request:
        resolution = self.config.latent_flow.resolution
        count = voxels // 50 if self.tiny else voxels
        return Request(f"object {seed}", self.mask, seed, coords=crust(count, resolution, seed))

    def make(self, runtime: Sam3dRuntime, requests: Sequence[Request]) -> list[Result]:
        results = []
        for made in runtime.reconstruct(self.rgb, self.geometry, requests):
            if isinstance(made, Failure):
                raise SystemExit(f"{made.object_id}: {made.reason}")
            results.append(made)
        return results

    @contextmanager
    def peak(self) -> Iterator[list[float]]:
        """A list that gets the peak memory of the block, as reserved by the allocator, in GiB."""
        held: list[float] = []
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        yield held
        held.append(torch.cuda.max_memory_reserved(self.device) / GIB if self.device.type == "cuda" else math.nan)


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def head(*names: str) -> None:
    row(*names)
    print("|" + "---|" * len(names))


def table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    head(*names)
    for cells in rows:
        row(*cells)
    print(flush=True)


def print_stages(bench: Bench) -> None:
    """Print milliseconds of every step for several numbers of voxels, and the ratio of the flows to their floor."""
    rate = product_rate(bench.device, bench.runtime().dtype, 512 if bench.tiny else 8192)
    print(f"One 8192^3 product in {bench.runtime().dtype}: {rate / TERA:.0f} TFLOP/s\n")
    runtime = bench.runtime(timed=True)
    rows = []
    for voxels in VOXELS:
        request = bench.request(voxels)
        runs = [bench.make(runtime, [request])[0] for _ in range(REPEATS + 1)][1:]
        steps = {name: statistics.median(run.seconds[name] for run in runs) for name in runs[0].seconds}
        total = statistics.median(sum(v for k, v in run.seconds.items() if k != "photo") for run in runs)
        made = runtime._network("latent_flow").voxels([runs[0].coords])
        pairs = tuple(int((level.neighbours < len(level)).sum()) for level in made.levels)
        work = flops(bench.config, runtime, len(runs[0].coords), len(made.levels[-1]), (pairs[0], pairs[-1]))
        floor = (work.structure + work.latent + work.decode) / rate

        def cell(name: str, operations: float, steps: Mapping[str, float] = steps) -> str:
            rate_share = operations / rate / steps[name]
            return f"{steps[name] * 1e3:.0f} ({operations / steps[name] / TERA:.0f}, {rate_share:.0%})"

        rows.append(
            [
                f"{len(runs[0].coords):,}",
                f"{len(made.levels[-1]):,}",
                f"{(steps['preprocess'] + steps['condition']) * 1e3:.0f}",
                cell("structure", work.structure),
                f"{steps['occupancy'] * 1e3:.0f}",
                cell("latent", work.latent),
                cell("decode", work.decode),
                f"{total * 1e3:.0f}",
                f"{floor * 1e3:.0f}",
                f"{floor / total:.0%}",
            ]
        )
    names = ["voxels", "pooled", "crop and condition", "structure", "occupancy", "latent", "Gaussians", "object"]
    names += ["floor", "of floor"]
    print("Milliseconds an object, normal preset (TFLOP/s, share of the product's rate):\n")
    table(names, rows)


def print_batches(bench: Bench) -> None:
    """Print timings of several objects in one batch."""
    rows = []
    for batch in (1, 2, 4):
        runtime = bench.runtime(batch=batch)
        requests = [bench.request(USUAL, i) for i in range(batch)]
        with bench.peak() as held:
            took = seconds(lambda: bench.make(runtime, requests), bench.device, 2)  # noqa: B023
        rows.append([batch, f"{took / batch:.2f}", f"{held[0]:.1f}"])
        runtime.close()
    print(f"Objects in one pass, {USUAL:,} voxels each:\n")
    table(["objects", "seconds an object", "peak GiB"], rows)


def print_presets(bench: Bench) -> None:
    """Print seconds and memory by preset, dtype and memory budget."""
    settings: list[tuple[str, Mapping[str, object]]] = [
        ("draft", {"preset": "draft"}),
        ("normal", {}),
        ("normal, --vram 8", {"vram_gib": 8.0}),
        ("normal, --vram 6", {"vram_gib": 6.0}),
        ("normal, --vram 4", {"vram_gib": 4.0}),
        ("quality", {"preset": "quality"}),
        ("normal, the other 16-bit dtype", {"dtype": "bf16" if bench.dtype != "bf16" else "fp16"}),
    ]
    print(f"One object of {USUAL:,} voxels; the first call makes or loads the weights:\n")
    head("setting", "first call, s", "seconds", "peak GiB")
    for name, options in settings:
        runtime = bench.runtime(**options)
        request = bench.request(USUAL)
        try:
            with bench.peak() as held:
                started = time.perf_counter()
                bench.make(runtime, [request])
                synchronize(bench.device)
                first = time.perf_counter() - started
                took = seconds(lambda: bench.make(runtime, [request]), bench.device, 2)  # noqa: B023
            row(name, f"{first:.1f}", f"{took:.2f}", f"{held[0]:.1f}")
        except SystemExit as error:
            row(name, "", error, "")
        runtime.close()
    print(flush=True)


def print_photo(bench: Bench) -> None:
    """Print timings of a whole photo: depth, and twelve objects one after another."""
    runtime = bench.runtime()
    requests = [bench.request(USUAL, i) for i in range(OBJECTS)]
    runtime.geometry(bench.rgb)
    bench.make(runtime, requests[:1])
    with bench.peak() as held:
        synchronize(bench.device)
        started = time.perf_counter()
        runtime.geometry(bench.rgb)
        synchronize(bench.device)
        depth = time.perf_counter() - started
        gaussians = 0
        for made in runtime.reconstruct(bench.rgb, bench.geometry, requests):
            if isinstance(made, Failure):
                raise SystemExit(f"{made.object_id}: {made.reason}")
            gaussians += len(to_gaussians(made.gaussians).means)  # on the host, as the engine takes them
        synchronize(bench.device)
        took = time.perf_counter() - started
    print(f"A photo of {PHOTO_PX[1]} x {PHOTO_PX[0]} px with {OBJECTS} objects of {USUAL:,} voxels, weights loaded:\n")
    table(
        ["depth, s", "all, s", "peak GiB", "Gaussians"],
        [[f"{depth:.2f}", f"{took:.1f}", f"{held[0]:.1f}", f"{gaussians:,}"]],
    )


def print_savings(bench: Bench) -> None:
    """Print the time that each exact saving saves per object, from single calls of the networks."""
    with torch.inference_mode():
        rows = structure_savings(bench) + latent_savings(bench) + image_savings(bench)
    print("Time saved per object by the exact savings:\n")
    table(["saving", "measured", "an object"], rows)


def structure_savings(bench: Bench) -> list[list[str]]:
    runtime, device, config = bench.runtime(), bench.device, bench.config
    flow = runtime._network("structure_flow")
    tokens = torch.randn(1, context_tokens(config.structure_condition), config.structure_flow.cond_width, device=device)
    latents = {n: torch.randn(1, c.tokens, c.channels, device=device) for n, c in config.structure_flow.latents.items()}
    modulation = flow.modulations(torch.zeros(1, device=device), torch.zeros(1, device=device))[0]
    context, empty = flow.context(tokens), flow.empty_context()
    double = replace(
        context,
        tokens=context.tokens.repeat(2, 1, 1),
        shape_kv=tuple(kv.repeat(2, 1, 1, 1, 1) for kv in context.shape_kv),
    )
    pair = {n: v.repeat(2, 1, 1) for n, v in latents.items()}
    single = seconds(lambda: flow.velocity(latents, modulation, context, empty, ONE_GROUP), device)
    guided = seconds(lambda: flow.velocity(latents, modulation, context, empty, BOTH_GROUPS), device)
    full = seconds(lambda: flow.velocity(pair, modulation, double, empty, ONE_GROUP), device)
    kv = seconds(lambda: flow.context(tokens), device)
    recorded = StructureCalls(flow)
    recorded.look_at(tokens)
    quick_single = seconds(lambda: recorded.velocity(latents, modulation, ONE_GROUP), device)
    quick_guided = seconds(lambda: recorded.velocity(latents, modulation, BOTH_GROUPS), device)
    steps, calls = runtime.effort.structure.steps, network_calls(runtime.effort.structure)
    gain_s = (2 * steps - calls) * (single - quick_single) + (calls - steps) * (guided - quick_guided)
    return [
        ["structure: a call; a guided call", f"{ms(single)}; {ms(guided)} ms", ""],
        [
            "structure: recorded, the pose on a side stream",
            f"{ms(quick_single)}; {ms(quick_guided)} ms",
            f"{gain_s * 1e3:.0f} ms",
        ],
        [
            "structure: guided rows without attention to zeros",
            f"{ms(full)} -> {ms(guided)} ms",
            f"{(calls - steps) * (full - guided) * 1e3:.0f} ms",
        ],
        ["structure: keys and values once, not every call", f"{ms(kv)} ms", f"{(calls - 1) * kv * 1e3:.0f} ms"],
    ]


def latent_savings(bench: Bench) -> list[list[str]]:
    runtime, device, config = bench.runtime(), bench.device, bench.config
    flow = runtime._network("latent_flow")
    coords = bench.request(USUAL).coords
    assert coords is not None
    coords = coords.to(device)
    tokens = torch.randn(1, context_tokens(config.latent_condition), config.latent_flow.cond_width, device=device)
    voxels, context = flow.voxels([coords]), flow.context(tokens)
    step = flow.modulations(torch.zeros(1, device=device)).step(0)
    state = torch.randn(len(coords), config.latent_flow.in_channels, device=device)
    single = seconds(lambda: flow.velocity(state, voxels, step, context, ONE_GROUP), device)
    guided = seconds(lambda: flow.velocity(state, voxels, step, context, BOTH_GROUPS), device)
    twice, two_context = flow.voxels([coords, coords]), flow.context(tokens.repeat(2, 1, 1))
    full = seconds(lambda: flow.velocity(state.repeat(2, 1), twice, step, two_context, ONE_GROUP), device)
    kv = seconds(lambda: flow.context(tokens), device)
    table_s = seconds(lambda: flow.voxels([coords]), device)
    steps, calls = runtime.effort.latent.steps, network_calls(runtime.effort.latent)
    return [
        ["latent: a call; a guided call", f"{ms(single)}; {ms(guided)} ms", ""],
        [
            "latent: guided rows share the way down, no attention to zeros",
            f"{ms(full)} -> {ms(guided)} ms",
            f"{(calls - steps) * (full - guided) * 1e3:.0f} ms",
        ],
        ["latent: keys and values once", f"{ms(kv)} ms", f"{(calls - 1) * kv * 1e3:.0f} ms"],
        ["latent: neighbours once", f"{ms(table_s)} ms", f"{(calls - 1) * table_s * 1e3:.0f} ms"],
    ]


def image_savings(bench: Bench) -> list[list[str]]:
    runtime, device, size_px = bench.runtime(), bench.device, bench.config.preprocess.size_px
    condition = runtime._network("structure_condition")
    dino = next(iter(condition.module_list))
    images = torch.rand(1, 3, size_px, size_px, device=device)
    three = images.repeat(3, 1, 1, 1)
    alone = seconds(lambda: dino.backbone(images), device)
    together = seconds(lambda: dino.backbone(three), device)
    depth = seconds(lambda: runtime.geometry(bench.rgb), device)
    return [
        [
            "DINO: 8 passes an object -> one of 3 pictures",
            f"{ms(8 * alone)} -> {ms(together)} ms",
            f"{(8 * alone - together) * 1e3:.0f} ms",
        ],
        [
            "depth once a photo, not once an object",
            f"{depth * 1e3:.0f} ms",
            f"{depth * (OBJECTS - 1) / OBJECTS * 1e3:.0f} ms with {OBJECTS} objects",
        ],
    ]


def ms(duration_s: float) -> str:
    return f"{duration_s * 1e3:.1f}"


def print_trajectories(bench: Bench) -> None:
    """Print the difference of 16-bit results from float32 ones, with the same noise and random weights."""
    runtimes = {dtype: bench.runtime(dtype=dtype, steps=10, slat_steps=10) for dtype in ("fp32", "fp16", "bf16")}
    results = {}
    for dtype, runtime in runtimes.items():
        free = Request("free", bench.mask, 0)
        own = bench.make(runtime, [free])[0]
        given = bench.make(runtime, [bench.request(VOXELS[0])])[0]
        results[dtype] = own, given
        runtime.close()
    rows = []
    reference, given = results["fp32"]
    for dtype in ("fp16", "bf16"):
        own, same = results[dtype]
        a, b = ({tuple(v) for v in r.coords.tolist()} for r in (reference, own))
        shape = (own.latents["shape"] - reference.latents["shape"]).norm() / reference.latents["shape"].norm()
        slat = (same.slat - given.slat).norm() / given.slat.norm()
        rows.append(
            [dtype, f"{len(a & b) / len(a | b):.3f}", f"{shape:.1e}", f"{slat:.1e}", f"{psnr_db(given, same):.1f}"]
        )
    print("16 bits against float32, same noise (random weights, 10 + 10 steps):\n")
    table(["dtype", "occupancy IoU", "shape latent", "voxel latents, same voxels", "render PSNR dB, 8 views"], rows)


def psnr_db(reference: Result, other: Result) -> float:
    """Median over eight views."""
    from native_parity import psnr_db as of_gaussians

    return statistics.median(of_gaussians(to_gaussians(reference.gaussians), to_gaussians(other.gaussians), 8, 256))


TABLES: Mapping[str, Callable[[Bench], None]] = {
    "stages": print_stages,
    "batches": print_batches,
    "presets": print_presets,
    "photo": print_photo,
    "savings": print_savings,
    "trajectories": print_trajectories,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=TABLES, action="append", help="print only this table; can be repeated")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", choices=("fp16", "bf16", "fp32"), default="fp16")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("No NVIDIA GPU here. Use --size tiny --device cpu to test the script.")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    print(f"{name}; PyTorch {torch.__version__}; {machine_line()}; {arguments.size} size, {arguments.dtype}\n")
    bench = Bench(arguments.size, device, arguments.dtype)
    for table_name in arguments.only or TABLES:
        TABLES[table_name](bench)


if __name__ == "__main__":
    main()
