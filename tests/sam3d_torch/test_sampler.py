"""The time grid, guidance, noise and the Euler steps."""

import pytest

pytest.importorskip("torch")

import torch

from sam3d_gs.sam3d_torch import sampler
from sam3d_gs.sam3d_torch.config import SamplerConfig
from sam3d_gs.sam3d_torch.structure_calls import StructureCalls
from tests.sam3d_torch.flows import STRUCTURE, latent_flow, latents, state, structure_flow, tokens, voxels

OFFICIAL_STRUCTURE = SamplerConfig(steps=25, rescale_t=3, guidance=7)
OFFICIAL_LATENT = SamplerConfig(steps=25, rescale_t=1, guidance=1)


def test_calls_of_the_official_settings():
    assert sampler.network_calls(OFFICIAL_STRUCTURE) == 44
    assert sampler.network_calls(OFFICIAL_LATENT) == 38
    assert sampler.network_calls(SamplerConfig(4, 1, guidance=7, shortcut=True)) == 4


def test_time_grid_runs_from_noise_to_data():
    grid = sampler.time_grid(OFFICIAL_STRUCTURE)
    assert grid[0] == 0 and grid[-1] == 1 and grid == sorted(grid) and len(grid) == 26
    assert sampler.time_grid(SamplerConfig(4, 1, 0)) == [0, 0.25, 0.5, 0.75, 1]


def test_the_interval_holds_both_ends():
    assert sampler.guided_steps(SamplerConfig(4, 1, 1)) == [True, True, True, False]
    assert sampler.guided_steps(SamplerConfig(4, 1, 1, interval=(250, 400))) == [False, True, False, False]


def test_noise_is_drawn_in_the_order_of_names():
    drawn = sampler.structure_noise(STRUCTURE, torch.Generator().manual_seed(3), "cpu")
    generator = torch.Generator().manual_seed(3)
    for name in sorted(STRUCTURE.latents):
        latent = STRUCTURE.latents[name]
        assert torch.equal(drawn[name], torch.randn(1, latent.tokens, latent.channels, generator=generator))


def test_one_step_is_the_guided_velocity():
    flow, noise, context = structure_flow(), latents(), tokens()
    config = SamplerConfig(steps=1, rescale_t=1, guidance=3.0)
    modulation = flow.modulations(torch.zeros(1), torch.zeros(1))[0]
    made = flow.context(context), flow.empty_context()
    v_c = flow.velocity(noise, modulation, *made, sampler.Groups(True, False))
    v_u = flow.velocity(noise, modulation, *made, sampler.Groups(False, True))
    end = sampler.sample_structure(StructureCalls(flow), context, noise, config)
    for name in noise:
        torch.testing.assert_close(end[name], noise[name] + 4 * v_c[name] - 3 * v_u[name], rtol=1e-4, atol=1e-4)


def test_batches_give_what_single_objects_give():
    flow, noise, context = structure_flow(), latents(2), tokens(2)
    config = SamplerConfig(steps=3, rescale_t=3, guidance=2.0)
    together = sampler.sample_structure(StructureCalls(flow), context, noise, config)
    for i in range(2):
        alone = sampler.sample_structure(
            StructureCalls(flow), context[i : i + 1], {n: v[i : i + 1] for n, v in noise.items()}, config
        )
        for name, value in alone.items():
            torch.testing.assert_close(together[name][i : i + 1], value, rtol=1e-4, atol=1e-4)

    latent, coords = latent_flow(), [voxels(1), voxels(2)]
    drawn = [state(len(c), i) for i, c in enumerate(coords)]
    config = SamplerConfig(steps=3, rescale_t=1, guidance=1.0)
    both = sampler.sample_latent_batch(latent, coords, list(context.split(1)), drawn, config)
    for i in range(2):
        alone = sampler.sample_latent(latent, coords[i], context[i : i + 1], drawn[i], config)
        torch.testing.assert_close(both[i], alone, rtol=1e-4, atol=1e-4)


def test_noise_is_left_alone_and_every_step_is_told():
    flow, noise = structure_flow(), latents()
    before = {name: value.clone() for name, value in noise.items()}
    told = []
    end = sampler.sample_structure(
        StructureCalls(flow), tokens(), noise, SamplerConfig(3, 3, 0.0), on_step=lambda k, s: told.append((k, s))
    )
    assert all(torch.equal(noise[name], before[name]) for name in noise)
    assert [k for k, _ in told] == [1, 2, 3]
    assert all(torch.equal(told[-1][1][name], end[name]) for name in end)
    assert not torch.equal(told[0][1]["shape"], told[1][1]["shape"])
