"""One file from a mirror by plain HTTP, resumed where an earlier attempt stopped.

huggingface_hub's own download asks a server for headers that only the hub sends (X-Repo-Commit, ETag) and for its Xet
storage, which mirrors do not have. Here the list of files already told name, size and digest, so the bytes are enough.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO

from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.weights.remote_files import RemoteFile

_BLOCK = 1 << 16
_TIMEOUT_S = 30.0  # without a byte
_HEAD_BYTES = 512


class TransferError(Sam3dGsError):
    """A transfer broke off, or the server asks to wait; trying again may help."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


def retry_after_s(headers: Any) -> float:
    """The seconds that a server asks to wait; 0 if it does not say."""
    value = str(headers.get("Retry-After") or "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value):
        return float(value)
    try:
        when = parsedate_to_datetime(value)
        return max(0.0, (when - datetime.now(when.tzinfo or timezone.utc)).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0


def disguise(path: Path) -> str:
    """What a file is instead of weights: a web page, or a pointer of Git LFS; "" for anything else."""
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    except OSError:
        return ""
    if head.startswith(b"version https://git-lfs.github.com/spec/"):
        return "Git LFS pointer"
    web = head.startswith((b"<!doctype html", b"<html")) and path.suffix.lower() not in (".html", ".htm")
    return "web page" if web else ""


def receive(library: Any, url: str, headers: dict[str, str], file: RemoteFile, folder: Path) -> Path:
    """The file's bytes below `folder`, not verified yet; those of a broken transfer stay for the next call.

    Raises TransferError if the connection breaks or the file ends early, and the HTTP client's own errors.
    """
    partial = folder / f"{hashlib.sha256(f'{url} {file.digest}'.encode()).hexdigest()[:32]}.part"
    folder.mkdir(parents=True, exist_ok=True)
    have = partial.stat().st_size if partial.exists() else 0
    if have and (file.digest is None or have > (file.size or 0)):  # nothing tells whether the bytes belong together
        partial.unlink()
        have = 0
    if not have or have != file.size:
        flags = os.O_WRONLY | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        with os.fdopen(os.open(partial, flags, 0o666), "wb") as stream:
            _append(library, url, headers, file, stream, have)
    got = partial.stat().st_size
    if file.size is not None and got < file.size and not disguise(partial):
        raise TransferError(f"it ended after {got} of {file.size} bytes")
    return partial


def _append(library: Any, url: str, headers: dict[str, str], file: RemoteFile, stream: BinaryIO, have: int) -> None:
    """Write what the server sends, from byte `have` on if it can; never much more than the file's size."""
    asked = {**headers, "Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    with _response(library, url, asked) as (response, blocks):
        if response.status_code == 416 and have:
            stream.truncate(0)
            raise TransferError("the server has fewer bytes than arrived before")
        library.utils.hf_raise_for_status(response)
        if response.status_code not in (200, 206):
            raise TransferError(f"the server answered {response.status_code}")
        if response.status_code == 200:
            have = 0
        elif not str(response.headers.get("Content-Range", f"bytes {have}-")).startswith(f"bytes {have}-"):
            stream.truncate(0)
            raise TransferError("the server sent another part of the file than it was asked for")
        stream.seek(have)
        stream.truncate()
        with library.utils.tqdm(
            total=file.size, initial=have, unit="B", unit_scale=True, desc=file.name[-40:], leave=True
        ) as bar:
            for block in blocks:
                stream.write(block)
                bar.update(len(block))
                have += len(block)
                if file.size is not None and have > file.size:
                    return  # not the file; do not fill the disk


@contextmanager
def _response(library: Any, url: str, headers: dict[str, str]) -> Iterator[tuple[Any, Iterator[bytes]]]:
    """The answer to a GET and its blocks, by the client of huggingface_hub: httpx, or requests before 1.0.

    Both follow redirects, and send the token to no other host and not from https to http.
    """
    session = library.utils.get_session()
    if hasattr(session, "stream") and callable(session.stream):
        with session.stream("GET", url, headers=headers, timeout=_TIMEOUT_S, follow_redirects=True) as response:
            yield response, response.iter_bytes()
    else:
        with session.get(url, headers=headers, timeout=_TIMEOUT_S, stream=True) as response:
            yield response, response.iter_content(_BLOCK)
