"""Lift every mask to posed Gaussians: photo + masks -> one .pt per object."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from sam3d_gs.engines.api import FailedObject, ObjectEngine
from sam3d_gs.engines.registry import EngineChoice
from sam3d_gs.errors import ObjectError, Sam3dGsError
from sam3d_gs.files import sha256_of
from sam3d_gs.manifest import Item, StageRecord, fingerprint
from sam3d_gs.masks.files import mask_path, read_masks
from sam3d_gs.stages.bookkeeping import (
    Context,
    Recorder,
    StageResult,
    finished,
    input_hashes,
    item_intact,
    recorded,
    recording,
    result_options,
)
from sam3d_gs.types import InstanceMask

log = logging.getLogger("sam3d_gs")


def run(context: Context, choice: EngineChoice, engine: Callable[[], ObjectEngine]) -> StageResult:
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
    shared = {"photo": photo.sha256, **input_hashes(choice.options)}
    hash_of_mask = {m.object_id: fingerprint([m.object_id, m.score, sha256_of(mask_path(workspace, m))]) for m in masks}
    inputs = {**shared, "masks": fingerprint(list(hash_of_mask.values()))}
    questions = _questions(masks, choice, shared, hash_of_mask)
    former = recorded(workspace, "objects")
    reuse = {} if former is None or context.force else _still_valid(context, former, questions)
    if former and former.status == "done" and reuse.keys() == questions.keys() == former.items.keys():
        return StageResult("objects", "up to date", f"{len(reuse)} objects")
    if reuse:
        log.info("%s: %d of %d objects are there already.", workspace.photo, len(reuse), len(masks))
    context.progress(len(reuse), len(masks), "objects")
    wanted = [m.object_id for m in masks if m.object_id not in reuse]
    loaded = engine() if wanted else None  # all may be there after a mask was taken away
    with recording(context, "objects", choice, inputs, reuse) as recorder:
        if loaded is not None:
            _make(recorder, loaded, masks, wanted, questions)
        made, failed = len(recorder.record.items), recorder.record.errors
        if not made:
            reason = next(iter(failed.values()), "the engine gave none")
            raise Sam3dGsError(f"Not one object could be made from {photo.path.name}: {reason}")
        recorder.finish("partial" if failed else "done")
    summary = f"{made} objects" + (f", {len(failed)} failed" if failed else "")
    warnings = tuple(f"{key}: {reason}" for key, reason in failed.items())
    return StageResult("objects", "partial" if failed else "done", summary, recorder.record.seconds, warnings)


def _questions(
    masks: Sequence[InstanceMask],
    choice: EngineChoice,
    shared: Mapping[str, str],
    hash_of_mask: Mapping[str, str],
) -> dict[str, str]:
    """Object id -> hash of everything that the object depends on. While it stays, so does the object."""
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


def _still_valid(context: Context, former: StageRecord, questions: Mapping[str, str]) -> dict[str, Item]:
    """The objects of an earlier run that answer the same question and whose files are as they were."""
    return {
        object_id: item
        for object_id, item in former.items.items()
        if questions.get(object_id) == item.input and item_intact(context.workspace, item)
    }


def _make(
    recorder: Recorder,
    engine: ObjectEngine,
    masks: Sequence[InstanceMask],
    wanted: Sequence[str],
    questions: Mapping[str, str],
) -> None:
    """Write each wanted object as soon as the engine gives it, and record it or the reason of its failure."""
    from sam3d_gs.gaussians.pt import write_pt

    context = recorder.context
    done, started_s = len(recorder.record.items), time.perf_counter()
    for result in engine.objects(context.photo, masks, wanted):
        try:
            if isinstance(result, FailedObject):
                raise ObjectError(result.reason)
            path = context.workspace.object_pt(result.object_id)
            write_pt(path, result)
        except ObjectError as error:
            recorder.add_error(result.object_id, str(error))
        else:
            seconds = time.perf_counter() - started_s
            recorder.add_item(result.object_id, questions[result.object_id], path, seconds)
        started_s = time.perf_counter()
        done += 1
        context.progress(done, len(masks), result.object_id)
