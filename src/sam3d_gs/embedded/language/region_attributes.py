"""Measured attributes of a region that words can name: colours, size, position, shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sam3d_gs.embedded.language.colours import colour_shares, sort_by_prominence

_MEASURED_SIDE_PX = 256  # shapes are measured on masks subsampled to about this size


@dataclass(frozen=True)
class RegionAttributes:
    """Attributes of one region. Positions are shares of the photo's sides."""

    colours: np.ndarray  # (13,) float64, share of every colour name, sums to 1
    area: float  # share of the photo
    x: float  # centroid, 0 left to 1 right
    y: float  # centroid, 0 top to 1 bottom
    aspect: float  # height of the bounding box over its width, px over px
    elongation: float  # length over breadth along the principal axes, at least 1
    roundness: float  # 1 for a disc, 0.64 for a square, less for anything longer

    @property
    def colour(self) -> str:
        """The name of its most prominent colour."""
        return sort_by_prominence(self.colours)[0]


def measure_region(rgb: np.ndarray, mask: np.ndarray) -> RegionAttributes:
    """Attributes of the region `mask`, (H, W) bool, not empty, in the photo `rgb`, (H, W, 3) uint8."""
    step = max(1, round(max(mask.shape) / _MEASURED_SIDE_PX))
    subsampled = mask[::step, ::step]
    if not subsampled.any():
        subsampled, step = mask, 1
    height, width = subsampled.shape
    rows, columns = np.nonzero(subsampled)
    # Pixel centres relative to the middle of the photo: a mirrored mask then gives exactly mirrored numbers.
    across, down = columns + 0.5 - width / 2, rows + 0.5 - height / 2
    x, y = float(across.mean()), float(down.mean())

    # 1/12 is the variance within one square pixel; with it, single rows and pixels have a width.
    covariance = np.cov(np.stack((across, down)), bias=True) + np.eye(2) / 12
    narrow, wide = np.linalg.eigvalsh(covariance)
    reach = float(np.quantile(np.hypot(across - x, down - y), 0.98)) + 0.5
    return RegionAttributes(
        colours=colour_shares(rgb, mask),
        area=float(mask.mean()),
        x=0.5 + x / width,
        y=0.5 + y / height,
        aspect=float((np.ptp(rows) + 1) / (np.ptp(columns) + 1)),
        elongation=float((wide / narrow) ** 0.5),
        roundness=float(min(len(rows) / (np.pi * reach**2), 1.0)),
    )
