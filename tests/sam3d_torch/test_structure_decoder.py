"""The structure decoder against the same network written channels-first."""

import pytest

pytest.importorskip("torch")

import torch
from torch.nn import functional as F

from sam3d_gs.sam3d_torch.config import StructureDecoderConfig
from sam3d_gs.sam3d_torch.structure_decoder import StructureDecoder, unfold_children

CONFIG = StructureDecoderConfig(channels=(10, 6, 4), latent_channels=3, out_channels=1, res_blocks=2, middle_blocks=1)


def random_decoder(config=CONFIG, seed=0):
    torch.manual_seed(seed)
    decoder = StructureDecoder(config).eval()
    for name, parameter in decoder.named_parameters():
        torch.nn.init.normal_(parameter, mean=float(".norm" in name and "weight" in name), std=0.2)
    return decoder.requires_grad_(False)


def channels_first(state, config, grid):
    """(B, C, S, S, S) -> (B, 1, R, R, R) with plain operations."""

    def conv(x, name):
        return F.conv3d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def norm(x, name):
        mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
        weight, bias = (state[f"{name}.{part}"][None, :, None, None, None] for part in ("weight", "bias"))
        return (x - mean) / torch.sqrt(var + 1e-5) * weight + bias

    def residual(x, name):
        h = conv(F.silu(norm(x, f"{name}.norm1")), f"{name}.conv1")
        return x + conv(F.silu(norm(h, f"{name}.norm2")), f"{name}.conv2")

    def double(x):
        batch, channels, side = x.shape[0], x.shape[1] // 8, x.shape[2]
        out = x.new_empty(batch, channels, 2 * side, 2 * side, 2 * side)
        for child in range(8):
            i, j, k = child // 4, child // 2 % 2, child % 2
            out[:, :, i::2, j::2, k::2] = x[:, child::8]
        return out

    x = conv(grid, "input_layer")
    for i in range(config.middle_blocks):
        x = residual(x, f"middle_block.{i}")
    number = 0
    for level in range(len(config.channels)):
        for _ in range(config.res_blocks):
            x, number = residual(x, f"blocks.{number}"), number + 1
        if level + 1 < len(config.channels):
            x, number = double(conv(x, f"blocks.{number}.conv")), number + 1
    return conv(F.silu(norm(x, "out_layer.0")), "out_layer.2")


def test_equals_the_network_written_channels_first():
    decoder = random_decoder()
    tokens = torch.randn(2, 4**3, 3, generator=torch.Generator().manual_seed(1))
    grid = torch.empty(2, 3, 4, 4, 4)
    for index in range(4**3):
        grid[:, :, index // 16, index // 4 % 4, index % 4] = tokens[:, index]
    logits = decoder(tokens)
    assert logits.shape == (2, 1, 16, 16, 16) and logits.dtype == torch.float32 and logits.is_contiguous()
    torch.testing.assert_close(logits, channels_first(decoder.state_dict(), CONFIG, grid), rtol=1e-5, atol=1e-5)


def test_weights_in_channels_last_change_nothing():
    tokens = torch.randn(1, 4**3, 3, generator=torch.Generator().manual_seed(1))
    expected = random_decoder()(tokens)
    rearranged = random_decoder().to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(rearranged(tokens), expected, rtol=1e-5, atol=1e-5)


def test_half_precision_torso_stays_near():
    tokens = torch.randn(1, 4**3, 3, generator=torch.Generator().manual_seed(1))
    expected = random_decoder()(tokens)
    mixed = random_decoder()
    for name, module in mixed.named_modules():
        if isinstance(module, torch.nn.Conv3d) and name.startswith(("middle_block", "blocks")):
            module.to(torch.bfloat16)
    logits = mixed(tokens)
    assert logits.dtype == torch.float32
    assert 0 < float((logits - expected).norm() / expected.norm()) < 0.02  # bfloat16 rounds at 0.004


def test_loads_strictly_onto_a_module_without_memory():
    state = random_decoder().state_dict()
    with torch.device("meta"):
        empty = StructureDecoder(CONFIG)
    empty.load_state_dict(state, strict=True, assign=True)
    tokens = torch.ones(1, 4**3, 3)
    assert torch.equal(empty(tokens), random_decoder()(tokens))


def test_children_land_beside_their_parent():
    x = torch.arange(8.0).view(1, 1, 1, 1, 8)
    assert unfold_children(x, 2)[0, ..., 0].flatten().tolist() == list(range(8))


def test_a_latent_that_is_no_cube_is_refused():
    with pytest.raises(ValueError, match="65 tokens is not a cube"):
        random_decoder()(torch.zeros(1, 65, 3))
