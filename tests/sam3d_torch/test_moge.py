"""MoGe v1 outside the recorded numbers: its configuration, odd photos, photos without points, 16-bit weights."""

from __future__ import annotations

import dataclasses
import math

import pytest

pytest.importorskip("torch")

import torch

from sam3d_gs.errors import BadInputError
from sam3d_gs.sam3d_torch.config import IMAGE_MEAN, IMAGE_STD, VITS
from sam3d_gs.sam3d_torch.moge import MogeConfig, MogeV1, remap, resized_size
from tests.sam3d_torch.test_dino import PLAIN, randomised

CONFIG = MogeConfig(
    vit=PLAIN,
    layers=2,
    projected=16,
    upsampled=(32, 16),
    hidden_multiple=2,
    res_blocks=1,
    norm="group_norm",
    last_res_blocks=1,
    last_channels=16,
    last_kernel_px=3,
    remap="exp",
    mask_threshold=0.5,
    tokens=30,
)
OFFICIAL = {
    "encoder": "dinov2_vitl14",
    "remap_output": "exp",
    "intermediate_layers": 4,
    "dim_proj": 512,
    "dim_upsample": [256, 128, 64],
    "dim_times_res_block_hidden": 2,
    "num_res_blocks": 2,
    "last_conv_channels": 32,
    "last_conv_size": 1,
    "trained_area_range": [250000, 500000],
    "split_head": True,  # a key of an older version
}


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


def network(config=CONFIG, mask_bias=1.0):
    model = randomised(MogeV1(config))
    for buffer, values in ((model.image_mean, IMAGE_MEAN), (model.image_std, IMAGE_STD)):
        buffer.copy_(torch.tensor(values).view(1, 3, 1, 1))
    model.head.output_block[1][-1].weight.mul_(0.1)
    model.head.output_block[1][-1].bias.fill_(mask_bias)
    return model


def photo(height=30, width=44, seed=2):
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def test_points_are_the_networks_moved_by_the_shift():
    model, rgb = network(), photo()
    geometry = model.infer(rgb)
    raw, score = model(rgb.permute(2, 0, 1)[None] / 255)
    assert geometry.points.shape == (30, 44, 3)
    assert torch.equal(geometry.mask, score[0] > 0.5)
    assert geometry.mask.any()
    inside = geometry.mask
    torch.testing.assert_close(geometry.points[inside][:, :2], raw[0][inside][:, :2])
    torch.testing.assert_close(geometry.depth[inside], raw[0][inside][:, 2] + geometry.shift)
    assert geometry.points[~inside].isposinf().all()
    fx, fy = geometry.intrinsics[0, 0], geometry.intrinsics[1, 1]
    torch.testing.assert_close(fx * 44, fy * 30)


def test_bytes_and_floats_are_the_same_photo():
    model, rgb = network(), photo()
    for other in (rgb.numpy(), rgb.permute(2, 0, 1) / 255):
        torch.testing.assert_close(model.infer(other).points, model.infer(rgb).points)


def test_a_photo_without_points_is_all_invalid():
    geometry = network(mask_bias=-9.0).infer(photo())
    assert not geometry.mask.any()
    assert geometry.points.isposinf().all()
    assert geometry.depth.isposinf().all()
    assert (geometry.focal, geometry.shift) == (1.0, 0.0)
    assert geometry.intrinsics.isfinite().all()


@pytest.mark.parametrize(("height", "width"), [(5, 5), (3, 200), (200, 3), (1, 64)])
def test_small_and_narrow_photos(height, width):
    geometry = network().infer(photo(height, width))
    assert geometry.points.shape == (height, width, 3)
    assert geometry.points[geometry.mask].isfinite().all()


def test_blocks_may_be_listed():
    model = network()
    listed = network(dataclasses.replace(CONFIG, layers=(2, 3)))
    listed.load_state_dict(model.state_dict())
    torch.testing.assert_close(listed.infer(photo()).points, model.infer(photo()).points)


def test_resized_photo_has_the_area_and_the_aspect():
    height, width = resized_size(3000, 4000, 2551, 14)
    assert height * width == pytest.approx(2551 * 14**2, rel=2e-3)
    assert width / height == pytest.approx(4 / 3, rel=2e-3)
    assert min(resized_size(1, 9000, 100, 14)) >= 14


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("linear", (1.0, -2.0, 0.5)),
        ("exp", (math.exp(0.5), -2 * math.exp(0.5), math.exp(0.5))),
        ("sinh", (math.sinh(1), math.sinh(-2), math.sinh(0.5))),
        ("sinh_exp", (math.sinh(1), math.sinh(-2), math.exp(0.5))),
    ],
)
def test_remaps(kind, expected):
    torch.testing.assert_close(remap(torch.tensor([1.0, -2.0, 0.5]), kind), torch.tensor(expected))


@pytest.mark.parametrize("exact_heads", [False, True])
def test_16_bit_weights_give_float_geometry(exact_heads):
    model, rgb = network(), photo()
    exact, exact_score = model(rgb.permute(2, 0, 1)[None] / 255)
    for name, parameter in model.named_parameters():
        if not (exact_heads and "output_block" in name):
            parameter.data = parameter.data.bfloat16()
    points, score = model(rgb.permute(2, 0, 1)[None] / 255)
    assert points.dtype == score.dtype == torch.float32
    assert (points - exact).norm() < 0.1 * exact.norm()
    assert (score - exact_score).norm() < 0.1 * exact_score.norm()
    assert model.infer(rgb).points.dtype == torch.float32


def test_official_configuration():
    config = MogeConfig.from_checkpoint(OFFICIAL)
    assert config.tokens == 2551
    assert config.vit == VITS["dinov2_vitl14"]
    with torch.device("meta"):
        state = MogeV1(config).state_dict()
    assert len(state) == 421
    assert sum(tensor.numel() for tensor in state.values()) == 314_174_026


def test_newer_files_state_the_tokens():
    assert MogeConfig.from_checkpoint({"num_tokens_range": [1200, 2500]}).tokens == 2500


@pytest.mark.parametrize(
    ("key", "value"), [("encoder", "resnet50"), ("remap_output", True), ("res_block_norm", "batch_norm")]
)
def test_unknown_settings_are_named(key, value):
    with pytest.raises(BadInputError, match=key) as caught:
        MogeConfig.from_checkpoint({**OFFICIAL, key: value})
    assert "\n" not in str(caught.value)
