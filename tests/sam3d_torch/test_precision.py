"""The whole runtime in every dtype, and on a GPU, against itself in float32 on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from sam3d_gs.sam3d_torch import windows
from sam3d_gs.sam3d_torch.contract import PhotoGeometry, Request, Result, RuntimeOptions
from sam3d_gs.sam3d_torch.gaussian_decoder import GaussianDecoder
from sam3d_gs.sam3d_torch.latent_flow import LatentFlow
from sam3d_gs.sam3d_torch.runtime import Sam3dRuntime
from sam3d_gs.sam3d_torch.structure_flow import StructureFlow
from synthetic.checkpoints import SIZES, RandomNetworks

TOLERANCE = {"fp32": 2e-5, "fp16": 5e-3, "bf16": 3e-2}  # relative; a 16-bit number is exact to 5e-4 or 4e-3
NETWORKS = RandomNetworks(SIZES["tiny"]())
RGB = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
ROWS, COLUMNS = np.mgrid[:60, :80]
MASK = np.hypot(ROWS - 30, COLUMNS - 40) < 14


def make(geometry: PhotoGeometry | None, coords: torch.Tensor | None, **options: Any) -> tuple[PhotoGeometry, Result]:
    runtime = Sam3dRuntime(NETWORKS, RuntimeOptions(steps=3, slat_steps=3, **options))
    seen = runtime.geometry(RGB)
    (made,) = runtime.reconstruct(RGB, geometry or seen, [Request("it", MASK, coords=coords)])
    runtime.close()
    assert isinstance(made, Result), made
    return seen, made


@pytest.fixture(scope="module")
def reference() -> tuple[PhotoGeometry, Result]:
    return make(None, None, device="cpu", dtype="fp32")


def check(reference: tuple[PhotoGeometry, Result], limit: float, **options: Any) -> None:
    geometry, plain = reference
    seen, made = make(geometry, plain.coords, **options)
    there = torch.isfinite(geometry.pointmap) & torch.isfinite(seen.pointmap.cpu())
    assert there.float().mean() > 0.9
    assert distance(seen.pointmap.cpu()[there], geometry.pointmap[there]) < limit
    for name, latent in plain.latents.items():
        assert distance(made.latents[name], latent) < limit, name
    assert distance(made.slat, plain.slat) < limit
    for field in ("means", "scales", "quats", "opacities", "sh0"):
        ours = getattr(made.gaussians, field)
        assert ours.dtype is torch.float32
        assert distance(ours, getattr(plain.gaussians, field)) < limit, field


def distance(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours.cpu().float() - theirs).norm() / theirs.norm())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_16_bits_on_the_cpu(reference: tuple[PhotoGeometry, Result], dtype: str) -> None:
    check(reference, TOLERANCE[dtype], device="cpu", dtype=dtype)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("vram_gib", [None, 1.0])
def test_on_the_gpu(
    reference: tuple[PhotoGeometry, Result], dtype: str, vram_gib: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    check(reference, TOLERANCE[dtype], device="cuda", dtype=dtype, vram_gib=vram_gib)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("index", [1])
def test_on_another_card_than_the_current(reference: tuple[PhotoGeometry, Result], index: int) -> None:
    if torch.cuda.device_count() <= index:
        pytest.skip("one GPU only")
    check(reference, TOLERANCE["fp16"], device=f"cuda:{index}", dtype="fp16")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_the_steps_do_not_wait_for_the_gpu(
    reference: tuple[PhotoGeometry, Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"device": "cuda", "dtype": "fp16"}
    make(*_given(reference), **options)  # kernels are compiled and loaded, which may wait
    calls: list[str] = []

    def watched(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            calls.append(name)
            torch.cuda.set_sync_debug_mode("error")
            try:
                return method(*args)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        return call

    watch: list[tuple[type, str]] = [(StructureFlow, "velocity"), (LatentFlow, "velocity")]
    if windows._flash(torch.device("cuda", torch.cuda.current_device())) is not None:
        watch.append((GaussianDecoder, "forward"))
    for owner, name in watch:
        monkeypatch.setattr(owner, name, watched(owner.__name__, getattr(owner, name)))
    make(*_given(reference), **options)
    assert set(calls) == {owner.__name__ for owner, _ in watch}


def _given(reference: tuple[PhotoGeometry, Result]) -> tuple[PhotoGeometry, torch.Tensor]:
    geometry, plain = reference
    return geometry, plain.coords
