"""Cut one object out of its photo: the six inputs of the condition embedders.

Two square views, each resized to `size_px`: the *crop* around the mask, and the *full* photo. Each has colours,
mask and pointmap, which is shifted and scaled so that the object lies at the origin of a scene of size one. Views
are sampled straight from the photo: no padded or normalised copy of a large photo is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sam3d_gs.sam3d_torch.config import PreprocessConfig
from sam3d_gs.sam3d_torch.pointmap import nearest

_BAND_PX = 1 << 21  # pixels of the photo that are worked on at once


class ObjectInputError(ValueError):
    """An object cannot be cut out; the text is the reason, on one line."""


@dataclass(frozen=True)
class ObjectInputs:
    """The networks' inputs for one object, all float32 on the pointmap's device; S is `PreprocessConfig.size_px`."""

    tensors: dict[
        str, Tensor
    ]  # crop: image, mask, pointmap; full: rgb_image, rgb_image_mask, rgb_pointmap; (1, C, S, S)
    scale: Tensor  # (3,) pointmap = normalised * scale + shift
    shift: Tensor  # (3,)
    box_xyxy: tuple[int, int, int, int]  # of the crop, photo pixels; may extend beyond the photo


@dataclass(frozen=True)
class _View:
    """A box of the photo, centred in a square. Inside the box but outside the photo everything is 0."""

    box: tuple[int, int, int, int]  # x1, y1, x2, y2, px
    photo: tuple[int, int]  # height, width, px

    @property
    def side(self) -> int:
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    @property
    def origin(self) -> tuple[int, int]:
        """Photo coordinates (x, y) of the square's corner; the odd pixel of padding goes right and below."""
        x1, y1, x2, y2 = self.box
        return x1 - (self.side - (x2 - x1)) // 2, y1 - (self.side - (y2 - y1)) // 2

    @property
    def inside(self) -> tuple[int, int, int, int]:
        """The part of the box inside the photo: x1, y1, x2, y2."""
        x1, y1, x2, y2 = self.box
        return max(x1, 0), max(y1, 0), min(x2, self.photo[1]), min(y2, self.photo[0])


def object_inputs(
    rgb: np.ndarray,
    mask: np.ndarray,
    pointmap: Tensor,
    config: PreprocessConfig,
    *,
    full: Tensor | None = None,
    need_depth: bool = True,
) -> ObjectInputs:
    """The inputs of one object.

    Args:
        rgb: (H, W, 3) uint8.
        mask: (H, W) bool, or float in 0..1. The crop holds every pixel above 0, the object is the pixels above 0.5.
        pointmap: (h, w, 3) float32, PyTorch3D camera frame, NaN where invalid; h, w may differ from the photo's.
        config: sizes, and how the scene is measured.
        full: `full_image(rgb, config)`, if already computed; the same for every object of a photo.
        need_depth: False to continue with scale 1 and shift 0 where the object has no valid depth, as upstream does.

    Raises:
        ObjectInputError: the mask is empty, too small or of another size, or there is no valid depth inside it.
    """
    photo = (int(rgb.shape[0]), int(rgb.shape[1]))
    box = crop_box(_checked(mask, photo), config.box_factor)
    scale, shift = _scale_and_shift(pointmap, mask > 0.5, config.scene_scale, need_depth)
    crop, whole = _View(box, photo), _whole(photo)
    size = config.size_px
    tensors = {
        "image": _colours(rgb, crop, size, pointmap.device),
        "mask": _mask(mask, crop, size, pointmap.device),
        "rgb_image": full_image(rgb, config, pointmap.device) if full is None else full.to(pointmap.device),
        "rgb_image_mask": _mask(mask, whole, size, pointmap.device),
        "pointmap": _points(pointmap, scale, shift, crop, size, padding=torch.nan),
        "rgb_pointmap": _points(pointmap, scale, shift, whole, size, padding=0.0),
    }
    return ObjectInputs(tensors, scale, shift, box)


