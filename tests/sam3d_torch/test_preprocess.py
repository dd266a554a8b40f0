"""The cut-out of an object, against a plain version that pads and normalises whole photos, and on bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from sam3d_gs.sam3d_torch import preprocess
from sam3d_gs.sam3d_torch.config import PreprocessConfig
from sam3d_gs.sam3d_torch.preprocess import ObjectInputError, ObjectInputs, full_image, object_inputs

CONFIG = PreprocessConfig(size_px=42, box_factor=1.2)


def _photo(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, Tensor]:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    points = torch.from_numpy(rng.normal((0.0, 0.0, 4.0), 1.0, (height, width, 3)).astype(np.float32))
    points[torch.from_numpy(rng.random((height, width)) < 0.1)] = torch.nan
    return rgb, points


def _rectangle(height: int, width: int, x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    mask = np.zeros((height, width), dtype=bool)
    mask[y1:y2, x1:x2] = True
    return mask


def _plain(rgb: np.ndarray, mask: np.ndarray, points: Tensor, config: PreprocessConfig) -> dict[str, Tensor]:
    """The recipe step by step: resize the map, normalise all of it, pad the photo, cut, pad to a square, resize."""
    height, width = mask.shape
    alpha = torch.from_numpy(mask.astype(np.float32))
    colours = torch.from_numpy(rgb.astype(np.float32) / 255).permute(2, 0, 1)
    points = F.interpolate(points.permute(2, 0, 1)[None], size=(height, width), mode="nearest")[0]
    shift = points[:, alpha > 0.5].nanmedian(dim=1).values
    centred = points - shift[:, None, None]
    scale = centred.abs().max(dim=0).values.nanmedian()
    normal = centred / scale

    ys, xs = np.nonzero(mask)
    box = math.floor(max(np.ptp(xs), np.ptp(ys)) * config.box_factor) // 2
    x, y = (xs.min() + xs.max()) / 2, (ys.min() + ys.max()) / 2
    x1, y1, x2, y2 = math.trunc(x - box), math.trunc(y - box), math.trunc(x + box), math.trunc(y + box)
    far = height + width

    def cut(picture: Tensor) -> Tensor:
        return F.pad(picture, (far, far, far, far))[:, far + y1 : far + y2, far + x1 : far + x2]

    def square(picture: Tensor, value: float = 0.0) -> Tensor:
        h, w = picture.shape[1:]
        side = max(h, w)
        left, above = (side - w) // 2, (side - h) // 2
        return F.pad(picture, (left, side - w - left, above, side - h - above), value=value)

    def smooth(picture: Tensor) -> Tensor:
        size = (config.size_px, config.size_px)
        return F.interpolate(square(picture)[None], size=size, mode="bilinear", antialias=True)

    def hard(picture: Tensor) -> Tensor:
        return F.interpolate(picture[None], size=(config.size_px, config.size_px), mode="nearest")

    return {
        "image": smooth(cut(colours)),
        "mask": hard(square(cut(alpha[None]))),
        "rgb_image": smooth(colours),
        "rgb_image_mask": hard(square(alpha[None])),
        "pointmap": hard(square(cut(normal), math.nan)),
        "rgb_pointmap": hard(square(normal)),
    }


def _assert_same(made: ObjectInputs, wanted: dict[str, Tensor]) -> None:
    assert made.tensors.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert made.tensors[name].dtype == torch.float32
        torch.testing.assert_close(made.tensors[name], tensor, rtol=1e-6, atol=1e-6, equal_nan=True, msg=name)


@pytest.mark.parametrize(
    "mask",
    [
        _rectangle(40, 61, 20, 12, 33, 29),
        _rectangle(40, 61, 0, 0, 9, 30),  # out at the left and above, where edges are cut toward zero
        _rectangle(40, 61, 50, 33, 61, 40),
        _rectangle(40, 61, 0, 0, 61, 40),  # covers the photo
        _rectangle(40, 61, 0, 5, 4, 9) | _rectangle(40, 61, 57, 30, 60, 38),  # two parts
        np.pad(np.ones((38, 59), bool), 1) ^ np.ones((40, 61), bool),  # only the border
        np.linspace(0, 1, 40 * 61, dtype=np.float32).reshape(40, 61),  # soft
    ],
    ids=["inside", "top-left", "bottom-right", "all", "parts", "border", "soft"],
)
def test_same_as_the_plain_recipe(mask: np.ndarray) -> None:
    rgb, points = _photo(*mask.shape)
    _assert_same(object_inputs(rgb, mask, points, CONFIG), _plain(rgb, mask, points, CONFIG))


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_same_as_the_plain_recipe_anywhere(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(3, 60)), data.draw(st.integers(3, 60))
    x1, y1 = data.draw(st.integers(0, width - 3)), data.draw(st.integers(0, height - 3))
    mask = _rectangle(
        height, width, x1, y1, data.draw(st.integers(x1 + 3, width)), data.draw(st.integers(y1 + 3, height))
    )
    config = PreprocessConfig(data.draw(st.integers(5, 50)), data.draw(st.sampled_from([1.0, 1.2, 1.7])))
    rgb, _ = _photo(height, width)
    _, points = _photo(data.draw(st.integers(1, 60)), data.draw(st.integers(1, 60)))
    try:
        made = object_inputs(rgb, mask, points, config)
    except ObjectInputError:  # so few points that none is valid, or all are the same
        assert len(points.flatten()) < 60 or int(mask.sum()) < 20
        return
    _assert_same(made, _plain(rgb, mask, points, config))


@pytest.mark.parametrize("map_size", [(50, 70), (25, 35), (31, 90)])
def test_bands_change_nothing(monkeypatch: pytest.MonkeyPatch, map_size: tuple[int, int]) -> None:
    rgb, _ = _photo(50, 70)
    _, points = _photo(*map_size)
    mask = _rectangle(50, 70, 3, 5, 66, 41)
    whole = object_inputs(rgb, mask, points, CONFIG)
    monkeypatch.setattr(preprocess, "_BAND_PX", 200)
    banded = object_inputs(rgb, mask, points, CONFIG)
    for name, tensor in whole.tensors.items():
        assert torch.equal(banded.tensors[name].nan_to_num(9.0), tensor.nan_to_num(9.0)), name
    assert torch.equal(banded.scale, whole.scale) and torch.equal(banded.shift, whole.shift)


class _Largest(TorchDispatchMode):
    """Remembers the bytes of the largest tensor that an operation made."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and not out._is_view():
            self.bytes = max(self.bytes, out.numel() * out.element_size())
        return out


