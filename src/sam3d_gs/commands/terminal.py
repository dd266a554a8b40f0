"""Printing. Names and texts come from files that may hold anything, so no control character reaches a terminal."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from sam3d_gs.errors import Sam3dGsError

# C0 without line feed and tab, DEL, C1, line separators, marks that turn the direction of the text around them, and
# surrogates, which stand for the bytes of a file name that is not UTF-8.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """`text` with each control character as its escape, e.g. \\x1b; line feeds and tabs stay."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def one_line(text: object) -> str:
    """`text` as a printable line: a name with a line break must not look like a message of its own."""
    return printable(" ".join(str(text).splitlines()))


def say(text: object) -> None:
    """Print a result to stdout. Raises Sam3dGsError if it takes nothing, e.g. a file on a full disk."""
    _print(printable(str(text)))


def say_path(path: Path) -> None:
    """Print a path: exactly, byte by byte, for a program that reads it; as a printable line on a terminal."""
    if sys.stdout.isatty():
        _print(one_line(path))
    else:
        _print(str(path))


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
    """Print a message to stderr, as one line. Errors are ignored: there is nowhere else to report them."""
    _tell(one_line(text))


def _tell(text: str) -> None:
    with suppress(OSError, ValueError):  # full, closed
        print(text, file=sys.stderr, flush=True)


class StderrHandler(logging.Handler):
    """Plain lines on the current sys.stderr, which the progress bar replaces while it is shown."""

    def emit(self, record: logging.LogRecord) -> None:
        if message := record.getMessage():
            tell(message)
        if record.exc_info and record.exc_info[0]:
            _tell(printable("".join(traceback.format_exception(*record.exc_info)).rstrip()))


def open_streams() -> None:
    """Make stdin, stdout and stderr usable, whatever this process was started with.

    Closed ones are replaced by the null device. Otherwise the next file that is opened would get their number, and what
    libraries print would be written into it. What an encoding cannot express is escaped; bytes of file names that are
    not UTF-8 stay as they are.
    """
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(handle, True)  # the programs that we start have the same need
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