def full_image(rgb: np.ndarray, config: PreprocessConfig, device: torch.device | str = "cpu") -> Tensor:
    """The whole photo, (H, W, 3) uint8, in a black square -> (1, 3, S, S) float32 in 0..1."""
    return _colours(rgb, _whole((int(rgb.shape[0]), int(rgb.shape[1]))), config.size_px, device)


def crop_box(mask: np.ndarray, factor: float) -> tuple[int, int, int, int]:
    """Square box about the mask's pixels above 0, `factor` times their longer side; (x1, y1, x2, y2) px.

    As in upstream: a side is the difference of the outermost pixels (one less than their number), and edges are cut
    toward zero, so a box that extends beyond the photo on the left or above may lack a pixel there.

    Raises:
        ObjectInputError: the mask is empty, or less than 3 px wide or high.
    """
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        raise ObjectInputError("its mask is empty: no pixel of it lies in the photo")
    first, last = np.array([columns[0], rows[0]]), np.array([columns[-1], rows[-1]])
    if (last - first).min() < 2:
        width, height = last - first + 1
        raise ObjectInputError(f"its mask spans only {width} x {height} px; at least 3 x 3 px are needed to crop to it")
    centre = (first + last) / 2
    half = int((last - first).max() * factor) // 2
    x1, y1, x2, y2 = (int(edge) for edge in (*(centre - half), *(centre + half)))
    return x1, y1, x2, y2


def _checked(mask: np.ndarray, photo: tuple[int, int]) -> np.ndarray:
    if mask.shape != photo:
        sizes = [" x ".join(str(side) for side in reversed(shape)) for shape in (mask.shape, photo)]
        raise ObjectInputError(f"its mask is {sizes[0]} px, the photo {sizes[1]} px")
    if mask.dtype != np.bool_ and not (mask.min() >= 0 and mask.max() <= 1):  # NaN fails both
        raise ObjectInputError("its mask has values outside 0 to 1")
    return mask


def _whole(photo: tuple[int, int]) -> _View:
    return _View((0, 0, photo[1], photo[0]), photo)


def _scale_and_shift(
    pointmap: Tensor, inside: np.ndarray, scene_scale: bool, need_depth: bool
) -> tuple[Tensor, Tensor]:
    """(3,) scale and shift: the object's median point, and the median distance (longest axis) of the scene from it.

    `inside` is (H, W) bool at photo size; medians count the pixels of the photo, whatever the size of the pointmap.
    torch's median of an even number is the lower middle value, as in upstream.
    """
    if not inside.any():
        raise ObjectInputError("its mask is nowhere above 0.5")
    height, width = inside.shape
    chosen, filled = torch.from_numpy(inside), 0
    points = pointmap.new_empty((3, int(np.count_nonzero(inside))))
    for rows, band in _bands(pointmap, height, width):
        some = band[chosen[rows].to(band.device)]
        points[:, filled : filled + len(some)] = some.T
        filled += len(some)
    if bool(torch.isnan(points).all()):
        if need_depth:
            raise ObjectInputError("there is no valid depth inside its mask")
        return points.new_ones(3), points.new_zeros(3)
    shift = torch.stack([axis.nanmedian() for axis in points])
    if scene_scale:
        distance = pointmap.new_empty((height, width))
        for rows, band in _bands(pointmap, height, width):
            torch.amax((band - shift).abs_(), dim=-1, out=distance[rows])
        scale = distance.nanmedian()
    else:
        distance = (points - shift[:, None]).norm(dim=0)
        distance = distance[~distance.isnan()].sort().values
        scale = 2 * (_quantile(distance, 0.9) - _quantile(distance, 0.1))
    if not bool(torch.isfinite(shift).all() & torch.isfinite(scale) & (scale > 0)):
        raise ObjectInputError("the depth around it has no extent, so its size cannot be told")
    return scale.expand(3).clone(), shift


