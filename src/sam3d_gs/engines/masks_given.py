"""The user's own masks: pictures, arrays, COCO or labelme files."""

from __future__ import annotations

from collections.abc import Sequence

from sam3d_gs.errors import UsageError
from sam3d_gs.masks.given.reader import mask_files, read_given
from sam3d_gs.options import GivenMaskOptions
from sam3d_gs.types import InstanceMask, Photo, Phrase
from sam3d_gs.workspace import object_id


class GivenMasks:
    """Reads the masks of a folder or a file, in natural order of the file names."""

    def __init__(self, options: GivenMaskOptions) -> None:
        """Raises UsageError without `masks_dir`, BadInputError when there is no such folder or file."""
        if options.masks_dir is None:
            raise UsageError("Engine 'given' of masks needs --masks DIR.")
        mask_files(options.masks_dir)
        self._path = options.masks_dir
        self.warnings: list[str] = []

    def masks(self, photo: Photo, phrases: Sequence[Phrase]) -> list[InstanceMask]:
        """Masks at photo size, score 1, empty ones last as dropped. Raises BadInputError naming a bad file."""
        found, self.warnings = read_given(self._path, photo)
        made = [
            InstanceMask(
                object_id(number, item.name, 0),
                item.name,
                item.mask,
                1.0,
                dropped=None if item.mask.any() else f"empty mask ({item.source})",
            )
            for number, item in enumerate(found)
        ]
        return sorted(made, key=lambda mask: mask.dropped is not None)  # stable: kept ones first
