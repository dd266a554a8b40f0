"""Augmentation: the effects of cameras on pictures and of segmenters on masks."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from training.objects.draw import Draw

GREY_SHARE = 0.05
HARSH_SHARE = 0.06  # much too bright or too dark
DRAWING_SHARE = 0.04  # lines on paper
MASK_NOISE_SHARE = 0.7


def photographed(draw: Draw, image: Tensor, back: Tensor, visible: Tensor, front: Tensor) -> tuple[Tensor, Tensor]:
    """Picture and back colour (B, 3, S, S) 0..1 after exposure, tone, white balance, low resolution and noise.

    Some become line drawings, which need the front depth (B, 1, S, S); their back is blank paper. Pixels outside the
    object get a different colour, so that background inside a wrong mask does not look like the object.
    """
    count, side = len(image), image.shape[-1]
    drawing = draw.chance(DRAWING_SHARE, count, 1, 1, 1)
    paper = draw.uniform(count, 3, 1, 1, low=0.85)
    image = torch.where(drawing, paper * (1 - draw.uniform(count, 1, 1, 1, low=0.5) * _lines(image, front)), image)
    back = torch.where(drawing, paper, back)
    clouds = F.interpolate(draw.normal(count, 3, 8, 8), size=(side, side), mode="bilinear")
    around = (draw.colours(count)[..., None, None] * (1 + 0.5 * clouds)).clamp(0, 1)
    image = torch.where(visible > 0.5, image, around)

    gain = (0.15 * draw.normal(count, 1, 1, 1)).exp()
    harsh = draw.uniform(count, 1, 1, 1, low=-1.0, high=1.2).exp()
    gain = torch.where(draw.chance(HARSH_SHARE, count, 1, 1, 1), harsh, gain)
    gain = gain * (1 + 0.05 * draw.normal(count, 3, 1, 1))
    gamma = draw.uniform(count, 1, 1, 1, low=0.7, high=1.35)
    grey = draw.chance(GREY_SHARE, count, 1, 1, 1)

    def tone(picture: Tensor) -> Tensor:
        picture = (picture * gain).clamp(1e-4, 1) ** gamma
        return torch.where(grey, picture.mean(1, keepdim=True), picture)

    image, back = tone(image), tone(back)
    quarter = max(1, count // 4)
    image = torch.cat([_coarse(image[:quarter]), _soft(image[quarter : 2 * quarter]), image[2 * quarter :]])
    image = image + draw.normal(count, 3, side, side) * draw.uniform(count, 1, 1, 1, high=0.035)
    return image.clamp(0, 1), back


def noisy_mask(draw: Draw, visible: Tensor) -> Tensor:
    """(B, 1, S, S) 0 or 1: masks with perturbed outlines and cut corners, and some without thin parts."""
    count, side = len(visible), visible.shape[-1]
    reach = round(3 * side / 160)
    spread = F.avg_pool2d(F.pad(visible, (reach,) * 4), 2 * reach + 1, 1)
    waves = F.interpolate(draw.normal(count, 1, 20, 20), size=(side, side), mode="bicubic")
    offset = waves * draw.uniform(count, 1, 1, 1, high=0.16) + 0.1 * draw.normal(count, 1, 1, 1)
    return (spread + offset * draw.chance(MASK_NOISE_SHARE, count, 1, 1, 1) > 0.5).float()


def blurred_inside(picture: Tensor, inside: Tensor, radius_px: int) -> Tensor:
    """(B, C, S, S) averages over a square, of pixels inside the mask only; zero if there are none."""
    if radius_px < 1:
        return picture * inside
    size = 2 * radius_px + 1
    for _ in range(2):  # twice is nearly a bell
        weight = F.avg_pool2d(inside, size, 1, radius_px)
        picture = F.avg_pool2d(picture * inside, size, 1, radius_px) / weight.clamp(min=1e-4) * inside
    return picture


def _lines(image: Tensor, front: Tensor) -> Tensor:
    """(B, 1, S, S) 0..1: strokes where brightness or depth (crop half-sides) changes from one pixel to the next."""

    def change(plane: Tensor) -> Tensor:
        return (plane - plane.roll(1, -1)).abs() + (plane - plane.roll(1, -2)).abs()

    return (4 * change(image.mean(1, keepdim=True)) + 6 * change(front)).clamp(0, 1)


def _coarse(image: Tensor) -> Tensor:
    """The pictures at reduced resolution; one factor for all, from the CPU generator that the training loop seeds."""
    side, factor = image.shape[-1], 0.25 + 0.45 * float(torch.rand(()))
    small = F.interpolate(image, scale_factor=factor, mode="bilinear", antialias=True)
    return F.interpolate(small, size=(side, side), mode="bilinear")


def _soft(image: Tensor) -> Tensor:
    return F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
