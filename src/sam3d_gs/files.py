"""Writing files atomically, reading JSON, hashing, and removing temporary files of killed runs."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sam3d_gs.errors import BadInputError, Sam3dGsError

TEMPORARY_PREFIX = ".tmp-"
_SURROGATE = re.compile("[\ud800-\udfff]")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path next to `path`; renamed to `path` if the block succeeds, else deleted.

    Its name contains the target's (see `clear_temporary`) and keeps the suffix, which tells Pillow the format.
    Raises Sam3dGsError, naming the file, if it cannot be written, e.g. on a full disk.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=_temporary_prefix(path.name), suffix=path.suffix, dir=path.parent)
        os.close(handle)
        os.chmod(name, 0o666 & ~_umask())
    except OSError as error:
        raise cannot_write(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise cannot_write(path, error) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def cannot_write(path: Path, error: OSError, instead: str = "another --workspace") -> Sam3dGsError:
    """The error to raise when `path` cannot be written or removed; `instead` is what to choose then."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    advice = "Free some space or choose" if full else "Choose"
    return Sam3dGsError(f"Cannot write {path}: {error.strerror or error}. {advice} {instead}; finished work is kept.")


def write_bytes(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8", "replace"))  # file names may hold bytes that are not UTF-8


def write_json(path: Path, value: Any) -> None:
    """Write JSON in UTF-8. A surrogate, of a file name that is not UTF-8, is written as JSON's escape: \\udce9."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n")


def exists(path: Path) -> bool:
    """Whether there is something at `path`, whose name may be too long. Raises BadInputError if it may not be seen."""
    try:
        return path.exists()
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            return False
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}.") from error


def read_json(path: Path, what: str) -> Any:
    """The parsed JSON file; all its numbers are finite.

    Raises BadInputError, naming the file and `what` it should be, if that fails.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would block
            raise ValueError("it is not a regular file")
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(
            text, parse_constant=_no_number, parse_float=_float, parse_int=_int, object_pairs_hook=_object
        )
    except FileNotFoundError as error:
        raise BadInputError(f"No {what} at {path}.") from error
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{path} is not a readable {what}: {error}. Fix or delete it and try again.") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):  # json would take the last one and say nothing
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)!r:.60} is there twice")
    return found


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is not a number in JSON")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text:.40} is too large")
    return number


def _int(text: str) -> int:
    _float(text)  # int has no limit, and what it holds must fit into a float
    return int(text)


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def clear_temporary(folder: Path, targets: Collection[Path] | None = None) -> None:
    """Remove the temporary files that killed runs left in `folder`; with `targets`, only those of these files."""
    prefixes = (TEMPORARY_PREFIX,) if targets is None else tuple(_temporary_prefix(path.name) for path in targets)
    if folder.is_dir():
        for leftover in folder.iterdir():
            if leftover.name.startswith(prefixes) and leftover.is_file():
                leftover.unlink(missing_ok=True)


def _temporary_prefix(name: str) -> str:
    """The prefix of a target's temporary files: part of its name, for readers, and a hash, to be unique."""
    return f"{TEMPORARY_PREFIX}{name[:40]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}-"
