"""Occluders, which hide part of an object: they cut its mask but not its shape."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from training.objects.draw import Draw

EDGE_SHARE, ROUND_SHARE, OBJECT_SHARE = 0.12, 0.12, 0.12  # of all samples; the rest is not cut
LEAST_LEFT = 0.15  # of the silhouette; what would leave less does not cut


@dataclass(frozen=True)
class Occluders:
    """One per sample, in the camera's x and y: a half plane, an ellipse, or the silhouette of another object."""

    kind: Tensor  # (B,) 0 none, 1 half plane, 2 ellipse, 3 silhouette
    centre: Tensor  # (B, 2) of the ellipse or the silhouette; a point on the edge of the half plane
    towards: Tensor  # (B, 2) unit normal of the half plane, out of the part that is left
    radii: Tensor  # (B, 2) of the ellipse; of the silhouette's square, both half its side
    pictures: Tensor  # (B, 1, h, h) silhouettes 0 or 1

    def left(self, x: Tensor, y: Tensor) -> Tensor:
        """(B, H, W) bool: pixels that are not occluded, at x, y (B, H, W)."""
        dx, dy = x - self.centre[:, 0, None, None], y - self.centre[:, 1, None, None]
        behind_edge = dx * self.towards[:, 0, None, None] + dy * self.towards[:, 1, None, None] > 0
        across, down = dx / self.radii[:, 0, None, None], -dy / self.radii[:, 1, None, None]
        in_ellipse = across**2 + down**2 < 1
        looked_up = F.grid_sample(self.pictures, torch.stack([across, down], dim=-1), align_corners=False)
        hidden = torch.zeros_like(behind_edge)
        for kind, covers in ((1, behind_edge), (2, in_ellipse), (3, looked_up[:, 0] > 0.5)):
            hidden |= (self.kind == kind)[:, None, None] & covers
        return ~hidden


def random_occluders(draw: Draw, silhouettes: Tensor, x: Tensor, y: Tensor) -> Occluders:
    """Occluders near the edges of the silhouettes (B, 1, h, h), whose pixels are at x, y (B, h, h).

    The silhouettes of other samples in the batch serve as occluders, too.
    """
    count = len(silhouettes)
    inside = silhouettes[:, 0]
    area = inside.sum((1, 2)).clamp(min=1)
    mean = torch.stack([(inside * x).sum((1, 2)) / area, (inside * y).sum((1, 2)) / area], dim=-1)
    square = (x - mean[:, 0, None, None]) ** 2 + (y - mean[:, 1, None, None]) ** 2
    spread = ((inside * square).sum((1, 2)) / area).sqrt().clamp(min=0.05)[:, None]
    kind = torch.bucketize(
        draw.uniform(count),
        torch.tensor(
            [EDGE_SHARE, EDGE_SHARE + ROUND_SHARE, EDGE_SHARE + ROUND_SHARE + OBJECT_SHARE], device=draw.device
        ),
    )
    kind = (kind + 1) % 4
    angle = draw.uniform(count, 1, high=6.2832)
    towards = torch.cat([angle.cos(), angle.sin()], dim=1)
    distance = torch.where(
        kind[:, None] == 1, draw.uniform(count, 1, low=0.3, high=1.2), draw.uniform(count, 1, low=1.1, high=1.8)
    )
    radii = spread * draw.uniform(count, 2, low=0.5, high=1.3)
    radii = torch.where(kind[:, None] == 3, spread * draw.uniform(count, 1, low=1.5, high=4.0), radii)
    others = silhouettes.roll(1, 0)
    occluders = Occluders(kind, mean + towards * spread * distance, towards, radii, others)
    left = (inside * occluders.left(x, y)).sum((1, 2)) / area
    return Occluders(torch.where(left > LEAST_LEFT, kind, 0), occluders.centre, towards, radii, others)
