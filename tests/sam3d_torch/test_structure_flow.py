"""The structure flow's savings leave its function as it is."""

import pytest

pytest.importorskip("torch")

import torch

from sam3d_gs.sam3d_torch import ops
from sam3d_gs.sam3d_torch.layers import Groups
from sam3d_gs.sam3d_torch.structure_flow import folded_cross_attention
from tests.sam3d_torch.flows import STRUCTURE, latents, structure_flow, tokens
from tests.sam3d_torch.flows import state as rows_of

COND, UNCOND, BOTH = Groups(True, False), Groups(False, True), Groups(True, True)
POSE = STRUCTURE.pose_stream


def plain_cross_attention(rows, context, branches):
    """With keys and values for every token: (B, L, C) rows, (B, S, cond) context to (B, L, C) before projection."""
    q = branches.cross_q(rows).unflatten(-1, (branches.heads, -1))
    return ops.attention(q, *branches.keys_values(context).unbind(2))


def call(flow, state, context, groups, t=300.0, d=0.0):
    modulation = flow.modulations(torch.tensor([t]), torch.tensor([d]))[0]
    return flow.velocity(state, modulation, flow.context(context), flow.empty_context(), groups)


def close(a, b, tolerance=1e-5):
    for name, value in b.items():
        torch.testing.assert_close(a[name], value, rtol=tolerance, atol=tolerance)


def test_a_context_of_zeros_adds_a_constant():
    flow = structure_flow()
    zeros, state = torch.zeros_like(tokens()), latents()
    for stream in ("shape", POSE):
        branches = flow.blocks[1].branches(stream)
        rows = rows_of(5, channels=24)[None]
        full = branches.cross_out(plain_cross_attention(rows, zeros, branches))
        torch.testing.assert_close(branches.without_context().expand_as(full), full)
    close(call(flow, state, tokens(), UNCOND), call(flow, state, zeros, COND))
    assert not torch.allclose(call(flow, state, tokens(), UNCOND)["shape"], call(flow, state, tokens(), COND)["shape"])


def test_guided_and_unguided_objects_in_one_pass():
    flow, state, context = structure_flow(), latents(2), tokens(2)
    both = call(flow, state, context, BOTH)
    close({n: v[:2] for n, v in both.items()}, call(flow, state, context, COND))
    close({n: v[2:] for n, v in both.items()}, call(flow, state, context, UNCOND))


def test_objects_of_a_batch_do_not_see_each_other():
    flow, state, context = structure_flow(), latents(3), tokens(3)
    together = call(flow, state, context, COND)
    for i in range(3):
        alone = call(flow, {n: v[i : i + 1] for n, v in state.items()}, context[i : i + 1], COND)
        close({n: v[i : i + 1] for n, v in together.items()}, alone, 1e-3)  # four pose tokens sum few terms: rounding


def test_folded_queries_equal_keys_and_values():
    branches = structure_flow().blocks[0].branches(POSE)
    rows, context = rows_of(8, channels=24).view(2, 4, 24), tokens(2)
    folded = folded_cross_attention(rows, context, branches)
    torch.testing.assert_close(folded, plain_cross_attention(rows, context, branches), rtol=1e-4, atol=1e-4)


def test_the_shape_never_sees_the_pose():
    flow, state, context = structure_flow(), latents(), tokens()
    moved = {n: v if n == "shape" else v + 1 for n, v in state.items()}
    first, second = call(flow, state, context, COND), call(flow, moved, context, COND)
    assert torch.equal(first["shape"], second["shape"])
    assert not torch.allclose(first["scale"], second["scale"])
    shifted = {n: v + 1 if n == "shape" else v for n, v in state.items()}
    assert not torch.allclose(first["scale"], call(flow, shifted, context, COND)["scale"])


def test_modulation_of_all_steps_at_once():
    flow = structure_flow()
    times, sizes = torch.tensor([0.0, 120.0, 999.0]), torch.tensor([0.0, 250.0, 40.0])
    together = flow.modulations(times, sizes)
    for k in range(3):
        torch.testing.assert_close(together[k], flow.modulations(times[k : k + 1], sizes[k : k + 1])[0])
    assert not torch.allclose(together[0], together[1])


def test_an_empty_step_size_still_counts():
    flow = structure_flow()
    d_embedder = flow.d_embedder
    with_zero = flow.modulations(torch.tensor([1.0]), torch.tensor([0.0]))
    d_embedder.mlp[2].bias.data += 1
    assert not torch.allclose(with_zero, flow.modulations(torch.tensor([1.0]), torch.tensor([0.0])))
