"""Find the pixels of each object: photo + phrases -> one PNG per mask, and masks.json."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from sam3d_gs import edits
from sam3d_gs.engines.api import MaskEngine
from sam3d_gs.engines.registry import EngineChoice
from sam3d_gs.errors import BadInputError, Sam3dGsError, command
from sam3d_gs.files import atomic_path
from sam3d_gs.manifest import StageRecord, fingerprint
from sam3d_gs.masks.files import read_masks, write_masks
from sam3d_gs.masks.prompts import check_prompts
from sam3d_gs.options import Sam3Options
from sam3d_gs.phrase_files import read_phrases
from sam3d_gs.stages.bookkeeping import (
    Context,
    StageResult,
    finished,
    input_hashes,
    intact,
    recorded,
    recording,
    refuse_to_replace,
    result_options,
)
from sam3d_gs.types import InstanceMask, Phrase

log = logging.getLogger("sam3d_gs")


def run(context: Context, choice: EngineChoice, engine: Callable[[], MaskEngine]) -> StageResult:
    """Get masks from the engine and write them. Raises Sam3dGsError if none is kept."""
    workspace, photo = context.workspace, context.photo
    inputs = {
        "photo": photo.sha256,
        "size": f"{photo.width_px}x{photo.height_px}",
        **input_hashes(choice.options),
    }
    phrases: list[Phrase] = []
    if choice.needs_phrases:
        finished(workspace, "phrases", photo.path)
        phrases = read_phrases(workspace.phrases_json)
        inputs["phrases"] = fingerprint([[p.text, p.box_xyxy] for p in phrases])
    former = recorded(workspace, "masks")
    same = former is not None and former.same_work(choice.name, result_options(choice.options), inputs)
    if not context.force and former is not None:
        if former.status == "done" and same:
            note = _reuse_note(context, former)
            if note is not None:
                return StageResult("masks", "up to date", note)
        edited = edits.edited_files(workspace, former)
        refuse_to_replace(context, "masks", edited, "the photo, phrases or options are other ones than for these masks")
    context.progress(0, 1, "masks")
    if isinstance(choice.options, Sam3Options):
        check_prompts(choice.options, photo)  # before the network loads
    loaded = engine()
    with recording(context, "masks", choice, inputs) as recorder:
        found = checked_masks(loaded.masks(photo, phrases), (photo.height_px, photo.width_px))
        kept = [mask for mask in found if mask.dropped is None]
        if not kept:
            raise Sam3dGsError(_no_masks_message(found, phrases, photo.path, choice.name))
        recorder.add_output(*write_masks(workspace, found, choice.name))
        from sam3d_gs.report.overlay import mask_overlay

        with atomic_path(workspace.overlay_png) as temporary:
            mask_overlay(photo, kept).save(temporary)
        recorder.add_output(workspace.overlay_png)
    summary = f"{len(kept)} masks kept, {len(found) - len(kept)} dropped"
    warnings = (*getattr(loaded, "warnings", ()), *_unmatched(found, phrases))
    return StageResult("masks", "done", summary, recorder.record.seconds, warnings)


def _reuse_note(context: Context, former: StageRecord) -> str | None:
    """None if the masks of an earlier run cannot be reused, else a note for the summary, empty or "edited by hand".

    Masks repainted by hand and rows deleted from masks.json are kept. Raises BadInputError if such an edit cannot be
    used.
    """
    workspace, photo = context.workspace, context.photo
    if intact(workspace, former):
        return ""
    if not edits.edited_files(workspace, former):  # something is missing
        return None
    try:
        read_masks(workspace, (photo.width_px, photo.height_px))
    except BadInputError as error:
        raise BadInputError(
            f"The masks of {workspace.photo} were edited by hand and cannot be used: {error} They are kept; --force "
            "makes new ones."
        ) from error
    log.info("The masks of %s were edited by hand: kept (--force replaces them).", workspace.photo)
    return "edited by hand"


def checked_masks(found: Sequence[InstanceMask], shape: tuple[int, int]) -> list[InstanceMask]:
    """The engine's masks, with empty ones dropped. Raises ValueError for a wrong size or a repeated id."""
    ids = [mask.object_id for mask in found]
    if len(set(ids)) != len(ids):
        raise ValueError(f"the mask engine returned the same object id twice: {sorted(ids)}")
    for mask in found:
        if mask.mask.shape != shape:
            raise ValueError(f"mask {mask.object_id} has shape {mask.mask.shape}, the photo {shape}")
    return [
        dataclasses.replace(mask, dropped="empty mask") if mask.dropped is None and not mask.area_px else mask
        for mask in found
    ]


def _unmatched(found: Sequence[InstanceMask], phrases: Sequence[Phrase]) -> list[str]:
    """A warning for each phrase without a kept mask."""
    kept = [mask for mask in found if mask.dropped is None]
    matched = {mask.phrase for mask in kept} | {alias for mask in kept for alias in mask.aliases}
    return [f'No mask for "{p.text}"{_drop_reason(p, found)}.' for p in phrases if p.text not in matched]


def _drop_reason(phrase: Phrase, found: Sequence[InstanceMask]) -> str:
    """Why the phrase's best mask was dropped, in brackets; empty if it had no mask."""
    own = [mask for mask in found if mask.phrase == phrase.text]
    return f" ({max(own, key=lambda mask: mask.score).dropped})" if own else ""


def _no_masks_message(found: Sequence[InstanceMask], phrases: Sequence[Phrase], photo: Path, engine: str) -> str:
    names = ", ".join(f'"{phrase.text}"' for phrase in phrases) or "any object"
    best = max((mask.score for mask in found), default=None)
    if best is None:
        hint = "Edit phrases.json or give masks with --masks DIR"
        if engine == "embedded":
            hint = 'The embedded engine knows colours, sizes and positions, not nouns: try "large red object, left"'
        return f"No masks for {names} in {photo.name}. {hint}, then run {command('masks', photo)}."
    reason = max(found, key=lambda mask: mask.score).dropped
    return (
        f"No masks kept for {names} in {photo.name}: {len(found)} dropped, the best one (score {best:.2f}) because: "
        f"{reason}. Change the thresholds or phrases.json, then run {command('masks', photo)}."
    )
