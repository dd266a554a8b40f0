"""How a region looks: the few facts that words can name, measured on its mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sam3d_gs.embedded.language.colours import by_prominence, colour_shares

_MEASURED_SIDE_PX = 256  # shapes are measured on masks thinned out to about this size


@dataclass(frozen=True)
class Look:
    """What can be said about one region without knowing what it is. Places are shares of the photo's sides."""

    colours: np.ndarray  # (13,) float64, share of every colour name, sums to 1
    area: float  # share of the photo
    x: float  # centroid, 0 left to 1 right
    y: float  # centroid, 0 top to 1 bottom
    aspect: float  # height of the bounding box over its width, px over px
    elongation: float  # length over breadth along the principal axes, at least 1
    roundness: float  # 1 for a disc, 0.64 for a square, less for anything longer

    @property
    def colour(self) -> str:
        """The name a person would give it."""
        return by_prominence(self.colours)[0]


def look_at(rgb: np.ndarray, mask: np.ndarray) -> Look:
    """The look of the region `mask` (H, W) bool, not empty, of the photo `rgb` (H, W, 3) uint8."""
    step = max(1, round(max(mask.shape) / _MEASURED_SIDE_PX))
    thinned = mask[::step, ::step]
    if not thinned.any():
        thinned, step = mask, 1
    height, width = thinned.shape
    rows, columns = np.nonzero(thinned)
    # Pixel centres, from the middle of the photo, so that a mirrored mask gives exactly mirrored numbers.
    across, down = columns + 0.5 - width / 2, rows + 0.5 - height / 2
    x, y = float(across.mean()), float(down.mean())

    # 1/12 is the variance of a pixel's own square: it keeps single rows and pixels from having no breadth.
    covariance = np.cov(np.stack((across, down)), bias=True) + np.eye(2) / 12
    narrow, wide = np.linalg.eigvalsh(covariance)
    reach = float(np.quantile(np.hypot(across - x, down - y), 0.98)) + 0.5
    return Look(
        colours=colour_shares(rgb, mask),
        area=float(mask.mean()),
        x=0.5 + x / width,
        y=0.5 + y / height,
        aspect=float((np.ptp(rows) + 1) / (np.ptp(columns) + 1)),
        elongation=float((wide / narrow) ** 0.5),
        roundness=float(min(len(rows) / (np.pi * reach**2), 1.0)),
    )
