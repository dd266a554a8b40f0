"""The masks of one photo on disk: masks.json and one PNG per mask."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sam3d_gs.errors import BadInputError
from sam3d_gs.files import exists, read_json, write_bytes, write_json
from sam3d_gs.json_values import Fields, kind
from sam3d_gs.masks.png import mask_png
from sam3d_gs.photo import open_image
from sam3d_gs.types import InstanceMask
from sam3d_gs.workspace import Workspace, is_object_id

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
    """Where the PNG of a mask is, or will be: dropped masks have a folder of their own."""
    if mask.file:
        return workspace.masks_dir / mask.file
    if mask.dropped is None:
        return workspace.mask_png(mask.object_id)
    return workspace.dropped_masks_dir / f"{mask.object_id}.png"


def read_masks(workspace: Workspace, size: tuple[int, int]) -> list[InstanceMask]:
    """All masks of a photo of `size` = (width, height) px, kept and dropped, in the order of masks.json.

    Users may delete rows of masks.json, change "kept", and repaint masks. Raises BadInputError naming the file at
    fault.
    """
    with _naming(workspace.masks_json):
        return [_mask(row, object_id, workspace, size) for object_id, row in _rows(workspace).items()]


def kept_ids(workspace: Workspace) -> list[str]:
    """The object ids of the kept masks; empty when a failed run has left no masks. Raises BadInputError."""
    if not exists(workspace.masks_json):
        return []
    with _naming(workspace.masks_json):
        return [object_id for object_id, row in _rows(workspace).items() if _dropped(row) is None]


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raises what is wrong inside the file as a BadInputError that names it."""
    try:
        yield
    except ValueError as error:
        raise BadInputError(
            f"{path} is not a masks file of this program: {error}. Correct it, or run the masks stage again with "
            "--force."
        ) from error


def _rows(workspace: Workspace) -> dict[str, Fields]:
    """Object id -> row. Raises ValueError for an id or a picture that is there twice."""
    rows = list(Fields(read_json(workspace.masks_json, "masks file")).rows("masks", "mask"))
    ids, files = [_object_id(row) for row in rows], [row.text("file") for row in rows]
    if repeated := _repeated(ids):
        raise ValueError(f"{', '.join(repeated)} is there twice. Every mask needs an object_id of its own")
    if repeated := _repeated(files):
        raise ValueError(f"file {', '.join(repeated)} is there twice. Every mask needs a picture of its own")
    return dict(zip(ids, rows, strict=True))


def _repeated(texts: Sequence[str]) -> list[str]:
    return sorted(text for text, times in Counter(texts).items() if times > 1)


def _object_id(row: Fields) -> str:
    object_id = row.text("object_id")
    if not is_object_id(object_id):
        raise ValueError(f"object_id {object_id!r:.60} is not letters, digits, dots and dashes")
    return object_id


def _mask(row: Fields, object_id: str, workspace: Workspace, size: tuple[int, int]) -> InstanceMask:
    """Raises ValueError for a row that cannot be used, BadInputError for its PNG."""
    file = row.text("file")
    relative = workspace.relative(workspace.masks_dir) + f"/{file}"
    path = workspace.own_file(relative, workspace.masks_json)
    image = open_image(path)
    if image.size != size:
        raise BadInputError(
            f"{path} has {image.width} x {image.height} pixels, the photo {size[0]} x {size[1]}. "
            "Run the masks stage again with --force."
        )
    return InstanceMask(
        object_id=object_id,
        phrase=row.text("phrase"),
        mask=np.asarray(image.convert("L")) > 127,
        score=row.number("score"),
        aliases=row.texts("aliases"),
        dropped=_dropped(row),
        file=file,
    )


def _dropped(row: Fields) -> str | None:
    """Why a mask was dropped. "kept" decides: a user who changes it need not know about "dropped"."""
    dropped = row.text("dropped", None)
    kept = row.value.get("kept", dropped is None)
    if not isinstance(kept, bool):
        raise ValueError(f"kept is {kind(kept)}, expected true or false")
    return None if kept else dropped or "not kept in masks.json"
