"""Printing. Names and texts come from files that may hold anything, so no control character reaches a terminal."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from contextlib import suppress
from typing import Any, TextIO

from sam3d_gs.errors import Sam3dGsError

# C0 without line feed and tab, DEL, C1, line separators, and marks that turn the direction of the text around them.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """`text` with each control character as its escape, e.g. \\x1b; line feeds and tabs stay."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def say(text: object) -> None:
    """Print a result to stdout. Raises Sam3dGsError if it takes nothing, e.g. a file on a full disk."""
    _print(printable(str(text)))


def say_json(value: Any) -> None:
    """Print JSON to stdout: ASCII, so that it is the same in every locale, and without NaN."""
    _print(json.dumps(value, indent=2, allow_nan=False))


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except BrokenPipeError:  # the reader has ended, which is no error
        raise
    except OSError as error:
        raise Sam3dGsError(f"Cannot print the results: {error.strerror or error}. Finished work is kept.") from error


def tell(text: object) -> None:
    """Print a message to stderr. If that fails there is nobody to tell."""
    with suppress(OSError, ValueError):  # full, closed
        print(printable(str(text)), file=sys.stderr, flush=True)


class StderrHandler(logging.Handler):
    """Plain lines on the current sys.stderr, which the progress bar replaces while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        tell(record.getMessage())
        if record.exc_info and record.exc_info[0]:
            tell("".join(traceback.format_exception(*record.exc_info)).rstrip())


def open_streams() -> None:
    """Make stdin, stdout and stderr usable, whatever this process was started with.

    A closed one goes nowhere: the number of a closed one would be given to the next file that is opened, and what
    libraries print would be written into it. What an encoding cannot express is escaped; bytes of file names that are
    not UTF-8 stay as they are.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(handle)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  for the whole process
    for stream in (sys.stdout, sys.stderr):
        _never_fail_to_encode(stream)


def _never_fail_to_encode(stream: TextIO) -> None:
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        is_utf8 = (stream.encoding or "").lower().replace("-", "") == "utf8"
        reconfigure(errors="surrogateescape" if is_utf8 and stream is sys.stdout else "backslashreplace")
