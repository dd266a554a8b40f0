"""What a file of masks holds: its objects, and what was assumed about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sam3d_gs.errors import BadInputError

MAX_OBJECTS = 500  # of one photo


@dataclass(frozen=True)
class Found:
    """One object of a file."""

    name: str  # words for it, from the file
    mask: np.ndarray  # (H, W) bool, at the file's size
    source: str  # where it was found, for messages: a file name, and what part of it


@dataclass(frozen=True)
class Labels:
    """The regions of one picture or array: which values are objects."""

    masks: dict[str, np.ndarray]  # what tells an object from the others, e.g. "3"; "" if there is one -> (H, W) bool
    notes: tuple[str, ...] = ()  # what was assumed, each a clause about the file


def several(labels: Sequence[str]) -> str:
    """A note on more than one label."""
    some = ", ".join(labels[:8]) + (", ..." if len(labels) > 8 else "")
    return f"holds {len(labels)} labels ({some}): one object each"


def no_mask(path: object, count: str, dtype: np.dtype) -> BadInputError:
    """The error for a picture that is neither a mask nor a label map."""
    return BadInputError(
        f"{path} has {count} different values ({dtype}) and hardly an area of one: a photo or a depth map, not a "
        "mask. Take it out, or save a mask with two values, or a label map."
    )


def named(labels: Labels, name: str, source: str) -> list[Found]:
    """The objects of one picture or array; several have their label after the name."""
    return [
        Found(f"{name} {label}".strip(), mask, f"{source} ({label})" if label else source)
        for label, mask in labels.masks.items()
    ]


def check_count(found: Sequence[object], path: object) -> None:
    """Raises BadInputError for more objects than a photo has."""
    if len(found) > MAX_OBJECTS:
        raise BadInputError(f"{path} has {len(found):,} objects, more than {MAX_OBJECTS}. Give those to lift.")
