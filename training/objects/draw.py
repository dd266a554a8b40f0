"""Random tensors on a device, from one generator."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Draw:
    generator: torch.Generator

    @property
    def device(self) -> torch.device:
        return self.generator.device

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.device) * (high - low) + low

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, device=self.device)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """bool"""
        return torch.rand(shape, generator=self.generator, device=self.device) < probability

    def integers(self, count: int, *shape: int) -> Tensor:
        """0 .. count - 1"""
        return torch.randint(count, shape, generator=self.generator, device=self.device)

    def directions(self, *shape: int) -> Tensor:
        """(*shape, 3) uniformly distributed unit vectors."""
        return torch.nn.functional.normalize(self.normal(*shape, 3), dim=-1)

    def colours(self, *shape: int) -> Tensor:
        """(*shape, 3) RGB 0..1: every hue, with many greys and dark colours."""
        hue, value = self.uniform(*shape), self.uniform(*shape, low=0.05) ** 0.8
        saturation = self.uniform(*shape) ** 1.3
        saturation = torch.where(self.chance(0.3, *shape), 0.15 * saturation, saturation)
        sextant = torch.stack([(6 * hue + k) % 6 for k in (5, 3, 1)], dim=-1)
        dip = torch.minimum(sextant, 4 - sextant).clamp(0, 1)
        return value[..., None] * (1 - saturation[..., None] * dip)
