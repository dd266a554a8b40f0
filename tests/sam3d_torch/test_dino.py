"""The vision transformer: one pass for both stages, positions on any grid, pictures and masks as it wants them."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from torch.nn import functional as F

from sam3d_gs.sam3d_torch.config import IMAGE_MEAN, IMAGE_STD, VITS, VitConfig
from sam3d_gs.sam3d_torch.dino import PRENORM_EPS, DinoVit, VitBlock, as_image

VIT = VitConfig(width=24, depth=3, heads=3, registers=2, patch_px=4, grid=5)
PLAIN = VitConfig(width=24, depth=4, heads=3, registers=0, patch_px=4, grid=5)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


def randomised(module, seed=0):
    """Every parameter drawn, norms and gains about one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        drawn = torch.randn(parameter.shape, generator=generator)
        gain = name.endswith("gamma") or ("norm" in name and name.endswith("weight"))
        inputs = max(parameter.numel() // parameter.shape[0], 4)
        parameter.copy_(1 + 0.2 * drawn if gain else drawn / inputs**0.5)
    return module.eval()


def picture(batch=2, side=20, seed=1):
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(seed))


def blocks_output(vit, image):
    x = vit.tokens(image)
    for block in vit.blocks:
        x = block(x)
    return x


def test_one_pass_gives_what_two_separate_ones_would():
    vit, image = randomised(DinoVit(VIT)), as_image(picture())
    tokens = vit(image)
    first = F.layer_norm(blocks_output(vit, image), (24,), vit.norm.weight, vit.norm.bias, 1e-6)
    without_registers = torch.cat([first[:, :1], first[:, 3:]], dim=1)
    torch.testing.assert_close(tokens.final, without_registers)
    torch.testing.assert_close(tokens.prenorm, F.layer_norm(blocks_output(vit, image), (24,), eps=PRENORM_EPS))
    assert tokens.final.shape == (2, 26, 24)
    assert tokens.prenorm.shape == (2, 28, 24)


def test_without_registers_nothing_is_dropped():
    tokens = randomised(DinoVit(PLAIN))(as_image(picture()))
    assert tokens.final.shape == tokens.prenorm.shape == (2, 26, 24)


def test_pictures_of_a_batch_do_not_see_each_other():
    vit, image = randomised(DinoVit(VIT)), as_image(picture())
    both, alone = vit(image), vit(image[1:])
    torch.testing.assert_close(both.final[1:], alone.final)
    torch.testing.assert_close(both.prenorm[1:], alone.prenorm)


def test_intermediate_ends_with_the_final_patches():
    vit, image = randomised(DinoVit(VIT)), as_image(picture())
    last_two = vit.intermediate(image, 2)
    assert [x.shape for x in last_two] == [(2, 25, 24)] * 2
    torch.testing.assert_close(last_two[-1], vit(image).final[:, 1:])
    for listed, counted in zip(vit.intermediate(image, (1, 2)), last_two, strict=True):
        torch.testing.assert_close(listed, counted)


@pytest.mark.parametrize("vit", [VIT, PLAIN])
def test_positions_as_stored_where_the_grid_fits(vit):
    network = randomised(DinoVit(vit))
    assert torch.equal(network.positions(5, 5), network.pos_embed)
    wider = network.positions(4, 9)
    assert wider.shape == (1, 37, 24)
    assert torch.equal(wider[:, :1], network.pos_embed[:, :1])


@pytest.mark.parametrize("vit", [VIT, PLAIN])
def test_resized_positions_keep_rows_and_columns_apart(vit):
    network = DinoVit(vit)
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(5.0), indexing="ij")
    network.pos_embed.zero_()
    network.pos_embed[0, 1:, 0], network.pos_embed[0, 1:, 1] = rows.flatten(), columns.flatten()
    table = network.positions(10, 7)[0, 1:].unflatten(0, (10, 7))
    inside = table[2:-2, 2:-2]
    assert (inside[1:, :, 0] > inside[:-1, :, 0]).all()
    assert (inside[:, 1:, 1] > inside[:, :-1, 1]).all()
    torch.testing.assert_close(inside[..., 0], inside[:, :1, 0].expand(-1, 3), atol=1e-5, rtol=0)


def test_the_first_release_resizes_by_a_factor_not_to_a_size():
    network = randomised(DinoVit(PLAIN))
    square = network.pos_embed[:, 1:].unflatten(1, (5, 5)).permute(0, 3, 1, 2)
    to_size = F.interpolate(square, (8, 3), mode="bicubic").flatten(2).transpose(1, 2)
    assert (network.positions(8, 3)[:, 1:] - to_size).abs().max() > 1e-3


def test_the_first_token_alone_is_the_first_of_all():
    for layer_scale in (False, True):
        block = randomised(VitBlock(24, 3, 2.0, layer_scale=layer_scale))
        x = torch.randn(2, 7, 24)
        torch.testing.assert_close(block(x, first_only=True), block(x)[:, :1])


def test_pictures_of_bytes_and_of_floats_are_the_same():
    x = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(as_image(x), as_image(x.double() / 255))
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGE_MEAN, IMAGE_STD))
    torch.testing.assert_close(as_image(x)[0] * std + mean, x[0] / 255)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.float32])
def test_a_mask_becomes_three_equal_channels_of_zero_and_one(dtype):
    mask = (torch.arange(16).reshape(1, 1, 4, 4) % 3 == 0).to(dtype)
    mean, std = (torch.tensor(v)[:, None, None] for v in (IMAGE_MEAN, IMAGE_STD))
    torch.testing.assert_close(as_image(mask)[0] * std + mean, mask[0].float().expand(3, 4, 4), atol=1e-6, rtol=0)


def test_a_picture_of_another_size_is_resized():
    assert as_image(torch.full((1, 3, 6, 9), 0.5), 12).shape == (1, 3, 12, 12)
    x = torch.rand(1, 3, 12, 12)
    assert torch.equal(as_image(x, 12), as_image(x))


def test_half_weights_give_float_tokens_near_the_exact_ones():
    vit, image = randomised(DinoVit(VIT)), as_image(picture())
    exact = vit(image)
    for name, parameter in vit.named_parameters():
        if "norm" not in name and "gamma" not in name:
            parameter.data = parameter.data.bfloat16()
    rounded = vit(image)
    assert rounded.final.dtype == rounded.prenorm.dtype == torch.float32
    assert (rounded.final - exact.final).norm() < 0.03 * exact.final.norm()


def test_official_sizes():
    with torch.device("meta"):
        vit = DinoVit(VITS["dinov2_vitl14_reg"])
    assert sum(p.numel() for p in vit.parameters()) == 304_372_736
    assert not list(vit.buffers())
