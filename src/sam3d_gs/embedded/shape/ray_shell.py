"""The layers of one object on a grid over its crop, and the ways through it along which surfels are laid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

JUMP = 2.5  # steeper than this many steps between neighbours is an edge, not a slope
OPAQUE = 0.97


@dataclass(frozen=True)
class Shell:
    """The layers sampled on a square grid over the crop, in the camera frame."""

    inside: np.ndarray  # (G, G) bool
    alpha: np.ndarray  # (G, G) 0..1
    rays: np.ndarray  # (G, G, 3) with z = 1
    front: np.ndarray  # (G, G) depth
    back: np.ndarray  # (G, G) depth, > front
    air: np.ndarray | None  # (2, G, G) depths between which there is air, equal where there is none; None: nowhere
    axis: np.ndarray  # (3,) ray of the crop's centre, with z = 1
    turn: float  # depth at which the shell leaves the pixels' rays for `axis`
    pixel: float  # width of a sample over its depth

    @property
    def solids(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The stretches of solid of every sample, near one first: depths (G, G) where they begin and end."""
        if self.air is None:
            return [(self.front, self.back)]
        return [(self.front, self.air[0]), (self.air[1], self.back)]

    def points(self, rays: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(N, 3) points at depth z (N,) on the way that starts along rays (N, 3)."""
        on_ray = np.minimum(z, self.turn)[:, None]
        return np.asarray(rays * on_ray + self.axis * (z[:, None] - on_ray))

    def step(self, z: np.ndarray) -> np.ndarray:
        """Distance between neighbouring samples at depth z."""
        return np.asarray(self.pixel * np.minimum(z, self.turn))

    def way(self, rays: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(N, 3) direction of the way at depth z, with z = 1."""
        return np.where((z < self.turn)[:, None], rays, self.axis)


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def faded(first: np.ndarray, last: np.ndarray, near: np.ndarray, far: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(..., 3) colours at depths z (...): `first` at depth `near`, `last` at depth `far`, smoothly joined between."""
    share = smoothstep((z - near) / np.maximum(far - near, 1e-9), 0.0, 1.0)[..., None]
    return np.asarray((1 - share) * first + share * last)


def blurred_inside(values: np.ndarray, inside: np.ndarray, sigma: tuple[float, float]) -> np.ndarray:
    """(G, G) or (G, G, C) with every sample the mean of those `inside` (G, G) around it; sigma in rows and columns."""
    from scipy.ndimage import gaussian_filter

    weight = gaussian_filter(inside.astype(np.float32), sigma)
    if values.ndim == 2:
        return np.asarray(gaussian_filter(values * inside, sigma) / np.maximum(weight, 1e-4))
    total = gaussian_filter(values * inside[..., None], (*sigma, 0.0))
    return np.asarray(total / np.maximum(weight, 1e-4)[..., None])


def resized(planes: np.ndarray, side: int) -> np.ndarray:
    """(G, G, C) float32 -> (side, side, C), averaged when it shrinks and linear between samples when it grows."""
    pictures = [Image.fromarray(np.ascontiguousarray(planes[..., c], np.float32)) for c in range(planes.shape[-1])]
    return np.stack([np.asarray(p.resize((side, side), Image.Resampling.BILINEAR)) for p in pictures], axis=-1)
