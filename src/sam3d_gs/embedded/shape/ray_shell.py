"""The depth layers of one object on a grid over its crop, and the paths along which its surfels are placed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

DISCONTINUITY = 2.5  # depth steps per sample from which neighbours are separated by an edge
MAX_OPACITY = 0.97


@dataclass(frozen=True)
class Shell:
    """The layers sampled on a square grid over the crop, in the camera frame."""

    inside: np.ndarray  # (G, G) bool
    alpha: np.ndarray  # (G, G) 0..1
    rays: np.ndarray  # (G, G, 3) with z = 1
    front: np.ndarray  # (G, G) depth
    back: np.ndarray  # (G, G) depth, > front
    cavity: (
        np.ndarray | None
    )  # (2, G, G) depths where the cavity begins and ends, equal where there is none; None: nowhere
    axis: np.ndarray  # (3,) ray of the crop's centre, with z = 1
    parallel_depth: float  # depth from which paths run along `axis` instead of the pixels' rays
    pixel: float  # width of a sample over its depth

    @property
    def solid_intervals(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The solid intervals of every sample, nearest first: depths (G, G) where they begin and end."""
        if self.cavity is None:
            return [(self.front, self.back)]
        return [(self.front, self.cavity[0]), (self.cavity[1], self.back)]

    def points(self, rays: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(N, 3) points at depths z (N,) on the paths of `rays` (N, 3)."""
        on_ray = np.minimum(z, self.parallel_depth)[:, None]
        return np.asarray(rays * on_ray + self.axis * (z[:, None] - on_ray))

    def step(self, z: np.ndarray) -> np.ndarray:
        """Distance between neighbouring samples at depth z."""
        return np.asarray(self.pixel * np.minimum(z, self.parallel_depth))

    def direction(self, rays: np.ndarray, z: np.ndarray) -> np.ndarray:
        """(N, 3) directions of the paths at depths z (N,), with z = 1."""
        return np.where((z < self.parallel_depth)[:, None], rays, self.axis)


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((x - low) / (high - low), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))


def blend_by_depth(first: np.ndarray, last: np.ndarray, near: np.ndarray, far: np.ndarray, z: np.ndarray) -> np.ndarray:
    """(..., 3) colours at depths z (...): `first` at depth `near`, `last` at depth `far`, smoothstep in between."""
    share = smoothstep((z - near) / np.maximum(far - near, 1e-9), 0.0, 1.0)[..., None]
    return np.asarray((1 - share) * first + share * last)


def blurred_inside(values: np.ndarray, inside: np.ndarray, sigma: tuple[float, float]) -> np.ndarray:
    """Gaussian blur of (G, G) or (G, G, C) over the samples `inside` (G, G) only; sigma along rows and columns."""
    from scipy.ndimage import gaussian_filter

    weight = gaussian_filter(inside.astype(np.float32), sigma)
    if values.ndim == 2:
        return np.asarray(gaussian_filter(values * inside, sigma) / np.maximum(weight, 1e-4))
    total = gaussian_filter(values * inside[..., None], (*sigma, 0.0))
    return np.asarray(total / np.maximum(weight, 1e-4)[..., None])


def resized(planes: np.ndarray, side: int) -> np.ndarray:
    """(G, G, C) float32 -> (side, side, C), averaged to shrink and linear to enlarge."""
    pictures = [Image.fromarray(np.ascontiguousarray(planes[..., c], np.float32)) for c in range(planes.shape[-1])]
    return np.stack([np.asarray(p.resize((side, side), Image.Resampling.BILINEAR)) for p in pictures], axis=-1)