def _bands(pointmap: Tensor, height: int, width: int) -> Iterator[tuple[slice, Tensor]]:
    """The pointmap at photo size, some rows at a time, infinities as NaN: (rows, (n, width, 3))."""
    row_of = nearest(pointmap.shape[0], height).to(pointmap.device)
    column_of = nearest(pointmap.shape[1], width).to(pointmap.device)
    same = tuple(pointmap.shape[:2]) == (height, width)
    step = max(1, _BAND_PX // width)
    for start in range(0, height, step):
        rows = slice(start, min(start + step, height))
        band = pointmap[rows] if same else pointmap[row_of[rows, None], column_of]
        yield rows, torch.nan_to_num(band, nan=torch.nan, posinf=torch.nan, neginf=torch.nan)


def _quantile(ascending: Tensor, q: float) -> Tensor:
    """Linear between the two nearest ranks, like torch.quantile but for any number of values."""
    if not len(ascending):
        return ascending.new_tensor(torch.nan)
    rank = q * (len(ascending) - 1)
    low = int(rank)
    return torch.lerp(ascending[low], ascending[min(low + 1, len(ascending) - 1)], rank - low)


def _colours(rgb: np.ndarray, view: _View, size: int, device: torch.device | str) -> Tensor:
    """(1, 3, size, size) float32 in 0..1, bilinear with antialias.

    The filter is separable: bands of rows are narrowed first, then the tall result is shortened at once.
    """
    x1, y1, x2, y2 = view.inside
    left, top = x1 - view.origin[0], y1 - view.origin[1]
    narrow = torch.zeros((1, 3, view.side, size), device=device)
    step = max(1, _BAND_PX // view.side)
    for start in range(y1, y2, step):
        stop = min(start + step, y2)
        cut = torch.from_numpy(np.array(rgb[start:stop, x1:x2])).to(device)
        band = F.pad(cut.permute(2, 0, 1)[None].float() / 255, (left, view.side - left - (x2 - x1)))
        narrow[:, :, top + start - y1 : top + stop - y1] = _resized(band, stop - start, size)
    return _resized(narrow, size, size)


def _resized(image: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(image, size=(height, width), mode="bilinear", align_corners=False, antialias=True)


def _mask(mask: np.ndarray, view: _View, size: int, device: torch.device | str) -> Tensor:
    """(1, 1, size, size) float32, nearest neighbour, 0 outside."""
    rows, columns, inside, _ = _samples(view, size, device)
    values = mask[rows.cpu().numpy()[:, None], columns.cpu().numpy()].astype(np.float32)
    return (torch.from_numpy(values).to(device) * inside)[None, None]


def _points(pointmap: Tensor, scale: Tensor, shift: Tensor, view: _View, size: int, padding: float) -> Tensor:
    """(1, 3, size, size) float32, nearest neighbour, normalised; 0 outside the photo, `padding` outside the box."""
    rows, columns, inside, in_box = _samples(view, size, pointmap.device)
    row_of = nearest(pointmap.shape[0], view.photo[0]).to(pointmap.device)
    column_of = nearest(pointmap.shape[1], view.photo[1]).to(pointmap.device)
    points = (pointmap[row_of[rows][:, None], column_of[columns]] - shift) / scale
    points.masked_fill_(~torch.isfinite(points).all(-1, keepdim=True), torch.nan)
    points.masked_fill_(~inside[..., None], 0.0)
    points.masked_fill_(~in_box[..., None], padding)
    return points.permute(2, 0, 1)[None].contiguous()


def _samples(view: _View, size: int, device: torch.device | str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Positions in the photo of the view's nearest-neighbour samples.

    Returns (size,) rows and columns, clamped to the photo, and (size, size) bool: in photo and box, in the box.
    """
    pick = nearest(view.side, size).to(device)
    columns, rows = pick + view.origin[0], pick + view.origin[1]

    def within(box: tuple[int, int, int, int]) -> Tensor:
        x1, y1, x2, y2 = box
        return ((rows >= y1) & (rows < y2))[:, None] & ((columns >= x1) & (columns < x2))

    height, width = view.photo
    return rows.clamp(0, height - 1), columns.clamp(0, width - 1), within(view.inside), within(view.box)
