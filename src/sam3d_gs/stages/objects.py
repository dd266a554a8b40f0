"""Lift every mask to posed Gaussians: photo + masks -> one .pt per object."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sam3d_gs.edits import edited_files, is_edited, names
from sam3d_gs.engines.api import FailedObject, ObjectEngine
from sam3d_gs.engines.registry import EngineChoice
from sam3d_gs.errors import BadInputError, ObjectError, Sam3dGsError, command
from sam3d_gs.files import sha256_of
from sam3d_gs.manifest import Item, StageRecord, fingerprint
from sam3d_gs.masks.files import mask_path, read_masks
from sam3d_gs.stages.bookkeeping import (
    Context,
    Recorder,
    StageResult,
    finished,
    input_hashes,
    recorded,
    recording,
    refuse_to_replace,
    result_options,
)
from sam3d_gs.types import InstanceMask

log = logging.getLogger("sam3d_gs")


def run(context: Context, choice: EngineChoice, engine: Callable[[], ObjectEngine]) -> StageResult:
    """Reconstruct the object of every kept mask, except those that are up to date.

    An object that fails is recorded with its reason, and the stage continues with the others (status "partial").
    Raises Sam3dGsError if no object could be reconstructed.
    """
    workspace, photo = context.workspace, context.photo
    finished(workspace, "masks", photo.path)
    masks = [m for m in read_masks(workspace, (photo.width_px, photo.height_px)) if m.dropped is None]
    if not masks:
        raise Sam3dGsError(
            f"No kept masks for {photo.path.name} in {workspace.masks_json}. "
            f"Run {command('masks', photo.path, '--force')}."
        )
    shared = {"photo": photo.sha256, **input_hashes(choice.options)}
    hash_of_mask = {m.object_id: fingerprint([m.object_id, m.score, sha256_of(mask_path(workspace, m))]) for m in masks}
    inputs = {**shared, "masks": fingerprint(list(hash_of_mask.values()))}
    object_hashes = _object_hashes(masks, choice, shared, hash_of_mask)
    former = recorded(workspace, "objects")
    reuse = {} if former is None or context.force else _reusable(context, former, object_hashes)
    if former and former.status == "done" and reuse.keys() == object_hashes.keys() == former.items.keys():
        return StageResult("objects", "up to date", f"{len(reuse)} objects{_edited_note(context, former)}")
    if reuse:
        log.info("%s: %d of %d objects are up to date.", workspace.photo, len(reuse), len(masks))
    context.progress(len(reuse), len(masks), "objects")
    missing = [m.object_id for m in masks if m.object_id not in reuse]
    loaded = engine() if missing else None  # none is missing if the only change is that a mask was deleted
    with recording(context, "objects", choice, inputs, reuse) as recorder:
        if loaded is not None:
            _reconstruct(recorder, loaded, masks, missing, object_hashes)
        made, failed = len(recorder.record.items), recorder.record.errors
        if not made:
            reason = next(iter(failed.values()), "the engine returned none")
            raise Sam3dGsError(f"No object could be reconstructed from {photo.path.name}: {reason}")
        recorder.finish("partial" if failed else "done")
    summary = f"{made} objects" + (f", {len(failed)} failed" if failed else "")
    warnings = tuple(f"{key}: {reason}" for key, reason in failed.items())
    return StageResult("objects", "partial" if failed else "done", summary, recorder.record.seconds, warnings)


def _object_hashes(
    masks: Sequence[InstanceMask],
    choice: EngineChoice,
    shared: Mapping[str, str],
    hash_of_mask: Mapping[str, str],
) -> dict[str, str]:
    """Object id -> hash of everything the object depends on; an object whose hash is unchanged is reused."""
    all_masks = fingerprint(list(hash_of_mask.values()))
    options = result_options(choice.options)
    return {
        m.object_id: fingerprint(
            [
                shared,
                hash_of_mask[m.object_id] if choice.spec.own_mask_only else all_masks,
                choice.name,
                options,
                m.object_id,
                m.phrase,
            ]
        )
        for m in masks
    }


def _reusable(context: Context, former: StageRecord, object_hashes: Mapping[str, str]) -> dict[str, Item]:
    """The objects of an earlier run that depend on nothing that has changed; their files may be edited by hand.

    Raises BadInputError if an edited one would have to be made again.
    """
    workspace, found, replaced = context.workspace, {}, []
    for object_id, item in former.items.items():
        path = workspace.root / item.output
        edited = is_edited(workspace, former, path)
        if object_id not in object_hashes or not path.is_file() or (edited and not _usable_edit(path, object_id)):
            continue
        if object_hashes[object_id] == item.input:
            found[object_id] = item
        elif edited:
            replaced.append(path)
    refuse_to_replace(context, "objects", replaced, "the masks or options have changed since")
    return found


def _usable_edit(path: Path, object_id: str) -> bool:
    """Whether an edited .pt is one of this object; if not, a warning says why."""
    from sam3d_gs.gaussians.pt import open_pt

    try:
        found = open_pt(path).header.object_id
    except BadInputError as error:
        log.warning("%s It was changed after it was made, and is made again.", error)
        return False
    if found != object_id:
        log.warning("%s was edited by hand, and holds the object %s: made again.", path, found)
    return found == object_id


def _edited_note(context: Context, former: StageRecord) -> str:
    edited = edited_files(context.workspace, former)
    return f", edited by hand: {names(edited)}" if edited else ""


def _reconstruct(
    recorder: Recorder,
    engine: ObjectEngine,
    masks: Sequence[InstanceMask],
    missing: Sequence[str],
    object_hashes: Mapping[str, str],
) -> None:
    """Write each missing object as soon as the engine yields it, and record it or why it failed."""
    from sam3d_gs.gaussians.pt import write_pt

    context = recorder.context
    done, started_s = len(recorder.record.items), time.perf_counter()
    for result in engine.objects(context.photo, masks, missing):
        try:
            if isinstance(result, FailedObject):
                raise ObjectError(result.reason)
            path = context.workspace.object_pt(result.object_id)
            write_pt(path, result)
        except ObjectError as error:
            recorder.add_error(result.object_id, str(error))
        else:
            seconds = time.perf_counter() - started_s
            recorder.add_item(result.object_id, object_hashes[result.object_id], path, seconds)
        started_s = time.perf_counter()
        done += 1
        context.progress(done, len(masks), result.object_id)
