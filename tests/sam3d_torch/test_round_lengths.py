"""Sequences rounded up for the GPU's attention give the results of unrounded ones."""

import pytest

pytest.importorskip("torch")

import torch

from sam3d_gs.sam3d_torch import latent_flow as latent_module
from sam3d_gs.sam3d_torch import layers, ops
from sam3d_gs.sam3d_torch.layers import Groups
from tests.sam3d_torch.flows import latent_flow, latents, state, structure_flow, tokens, voxels
from tests.sam3d_torch.test_kernels import with_sums

ONE, BOTH = Groups(True, False), Groups(True, True)


@pytest.fixture
def rounding(monkeypatch):
    """Round on the CPU in float32; returns a function that does, and tells the lengths that attention then saw."""

    def on():
        seen = []

        def attend(q, k, v):
            seen.append(k.shape[1])
            return with_sums(q, k, v)

        monkeypatch.setattr(ops, "HALF", (torch.float32,))
        monkeypatch.setattr(ops, "_attention_with_sums", lambda device: attend)
        monkeypatch.setattr(layers, "CONTEXT_MULTIPLE", 8)
        monkeypatch.setattr(latent_module, "TOKEN_MULTIPLE", 16)
        return seen

    return on


def test_lengths_stay_where_attention_does_not_care():
    assert ops.rounded(1001, 128, torch.device("cpu"), torch.float16) == 1001


def test_repeats_count_for_nothing_even_for_queries_that_like_them():
    """The key that is repeated may get nearly all attention; then most of the sum is to be taken away again."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 50, 2, 8)
    q[0, :10] = 6 * k[0, -1]
    longer = [torch.cat([t, t[:, -1:].expand(-1, 255, -1, -1)], dim=1) for t in (k, v)]
    longer[1][:, -255:] = 0
    mixed, sums = with_sums(q, *longer)
    ops.add_keys_(mixed, sums, q, longer[0][:, -1:], None, -255)
    torch.testing.assert_close(mixed, with_sums(q, k, v)[0], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("groups", [ONE, BOTH])
def test_structure_flow(rounding, groups):
    flow, given, context = structure_flow(), latents(2), tokens(2)
    modulation = flow.modulations(torch.tensor([100.0]), torch.tensor([0.0]))[0]
    plain = flow.velocity(given, modulation, flow.context(context), flow.empty_context(), groups)
    seen = rounding()
    longer = flow.context(context)
    assert longer.repeats == 5
    ours = flow.velocity(given, modulation, longer, flow.empty_context(), groups)
    assert set(seen) == {64, 16}  # shape tokens, for the pose; context
    for name, value in plain.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [ONE, BOTH])
def test_latent_flow(rounding, groups):
    flow, coords, context = latent_flow(), [voxels(0), voxels(1)], tokens(2)
    given = state(sum(map(len, coords)))
    modulation = flow.modulations(torch.tensor([100.0])).step(0)
    plain = flow.velocity(given, flow.voxels(coords), modulation, flow.context(context), groups)
    seen = rounding()
    made = flow.voxels(coords)
    assert all(made.tokens.repeats)
    ours = flow.velocity(given, made, modulation, flow.context(context), groups)
    assert all(length % 8 == 0 for length in seen)
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
