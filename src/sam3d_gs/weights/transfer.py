"""One file from the hub to this disk, whole and verified or not at all, going on where an earlier try stopped.

huggingface_hub 1 and 2 begin a file afresh in every process, which hurts with files of gigabytes on a bad line; hence
this small loop over HTTP ranges. A file gets its name only after its size and digest were compared with the hub's.
"""

from __future__ import annotations

import hashlib
import http.client
import logging
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from sam3d_gs.errors import Sam3dGsError
from sam3d_gs.files import cannot_write
from sam3d_gs.weights.hub import Hub, RemoteFile

log = logging.getLogger("sam3d_gs")

PART_SUFFIX = ".incomplete"
RETRIES = 5  # without a single new byte
RETRY_WAIT_S = 1.0  # doubles with every failure in a row
_TIMEOUT_S = 60.0
_BLOCK = 1 << 20

Advance = Callable[[int], None]  # told how many bytes of the file are here


def fetch(hub: Hub, repository_id: str, file: RemoteFile, target: Path, advance: Advance = lambda done: None) -> None:
    """Bring `file` to `target`. Raises Sam3dGsError; what arrived stays beside it for the next try."""
    part = target.with_name(target.name + PART_SUFFIX)
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        for attempt in range(2):
            _complete(hub, repository_id, file, part, advance)
            if matches(part, file.digest):
                os.replace(part, target)
                return
            part.unlink()
            log.warning("%s: %s arrived damaged%s.", repository_id, file.name, "" if attempt else "; once more")
    except OSError as error:
        raise cannot_write(target, error) from error
    raise Sam3dGsError(
        f"{repository_id}: {file.name} arrived twice with a digest other than the hub's, so it was not kept. "
        f"Check the proxy or mirror ({hub.endpoint}) and run the same command again."
    )


def matches(path: Path, digest: str | None) -> bool:
    """Whether a file has the digest (see RemoteFile); True when there is none to compare with."""
    if digest is None:
        return True
    known = hashlib.sha256() if len(digest) == 64 else hashlib.sha1(b"blob %d\0" % path.stat().st_size)
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            known.update(block)
    return known.hexdigest() == digest


def _complete(hub: Hub, repository_id: str, file: RemoteFile, part: Path, advance: Advance) -> None:
    """Append to `part` until it is as long as the file."""
    failures, most = 0, -1
    while True:
        have = part.stat().st_size if part.exists() else 0
        if file.size is not None and have > file.size:
            part.unlink()
            have = 0
        advance(have)
        if have == file.size:
            part.touch()  # an empty file needs no request
            return
        try:
            problem = _append(hub, repository_id, file, part, have, advance)
        except (http.client.HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
            problem = f"{type(error).__name__}: {getattr(error, 'reason', error)}"
        if not problem and file.size is None:
            return
        now = part.stat().st_size if part.exists() else 0
        failures = 0 if now > max(have, most) else failures + 1
        most = max(now, most)
        if failures >= RETRIES:
            raise Sam3dGsError(
                f"{repository_id}: {file.name} stopped at {now} of {file.size} bytes "
                f"({problem or 'the server sends no more'}). Run the same command again; it goes on from there."
            )
        if now != file.size:
            log.debug("%s: %s: %s; going on at byte %d", repository_id, file.name, problem or "cut off", now)
            time.sleep(RETRY_WAIT_S * 2**failures if failures else 0)


def _append(hub: Hub, repository_id: str, file: RemoteFile, part: Path, have: int, advance: Advance) -> str:
    """One request for what is missing; returns what the server objected to, "" when it did not."""
    location = hub.location(repository_id, file.name)  # anew each time: signed addresses expire
    request = urllib.request.Request(location)
    if have:
        request.add_header("Range", f"bytes={have}-")
    if hub.token and urlsplit(location).netloc == urlsplit(hub.endpoint).netloc:
        request.add_unredirected_header("Authorization", f"Bearer {hub.token}")  # never to another host
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # nothing lies there: what we have is not of this file
            part.unlink(missing_ok=True)
        return f"HTTP {error.code}"
    with response, part.open("ab" if have and response.status == 206 else "wb") as stream:
        done = stream.tell()
        while block := response.read(_BLOCK):
            stream.write(block)
            done += len(block)
            advance(done)
    return ""
