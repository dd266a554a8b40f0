"""The latent flow's savings leave its function as it is."""

from dataclasses import replace

import pytest

pytest.importorskip("torch")

import torch

from sam3d_gs.sam3d_torch.layers import Groups
from tests.sam3d_torch.flows import LATENT, latent_flow, state, tokens, voxels

COND, UNCOND, BOTH = Groups(True, False), Groups(False, True), Groups(True, True)


def call(flow, noise, coords, context, groups):
    modulation = flow.modulations(torch.tensor([300.0])).step(0)
    return flow.velocity(noise, flow.voxels(coords), modulation, flow.context(context), groups)


def test_a_context_of_zeros_is_the_unguided_call():
    flow, coords, context = latent_flow(), voxels(), tokens()
    noise = state(len(coords))
    unguided = call(flow, noise, [coords], context, UNCOND)
    torch.testing.assert_close(unguided, call(flow, noise, [coords], torch.zeros_like(context), COND))
    assert not torch.allclose(unguided, call(flow, noise, [coords], context, COND))


def test_the_way_down_is_shared_by_both_groups():
    flow, coords, context = latent_flow(), voxels(), tokens()
    noise = state(len(coords))
    both = call(flow, noise, [coords], context, BOTH)
    apart = [call(flow, noise, [coords], context, groups) for groups in (COND, UNCOND)]
    torch.testing.assert_close(both, torch.cat(apart))


@pytest.mark.parametrize("groups", [COND, BOTH])
def test_objects_of_a_batch_do_not_see_each_other(groups):
    flow, coords, context = latent_flow(), [voxels(1), voxels(2), voxels(3)], tokens(3)
    noise = [state(len(c), i) for i, c in enumerate(coords)]
    together = call(flow, torch.cat(noise), coords, context, groups).unflatten(0, (len(groups), -1))
    parts = together.split([len(c) for c in coords], dim=1)
    for i, part in enumerate(parts):
        alone = call(flow, noise[i], [coords[i]], context[i : i + 1], groups)
        torch.testing.assert_close(part.flatten(0, 1), alone, rtol=1e-5, atol=1e-5)


def test_a_single_voxel_and_corners():
    flow = latent_flow()
    corners = torch.tensor([[0, 0, 0], [15, 15, 15]])
    for coords in (corners[:1], corners):
        assert call(flow, state(len(coords)), [coords], tokens(), BOTH).isfinite().all()


def test_two_levels_down():
    """Forks may pool more than once; every level has its own neighbours and skips."""
    flow = latent_flow(config=replace(LATENT, io_channels=(8, 12), patch=4))
    coords, context = voxels(), tokens()
    noise = state(len(coords))
    both = call(flow, noise, [coords], context, BOTH)
    torch.testing.assert_close(both[: len(coords)], call(flow, noise, [coords], context, COND))
    assert both.shape == (2 * len(coords), 8)


def test_the_order_of_voxels_does_not_matter():
    flow, coords, context = latent_flow(), voxels(), tokens()
    noise = state(len(coords))
    shuffle = torch.randperm(len(coords), generator=torch.Generator().manual_seed(1))
    mixed = call(flow, noise[shuffle], [coords[shuffle]], context, COND)
    torch.testing.assert_close(mixed, call(flow, noise, [coords], context, COND)[shuffle], rtol=1e-5, atol=1e-5)
