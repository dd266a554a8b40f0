"""Passing photos between stages in parallel processes: `sam3d-gs run --pass-on | sam3d-gs run --follow`.

The pipe carries lines of JSON: first the GPUs of all stages, planned by the first process before anything starts, then
each photo that the previous process has finished in this run. So results of an earlier run are never mistaken for new
ones, and since the system closes the pipe however its writer ends, no process waits forever.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from sam3d_gs.engines.registry import EngineChoice
from sam3d_gs.engines.spec import GpuRequest
from sam3d_gs.errors import Sam3dGsError, UsageError
from sam3d_gs.options import VllmOptions
from sam3d_gs.system.gpu_allocation import Places, for_server, place
from sam3d_gs.system.nvidia import gpus, visible_gpus

if TYPE_CHECKING:
    from sam3d_gs.pipeline import Settings


class StageStream:
    """One process of the pipe. Once it exists, nothing else reads stdin or writes stdout.

    Other output goes to stderr, and child processes inherit neither end of the pipe, so that the next process sees
    immediately when this one ends.
    """

    def __init__(self, follow: bool, pass_on: bool) -> None:
        """Raises UsageError if stdin (follow) or stdout (pass_on) is a terminal instead of a pipe."""
        if follow and os.isatty(0):
            raise UsageError("--follow reads from the stage before: sam3d-gs run ... --pass-on | sam3d-gs run ...")
        if pass_on and os.isatty(1):
            raise UsageError("--pass-on writes for the next stage: sam3d-gs run ... | sam3d-gs run ... --follow")
        self._source: TextIO | None = None
        if follow:
            pipe = _own(0, os.open(os.devnull, os.O_RDONLY))
            self._source = os.fdopen(pipe, encoding="ascii", errors="replace")  # what is not ASCII is not ours
        sys.stdout.flush()
        self._sink = _own(1, 2) if pass_on else None

    @property
    def is_first(self) -> bool:
        return self._source is None

    def assign_gpus(self, settings: Settings, stages: Sequence[str], all_stages: Sequence[str]) -> Settings:
        """The settings of this process, with its GPUs set in the environment; call it before anything touches CUDA.

        The first process plans the GPUs of `all_stages`. Raises Sam3dGsError if they do not fit at the same time.
        """
        requests = {stage: getattr(settings, stage).gpu for stage in all_stages if stage != "scene"}
        places = plan(requests) if self._source is None else _places(self._receive())
        self._send(places)
        own = [index for stage in stages for index in places.get(stage, ())]
        if own:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(own))
            os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order of nvidia-smi
        phrases: EngineChoice = settings.phrases
        if "phrases" in stages and isinstance(phrases.options, VllmOptions):
            phrases = dataclasses.replace(phrases, options=for_server(phrases.options, places, requests))
        return dataclasses.replace(settings, phrases=phrases, waits=True)

    def photos(self, given: Sequence[Path]) -> Iterator[Path]:
        """The photos to process: all in the first process, else each one as the previous process finishes it."""
        if self._source is None:
            yield from given
            return
        known = {str(path.absolute()): path for path in given}
        while (name := self._receive()) is not None:
            if not isinstance(name, str):
                raise _foreign(name)
            if name not in known:
                raise UsageError(f"The stage before passes on {name}: give --follow the same photos as --pass-on.")
            yield known[name]

    def pass_on(self, photo: Path) -> None:
        """Send a finished photo to the next process. Raises Sam3dGsError if that process has ended."""
        self._send(str(photo.absolute()))

    def _receive(self) -> Any:
        """The next message; None at the end of the stream."""
        assert self._source is not None
        line = self._source.readline()
        if not line.endswith("\n"):  # the end; a partial line means that the writer was killed
            return None
        try:
            return json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _foreign(line) from error

    def _send(self, message: Any) -> None:
        if self._sink is None:
            return
        try:
            os.write(self._sink, json.dumps(message).encode() + b"\n")
        except BrokenPipeError as error:
            raise Sam3dGsError("The next stage has ended, so this one stops. Finished work is kept.") from error


def _places(message: Any) -> Places:
    """Stage -> GPUs, the first message; none if the process before has ended. Raises UsageError for anything else."""
    if message is None:
        return {}
    lists = list(message.values()) if isinstance(message, dict) else [None]
    if not all(isinstance(found, list) and all(isinstance(index, str) for index in found) for found in lists):
        raise _foreign(message)
    return {stage: tuple(indices) for stage, indices in message.items()}


def _foreign(message: Any) -> UsageError:
    return UsageError(f"--follow reads what `sam3d-gs run --pass-on` writes, not {message!r:.60}.")


def plan(requests: Mapping[str, GpuRequest]) -> Places:
    """Stage -> GPUs, from the memory that is free now. Raises Sam3dGsError if the stages do not fit together."""
    found = gpus()
    if found and "CUDA_VISIBLE_DEVICES" in os.environ and visible_gpus() is None:
        raise UsageError(
            "--overlap (--pass-on) assigns GPUs by index, so CUDA_VISIBLE_DEVICES must contain indices, not UUIDs."
        )
    places = place(requests, found)
    if places is None:
        needed = ", ".join(f"{stage} {request.gib:g}" for stage, request in requests.items() if request.gib)
        free = ", ".join(f"GPU {gpu.index} {gpu.free_gib:g}" for gpu in found)
        raise Sam3dGsError(
            f"The stages do not fit into GPU memory at the same time. Needed, in GiB: {needed}; free: {free}. "
            "Leave out --overlap (--pass-on) to run them one after another."
        )
    return places


def _own(fd: int, replacement: int) -> int:
    """A private copy of `fd` that children do not inherit; `fd` itself now refers to `replacement`."""
    copy = os.dup(fd)
    os.dup2(replacement, fd)
    return copy
