"""Metres from the numbers of a depth file, and refusals of numbers that are no metric depth.

The unit is the user's, or assumed: integers count millimetres, floating-point numbers metres. What is assumed is
checked: a wrong unit gives a scene that says "metric" and is a kilometre away.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sam3d_gs.errors import BadInputError
from sam3d_gs.options import depth_units_per_metre
from sam3d_gs.rgbd.depth_files import read_values

_NAMES = {1.0: "metres", 100.0: "centimetres", 1000.0: "millimetres"}
_SUGGESTED = {"mm": 1000.0, "m": 1.0, "cm": 100.0, "5000": 5000.0, "256": 256.0, "1000000": 1e6}
_TABLE_TO_ROOM_M, _ROAD_M = (0.2, 10.0), (2.0, 60.0)  # usual medians; 256 units a metre are KITTI's

# Written for "none": the largest 16-bit and 32-bit integers, also after a conversion to metres, and the largest half.
_FILLINGS = (65535.0, 65504.0, 65.535, 65535 / 5000, 65535 / 256, 2.0**31 - 1, 2.0**31, 2.0**32 - 1)
_ENDLESS = 1e9  # renderers write 1e10 where they see no surface
_TOP_OF_16_BIT = 60000  # sensors that count millimetres see no object there
_MIN_SHARE = 0.1  # of pixels with depth


@dataclass(frozen=True)
class _Limits:
    """Median depths, metres: outside `refused` the unit is wrong, outside `usual` it may be."""

    refused: tuple[float, float]
    usual: tuple[float, float]


# Of photos of objects. A unit that the user has stated is believed further.
_ASSUMED_METRES = _Limits((0.01, 100.0), (0.05, 30.0))
_ASSUMED_MILLIMETRES = _Limits((0.01, 30.0), (0.15, 5.0))
_STATED = _Limits((0.01, 1000.0), (0.05, 200.0))


@dataclass(frozen=True)
class _Unit:
    per_metre: float
    limits: _Limits

    @property
    def stated(self) -> bool:
        return self.limits is _STATED

    @property
    def name(self) -> str:
        return _NAMES.get(self.per_metre, f"1/{self.per_metre:.8g} m")

    @property
    def typed(self) -> str:
        """As after --depth-unit."""
        return next((typed for typed, count in _SUGGESTED.items() if count == self.per_metre), f"{self.per_metre:.8g}")


@dataclass(frozen=True)
class DepthMap:
    """A user's depth map in metres."""

    metres: np.ndarray  # (h, w) float32, along the optical axis; NaN where the file has no depth
    unit: str  # of the file's numbers, e.g. "millimetres" or "1/5000 m"
    summary: str  # one line: the unit, whether it is assumed, median and range
    warnings: tuple[str, ...] = ()


def read_depth(path: Path, unit: str | None = None) -> DepthMap:
    """The depth map in a file (`depth_files.read_values` knows which).

    Args:
        unit: m, cm, mm, or how many units make a metre, e.g. "5000". None: integers count millimetres and
            floating-point numbers metres, if the result is plausible.

    Raises:
        BadInputError: the file cannot be read, has no valid pixel, or holds no metric depth in that unit.
        MissingPackageError: an .exr file, and the package OpenEXR is not installed.
    """
    values = read_values(path)
    valid, filled = _valid(values)
    if not valid.any():
        raise BadInputError(f"{path} has no valid depth: every pixel is zero, negative, not finite or full scale.")
    numbers = values[valid]
    if unit is not None:
        counted = _Unit(depth_units_per_metre(unit), _STATED)
    else:
        _refuse_relative(path, numbers)
        integers = values.dtype.kind in "iu"
        counted = _Unit(1000.0, _ASSUMED_MILLIMETRES) if integers else _Unit(1.0, _ASSUMED_METRES)
    median = float(np.median(numbers)) / counted.per_metre
    warnings = _check_median(path, median, counted)
    if not counted.stated:
        warnings += _signs_of_another_unit(path, numbers)
    if len(numbers) < _MIN_SHARE * values.size:
        warnings += (f"{path.name}: only {100 * len(numbers) / values.size:.2g} % of its pixels have depth.",)
    metres = np.full(values.shape, np.nan, np.float32)
    metres[valid] = numbers.astype(np.float64) / counted.per_metre
    told = counted.name + ("" if counted.stated else " (assumed; --depth-unit sets it)")
    span = f"{numbers.min() / counted.per_metre:.3g} to {numbers.max() / counted.per_metre:.3g} m"
    summary = f"{path.name}: depth in {told}, {span}, median {_metres(median)}"
    summary += f"; {filled} pixels at full scale have none." if filled else "."
    return DepthMap(metres, counted.name, summary, warnings)