def test_a_large_photo_is_never_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preprocess, "_BAND_PX", 1 << 14)
    height, width = 1200, 1600
    rgb = np.full((height, width, 3), 90, np.uint8)
    points = torch.arange(width, dtype=torch.float32)[None, :, None].repeat(height, 1, 3)
    with _Largest() as largest:
        object_inputs(rgb, _rectangle(height, width, 700, 500, 800, 700), points, CONFIG)
    assert largest.bytes <= height * width * 4  # one number per pixel: the distances whose median is the scale


def test_the_full_view_is_shared() -> None:
    rgb, points = _photo(30, 40)
    full = full_image(rgb, CONFIG)
    first = object_inputs(rgb, _rectangle(30, 40, 2, 2, 12, 9), points, CONFIG, full=full)
    alone = object_inputs(rgb, _rectangle(30, 40, 2, 2, 12, 9), points, CONFIG)
    assert first.tensors["rgb_image"] is full
    assert torch.equal(alone.tensors["rgb_image"], full)


def test_a_soft_mask_is_cut_at_any_alpha_but_measured_above_one_half() -> None:
    rgb, points = _photo(40, 40)
    mask = np.full((40, 40), 0.0, np.float32)
    mask[2:38, 2:38] = 0.2
    mask[10:20, 10:20] = 0.9
    made = object_inputs(rgb, mask, points, CONFIG)
    assert made.box_xyxy == (-1, -1, 40, 40)  # 19.5 -+ int(35 * 1.2) // 2, cut toward zero
    torch.testing.assert_close(made.shift, points[10:20, 10:20].reshape(-1, 3).nanmedian(dim=0).values)


