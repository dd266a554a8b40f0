"""Name the objects: photo -> phrases.json."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from sam3d_gs.engines.api import PhraseEngine
from sam3d_gs.errors import BadInputError, Sam3dGsError
from sam3d_gs.files import sha256_of, write_json
from sam3d_gs.manifest import StageRecord
from sam3d_gs.options import PhraseOptions
from sam3d_gs.phrase_files import read_phrases, write_phrases
from sam3d_gs.stages.bookkeeping import (
    Context,
    Recorder,
    StageResult,
    asked,
    intact,
    plain_options,
    recorded,
    recording,
)
from sam3d_gs.workspace import Workspace

log = logging.getLogger("sam3d_gs")


def run(context: Context, options: PhraseOptions, engine: Callable[[], PhraseEngine]) -> StageResult:
    """Ask the engine for phrases and write phrases.json. Raises Sam3dGsError when there are none."""
    workspace, photo = context.workspace, context.photo
    inputs = {"photo": photo.sha256}
    for name, path in (("phrases_file", options.phrases_file), ("system_prompt", options.system_prompt)):
        if path:
            inputs[name] = _hash(path, name)
    plain = plain_options(options)
    former = recorded(workspace, "phrases")
    if (
        not context.force
        and former
        and former.status == "done"
        and former.same_work(options.engine, asked(options), inputs)
    ):
        if intact(workspace, former) and former.outputs:
            return StageResult("phrases", "up to date", "")
        if _edited(workspace, former):
            log.info("phrases.json of %s was edited by hand: kept (--force asks again).", workspace.photo)
            return StageResult("phrases", "up to date", "edited by hand")
    context.progress(0, 1, "phrases")
    loaded = engine()
    with recording(context, "phrases", options.engine, plain, inputs, loaded.licences) as recorder:
        try:
            found = loaded.phrases(photo)[: options.max_phrases]
        finally:  # what a model said is of most use when nothing came of it
            _write_transcript(loaded, recorder)
        if not found:
            raise Sam3dGsError(
                f"No objects to name in {photo.path.name} (engine {options.engine}). "
                'Name them yourself: `sam3d-gs run PHOTO --phrases "red cup"`, or give masks with --masks DIR.'
            )
        write_phrases(workspace.phrases_json, found, workspace.photo, options.engine)
        recorder.add_output(workspace.phrases_json)
    return StageResult("phrases", "done", f"{len(found)} phrases", recorder.record.seconds)


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


def _hash(path: Path, name: str) -> str:
    if not path.is_file():
        raise BadInputError(f"No such file for --{name.replace('_', '-')}: {path}.")
    return sha256_of(path)
