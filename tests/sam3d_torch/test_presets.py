"""Presets: what they change about a checkpoint's own settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sam3d_gs.options import PRESETS
from sam3d_gs.sam3d_torch.presets import effort
from sam3d_gs.sam3d_torch.sampler import network_calls
from synthetic.checkpoints import full_config

CONFIG = full_config()


def test_normal_is_the_checkpoints_own() -> None:
    made = effort(CONFIG)
    assert made.structure == CONFIG.structure_sampler
    assert made.latent == CONFIG.latent_sampler
    assert made.gaussians_per_voxel == 32
    assert (network_calls(made.structure), network_calls(made.latent)) == (44, 38)


def test_draft_calls_each_network_once_a_step() -> None:
    made = effort(CONFIG, "draft")
    assert (network_calls(made.structure), network_calls(made.latent)) == (4, 10)
    assert made.structure.shortcut
    assert made.gaussians_per_voxel == 4


def test_quality_takes_twice_the_steps() -> None:
    made = effort(CONFIG, "quality")
    assert (made.structure.steps, made.latent.steps, made.gaussians_per_voxel) == (50, 50, 32)


@pytest.mark.parametrize("preset", PRESETS)
def test_what_the_user_says_wins(preset: str) -> None:
    made = effort(CONFIG, preset, steps=7, slat_steps=9, gaussians_per_voxel=4)
    assert (made.structure.steps, made.latent.steps, made.gaussians_per_voxel) == (7, 9, 4)
    assert made.structure.shortcut == (preset == "draft")


def test_a_checkpoint_with_one_decoder() -> None:
    only = replace(CONFIG, gaussian_decoders={32: CONFIG.gaussian_decoders[32]})
    assert effort(only, "draft").gaussians_per_voxel == 32
    with pytest.raises(ValueError, match="no decoder for 4 Gaussians per voxel, only for 32"):
        effort(only, gaussians_per_voxel=4)
