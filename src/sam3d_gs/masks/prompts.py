"""The user's boxes and points as prompts for a network, one object each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sam3d_gs.errors import BadInputError
from sam3d_gs.options import Sam3Options
from sam3d_gs.types import Photo, Phrase


@dataclass(frozen=True)
class Prompt:
    """One box or point."""

    name: str  # takes the place of a phrase
    xy: tuple[float, ...]  # x0, y0, x1, y1 of a box or x, y of a point; px of `Photo.rgb`

    @property
    def is_box(self) -> bool:
        return len(self.xy) == 4


def prompts_of(options: Sam3Options, photo: Photo) -> list[Prompt]:
    """The options' boxes and points, scaled from pixels of the photo's file to those of `Photo.rgb`.

    Raises BadInputError for one outside the photo.
    """
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
    """One phrase per prompt, which names its object."""
    return [Phrase(number, prompt.name) for number, prompt in enumerate(prompts)]


def without_filters(options: Sam3Options) -> Sam3Options:
    """The options with every filter off: an object that the user pointed at is kept whatever its score and size."""
    return replace(
        options, score_threshold=0.0, phrase_thresholds=(), min_area_percent=0.0, border_filter=False, max_objects=10**6
    )
