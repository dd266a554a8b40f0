"""Name the objects: photo -> phrases.json."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict

from sam3d_gs.engines.api import PhraseEngine
from sam3d_gs.engines.registry import EngineChoice
from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.files import write_json
from sam3d_gs.manifest import StageRecord
from sam3d_gs.phrase_files import read_phrases, write_phrases
from sam3d_gs.stages.bookkeeping import (
    Context,
    Recorder,
    StageResult,
    input_hashes,
    intact,
    recorded,
    recording,
    result_options,
)
from sam3d_gs.types import Phrase
from sam3d_gs.workspace import Workspace

log = logging.getLogger("sam3d_gs")


def run(context: Context, choice: EngineChoice, engine: Callable[[], PhraseEngine]) -> StageResult:
    """Ask the engine for phrases and write phrases.json. Raises Sam3dGsError when there are none."""
    workspace, photo = context.workspace, context.photo
    inputs = {"photo": photo.sha256, **input_hashes(choice.options)}
    former = recorded(workspace, "phrases")
    if (
        not context.force
        and former
        and former.status == "done"
        and former.same_work(choice.name, result_options(choice.options), inputs)
    ):
        if intact(workspace, former) and former.outputs:
            return StageResult("phrases", "up to date", "")
        if _edited(workspace, former):
            log.info("phrases.json of %s was edited by hand: kept (--force asks again).", workspace.photo)
            return StageResult("phrases", "up to date", "edited by hand")
    context.progress(0, 1, "phrases")
    loaded = engine()
    with recording(context, "phrases", choice, inputs) as recorder:
        try:
            found = loaded.phrases(photo)
        finally:  # what a model said is of most use when nothing came of it
            _write_transcript(loaded, recorder)
        if not found:
            raise Sam3dGsError(
                f"No objects to name in {photo.path.name} (engine {choice.name}). "
                'Name them yourself: `sam3d-gs run PHOTO --phrases "red cup"`, or give masks with --masks DIR.'
            )
        limit = getattr(choice.options, "max_phrases", None)
        warnings = _left_out(found, limit)
        found = found[:limit]
        write_phrases(workspace.phrases_json, found, workspace.photo, choice.name)
        recorder.add_output(workspace.phrases_json)
    return StageResult("phrases", "done", f"{len(found)} phrases", recorder.record.seconds, tuple(warnings))


def _left_out(found: Sequence[Phrase], limit: int | None) -> list[str]:
    """A line for each phrase beyond the limit; None is no limit."""
    extra = [] if limit is None else found[limit:]
    return [f'"{phrase.text}" is left out: more than {limit} phrases (--max-phrases).' for phrase in extra]


def _write_transcript(engine: PhraseEngine, recorder: Recorder) -> None:
    transcript = getattr(engine, "transcript", None)
    if transcript is not None:
        path = recorder.context.workspace.answer_json
        write_json(path, asdict(transcript))
        recorder.add_output(path)


def _edited(workspace: Workspace, former: StageRecord) -> bool:
    """The file is there and is a phrases file, but not the one we wrote."""
    if not former.outputs or not workspace.phrases_json.exists():
        return False
    read_phrases(workspace.phrases_json)  # a damaged file is an error, not silently replaced
    return True
