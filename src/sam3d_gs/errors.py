"""Errors a user can do something about: each prints as one line and sets the exit code."""

from __future__ import annotations

EXIT_FAILED = 1  # a stage has nothing to show, or an input is unusable
EXIT_USAGE = 2  # the command line itself is wrong (Click's own code)
EXIT_PARTIAL = 3  # some objects failed, the others are there
EXIT_STOPPED = 130  # Ctrl-C, as shells count it


class Sam3dGsError(Exception):
    """Something the user can mend. The text says what happened, where, and what to do next."""

    exit_code = EXIT_FAILED


class UsageError(Sam3dGsError):
    """Options that contradict each other or name something that does not exist."""

    exit_code = EXIT_USAGE


class BadInputError(Sam3dGsError):
    """A file the user gave is not what it should be; the text names the file."""


class MissingPackageError(Sam3dGsError):
    """A Python package that only some environments hold is not installed in this one."""


class ObjectError(Sam3dGsError):
    """One object could not be made; the stage records the reason and goes on with the others."""
