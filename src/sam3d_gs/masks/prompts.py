"""The user's boxes and points as prompts for a network, one object each."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sam3d_gs.errors import BadInputError
from sam3d_gs.options import Sam3Options
from sam3d_gs.types import Photo, Phrase

log = logging.getLogger("sam3d_gs")

OVERSHOOT_PX = 2.0  # detectors' own boxes reach this far beyond the photo; of large photos one percent
OVERSHOOT_SHARE = 0.01
MIN_SHARE_INSIDE = 0.5  # of a box's area; with less on the photo it was meant for another one
MIN_SIDE_PX = 1.0


@dataclass(frozen=True)
class Prompt:
    """One box or point."""

    name: str  # takes the place of a phrase
    xy: tuple[float, ...]  # x0, y0, x1, y1 of a box or x, y of a point; px of `Photo.rgb`

    @property
    def is_box(self) -> bool:
        return len(self.xy) == 4


def prompts_of(options: Sam3Options, photo: Photo) -> list[Prompt]:
    """The options' boxes and points, cut off at the photo's edge, scaled from pixels of its file to `Photo.rgb`.

    Warns of a box that is cut off by more than an overshoot. Raises BadInputError as `check_prompts` does.
    """
    width, height = size = _file_size(photo)
    made = []
    for given in (*options.boxes, *options.points):
        placed = _on_photo(given, size, photo.path.name)
        if _overshoot_px(given, size) > _tolerance_px(size):
            log.warning(
                "%s reaches beyond %s, %d x %d px, and is cut off at its edge: %s.",
                _typed(given),
                photo.path.name,
                width,
                height,
                _numbers(placed),
            )
        x = (placed[0] + placed[-2]) / 2
        y = (placed[1] + placed[-1]) / 2
        scale = (photo.width_px / width, photo.height_px / height) * 2
        made.append(Prompt(f"object at {x:.0f},{y:.0f}", tuple(v * s for v, s in zip(placed, scale, strict=False))))
    return made


def check_prompts(options: Sam3Options, photo: Photo) -> None:
    """Raises BadInputError for a box or point in fractions of the photo, and for one that is not on it."""
    for given in (*options.boxes, *options.points):
        _on_photo(given, _file_size(photo), photo.path.name)


def phrases_of(prompts: Sequence[Prompt]) -> list[Phrase]:
    """One phrase per prompt, which names its object."""
    return [Phrase(number, prompt.name) for number, prompt in enumerate(prompts)]


def without_filters(options: Sam3Options) -> Sam3Options:
    """The options with every filter off: an object that the user pointed at is kept whatever its score and size."""
    return replace(
        options, score_threshold=0.0, phrase_thresholds=(), min_area_percent=0.0, border_filter=False, max_objects=10**6
    )


def _on_photo(given: tuple[float, ...], size: tuple[int, int], name: str) -> tuple[float, ...]:
    """A box or point, px, cut off at the edges of a photo of (width, height) `size`. Raises BadInputError."""
    photo = f"{name}, {size[0]} x {size[1]} px"
    if _is_fraction(given):
        pixels = tuple(min(max(v, 0), 1) * side for v, side in zip(given, size * 2, strict=False))
        raise BadInputError(
            f"{_typed(given)} looks like fractions of the photo. Give pixels of {photo}: {_typed(pixels)}."
        )
    placed = tuple(float(min(max(v, 0), side)) for v, side in zip(given, size * 2, strict=False))
    if len(given) == 2:
        outside = _overshoot_px(given, size) > _tolerance_px(size)
    else:
        outside = not _area(placed) or _area(placed) < MIN_SHARE_INSIDE * _area(given)
    if outside:
        where = "mostly lies outside" if len(given) == 4 and _area(placed) else "lies outside"
        raise BadInputError(f"{_typed(given)} {where} {photo}. Give pixels of the upright photo.")
    if len(given) == 4 and min(placed[2] - placed[0], placed[3] - placed[1]) < MIN_SIDE_PX:
        raise BadInputError(
            f"{_typed(given)} is less than a pixel wide or high on {photo}. Give its corners in pixels."
        )
    return placed


def _is_fraction(given: tuple[float, ...]) -> bool:
    """Whether the numbers are shares of the photo's sides: no box of so few pixels holds an object.

    A point is a fraction only with decimals, since the photo's first pixel may be meant.
    """
    small = all(-0.1 <= value <= 1.1 for value in given)  # fractions overshoot, too
    return small and (len(given) == 4 or any(value != int(value) for value in given))


def _file_size(photo: Photo) -> tuple[int, int]:
    return photo.file_size or (photo.width_px, photo.height_px)


def _overshoot_px(given: tuple[float, ...], size: tuple[int, int]) -> float:
    """How far the numbers reach beyond the photo."""
    return max(0.0, *(max(-value, value - side) for value, side in zip(given, size * 2, strict=False)))


def _tolerance_px(size: tuple[int, int]) -> float:
    return max(OVERSHOOT_PX, OVERSHOOT_SHARE * max(size))


def _area(box: tuple[float, ...]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _typed(xy: tuple[float, ...]) -> str:
    return f"{'--box' if len(xy) == 4 else '--point'} {_numbers(xy)}"


def _numbers(xy: tuple[float, ...]) -> str:
    return ",".join(f"{value:.8g}" for value in xy)