def test_scale_of_the_object_instead_of_the_scene() -> None:
    rgb, points = _photo(40, 50)
    made = object_inputs(rgb, _rectangle(40, 50, 5, 6, 30, 31), points, PreprocessConfig(42, 1.2, scene_scale=False))
    inside = points[6:31, 5:30].reshape(-1, 3)
    low, high = (inside - made.shift).norm(dim=1).nanquantile(torch.tensor([0.1, 0.9]))
    torch.testing.assert_close(made.scale, (2 * (high - low)).expand(3))


def test_infinite_and_half_valid_points_are_invalid() -> None:
    rgb, points = _photo(40, 50)
    mask = _rectangle(40, 50, 5, 6, 30, 31)
    holes = points.clone()
    holes[8:12, 8:25] = torch.nan
    infinite = points.clone()
    infinite[8:12, 8:25] = torch.tensor([math.inf, -math.inf, math.nan])
    made, wanted = (object_inputs(rgb, mask, p, CONFIG) for p in (infinite, holes))
    for name in ("pointmap", "rgb_pointmap"):
        torch.testing.assert_close(made.tensors[name], wanted.tensors[name], rtol=0, atol=0, equal_nan=True)
    half = points.clone()
    half[8:12, 8:25, 0] = torch.nan
    picture = object_inputs(rgb, mask, half, CONFIG).tensors["pointmap"][0]
    assert torch.equal(picture.isnan().any(0), picture.isnan().all(0))


def test_without_depth_only_on_request() -> None:
    rgb, points = _photo(40, 50)
    points[6:31, 5:30] = torch.nan
    mask = _rectangle(40, 50, 5, 6, 30, 31)
    with pytest.raises(ObjectInputError, match="no valid depth inside its mask"):
        object_inputs(rgb, mask, points, CONFIG)
    made = object_inputs(rgb, mask, points, CONFIG, need_depth=False)
    assert made.scale.tolist() == [1, 1, 1] and made.shift.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (_rectangle(40, 50, 0, 0, 0, 0), "is empty"),
        (_rectangle(40, 50, 7, 7, 8, 8), "1 x 1 px"),
        (_rectangle(40, 50, 7, 7, 9, 30), "2 x 23 px"),
        (_rectangle(50, 40, 7, 7, 9, 30), "40 x 50 px, the photo 50 x 40 px"),
        (np.full((40, 50), 0.4, np.float32), "nowhere above 0.5"),
        (np.full((40, 50), np.nan, np.float32), "outside 0 to 1"),
        (np.full((40, 50), 255.0, np.float32), "outside 0 to 1"),
    ],
)
def test_unusable_masks_are_refused_with_a_reason(mask: np.ndarray, reason: str) -> None:
    rgb, points = _photo(40, 50)
    with pytest.raises(ObjectInputError, match=reason) as caught:
        object_inputs(rgb, mask, points, CONFIG)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [2.0, math.nan])
def test_a_scene_without_extent_is_refused(value: float) -> None:
    rgb, points = _photo(40, 50)
    with pytest.raises(ObjectInputError, match=r"no extent|no valid depth"):
        object_inputs(rgb, _rectangle(40, 50, 7, 7, 20, 30), torch.full_like(points, value), CONFIG)


def test_views_and_read_only_photos_are_taken_as_they_are() -> None:
    rgb, points = _photo(40, 50)
    mask = _rectangle(40, 50, 5, 6, 30, 31)
    wanted = object_inputs(rgb, mask, points, CONFIG)
    turned = rgb[:, ::-1].copy()[:, ::-1]
    turned.flags.writeable = False
    before = points.clone()
    made = object_inputs(turned, mask[::-1].copy()[::-1], points, CONFIG)
    _assert_same(made, wanted.tensors)
    assert torch.equal(points.nan_to_num(9.0), before.nan_to_num(9.0))
