"""Writing files atomically, reading JSON, hashing, and removing temporary files of killed runs."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sam3d_gs.errors import BadInputError, Sam3dGsError

TEMPORARY_PREFIX = ".tmp-"


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


def cannot_write(path: Path, error: OSError) -> Sam3dGsError:
    """The error to raise when `path` cannot be written or removed."""
    return Sam3dGsError(
        f"Cannot write {path}: {error.strerror or error}. Free some space or choose another --workspace; "
        "finished work is kept."
    )


def write_bytes(path: Path, data: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, what: str) -> Any:
    """The parsed JSON file. Raises BadInputError, naming the file and `what` it should be, if that fails."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise BadInputError(f"No {what} at {path}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BadInputError(f"{path} is not a readable {what}: {error}. Fix or delete it and try again.") from error


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
    return f"{TEMPORARY_PREFIX}{name[:40]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}-"
