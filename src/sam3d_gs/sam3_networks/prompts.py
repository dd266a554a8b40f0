"""Boxes and points of the user, one object each, in the pixels of the photo as it is worked on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sam3d_gs.errors import BadInputError
from sam3d_gs.options import Sam3Options
from sam3d_gs.types import Photo, Phrase


@dataclass(frozen=True)
class Prompt:
    """What the user pointed at."""

    name: str  # stands for the phrase
    xy: tuple[float, ...]  # x0, y0, x1, y1 of a box or x, y of a point; px at the size we work on

    @property
    def is_box(self) -> bool:
        return len(self.xy) == 4


def prompts_of(options: Sam3Options, photo: Photo) -> list[Prompt]:
    """The options' boxes and points, which are in pixels of the photo's file. Raises BadInputError for one outside."""
    width, height = photo.file_size or (photo.width_px, photo.height_px)
    made = []
    for given in (*options.boxes, *options.points):
        text = ",".join(f"{value:g}" for value in given)
        option = "--box" if len(given) == 4 else "--point"
        if not all(0 <= value <= side for value, side in zip(given, (width, height) * 2, strict=False)):
            raise BadInputError(
                f"{option} {text} lies outside {photo.path.name}, {width} x {height} px. "
                "Give pixels of the upright photo."
            )
        x = (given[0] + given[-2]) / 2
        y = (given[1] + given[-1]) / 2
        scale = (photo.width_px / width, photo.height_px / height) * 2
        made.append(Prompt(f"object at {x:.0f},{y:.0f}", tuple(v * s for v, s in zip(given, scale, strict=False))))
    return made


def phrases_of(prompts: Sequence[Prompt]) -> list[Phrase]:
    """A phrase for every prompt, so that its object has a name."""
    return [Phrase(number, prompt.name) for number, prompt in enumerate(prompts)]


def taking_all(options: Sam3Options) -> Sam3Options:
    """What the user pointed at is wanted, whatever its score, size and place."""
    return replace(
        options, score_threshold=0.0, phrase_thresholds=(), min_area_percent=0.0, border_filter=False, max_objects=10**6
    )
