"""Name the objects: photo -> phrases.json."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

from sam3d_gs.edits import is_edited
from sam3d_gs.engines.api import PhraseEngine
from sam3d_gs.engines.registry import EngineChoice
from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.files import write_json
from sam3d_gs.manifest import StageRecord, Stamp
from sam3d_gs.phrase_files import read_phrases, write_phrases
from sam3d_gs.stages.bookkeeping import (
    Context,
    Recorder,
    StageResult,
    input_hashes,
    intact,
    record_as_done,
    recorded,
    recording,
    result_options,
)
from sam3d_gs.types import Phrase

log = logging.getLogger("sam3d_gs")


def run(context: Context, choice: EngineChoice, engine: Callable[[], PhraseEngine]) -> StageResult:
    """Get phrases from the engine and write phrases.json. Raises Sam3dGsError if there are none."""
    workspace, photo = context.workspace, context.photo
    inputs = {"photo": photo.sha256, **input_hashes(choice.options)}
    former = recorded(workspace, "phrases")
    if not context.force and former:
        if _edited_by_hand(context, former, choice, inputs):
            log.info("phrases.json of %s was edited by hand: kept (--force replaces it).", workspace.photo)
            return StageResult("phrases", "up to date", "edited by hand")
        same = former.same_work(choice.name, result_options(choice.options), inputs)
        if former.status == "done" and same and intact(workspace, former) and former.outputs:
            return StageResult("phrases", "up to date", "")
    context.progress(0, 1, "phrases")
    loaded = engine()
    with recording(context, "phrases", choice, inputs) as recorder:
        try:
            found = loaded.phrases(photo)
        finally:  # a failure is when the model's answer is needed most
            _write_transcript(loaded, recorder)
        if not found:
            raise Sam3dGsError(
                f"Engine {choice.name} found no phrases for {photo.path.name}. "
                'Give your own, `sam3d-gs run PHOTO --phrases "red cup"`, or masks with --masks DIR.'
            )
        limit = getattr(choice.options, "max_phrases", None)
        warnings = _limit_warnings(found, limit)
        found = found[:limit]
        write_phrases(workspace.phrases_json, found, workspace.photo, choice.name)
        recorder.add_output(workspace.phrases_json)
    return StageResult("phrases", "done", f"{len(found)} phrases", recorder.record.seconds, tuple(warnings))


def _limit_warnings(found: Sequence[Phrase], limit: int | None) -> list[str]:
    """A warning for each phrase beyond the limit; None: no limit."""
    extra = [] if limit is None else found[limit:]
    return [f'"{phrase.text}" is dropped: the limit is {limit} phrases (--max-phrases).' for phrase in extra]


def _write_transcript(engine: PhraseEngine, recorder: Recorder) -> None:
    transcript = getattr(engine, "transcript", None)
    if transcript is not None:
        path = recorder.context.workspace.answer_json
        write_json(path, asdict(transcript))
        recorder.add_output(path)


def _edited_by_hand(context: Context, former: StageRecord, choice: EngineChoice, inputs: Mapping[str, str]) -> bool:
    """Whether phrases.json is the user's, which is then recorded as done. Raises BadInputError if it is damaged.

    It is when it has changed since this stage wrote it, or was written after this stage had failed. A list that the
    user gives now counts more, if it is another one than before.
    """
    path, workspace = context.workspace.phrases_json, context.workspace
    unknown = former.status == "failed" and workspace.relative(path) not in {*former.outputs, *former.stamps}
    if not path.is_file() or not (is_edited(workspace, former, path) or unknown):
        return False
    if choice.spec.chosen_by and not former.same_work(choice.name, result_options(choice.options), inputs):
        return False
    read_phrases(path)  # raises for a damaged file rather than replace it
    if former.status != "done":
        stamps = {workspace.relative(path): Stamp("", 0), **former.stamps}  # not known to be ours
        record_as_done(workspace, "phrases", replace(former, errors={}, inputs=dict(inputs), stamps=stamps))
    return True
