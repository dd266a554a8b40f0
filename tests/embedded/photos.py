"""Small made photos of textured objects on a ground, with the true mask of every object."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sam3d_gs.types import InstanceMask, Photo

WIDTH, HEIGHT = 240, 180
HORIZON_ROW = 55


@dataclass(frozen=True)
class Picture:
    """A photo and the masks of its objects, by name."""

    photo: Photo
    masks: dict[str, InstanceMask]

    @property
    def items(self) -> list[InstanceMask]:
        return list(self.masks.values())

    def with_mask(self, name: str, mask: np.ndarray) -> Picture:
        return replace(self, masks={**self.masks, name: replace(self.masks[name], mask=mask)})


class _Canvas:
    """Paints objects one over another; what is painted later hides what is behind."""

    def __init__(self, name: str, rgb: np.ndarray) -> None:
        self.name, self.rgb, self.masks = name, rgb.astype(np.float64), {}

    def paint(self, name: str, shape: np.ndarray, rgb: np.ndarray) -> None:
        self.rgb = np.where(shape[..., None], rgb, self.rgb)
        self.masks = {other: mask & ~shape for other, mask in self.masks.items()} | {name: shape}

    def picture(self) -> Picture:
        rgb = np.clip(self.rgb + np.random.default_rng(0).normal(0, 2, self.rgb.shape), 0, 255).astype(np.uint8)
        items = {
            name: InstanceMask(f"{number:02d}-{name}-0", name, mask, 0.9)
            for number, (name, mask) in enumerate(self.masks.items())
        }
        return Picture(Photo(Path(f"{self.name}.png"), self.name, rgb, self.name), items)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return x, y


def _colour(rgb: tuple[float, float, float], shade: np.ndarray) -> np.ndarray:
    return np.array(rgb) * shade[..., None]


def _room(name: str, floor: tuple[float, float, float]) -> _Canvas:
    """A speckled wall above a tiled floor, in perspective."""
    x, y = _grid()
    below = np.maximum(y - HORIZON_ROW, 1)
    tiles = ((x - WIDTH / 2) / below * 3 // 1 + 900 / below // 1) % 2
    wall = _colour((205, 200, 190), 0.9 + 0.06 * np.sin(x / 7) * np.sin(y / 5))
    return _Canvas(name, np.where((y > HORIZON_ROW)[..., None], _colour(floor, 0.8 + 0.2 * tiles), wall))


def street() -> Picture:
    """A striped ball in front of a wooden crate, a small box far away, and a barrel cut off by the right edge."""
    x, y = _grid()
    canvas = _room("street", (150, 150, 140))
    box = (np.abs(x - 40) < 11) & (np.abs(y - 70) < 10)
    canvas.paint("box", box, _colour((60, 90, 190), np.where((x // 4) % 2 > 0, 1.0, 0.75)))
    top = (np.abs(x - 115 - (y - 75) * 0.2) < 38 + (y - 75) * 0.3) & (y > 62) & (y < 75)
    front = (np.abs(x - 115) < 38) & (y >= 75) & (y < 130)
    wood = 0.85 + 0.1 * np.sin(y * 1.3 + np.sin(x / 9)) + np.where(top, 0.25, 0.0)
    canvas.paint("crate", top | front, _colour((150, 100, 50), wood))
    barrel = (np.abs(x - 232) < 22) & (y > 70) & (y < 150)
    canvas.paint("barrel", barrel, _colour((60, 140, 70), 1.1 - 0.5 * np.abs(x - 224) / 22 - 0.3 * (y // 12 % 2)))
    radius = np.hypot(x - 95, y - 135) / 28
    light = 0.5 + 0.6 * np.sqrt(np.clip(1 - radius**2, 0, 1)) - 0.15 * ((x + y) // 8 % 2)
    canvas.paint("ball", radius < 1, _colour((205, 50, 40), light))
    return canvas.picture()


def table() -> Picture:
    """A cup on a round plate."""
    x, y = _grid()
    canvas = _room("table", (160, 120, 80))
    radius = np.hypot((x - 100) / 75, (y - 125) / 36)
    rings = 0.85 + 0.15 * (np.abs(radius - 0.7) < 0.08) - 0.1 * (radius > 0.92)
    canvas.paint("plate", radius < 1, _colour((225, 225, 235), rings))
    cup = (np.abs(x - 100) < 22) & (y > 72) & (y < 122 + 6 * np.sqrt(np.clip(1 - ((x - 100) / 22) ** 2, 0, 1)))
    canvas.paint("cup", cup, _colour((200, 90, 60), 1.05 - 0.4 * np.abs(x - 94) / 22 - 0.1 * (x // 5 % 2)))
    return canvas.picture()
