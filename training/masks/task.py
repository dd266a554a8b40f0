"""Training data of the mask net for `training.loop`: scenes generated from a bank of sprites that is renewed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sam3d_gs.embedded.proposals.mask_net import MaskNet
from training.masks.bank import Bank, Part, bank_of
from training.masks.check import Checks
from training.masks.losses import losses
from training.masks.scenes import Scenes, make_scenes
from training.masks.sprites import SetPool, make_pool, picture_sets

_CHUNK = 256  # sets rendered together


@dataclass(frozen=True)
class Plan:
    """Sizes and counts. The same plan, settings and device type give the same training data."""

    batch_size: int = 64
    side_px: int = 320
    questions: int = 24  # cells sampled per picture
    shape_sets: int = 60_000  # sets of shapes
    lasting: int = 12_000  # sprites that stay in the bank for the whole run
    passing: int = 2_000  # redrawn for every leg
    sprite_px: int = 256
    check_scenes: int = 96


class MaskTask:
    """Implements `training.loop.Task`."""

    def __init__(self, plan: Plan, device: torch.device, processes: int) -> None:
        self.plan, self.device, self.batch_size = plan, device, plan.batch_size
        self._pool = make_pool(plan.shape_sets, 0, processes).to(device)
        self._lasting = self._parts(self._pool, plan.lasting, 1)
        self._leg_seed: int | None = None
        self._bank: Bank | None = None
        self._checks = Checks(plan.check_scenes, plan.side_px, plan.sprite_px, device)

    def _parts(self, pool: SetPool, count: int, seed: int) -> list[Part]:
        """`count` random sets of the pool, each from one direction, as parts of a bank."""
        generator = torch.Generator(self.device).manual_seed(seed)
        chosen = torch.randint(0, len(pool.first), (count,), device=self.device, generator=generator)
        return [Part.of(picture_sets(pool, some, generator, self.plan.sprite_px)) for some in chosen.split(_CHUNK)]

    def bank(self, leg_seed: int) -> Bank:
        """The bank of one leg, determined by the leg's seed alone."""
        if self._bank is None or leg_seed != self._leg_seed:
            self._bank = None  # frees the old one first
            passing = self._parts(self._pool, self.plan.passing, leg_seed + 3) if self.plan.passing else []
            self._bank, self._leg_seed = bank_of([*self._lasting, *passing]), leg_seed
        return self._bank

    def batch(self, generator: torch.Generator) -> Scenes:
        bank = self.bank(generator.initial_seed())
        seeds = torch.randint(0, 1 << 31, (self.batch_size,), device=self.device, generator=generator)
        return make_scenes(seeds.int(), bank, self.plan.side_px)

    def losses(self, net: Callable[..., Any], batch: Scenes) -> dict[str, Tensor]:
        return losses(net(batch.rgb.contiguous(memory_format=torch.channels_last)), batch, self.plan.questions)

    def validate(self, net: nn.Module) -> dict[str, float]:
        assert isinstance(net, MaskNet)
        return self._checks.figures(net)
