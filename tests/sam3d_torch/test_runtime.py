"""The runtime from photo to Gaussians, with a tiny random network on the CPU."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sam3d_gs.errors import BadInputError
from sam3d_gs.sam3d_torch import runtime as module
from sam3d_gs.sam3d_torch.contract import Failure, PhotoGeometry, Request, Result, RuntimeOptions
from sam3d_gs.sam3d_torch.dino import DinoVit
from sam3d_gs.sam3d_torch.runtime import Sam3dRuntime, choose_dtype, object_seed
from synthetic.checkpoints import SIZES, RandomNetworks

HEIGHT, WIDTH = 60, 80
ALMOST_NOTHING_GIB = 1e-6  # every stage in a pass of its own
FAST = RuntimeOptions(preset="draft", slat_steps=2, steps=2)


@pytest.fixture(scope="module")
def networks() -> RandomNetworks:
    return RandomNetworks(SIZES["tiny"]())


@pytest.fixture(scope="module")
def runtime(networks: RandomNetworks) -> Sam3dRuntime:
    return Sam3dRuntime(networks, FAST)


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def geometry(runtime: Sam3dRuntime, rgb: np.ndarray) -> PhotoGeometry:
    return runtime.geometry(rgb)


def disc(x_px: float, radius_px: float = 12) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.hypot(x - x_px, y - 30) < radius_px


def requests(count: int = 2) -> list[Request]:
    return [Request(f"object-{i}", disc(20 + 18 * i), object_seed(0, f"object-{i}")) for i in range(count)]


def same(a: Result | Failure, b: Result | Failure) -> bool:
    assert isinstance(a, Result) and isinstance(b, Result)
    assert a.object_id == b.object_id
    return torch.equal(a.gaussians.means, b.gaussians.means) and np.array_equal(a.pose.translation, b.pose.translation)


@pytest.fixture(scope="module")
def made(runtime: Sam3dRuntime, rgb: np.ndarray, geometry: PhotoGeometry) -> list[Result | Failure]:
    return list(runtime.reconstruct(rgb, geometry, requests()))


def test_every_mask_becomes_finite_gaussians_with_a_pose(made: list[Result | Failure], runtime: Sam3dRuntime) -> None:
    for result in made:
        assert isinstance(result, Result)
        fields = result.gaussians
        assert len(fields.means) == 4 * len(result.coords) > 400  # draft: 4 per voxel
        for tensor in (fields.means, fields.scales, fields.quats, fields.opacity_logits, fields.sh0, result.slat):
            assert torch.isfinite(tensor).all()
        assert fields.means.abs().max() <= 0.55
        assert result.pose.scale > 0
        assert not result.seconds  # nobody asked
    assert len({len(r.coords) for r in made if isinstance(r, Result)}) == len(made)


def test_geometry_speaks_of_this_photo(geometry: PhotoGeometry) -> None:
    assert geometry.pointmap.shape == (HEIGHT, WIDTH, 3)
    assert geometry.scale_source == "arbitrary (MoGe)"
    np.testing.assert_allclose(geometry.K[:2, 2], [WIDTH / 2, HEIGHT / 2])
    assert geometry.K[0, 0] == pytest.approx(geometry.K[1, 1], rel=1e-3)  # square pixels
    valid = torch.isfinite(geometry.pointmap).all(-1)
    assert valid.float().mean() > 0.9
    assert (geometry.pointmap[valid][:, 2] > 0).all()
    assert geometry.pointmap[0, 0, 0] > geometry.pointmap[0, -1, 0]  # x left


@pytest.mark.slow
def test_a_result_does_not_depend_on_the_company(
    runtime: Sam3dRuntime, rgb: np.ndarray, geometry: PhotoGeometry, made: list[Result | Failure]
) -> None:
    alone = [next(runtime.reconstruct(rgb, geometry, [request])) for request in reversed(requests())]
    assert all(same(a, b) for a, b in zip(reversed(alone), made, strict=True))


@pytest.mark.slow
def test_another_seed_is_another_object(runtime: Sam3dRuntime, rgb: np.ndarray, geometry: PhotoGeometry) -> None:
    first, second = runtime.reconstruct(rgb, geometry, [Request("a", disc(40), 1), Request("a", disc(40), 2)])
    assert isinstance(first, Result) and isinstance(second, Result)
    assert len(first.coords) != len(second.coords)
    assert object_seed(0, "a") != object_seed(0, "b") != object_seed(1, "b")
    assert object_seed(0, "a") == 2649998842  # a released seed never changes


@pytest.mark.slow
def test_a_small_budget_gives_the_same_objects_one_by_one(
    networks: RandomNetworks,
    rgb: np.ndarray,
    geometry: PhotoGeometry,
    made: list[Result | Failure],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    frugal = Sam3dRuntime(networks, replace(FAST, vram_gib=ALMOST_NOTHING_GIB))
    together, latent_calls = [], Counter[str]()
    sample = module.sample_latent_batch

    def watched(*args: Any) -> list[Tensor]:
        latent_calls["latent"] += 1
        together.append(set(frugal._networks))
        return sample(*args)

    monkeypatch.setattr(module, "sample_latent_batch", watched)
    assert [len(stages) for stages in frugal.plan(HEIGHT * WIDTH).passes] == [1, 1, 1, 1]
    results = frugal.reconstruct(rgb, geometry, requests())
    first = next(results)
    assert latent_calls["latent"] == 1
    assert all(same(a, b) for a, b in zip([first, *results], made, strict=True))
    assert together == [{"latent_flow", "gaussian_decoder"}] * 2
    assert "more than may be used" in caplog.text


@pytest.mark.slow
def test_dino_looks_once_at_the_photo_and_once_at_every_object(
    networks: RandomNetworks, rgb: np.ndarray, geometry: PhotoGeometry, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures: list[int] = []
    forward = DinoVit.forward

    def counted(self: DinoVit, x: Tensor) -> Any:
        pictures.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(DinoVit, "forward", counted)
    list(Sam3dRuntime(networks, FAST).reconstruct(rgb, geometry, requests()))
    assert pictures == [1, 3, 3]  # the full view; then image, mask and full-view mask, for both stages


@pytest.mark.slow
def test_a_batch_agrees_up_to_rounding(
    networks: RandomNetworks, rgb: np.ndarray, geometry: PhotoGeometry, made: list[Result | Failure]
) -> None:
    batched = Sam3dRuntime(networks, replace(FAST, batch=2)).reconstruct(rgb, geometry, requests())
    for a, b in zip(batched, made, strict=True):
        assert isinstance(a, Result) and isinstance(b, Result)
        np.testing.assert_allclose(a.pose.translation, b.pose.translation, rtol=1e-4)
        assert torch.equal(a.coords, b.coords)
        torch.testing.assert_close(a.gaussians.means, b.gaussians.means, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_timings_only_when_asked(networks: RandomNetworks, rgb: np.ndarray, geometry: PhotoGeometry) -> None:
    (result,) = Sam3dRuntime(networks, replace(FAST, timed=True)).reconstruct(rgb, geometry, requests(1))
    assert isinstance(result, Result)
    steps = {"photo", "preprocess", "condition", "structure", "occupancy", "latent", "decode"}
    assert result.seconds.keys() == steps
    assert all(seconds > 0 for seconds in result.seconds.values())


@pytest.mark.slow
def test_injected_noise_and_voxels_are_taken(
    runtime: Sam3dRuntime, rgb: np.ndarray, geometry: PhotoGeometry, made: list[Result | Failure]
) -> None:
    reference = made[0]
    assert isinstance(reference, Result)
    plain = requests(1)[0]
    coords = reference.coords[::2]
    noise = torch.zeros(len(coords), 8)
    (given,) = runtime.reconstruct(rgb, geometry, [replace(plain, coords=coords, latent_noise=noise)])
    assert isinstance(given, Result)
    assert torch.equal(given.coords, coords)
    np.testing.assert_array_equal(given.pose.translation, reference.pose.translation)
    drawn = module.structure_noise(runtime.config.structure_flow, module._generator(plain.seed, 1), "cpu")
    (again,) = runtime.reconstruct(rgb, geometry, [replace(plain, seed=9, structure_noise=drawn)])
    assert isinstance(again, Result)
    assert torch.equal(again.coords, reference.coords)
    assert not torch.equal(again.slat, reference.slat)


def test_the_latent_is_brought_back_to_its_own_scale(
    runtime: Sam3dRuntime, rgb: np.ndarray, geometry: PhotoGeometry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "sample_latent_batch", lambda flow, coords, *_: [torch.full((len(coords[0]), 8), 2.0)])
    (result,) = runtime.reconstruct(rgb, geometry, requests(1))
    assert isinstance(result, Result)
    expected = torch.tensor(runtime.config.latent_mean) + 2 * torch.tensor(runtime.config.latent_std)
    torch.testing.assert_close(result.slat, expected.expand_as(result.slat))


def failing(times: int, when: Callable[[Any], bool], original: Callable[..., Any]) -> Callable[..., Any]:
    left = [times]

    def work(*args: Any) -> Any:
        if left[0] and when(args):
            left[0] -= 1
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return original(*args)

    return work


@pytest.mark.slow
def test_out_of_memory_once_is_tried_again_with_less_on_the_device(
    networks: RandomNetworks,
    rgb: np.ndarray,
    geometry: PhotoGeometry,
    made: list[Result | Failure],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime = Sam3dRuntime(networks, FAST)
    there: list[set[str]] = []
    sample = failing(1, lambda args: True, module.sample_latent_batch)

    def watched(*args: Any) -> Any:
        there.append(set(runtime._networks))
        return sample(*args)

    monkeypatch.setattr(module, "sample_latent_batch", watched)
    results = list(runtime.reconstruct(rgb, geometry, requests()))
    assert all(same(a, b) for a, b in zip(results, made, strict=True))
    assert "structure_flow" in there[0]
    assert there[1] == {"latent_flow", "gaussian_decoder"}


@pytest.mark.slow
def test_an_object_that_never_fits_fails_alone(
    networks: RandomNetworks,
    rgb: np.ndarray,
    geometry: PhotoGeometry,
    made: list[Result | Failure],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reference = made[1]
    assert isinstance(reference, Result)
    large = len(reference.coords)
    watched = failing(99, lambda args: any(len(c) == large for c in args[1]), module.sample_latent_batch)
    monkeypatch.setattr(module, "sample_latent_batch", watched)
    for batch in (1, 2):
        runtime = Sam3dRuntime(networks, replace(FAST, batch=batch))
        results = {r.object_id: r for r in runtime.reconstruct(rgb, geometry, requests())}
        lost = results.pop("object-1")
        assert isinstance(lost, Failure)
        assert lost.reason == f"Not enough memory on cpu in the latent stage ({large} voxels)."
        assert all(isinstance(result, Result) for result in results.values())
        assert len(results) == 1


def test_other_errors_are_not_hidden(
    runtime: Sam3dRuntime, rgb: np.ndarray, geometry: PhotoGeometry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any) -> Any:
        raise RuntimeError("shape mismatch")

    monkeypatch.setattr(module, "sample_structure", broken)
    with pytest.raises(RuntimeError, match="shape mismatch"):
        list(runtime.reconstruct(rgb, geometry, requests(1)))


def reason_of(runtime: Sam3dRuntime, rgb: np.ndarray, geometry: PhotoGeometry, request: Request) -> str:
    """The first of two objects fails; the other one does not mind."""
    results = {r.object_id: r for r in runtime.reconstruct(rgb, geometry, [request, *requests(1)])}
    assert isinstance(results["object-0"], Result)
    lost = results[request.object_id]
    assert isinstance(lost, Failure)
    assert "\n" not in lost.reason and lost.reason.endswith(".")
    return lost.reason


@pytest.mark.slow
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize(("function", "stage"), [("sample_structure", "first"), ("sample_latent_batch", "second")])
def test_numbers_that_are_none_fail_their_object(
    runtime: Sam3dRuntime,
    rgb: np.ndarray,
    geometry: PhotoGeometry,
    monkeypatch: pytest.MonkeyPatch,
    number: float,
    function: str,
    stage: str,
) -> None:
    original, spoilt = getattr(module, function), []

    def spoil(*args: Any) -> Any:
        result = original(*args)
        if not spoilt:
            spoilt.append(1)
            first = result["scale"] if isinstance(result, dict) else result[0]
            first.view(-1)[0] = number
        return result

    monkeypatch.setattr(module, function, spoil)
    reason = reason_of(runtime, rgb, geometry, Request("bad", disc(50)))
    assert reason == f"The {stage} stage gave NaN or infinite values. Try another --seed."


@pytest.mark.slow
def test_logits_that_are_none_are_not_taken_for_emptiness(
    runtime: Sam3dRuntime, rgb: np.ndarray, geometry: PhotoGeometry, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = runtime._network("structure_decoder")
    original, calls = decoder.forward, []

    def spoilt(latent: Tensor) -> Tensor:
        calls.append(1)
        return original(latent) * (math.nan if len(calls) == 1 else 1)

    monkeypatch.setattr(decoder, "forward", spoilt)
    assert "The first stage gave NaN" in reason_of(runtime, rgb, geometry, Request("bad", disc(50)))


@pytest.mark.slow
def test_no_voxel_fails_the_object(
    runtime: Sam3dRuntime, rgb: np.ndarray, geometry: PhotoGeometry, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = module.surface, []

    def empty_first(logits: Tensor) -> Tensor:
        calls.append(1)
        return original(logits)[: 0 if len(calls) == 1 else None]

    monkeypatch.setattr(module, "surface", empty_first)
    assert "no voxel occupied" in reason_of(runtime, rgb, geometry, Request("bad", disc(50)))


def one_pixel() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[3, 7] = True
    return mask


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (np.zeros((HEIGHT, WIDTH), bool), "Its mask is empty"),
        (one_pixel(), "Its mask spans only 1 x 1 px"),
        (np.ones((10, 20), bool), "Its mask is 20 x 10 px, the photo 80 x 60 px"),
    ],
)
def test_unusable_masks_say_why(
    runtime: Sam3dRuntime, rgb: np.ndarray, geometry: PhotoGeometry, mask: np.ndarray, reason: str
) -> None:
    assert reason_of(runtime, rgb, geometry, Request("bad", mask)).startswith(reason)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["whole photo", "every border", "two parts", "corner"])
def test_odd_masks_give_objects(runtime: Sam3dRuntime, rgb: np.ndarray, geometry: PhotoGeometry, kind: str) -> None:
    mask = np.ones((HEIGHT, WIDTH), bool)
    if kind == "every border":
        mask[5:-5, 5:-5] = False
    elif kind == "two parts":
        mask = disc(15, 6) | disc(65, 6)
    elif kind == "corner":
        mask = np.zeros((HEIGHT, WIDTH), bool)
        mask[-4:, -4:] = True
    (result,) = runtime.reconstruct(rgb, geometry, [Request("odd", mask)])
    assert isinstance(result, Result)


@pytest.mark.slow
def test_depth_that_is_not_there(runtime: Sam3dRuntime, rgb: np.ndarray, geometry: PhotoGeometry) -> None:
    pointmap = geometry.pointmap.clone()
    pointmap[:, 40:] = torch.nan
    holed = replace(geometry, pointmap=pointmap)
    assert "no valid depth" in reason_of(runtime, rgb, holed, Request("bad", disc(60)))
    nothing = replace(geometry, pointmap=torch.full_like(pointmap, torch.nan))
    results = list(runtime.reconstruct(rgb, nothing, requests()))
    assert all(isinstance(r, Failure) and "no valid depth" in r.reason for r in results)


@pytest.mark.slow
def test_sixteen_bits_give_about_the_same_object(
    networks: RandomNetworks, rgb: np.ndarray, geometry: PhotoGeometry, made: list[Result | Failure]
) -> None:
    (half,) = Sam3dRuntime(networks, replace(FAST, dtype="bf16")).reconstruct(rgb, geometry, requests(1))
    full = made[0]
    assert isinstance(half, Result) and isinstance(full, Result)
    np.testing.assert_allclose(half.pose.translation, full.pose.translation, atol=0.05)
    assert len(half.coords) == pytest.approx(len(full.coords), rel=0.1)


def test_dtype_by_name() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("auto", cpu, "float16") is torch.float32
    assert choose_dtype("auto", torch.device("cuda"), "float16") is torch.float16
    assert choose_dtype("bf16", cpu, "float16") is torch.bfloat16


def test_a_decoder_that_is_not_there(networks: RandomNetworks) -> None:
    with pytest.raises(BadInputError, match="no decoder for 7 Gaussians per voxel"):
        Sam3dRuntime(networks, RuntimeOptions(gaussians_per_voxel=7))
