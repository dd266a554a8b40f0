"""Errors that the user can fix. The command line prints each as one line and exits with its code."""

from __future__ import annotations

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
