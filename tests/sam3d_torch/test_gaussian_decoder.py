"""The Gaussian decoder against a transformer with dense masks, and each field against its formula."""

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch.nn import functional as F

from sam3d_gs.sam3d_torch.config import GaussianDecoderConfig
from sam3d_gs.sam3d_torch.gaussian_decoder import GaussianDecoder, radical_inverse, spread

CONFIG = GaussianDecoderConfig(
    width=20,  # not a multiple of 6: the position code is padded
    blocks=3,
    heads=2,
    resolution=12,
    mlp_ratio=2.0,
    latent_channels=5,
    window=4,
    gaussians_per_voxel=3,
    voxel_size=1.5,
    kernel_size_3d=0.0009,
    scale_bias=0.004,
    opacity_bias=0.1,
    rotation_rate=0.1,
)


def random_decoder(config=CONFIG, seed=0):
    torch.manual_seed(seed)
    decoder = GaussianDecoder(config).eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return decoder.requires_grad_(False)


def random_voxels(config=CONFIG, share=0.1, seed=1):
    generator = torch.Generator().manual_seed(seed)
    coords = torch.argwhere(torch.rand((config.resolution,) * 3, generator=generator) < share).int()
    return torch.randn(len(coords), config.latent_channels, generator=generator), coords


def with_dense_masks(state, config, slat, coords):
    def linear(x, name):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(x, eps):
        return (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, keepdim=True, unbiased=False) + eps)

    per_axis = config.width // 6
    rates = [10000 ** (-i / per_axis) for i in range(per_axis)]
    codes = [
        [wave(c * rate) for c in voxel for wave in (math.sin, math.cos) for rate in rates] for voxel in coords.tolist()
    ]
    x = linear(slat, "input_layer") + F.pad(torch.tensor(codes), (0, config.width - 6 * per_axis))
    for i in range(config.blocks):
        cell = (coords + config.window // 2 * (i % 2)) // config.window
        same = (cell[:, None] == cell[None]).all(-1)
        qkv = linear(norm(x, 1e-6), f"blocks.{i}.attn.to_qkv").view(len(x), 3, config.heads, -1)
        q, k, v = qkv.permute(1, 2, 0, 3)
        scores = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).masked_fill(~same, -torch.inf)
        x = x + linear((scores.softmax(-1) @ v).transpose(0, 1).flatten(1), f"blocks.{i}.attn.to_out")
        h = linear(norm(x, 1e-6), f"blocks.{i}.mlp.mlp.0")
        h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        x = x + linear(h, f"blocks.{i}.mlp.mlp.2")
    return linear(norm(x, 1e-5), "out_layer")


def test_equals_a_transformer_with_dense_masks():
    decoder = random_decoder()
    slat, coords = random_voxels()
    raw = decoder(slat, coords)
    expected = with_dense_masks(decoder.state_dict(), CONFIG, slat, coords)
    assert raw.shape == (len(coords), 14 * CONFIG.gaussians_per_voxel)
    assert float((raw - expected).norm() / expected.norm()) < 1e-6


