"""Output while stages run: results on stdout, progress and warnings on stderr."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from sam3d_gs.commands.terminal import one_line, say, tell
from sam3d_gs.errors import Sam3dGsError, UnexpectedError
from sam3d_gs.stages.bookkeeping import Progress, StageResult, no_progress
from sam3d_gs.workspace import Workspace

log = logging.getLogger("sam3d_gs")


class Console:
    """One line per finished stage, and a progress bar if stderr is a terminal.

    several: more than one photo, so that errors name theirs. alone: no other process writes to the terminal.
    """

    def __init__(self, several: bool, alone: bool = True) -> None:
        self._several, self._alone = several, alone
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Console:
        if self._alone and sys.stderr.isatty() and not os.environ.get("SAM3D_GS_QUIET"):
            from rich.console import Console as RichConsole
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=30),
                TextColumn("{task.completed}/{task.total}"),
                TimeElapsedColumn(),
                console=RichConsole(stderr=True),
                transient=True,
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def progress(self, photo: str, stage: str) -> Progress:
        """The progress callback of one stage of one photo."""
        if self._bar is None:
            return no_progress
        bar = self._bar
        task = bar.add_task(one_line(f"{photo}: {stage}"), total=1)

        def update(done: int, total: int, what: str) -> None:
            text = one_line(f"{photo}: {stage}" + (f" {what}" if what and what != stage else ""))
            bar.update(task, completed=done, total=total, description=text)
            if done >= total and not what:
                bar.remove_task(task)

        return update

    def stage(self, photo: Path, workspace: Workspace, result: StageResult) -> None:
        """Print a finished stage, its warnings and, after the scene stage, the main files."""
        for warning in result.warnings:
            log.warning("%s: %s", workspace.photo, warning)
        self._print(f"{workspace.photo}: {result.stage}: {_describe(result)}")
        if result.stage == "scene":
            for what, path in (
                ("ply", workspace.scene_ply),
                ("json", workspace.scene_json),
                ("report", workspace.report_html),
            ):
                if path.exists():
                    self._print(f"{workspace.photo}: {what}: {path}")

    def failed(self, photo: Path, stage: str, error: Sam3dGsError) -> None:
        """Print the error that stopped a photo."""
        prefix = f"Error in {stage} of {photo.name}: " if self._several else "Error: "
        if isinstance(error, UnexpectedError):
            log.debug("", exc_info=error.__cause__)
        text = f"{prefix}{error}"
        if self._bar is not None:
            self._bar.console.print(one_line(text), markup=False, highlight=False, soft_wrap=True)
        else:
            tell(text)

    def _print(self, text: str) -> None:
        text = one_line(text)
        if self._bar is not None and sys.stdout.isatty():
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            say(text)


def _describe(result: StageResult) -> str:
    if result.status == "up to date":
        return "up to date" + (f" ({result.summary})" if result.summary else "")
    return f"{result.summary} ({result.seconds:.1f} s)"
