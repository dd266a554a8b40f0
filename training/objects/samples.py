"""Training batches of objects with their targets, generated on the device.

Depths are as in the net: they increase towards the viewer and are 0 at the middle of the visible object, where the crop
spans [-1, 1] in x and y.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from training.objects.augment import blurred_inside, noisy_mask, photographed
from training.objects.draw import Draw
from training.objects.layout import PLANES, VIEW
from training.objects.occluders import random_occluders
from training.objects.raycast import Shapes, render
from training.objects.views import cast, put, random_materials, random_views

FINDER_PX = 64  # side of the coarse picture that finds the crop
WIDE_SHARE = 0.25  # of the samples: their crop leaves room for what an occluder hides
LEAST_SHOWN = 0.012  # of the crop
DEEPEST = 4.5  # crop half-sides; deeper things are seen end on


@dataclass(frozen=True)
class SampleOptions:
    side_px: int = 224
    plain: bool = False  # as a benchmark wants it: whole objects, usual views, one camera, clean pictures, no twins
    lean: float = 0.0  # of the rays of a plain sample (layout.VIEW); 0: parallel
    margin: float = 1.08  # of a plain sample: crop side over the longer side of the mask's box


class Batch(NamedTuple):
    """B samples of side S, float32 unless noted; mask, visible and amodal are 0 or 1."""

    image: Tensor  # (B, 3, S, S) RGB 0..1
    mask: Tensor  # (B, 1, S, S) as a segmenter might give it
    visible: Tensor  # (B, 1, S, S) what is seen
    amodal: Tensor  # (B, 1, S, S) what would be seen if nothing stood in front
    layers: Tensor  # (B, 4, S, S) first entry, first exit, second entry, last exit
    hollow: Tensor  # (B, 1, S, S) the ray leaves the object and enters it again
    back_rgb: Tensor  # (B, 3, S, S) without fine detail
    up: Tensor  # (B, 3) unit vector against gravity; x right, y up, z towards the viewer
    usable: Tensor  # (B,) 0 or 1
    views: Tensor  # (N, VIEW_LENGTH) from where; N is B for plain samples, else B / 2
    materials: Tensor  # (N, MATERIALS, MATERIAL_LENGTH) of what
    centre_depth: Tensor  # (N,) camera-frame depth of the samples' depth 0


def net_input(image: Tensor, mask: Tensor) -> Tensor:
    """(B, 6, S, S): colours of the masked pixels and the mask, in -1..1, and x and y."""
    count, _, side, _ = image.shape
    axis = torch.linspace(-1, 1, side, device=image.device)
    x, y = axis.expand(count, 1, side, side), axis[:, None].expand(count, 1, side, side)
    return torch.cat([(2 * image - 1) * mask, 2 * mask - 1, x, y], dim=1)


def make_batch(draw: Draw, shapes: Shapes, options: SampleOptions) -> Batch:
    """One sample of each of N shapes and, unless `plain`, a second one: its mirror image, with another camera.

    Ray casting takes most of the time, so each picture is used twice, with different exposure, noise and mask.
    """
    views, up = random_views(draw, shapes, **({"high_share": 0.0} if options.plain else {}))
    if options.plain:
        put(views, "LEAN", torch.full((len(shapes), 1), options.lean, device=draw.device))
    materials = random_materials(draw, len(shapes))
    if not options.plain:
        cast(draw, views, materials)

    coarse = render(shapes, views, materials, FINDER_PX, silhouette=True)
    x, y = _places(views, FINDER_PX)
    occluders = None if options.plain else random_occluders(draw, coarse, x, y)
    shown = coarse[:, 0] if occluders is None else coarse[:, 0] * occluders.left(x, y)
    found = _set_crops(draw, views, shown > 0.5, x, y, options)

    planes = render(shapes, views, materials, options.side_px)
    amodal = _plane(planes, "SEEN", 1)
    visible = amodal
    if occluders is not None:
        visible = amodal * occluders.left(*_places(views, options.side_px))[:, None]
    layers = _plane(planes, "LAYERS", 4)
    shown_px = visible.sum((1, 2, 3)).clamp(min=1)
    centre = (0.5 * (layers[:, :1] + layers[:, 3:]) * visible).sum((1, 2, 3)) / shown_px
    half = views[:, VIEW["HALF"]] * (1 - views[:, VIEW["LEAN"]] * centre)  # of the crop, at that depth
    layers = ((layers - centre[:, None, None, None]) / half[:, None, None, None]) * amodal
    thickness = (layers[:, :1] - layers[:, 3:]) * visible
    usable = found & (visible.mean((1, 2, 3)) > LEAST_SHOWN) & (thickness.amax((1, 2, 3)) < DEEPEST)

    image, front = _plane(planes, "RGB", 3), _plane(planes, "FRONT_RGB", 3)
    # What light the front got in the mean falls on the back as well: the back shall go with the photo.
    light = (image * visible).sum((2, 3)) / ((front * visible).sum((2, 3)) + 1e-3)
    back = _plane(planes, "BACK_RGB", 3) * light.clamp(0.1, 2.5)[..., None, None]
    back = blurred_inside(back, amodal, options.side_px // 32)
    hollow = _plane(planes, "HOLLOW", 1)
    if options.plain:
        image, back, mask = image.clamp(0, 1), back.clamp(0, 1), visible
    else:
        image, visible, amodal, layers, hollow, back = (
            torch.cat([t, t.flip(-1)]) for t in (image, visible, amodal, layers, hollow, back)
        )
        up, usable = torch.cat([up, up * up.new_tensor([-1, 1, 1])]), usable.repeat(2)
        image, back = photographed(draw, image, back, visible, layers[:, :1])
        mask = noisy_mask(draw, visible)
    return Batch(
        image,
        mask,
        visible,
        amodal,
        layers,
        hollow,
        back,
        up,
        usable.float(),
        views,
        materials,
        centre,
    )


def _plane(planes: Tensor, name: str, count: int) -> Tensor:
    return planes[:, PLANES[name] : PLANES[name] + count]


def _places(views: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """x and y of the pixel centres in the camera frame, (B, side, side) each."""
    axis = (torch.arange(side, device=views.device) + 0.5) * (2 / side) - 1
    half, centre = views[:, VIEW["HALF"]], views[:, VIEW["CENTRE"] : VIEW["CENTRE"] + 2]
    x = (centre[:, :1] + half[:, None] * axis)[:, None, :].expand(-1, side, -1)
    y = (centre[:, 1:] - half[:, None] * axis)[:, :, None].expand(-1, -1, side)
    return x, y


def _set_crops(draw: Draw, views: Tensor, shown: Tensor, x: Tensor, y: Tensor, options: SampleOptions) -> Tensor:
    """Set the views' crops to the boxes of `shown` (B, h, h); returns (B,) bool, false for empty ones."""
    count, far, pixel = len(views), 1e3, 2 * views[:, VIEW["HALF"]] / shown.shape[-1]
    found = shown.sum((1, 2)) >= 6
    shown = shown | ~found[:, None, None]
    left, right = x.where(shown, far).amin((1, 2)) - pixel / 2, x.where(shown, -far).amax((1, 2)) + pixel / 2
    low, high = y.where(shown, far).amin((1, 2)) - pixel / 2, y.where(shown, -far).amax((1, 2)) + pixel / 2
    half = torch.maximum(right - left, high - low)[:, None] / 2
    centre = torch.stack([(left + right) / 2, (low + high) / 2], dim=-1)
    if options.plain:
        margin = torch.full_like(half, options.margin)
    else:
        usual, wide = draw.uniform(count, 1, low=1.0, high=1.22), draw.uniform(count, 1, low=1.22, high=1.8)
        margin = torch.where(draw.chance(WIDE_SHARE, count, 1), wide, usual)
        centre = centre + 0.03 * half * draw.normal(count, 2)
    put(views, "CENTRE", centre)
    put(views, "HALF", half * margin)
    return found