def _valid(values: np.ndarray) -> tuple[np.ndarray, int]:
    """Which pixels have depth, (h, w) bool, and how many hold the number that stands for "none"."""
    with np.errstate(invalid="ignore", over="ignore"):
        valid = np.asarray(values > 0)
        if values.dtype.kind == "f":
            valid &= values < _ENDLESS  # also NaN and infinity
        else:
            valid &= values < np.iinfo(values.dtype).max
        if not valid.any():
            return valid, 0
        top = values[valid].max()
        if any(np.isclose(float(top), filling, rtol=2e-7, atol=0) for filling in _FILLINGS):
            valid &= values != top
        filled = np.count_nonzero(np.isfinite(values) & (values > 0) & ~valid)
    return valid, int(filled)


def _refuse_relative(path: Path, numbers: np.ndarray) -> None:
    """Numbers that do not say how long a metre is: pictures of depth, and depth from 0 to 1."""
    advice = "give metric depth, or say what a metre is with --depth-unit, e.g. mm, m, or units per metre"
    if numbers.dtype.kind in "iu":
        if numbers.dtype.itemsize == 1:
            raise BadInputError(f"{path} has 8 bits per pixel, {_span(numbers)}: a picture of depth. If not, {advice}.")
        if (numbers > _TOP_OF_16_BIT).mean() > 0.002 and numbers.max() <= 65535:
            raise BadInputError(
                f"{path} fills the whole range of 16 bits, {_span(numbers)}, as relative or inverse depth does. "
                f"Instead {advice}."
            )
    elif 0.999 <= numbers.max() <= 1.0001 and numbers.min() <= 0.02:
        raise BadInputError(
            f"{path} holds numbers from 0 to 1, as relative depth does: a metre is unknown. Instead {advice}."
        )


def _signs_of_another_unit(path: Path, numbers: np.ndarray) -> tuple[str, ...]:
    """Warnings about numbers that are plausible in the assumed unit, and look like another."""
    if numbers.dtype.kind == "f":
        if numbers.max() <= 1 and (numbers.max() >= 0.95 or numbers.min() < 0.03):
            return (
                f"{path.name}: its numbers lie between 0 and 1 and are taken as metres. Relative depth would give a "
                "scene of the wrong shape and size; --depth-unit m confirms metres.",
            )
        return ()
    distinct = np.unique(numbers)
    if len(distinct) >= 50 and np.gcd.reduce(distinct) == 5:
        return (
            f"{path.name}: all its numbers are multiples of 5, as where 5000 count a metre (TUM RGB-D). They are taken "
            "as millimetres; --depth-unit 5000 or mm settles it.",
        )
    return ()


def _check_median(path: Path, median: float, unit: _Unit) -> tuple[str, ...]:
    """A warning if the median, metres, is unusual. Raises BadInputError if it is that of no photo of objects."""
    if _within(median, unit.limits.usual):
        return ()
    fitting = []
    for typed, count in _SUGGESTED.items():
        other = median * unit.per_metre / count
        if typed != unit.typed and _within(other, _ROAD_M if typed == "256" else _TABLE_TO_ROOM_M):
            fitting.append(f"{typed} ({_metres(other)})")
    advice = f"Try --depth-unit {' or '.join(fitting)}" if fitting else "Give metric depth and its --depth-unit"
    if not unit.stated and _within(median, _STATED.refused):
        advice += f"; --depth-unit {unit.typed} confirms {unit.name}"
    taken = f"its median depth is {_metres(median)} if the unit is {unit.name}"
    if not _within(median, unit.limits.refused):
        raise BadInputError(f"{path}: {taken}, which no photo of objects has. {advice}.")
    return (f"{path.name}: {taken}, which is unusual for objects. {advice}.",)


def _within(median: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= median <= limits[1]


def _span(numbers: np.ndarray) -> str:
    return f"{numbers.min():g} to {numbers.max():g}"


def _metres(length: float) -> str:
    return f"{length:.3g} m" if 0.01 <= length < 1000 else f"{length:,.4g} m"
