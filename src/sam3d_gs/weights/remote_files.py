"""The files that a hub lists. A hub may be a stranger's mirror, so names and digests are checked before they become
paths."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LEAVES = re.compile(r"[. ]*|[A-Za-z]:.*", re.DOTALL)  # nothing, "." or "..", also as Windows reads them; a drive
_OWN = ".sam3d_gs"  # our lock, record and incoming files
_MAX_PART_BYTES, _MAX_NAME_BYTES = 255, 1000
_LARGEST = 2**60  # bytes


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository, as the hub describes it."""

    name: str
    size: int | None  # bytes
    digest: str | None  # 64 hex digits: SHA-256; 40: git's SHA-1 of a small file


@dataclass(frozen=True)
class Listing:
    """The files of a repository's main revision."""

    commit: str  # of the hub; made from the list itself if the hub names none
    files: tuple[RemoteFile, ...]
    revision: str = ""  # what to ask the hub for, if not the commit

    @property
    def asked(self) -> str:
        """The revision that requests for files name."""
        return self.revision or self.commit

    def only(self, wanted: Callable[[str], bool]) -> Listing:
        """The same revision with the files whose names are wanted."""
        return replace(self, files=tuple(file for file in self.files if wanted(file.name)))

    @classmethod
    def of(cls, commit: Any, files: Iterable[RemoteFile]) -> Listing:
        """With the hub's commit if it is one, else with a name that changes when the files do."""
        files = tuple(files)
        if isinstance(commit, str) and re.fullmatch(r"[0-9a-f]{40}", commit):
            return cls(commit, files)
        rows = "\n".join(f"{file.name} {file.size} {file.digest}" for file in sorted(files, key=lambda file: file.name))
        return cls(hashlib.sha1(rows.encode()).hexdigest(), files, "main")


def remote_file(name: Any, size: Any, digest: Any) -> RemoteFile:
    """One entry of a list. What is no size or digest becomes None. Raises ValueError for a bad name, saying why."""
    fault = name_fault(name)
    if fault:
        raise ValueError(fault)
    whole = isinstance(size, int) and not isinstance(size, bool) and 0 <= size < _LARGEST
    lower = digest.lower() if isinstance(digest, str) else ""
    return RemoteFile(name, size if whole else None, lower if is_digest(lower) else None)


def name_fault(name: Any) -> str:
    """What is wrong with the name of a file; "" if it can be joined to a folder on every system, also with its first
    parts removed."""
    if not isinstance(name, str):
        return "is no text"
    parts = name.split("/")
    if "\\" in name or "\0" in name or any(_LEAVES.fullmatch(part) for part in parts):
        return "could be written outside its folder"
    if _CONTROL.search(name):
        return "has control characters"
    if len(name.encode()) > _MAX_NAME_BYTES or any(len(part.encode()) > _MAX_PART_BYTES for part in parts):
        return "is too long"
    if any(part.lower().startswith(_OWN) for part in parts):
        return "is a name that sam3d-gs uses itself"
    return ""


def is_digest(text: str) -> bool:
    """Whether this is a SHA-256 or git's SHA-1, in hex."""
    return bool(_DIGEST.fullmatch(text))


def clash(files: Iterable[RemoteFile]) -> tuple[str, str] | None:
    """Two names that cannot both be files: equal but for case or Unicode form, or one the folder of the other."""
    seen: dict[str, str] = {}
    for file in files:
        key = _key(file.name)
        if key in seen:
            return seen[key], file.name
        seen[key] = file.name
    for key, name in seen.items():
        parts = key.split("/")
        for count in range(1, len(parts)):
            folder = "/".join(parts[:count])
            if folder in seen:
                return seen[folder], name
    return None


def _key(name: str) -> str:
    """The same for names that macOS or Windows take for one."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
