"""A pinhole camera as a file states it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


class NoCamera(ValueError):
    """Why something holds no usable camera; the caller names the file."""


@dataclass(frozen=True)
class View:
    """The photo that the camera took."""

    name: str  # of its file
    size: tuple[int, int]  # (width, height) px of the upright file


@dataclass(frozen=True)
class Camera:
    """Intrinsics of one pinhole camera. Raises NoCamera if they are none."""

    fx: float
    fy: float
    cx: float
    cy: float
    size: tuple[float, float] | None = None  # (width, height) px that they refer to; None: not stated
    distorted: bool = False  # the lens model has coefficients other than zero

    def __post_init__(self) -> None:
        numbers = (self.fx, self.fy, self.cx, self.cy, *(self.size or ()))
        if not all(math.isfinite(number) for number in numbers):
            raise NoCamera("it is not finite")
        if min(self.fx, self.fy) <= 0:
            raise NoCamera(f"focal lengths of {self.fx:g} and {self.fy:g} are no pixels")
        if self.size and min(self.size) < 1:
            raise NoCamera(f"it states a picture of {self.size[0]:g} x {self.size[1]:g} px")


def camera_of_numbers(numbers: Sequence[float]) -> Camera:
    """The camera in 4 numbers (fx, fy, cx, cy), or in those of a 3 x 3, 3 x 4 or 4 x 4 matrix.

    Matrices are read by rows, or by columns if only that makes a camera matrix, as Open3D writes them.
    """
    if len(numbers) == 4:
        fx, fy, cx, cy = map(float, numbers)
        return Camera(fx, fy, cx, cy)
    sides = {9: (3, 3), 12: (3, 4), 16: (4, 4)}.get(len(numbers))
    if sides is None:
        raise NoCamera(f"it holds {len(numbers)} numbers")
    rows = [list(map(float, numbers[start : start + sides[1]])) for start in range(0, len(numbers), sides[1])]
    if not all(math.isfinite(number) for number in numbers):
        raise NoCamera("it is not finite, or not a camera matrix")
    if rows[2][:3] != [0, 0, 1] and sides[0] == sides[1] and [row[2] for row in rows[:3]] == [0, 0, 1]:
        rows = [list(column) for column in zip(*rows, strict=True)]
    last_column, last_row = [row[3] for row in rows[:3] if len(row) > 3], rows[3:] or [[0, 0, 0, 1]]
    if rows[2][:3] != [0, 0, 1] or rows[1][0] != 0 or any(last_column) or last_row != [[0, 0, 0, 1]]:
        raise NoCamera("it is not finite, or not a camera matrix")
    if rows[0][1] != 0:
        raise NoCamera("it has skew")
    return Camera(rows[0][0], rows[1][1], rows[0][2], rows[1][2])
