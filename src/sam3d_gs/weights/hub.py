"""The Hugging Face hub as configured on this machine: access to repositories, lists of files, one file's download.

HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_TOKEN_PATH and HF_HUB_OFFLINE mean what they mean to huggingface_hub,
which does every request and is imported only when needed. The token never enters a message, and it is sent to the
hub alone, over TLS.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sam3d_gs.errors import MissingPackageError, Sam3dGsError
from sam3d_gs.files import cannot_write

TOKENS_PAGE = "https://huggingface.co/settings/tokens"
_TIMEOUT_S = 15.0


class TransferError(Sam3dGsError):
    """A transfer broke off; trying again may help."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository, as the hub describes it."""

    name: str
    size: int | None  # bytes
    digest: str | None  # 64 hex digits: SHA-256; 40: git's SHA-1 of a small file


@dataclass(frozen=True)
class Access:
    """Whether a repository's files may be read, and if not, how to fix it."""

    state: str  # "granted", "not asked for", "pending", "refused", "no token", "bad token", "offline", ...
    advice: str = ""

    @property
    def granted(self) -> bool:
        return self.state == "granted"


@dataclass(frozen=True)
class Hub:
    """The hub's address, its cache on this machine, and the user's token."""

    endpoint: str
    cache: Path
    token: str | None = field(default=None, repr=False)
    offline: bool = False

    @classmethod
    def from_environment(cls) -> Hub:
        home = _path("HF_HOME") or (_path("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
        cache = _path("HF_HUB_CACHE") or _path("HUGGINGFACE_HUB_CACHE") or home / "hub"
        token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
        if not token:
            try:
                token = (_path("HF_TOKEN_PATH") or home / "token").read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                token = ""
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        endpoint = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        return cls(endpoint, cache, token.strip() or None, offline)

    @property
    def encrypted(self) -> bool:
        """Whether a token may be sent: over TLS, or without leaving this machine."""
        address = urlsplit(self.endpoint)
        return address.scheme == "https" or address.hostname in ("localhost", "127.0.0.1", "::1")

    @property
    def credentials(self) -> str | bool:
        """huggingface_hub's argument `token`; False stops it from looking for one itself."""
        return self.token if self.token and self.encrypted else False

    def page(self, repository_id: str) -> str:
        """Where a person asks for access: always the hub itself, since mirrors cannot grant it."""
        return f"https://huggingface.co/{repository_id}"

    def access(self, repository_id: str, name: str) -> Access:
        """Check access with a HEAD request for one file; nothing is downloaded."""
        if self.offline:
            return Access("offline", "HF_HUB_OFFLINE is set. Unset it to ask the hub.")
        try:
            url = library().hf_hub_url(repository_id, name, endpoint=self.endpoint)
            library().get_hf_file_metadata(url, token=self.credentials, timeout=_TIMEOUT_S)
        except library().utils.HfHubHTTPError as error:
            return self._denied(repository_id, error)
        except _network_errors() as error:
            return self._unreachable(error)
        return Access("granted")

    def files(self, repository_id: str) -> tuple[str, list[RemoteFile]]:
        """Commit and files of the main revision. Raises Sam3dGsError, also for a name that would leave a folder."""
        try:
            info = (
                library()
                .HfApi(endpoint=self.endpoint, token=self.credentials)
                .model_info(repository_id, files_metadata=True, timeout=_TIMEOUT_S)
            )
        except library().utils.HfHubHTTPError as error:
            denied = self._denied(repository_id, error)
            raise Sam3dGsError(f"{repository_id}: {denied.state}. {denied.advice}") from error
        except _network_errors() as error:
            raise Sam3dGsError(f"{repository_id}: {self._unreachable(error).advice}") from error
        files = [
            RemoteFile(file.rfilename, file.size, file.lfs.sha256 if file.lfs else file.blob_id)
            for file in info.siblings or []
        ]
        unsafe = next((file.name for file in files if not stays_below(file.name)), None)
        if unsafe is not None:
            raise Sam3dGsError(
                f"{repository_id}: {self.endpoint} lists a file named {unsafe!r}, which could be written outside its "
                "folder. Nothing was downloaded. Check HF_ENDPOINT, or tell the owners of the repository."
            )
        return str(info.sha), files

    def download(self, repository_id: str, name: str, commit: str, folder: Path, *, again: bool = False) -> Path:
        """Download one file to `folder / name` and return that path.

        Raises TransferError when the connection fails, Sam3dGsError when access is denied or nothing can be written.
        The hub's cache is neither read nor written: its copy may be the damaged one. `again` replaces what an earlier
        call left in `folder`.
        """
        try:
            return Path(
                library().hf_hub_download(
                    repository_id,
                    name,
                    revision=commit,
                    local_dir=folder,
                    cache_dir=folder,
                    endpoint=self.endpoint,
                    token=self.credentials,
                    force_download=again,
                )
            )
        except MissingPackageError:
            raise
        except Exception as error:  # the HTTP and Xet clients' own types, which differ between versions
            raise self._failed(repository_id, folder / name, name, error) from error

    def _failed(self, repository_id: str, path: Path, name: str, error: Exception) -> Sam3dGsError:
        """A failed download as one line."""
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            return cannot_write(path, error)
        for refusal in (error, error.__cause__):  # huggingface_hub wraps some errors of the first request
            if isinstance(refusal, library().utils.HfHubHTTPError) and getattr(refusal, "response", None) is not None:
                denied = self._denied(repository_id, refusal)
                return Sam3dGsError(f"{repository_id}: {denied.state}. {denied.advice}")
        cause = error.__cause__ or error
        reason = (str(cause).splitlines() or [""])[0]
        return TransferError(
            f"{repository_id}: {name} could not be downloaded from {self.endpoint} ({type(cause).__name__}: {reason}). "
            "Run the same command again; finished files are kept."
        )

    def _denied(self, repository_id: str, error: Any) -> Access:
        """Why the hub refused, from the status, X-Error-Code and the words of X-Error-Message.

        The words are the real hub's, as quoted in public (2026): "... is awaiting a review from the
        repo authors", "... has been rejected by the repo's authors", "... has been reset by the repo's authors. Visit
        ... to submit a new request", "... you are not in the authorized list", all with 403 and the code GatedRepo;
        "Please enable access to public gated repositories in your fine-grained token settings ..." with 403 and no
        code; "Invalid credentials in Authorization header" with 401 for an unknown token. Without a
        token, a gated file is 401 with GatedRepo, and a missing repository 401 without a code.
        """
        status, headers = error.response.status_code, error.response.headers
        code, said = headers.get("X-Error-Code", ""), headers.get("X-Error-Message", "").lower()
        page = self.page(repository_id)
        if "awaiting" in said:
            return Access("pending", f"The owners have not answered yet; {page} shows when they have.")
        if "rejected" in said:
            return Access("refused", f"The owners refused access. See {page} for whom to ask, or use files you have.")
        if "fine-grained" in said or "token settings" in said:
            return Access(
                "token may not", f"Allow your token to read public gated repositories at {TOKENS_PAGE}, then try again."
            )
        if status == 401 and self.token and not self.encrypted:
            return Access(
                "token withheld", f"{self.endpoint} is not https, so your token was not sent. Fix HF_ENDPOINT."
            )
        if status == 401 and self.token:
            return Access("bad token", f"The hub does not know your token: make one at {TOKENS_PAGE}, `hf auth login`.")
        if code == "GatedRepo" and not self.token:
            return Access("no token", f"Ask for access at {page}, make a token at {TOKENS_PAGE}, `hf auth login`.")
        if code == "GatedRepo":
            return Access("not asked for", f"Ask for access at {page}, signed in as the owner of your token.")
        if status in (401, 404):
            return Access("not found", f"No such repository or file at {self.endpoint}, or your token cannot see it.")
        return Access(f"HTTP {status}", f"{self.endpoint} answered {status}; try again later.")

    def _unreachable(self, error: Exception) -> Access:
        return Access(
            "unreachable",
            f"No answer from {self.endpoint} ({type(error).__name__}). Check the network, proxy or HF_ENDPOINT.",
        )


def _path(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else None


def stays_below(name: str) -> bool:
    """Whether a file name of the hub stays inside the folder it is joined to, on every system, also with its first
    parts removed: no empty part, no "." or "..", no backslash, no drive."""
    parts = name.split("/")
    return "\\" not in name and "\0" not in name and not any(re.match(r"\.{0,2}$|[A-Za-z]:", part) for part in parts)


def library() -> Any:
    """The module huggingface_hub, imported on first use. Raises MissingPackageError."""
    try:
        import huggingface_hub
        import huggingface_hub.utils
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "Downloading checkpoints needs the package 'huggingface_hub', which is not installed in this environment. "
            "Run `pip install 'sam3d_gs[hub]'`."
        ) from error
    return huggingface_hub


def _network_errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub's HTTP client (requests, httpx or httpx2, by version) raises when there is no answer."""
    return (library().utils.HfHubHTTPError.__bases__[0], OSError)