@pytest.mark.parametrize("blocks", [0, 1, 2])
def test_rows_follow_their_voxels_in_any_order(blocks):
    decoder = random_decoder(replace(CONFIG, blocks=blocks))
    slat, coords = random_voxels()
    order = torch.randperm(len(coords), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(decoder(slat[order], coords[order]), decoder(slat, coords)[order])


def test_inputs_stay_as_they_are():
    slat, coords = random_voxels()
    before = slat.clone(), coords.clone()
    random_decoder()(slat, coords)
    assert torch.equal(slat, before[0]) and torch.equal(coords, before[1])


def test_half_precision_blocks_stay_near():
    slat, coords = random_voxels()
    mixed = random_decoder()
    mixed.blocks.to(torch.float16)
    raw, expected = mixed(slat, coords), random_decoder()(slat, coords)
    assert raw.dtype == torch.float32
    assert 0 < float((raw - expected).norm() / expected.norm()) < 5e-3  # float16 rounds at 0.0005


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_nothing_waits_for_the_gpu():
    config = replace(CONFIG, width=64)  # heads of 32 channels, which the flash kernel takes
    decoder = random_decoder(config).cuda()
    decoder.blocks.to(torch.float16)
    slat, coords = (t.cuda() for t in random_voxels(config))
    decoder(slat, coords)  # builds kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        raw = decoder(slat, coords)
        decoder.gaussians(raw, coords)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_loads_strictly_onto_a_module_without_memory():
    state = random_decoder().state_dict()
    with torch.device("meta"):
        empty = GaussianDecoder(CONFIG)
    empty.load_state_dict(state, strict=True, assign=True)
    slat, coords = random_voxels()
    assert torch.equal(empty(slat, coords), random_decoder()(slat, coords))


def test_fields_follow_their_formulas():
    decoder = random_decoder()
    _, coords = random_voxels(share=0.01)
    raw = torch.randn(len(coords), 42, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 2
    fields = decoder.gaussians(raw, coords)
    g = CONFIG.gaussians_per_voxel
    assert fields.means.shape == (len(coords) * g, 3)
    perturbation = decoder.offset_perturbation.double().numpy()
    for voxel, row in enumerate(raw.numpy()):
        offset, sh0, scale = (row[3 * g * i : 3 * g * (i + 1)].reshape(g, 3) for i in range(3))
        rotation, opacity = row[9 * g : 13 * g].reshape(g, 4), row[13 * g :]
        for i in range(g):
            m = voxel * g + i
            mean = (coords[voxel].numpy() + 0.5 + 0.75 * np.tanh(offset[i] + perturbation[i])) / 12 - 0.5
            quat = 0.1 * rotation[i] + (1, 0, 0, 0)
            soft = np.log1p(np.exp(scale[i] + np.log(np.expm1(0.004))))
            logit = opacity[i] + np.log(0.1 / 0.9)
            np.testing.assert_allclose(fields.means[m], mean, atol=1e-6)
            np.testing.assert_allclose(fields.quats[m], quat / np.linalg.norm(quat), atol=1e-6)
            np.testing.assert_allclose(fields.scales[m], np.hypot(soft, 0.0009), rtol=1e-5)
            np.testing.assert_allclose(fields.opacities[m], 1 / (1 + np.exp(-logit)), rtol=1e-5)
            np.testing.assert_allclose(fields.opacity_logits[m], logit, atol=1e-5)
            np.testing.assert_allclose(fields.sh0[m], sh0[i], rtol=1e-6)


def test_a_silent_network_fills_each_voxel_with_faint_round_gaussians():
    _, coords = random_voxels()
    fields = random_decoder().gaussians(torch.zeros(len(coords), 42), coords)
    in_voxel = (fields.means + 0.5) * CONFIG.resolution - coords.repeat_interleave(3, dim=0)
    assert in_voxel.min() >= -1e-5 and in_voxel.max() <= 1 + 1e-5
    assert torch.equal(fields.quats, torch.tensor([1.0, 0, 0, 0]).expand_as(fields.quats))
    torch.testing.assert_close(fields.scales, torch.full_like(fields.scales, math.hypot(0.004, 0.0009)))
    torch.testing.assert_close(fields.opacities, torch.full_like(fields.opacities, 0.1))


def test_spread_is_a_hammersley_set_of_the_voxel():
    assert [radical_inverse(i, 2) for i in range(5)] == [0, 0.5, 0.25, 0.75, 0.125]
    assert radical_inverse(5, 3) == pytest.approx(2 / 3 + 1 / 9)
    points = torch.tanh(spread(8, 1.5)) * 1.5 / 2 + 0.5  # back to 0..1 of the voxel
    torch.testing.assert_close(points[:, 0], torch.arange(8) / 8, atol=1e-6, rtol=0)
    torch.testing.assert_close(points[6], torch.tensor([0.75, 0.375, 2 / 9]), atol=1e-6, rtol=0)
