"""Errors that the user can fix. The command line prints each as one line and exits with its code."""

from __future__ import annotations

import shlex

EXIT_FAILED = 1  # a stage has no result, or an input is unusable
EXIT_USAGE = 2  # wrong command line; the same code as Click's
EXIT_PARTIAL = 3  # some objects or photos failed, others succeeded
EXIT_STOPPED = 130  # Ctrl-C: 128 + SIGINT, as in shells


class Sam3dGsError(Exception):
    """An error that the user can fix. The message says what happened, where, and what to do next."""

    exit_code = EXIT_FAILED


class UsageError(Sam3dGsError):
    """Options that contradict each other or name something that does not exist."""

    exit_code = EXIT_USAGE


class BadInputError(Sam3dGsError):
    """An input file is missing, damaged or of the wrong kind; the message names the file."""


class MissingPackageError(Sam3dGsError):
    """A Python package that an engine needs is not installed in this environment."""


class ObjectError(Sam3dGsError):
    """One object could not be reconstructed; the stage records the reason and continues with the others."""


def command(*words: object) -> str:
    """A command to show to the user, `sam3d-gs ...`: quoted, since names may hold anything that a shell would run."""
    return f"`sam3d-gs {shlex.join(map(str, words))}`"


class UnexpectedError(Sam3dGsError):
    """Any other exception, as one line. Its cause has the traceback."""


def as_one_line(error: Exception) -> Sam3dGsError:
    """The error itself if the user can fix it; else what happened, and how to see more, as an UnexpectedError."""
    if isinstance(error, Sam3dGsError):
        return error
    if isinstance(error, OSError) and error.strerror:
        places = ", ".join(str(name) for name in (error.filename, error.filename2) if name is not None)
        made = UnexpectedError(f"{places + ': ' if places else ''}{error.strerror}.")
    elif "OutOfMemory" in type(error).__name__:  # of torch, which must not be imported here
        made = UnexpectedError(f"Out of GPU memory: {first_line(error)} Use a GPU with more free memory.")
    elif isinstance(error, MemoryError):
        made = UnexpectedError("Out of memory. Use a smaller photo (--max-side-px) or fewer objects.")
    else:
        what = ": ".join(dict.fromkeys((type(error).__name__, first_line(error))))
        made = UnexpectedError(
            f"Unexpected {what}. This is a bug: `sam3d-gs -v` and the same command shows where; please report it."
        )
    made.__cause__ = error
    return made


def first_line(error: BaseException) -> str:
    """What an exception says first, else its type: some libraries append a stack, or a page of advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
