"""Lift every mask to posed Gaussians: photo + masks -> one .pt per object."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from sam3d_gs.engines import ONE_BY_ONE
from sam3d_gs.engines.api import FailedObject, ObjectEngine
from sam3d_gs.errors import BadInputError, ObjectError, Sam3dGsError
from sam3d_gs.files import sha256_of
from sam3d_gs.manifest import Item, fingerprint
from sam3d_gs.masks.files import mask_path, read_masks
from sam3d_gs.options import ObjectOptions
from sam3d_gs.stages.bookkeeping import (
    Context,
    StageResult,
    asked,
    finished,
    item_intact,
    plain_options,
    recorded,
    recording,
)

log = logging.getLogger("sam3d_gs")

_END_BYTES = 1 << 20  # of a weight file; the directories of the official ones are smaller


def run(context: Context, options: ObjectOptions, engine: Callable[[], ObjectEngine]) -> StageResult:
    """Make every kept mask's object that is not there yet.

    An object that fails is recorded with its reason and the others go on (status "partial").
    Raises Sam3dGsError when not one object could be made.
    """
    workspace, photo = context.workspace, context.photo
    finished(workspace, "masks", photo.path)
    masks = [m for m in read_masks(workspace, (photo.width_px, photo.height_px)) if m.dropped is None]
    if not masks:
        raise Sam3dGsError(
            f"No kept masks for {photo.path.name} in {workspace.masks_json}. Run `sam3d-gs masks {photo.path} --force`."
        )
    of_mask = {m.object_id: fingerprint([m.object_id, m.score, sha256_of(mask_path(workspace, m))]) for m in masks}
    of_all = fingerprint(list(of_mask.values()))
    shared = {"photo": photo.sha256, **_own_files(options)}
    inputs = {**shared, "masks": of_all}
    plain = plain_options(options)
    # The question each object answers: everything that what comes out depends on.
    wish = asked(options)
    seen = of_mask if options.engine in ONE_BY_ONE else dict.fromkeys(of_mask, of_all)
    question = {
        m.object_id: fingerprint([shared, seen[m.object_id], options.engine, wish, m.object_id, m.phrase])
        for m in masks
    }
    former = recorded(workspace, "objects")
    reuse: dict[str, Item] = {}
    if former and not context.force:
        reuse = {
            key: item
            for key, item in former.items.items()
            if question.get(key) == item.input and item_intact(workspace, item)
        }
        if former.status == "done" and reuse.keys() == question.keys() == former.items.keys():
            return StageResult("objects", "up to date", f"{len(reuse)} objects")
    wanted = [m.object_id for m in masks if m.object_id not in reuse]
    if reuse:
        log.info("%s: %d of %d objects are there already.", workspace.photo, len(reuse), len(masks))
    context.progress(len(reuse), len(masks), "objects")
    loaded = engine() if wanted else None  # all may be there after a mask was taken away
    licences = loaded.licences if loaded else former.licences if former else {}
    with recording(context, "objects", options.engine, plain, inputs, licences, reuse) as recorder:
        from sam3d_gs.gaussians.pt import write_pt

        done, started_s = len(reuse), time.perf_counter()
        for result in loaded.objects(photo, masks, wanted) if loaded else ():
            try:
                if isinstance(result, FailedObject):
                    raise ObjectError(result.reason)
                path = workspace.object_pt(result.object_id)
                write_pt(path, result)
            except ObjectError as error:
                recorder.add_error(result.object_id, str(error))
            else:
                seconds = time.perf_counter() - started_s
                recorder.add_item(result.object_id, question[result.object_id], path, seconds)
            started_s = time.perf_counter()
            done += 1
            context.progress(done, len(masks), result.object_id)
        made, failed = len(recorder.record.items), recorder.record.errors
        if not made:
            raise Sam3dGsError(
                f"Not one object could be made from {photo.path.name}: {next(iter(failed.values()), '?')}"
            )
        recorder.finish("partial" if failed else "done")
    summary = f"{made} objects" + (f", {len(failed)} failed" if failed else "")
    warnings = tuple(f"{key}: {reason}" for key, reason in failed.items())
    return StageResult("objects", "partial" if failed else "done", summary, recorder.record.seconds, warnings)


def _own_files(options: ObjectOptions) -> dict[str, str]:
    """Hashes of the files that matter beside photo and masks. Raises BadInputError when the depth is not there."""
    if options.depth and not options.depth.is_file():
        raise BadInputError(f"No depth at {options.depth}. Give --depth a .npy, .png or .exr of the photo.")
    given = {"depth": options.depth, "intrinsics": options.intrinsics and Path(options.intrinsics)}
    hashes = {name: sha256_of(path) for name, path in given.items() if path and path.is_file()}
    if options.engine != "embedded":
        hashes["checkpoints"] = _checkpoints_hash(options)
    return hashes


def _checkpoints_hash(options: ObjectOptions) -> str:
    """Tells checkpoints apart without reading gigabytes: the YAML files, and of every weight file its size and end.

    A file of torch.save ends with a directory that holds a checksum of every tensor.
    """
    folder = options.checkpoints
    found = {path.name: path for path in (*folder.glob("*"), *folder.glob("checkpoints/*")) if path.is_file()}
    if options.moge and options.moge.is_file():
        found["moge"] = options.moge
    return fingerprint([[name, *_outline(path)] for name, path in sorted(found.items())])


def _outline(path: Path) -> tuple[int, str]:
    """Size, and a hash of the last part."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _END_BYTES))
        return size, hashlib.sha256(file.read()).hexdigest()
