"""The masks of one photo on disk: masks.json and one PNG per mask."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from sam3d_gs.errors import BadInputError
from sam3d_gs.files import read_json, write_bytes, write_json
from sam3d_gs.masks.png import mask_png
from sam3d_gs.photo import open_image
from sam3d_gs.types import InstanceMask
from sam3d_gs.workspace import Workspace

SCHEMA = 1


def write_masks(workspace: Workspace, masks: Sequence[InstanceMask], engine: str) -> list[Path]:
    """Write one 1-bit PNG per mask (dropped ones in dropped/) and masks.json. Returns the paths written.

    masks.json is written last, so that it never names a missing PNG.
    """
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as threads:
        encoded = list(threads.map(lambda mask: (_row(workspace, mask), mask_png(mask.mask)), masks))
    for mask, (_, png) in zip(masks, encoded, strict=True):
        write_bytes(mask_path(workspace, mask), png)
    rows = [row for row, _ in encoded]
    size = list(masks[0].mask.shape[::-1]) if masks else None
    write_json(
        workspace.masks_json,
        {"schema": SCHEMA, "photo": workspace.photo, "image_size": size, "engine": engine, "masks": rows},
    )
    return [*(mask_path(workspace, mask) for mask in masks), workspace.masks_json]


def _row(workspace: Workspace, mask: InstanceMask) -> dict[str, object]:
    return {
        "object_id": mask.object_id,
        "phrase": mask.phrase,
        "score": round(float(mask.score), 4),
        "box_xyxy": list(mask.box_xyxy),
        "area_px": mask.area_px,
        "aliases": list(mask.aliases),
        "kept": mask.dropped is None,
        "dropped": mask.dropped,
        "file": mask_path(workspace, mask).relative_to(workspace.masks_dir).as_posix(),
    }


def mask_path(workspace: Workspace, mask: InstanceMask) -> Path:
    """Where the PNG of a mask is: dropped masks have a folder of their own."""
    if mask.dropped is None:
        return workspace.mask_png(mask.object_id)
    return workspace.dropped_masks_dir / f"{mask.object_id}.png"


def read_masks(workspace: Workspace, size: tuple[int, int]) -> list[InstanceMask]:
    """All masks of a photo of `size` = (width, height) px, kept and dropped, in the order of masks.json.

    Users may delete rows of masks.json and repaint masks. Raises BadInputError naming the file at fault.
    """
    data = read_json(workspace.masks_json, "masks file")
    try:
        return [_mask(row, workspace.masks_dir, size) for row in data["masks"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadInputError(
            f"{workspace.masks_json} is not a masks file of this program ({error!r}). Run the masks stage again with "
            "--force."
        ) from error


def _mask(row: dict[str, object], folder: Path, size: tuple[int, int]) -> InstanceMask:
    relative = Path(str(row["file"]))
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"file outside the folder: {relative}")
    object_id = str(row["object_id"])
    if Path(object_id).name != object_id:
        raise ValueError(f"object_id is not a name: {object_id!r}")
    path = folder / relative
    image = open_image(path)
    if image.size != size:
        raise BadInputError(
            f"{path} has {image.width} x {image.height} pixels, the photo {size[0]} x {size[1]}. "
            "Run the masks stage again with --force."
        )
    aliases = row.get("aliases") or []
    dropped = row.get("dropped")
    return InstanceMask(
        object_id=object_id,
        phrase=str(row["phrase"]),
        mask=np.asarray(image.convert("L")) > 127,
        score=float(str(row["score"])),
        aliases=tuple(str(alias) for alias in aliases) if isinstance(aliases, list) else (),
        dropped=None if dropped is None else str(dropped),
    )
