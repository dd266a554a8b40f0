"""Photos handed from process to process while each works on: `run --pass-on | run --follow`, one stage in each.

What passes is lines of JSON: first, on which cards the stages compute, as the first process planned it before anything
started; then each photo that the process before has finished in this run. Results of an earlier run are thus never
taken for new ones, and since the system closes a pipe when its writer ends, however it ends, nobody waits for ever.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sam3d_gs.engines.registry import EngineChoice, GpuRequest
from sam3d_gs.errors import Sam3dGsError, UsageError
from sam3d_gs.options import VllmOptions
from sam3d_gs.system.gpu_allocation import Places, for_server, place
from sam3d_gs.system.nvidia import gpus, visible_gpus

if TYPE_CHECKING:
    from sam3d_gs.pipeline import Settings


class Relay:
    """One process in the row. From its making on, only the relay reads stdin and writes stdout.

    What anything else prints goes to stderr, and child processes inherit neither end of a pipe, so that the next
    process sees the end of this one at once.
    """

    def __init__(self, follow: bool, pass_on: bool) -> None:
        """Raises UsageError when there is no process before or after this one."""
        if follow and os.isatty(0):
            raise UsageError("--follow reads from the stage before: sam3d-gs run ... --pass-on | sam3d-gs run ...")
        if pass_on and os.isatty(1):
            raise UsageError("--pass-on writes for the next stage: sam3d-gs run ... | sam3d-gs run ... --follow")
        self._source = os.fdopen(_own(0, os.open(os.devnull, os.O_RDONLY)), encoding="ascii") if follow else None
        sys.stdout.flush()
        self._sink = _own(1, 2) if pass_on else None

    @property
    def leads(self) -> bool:
        """The first in the row."""
        return self._source is None

    def settle(self, settings: Settings, stages: Sequence[str], all_stages: Sequence[str]) -> Settings:
        """Take this process's cards; the first in the row plans those of `all_stages`.

        Call it before anything touches CUDA. Raises Sam3dGsError when the stages do not fit at once.
        """
        requests = {stage: getattr(settings, stage).gpu for stage in all_stages if stage != "scene"}
        if self._source is None:
            places = plan(requests)
        else:
            places = {stage: tuple(taken) for stage, taken in (self._next() or {}).items()}
        self._say(places)
        own = [index for stage in stages for index in places.get(stage, ())]
        if own:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(dict.fromkeys(own))
            os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # the order of nvidia-smi
        phrases: EngineChoice = settings.phrases
        if "phrases" in stages and isinstance(phrases.options, VllmOptions):
            phrases = dataclasses.replace(phrases, options=for_server(phrases.options, places, requests))
        return dataclasses.replace(settings, phrases=phrases, waits=True)

    def photos(self, given: Sequence[Path]) -> Iterator[Path]:
        """The photos of this call, each once the process before has finished it; all of them in the first process."""
        if self._source is None:
            yield from given
            return
        known = {str(path.absolute()): path for path in given}
        while (name := self._next()) is not None:
            if name not in known:
                raise UsageError(f"The stage before passes on {name}: give --follow the same photos as --pass-on.")
            yield known[name]

    def pass_on(self, photo: Path) -> None:
        """Tell the next process that `photo` is finished. Raises Sam3dGsError when that process has ended."""
        self._say(str(photo.absolute()))

    def _next(self) -> Any:
        """The next message, None when there is none to come."""
        assert self._source is not None
        line = self._source.readline()
        if not line.endswith("\n"):  # the end; a torn line is that of a writer that was killed
            return None
        try:
            return json.loads(line)
        except ValueError as error:
            raise UsageError(f"--follow reads what `sam3d-gs run --pass-on` writes, not {line[:60]!r}.") from error

    def _say(self, message: Any) -> None:
        if self._sink is None:
            return
        try:
            os.write(self._sink, json.dumps(message).encode() + b"\n")
        except BrokenPipeError as error:
            raise Sam3dGsError("The next stage has ended, so this one stops. Finished work is kept.") from error


def plan(requests: Mapping[str, GpuRequest]) -> Places:
    """The cards of all stages on this machine, as it is now. Raises Sam3dGsError when they do not fit at once."""
    there = gpus()
    if there and "CUDA_VISIBLE_DEVICES" in os.environ and visible_gpus() is None:
        raise UsageError("--overlap (--pass-on) shares out cards by number: give CUDA_VISIBLE_DEVICES numbers too.")
    places = place(requests, there)
    if places is None:
        wanted = ", ".join(f"{stage} {request.gib:g}" for stage, request in requests.items() if request.gib)
        free = ", ".join(f"gpu {gpu.index} {gpu.free_gib:g}" for gpu in there)
        raise Sam3dGsError(
            f"The stages do not fit side by side: GiB wanted: {wanted}; free: {free}. "
            "Leave --overlap (--pass-on) out, and they work one after another."
        )
    return places


def _own(fd: int, instead: int) -> int:
    """A copy of `fd` for us alone, which no child inherits; whoever else uses `fd` gets `instead`."""
    copy = os.dup(fd)
    os.dup2(instead, fd)
    return copy
