"""The Hugging Face hub, as this machine is set up for it: who may read what, and which files there are.

HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_TOKEN_PATH and HF_HUB_OFFLINE mean what they mean to huggingface_hub,
which is imported only when the hub is asked something. The token never enters a message.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sam3d_gs.errors import MissingPackageError, Sam3dGsError

TOKENS_PAGE = "https://huggingface.co/settings/tokens"
_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository, as the hub describes it."""

    name: str
    size: int | None  # bytes
    digest: str | None  # 64 hex digits: SHA-256; 40: git's SHA-1 of a small file


@dataclass(frozen=True)
class Access:
    """Whether a repository's files may be read, and if not, what to do about it."""

    state: str  # "granted", "not asked for", "pending", "refused", "no token", "bad token", "offline", ...
    advice: str = ""

    @property
    def granted(self) -> bool:
        return self.state == "granted"


@dataclass(frozen=True)
class Hub:
    """Where the hub is and with what right we ask it."""

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

    def page(self, repository_id: str) -> str:
        """Where a person asks for access: always the hub itself, mirrors cannot grant it."""
        return f"https://huggingface.co/{repository_id}"

    def access(self, repository_id: str, name: str) -> Access:
        """Ask for the head of one file, as a download would; nothing is transferred."""
        if self.offline:
            return Access("offline", "HF_HUB_OFFLINE is set: unset it to ask the hub.")
        try:
            self._head(repository_id, name)
        except library().utils.HfHubHTTPError as error:
            return self._denied(repository_id, error)
        except _network_errors() as error:
            return self._unreachable(error)
        return Access("granted")

    def location(self, repository_id: str, name: str) -> str:
        """Where a file's bytes are, for now. Raises Sam3dGsError when denied, ConnectionError without an answer."""
        try:
            return str(self._head(repository_id, name).location)
        except library().utils.HfHubHTTPError as error:
            denied = self._denied(repository_id, error)
            if error.response.status_code >= 500:
                raise ConnectionError(denied.state) from error
            raise Sam3dGsError(f"{repository_id}: {denied.state}. {denied.advice}") from error
        except _network_errors() as error:
            raise ConnectionError(f"no answer from {self.endpoint}") from error

    def _head(self, repository_id: str, name: str) -> Any:
        url = library().hf_hub_url(repository_id, name, endpoint=self.endpoint)
        return library().get_hf_file_metadata(url, token=self.token or False, timeout=_TIMEOUT_S)

    def files(self, repository_id: str) -> tuple[str, list[RemoteFile]]:
        """Commit and files of the main revision. Raises Sam3dGsError."""
        try:
            info = (
                library()
                .HfApi(endpoint=self.endpoint, token=self.token or False)
                .model_info(repository_id, files_metadata=True, timeout=_TIMEOUT_S)
            )
        except library().utils.HfHubHTTPError as error:
            denied = self._denied(repository_id, error)
            raise Sam3dGsError(f"{repository_id}: {denied.state}. {denied.advice}") from error
        except _network_errors() as error:
            raise Sam3dGsError(f"{repository_id}: {self._unreachable(error).advice}") from error
        return str(info.sha), [
            RemoteFile(file.rfilename, file.size, file.lfs.sha256 if file.lfs else file.blob_id)
            for file in info.siblings or []
        ]

    def _denied(self, repository_id: str, error: Any) -> Access:
        """The hub's answer, told apart by status, X-Error-Code and the words of X-Error-Message.

        The words are those of the real hub, as people quote them in public (2026): "... is awaiting a review from the
        repo authors", "... has been rejected by the repo's authors", "... has been reset by the repo's authors. Visit
        ... to submit a new request", "... you are not in the authorized list", all with 403 and the code GatedRepo;
        "Please enable access to public gated repositories in your fine-grained token settings ..." with 403 and no
        code; "Invalid credentials in Authorization header" with 401 for a token that it does not know. Without a
        token, a gated file is 401 with GatedRepo, and a repository that is not there 401 without a code.
        """
        status, headers = error.response.status_code, error.response.headers
        code, said = headers.get("X-Error-Code", ""), headers.get("X-Error-Message", "").lower()
        page = self.page(repository_id)
        if "awaiting" in said:
            return Access("pending", f"The owners have not answered yet; {page} shows when they have.")
        if "rejected" in said:
            return Access("refused", f"The owners refused it; {page} says whom to ask, or use files you have.")
        if "fine-grained" in said or "token settings" in said:
            return Access(
                "token may not", f"Allow your token to read public gated repositories at {TOKENS_PAGE}, then try again."
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


def library() -> Any:
    """huggingface_hub, imported when it is needed. Raises MissingPackageError."""
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            "The hub can only be asked with the package 'huggingface_hub', which is not installed in this environment. "
            "Run `pip install 'sam3d_gs[hub]'`."
        ) from error
    return huggingface_hub


def _network_errors() -> tuple[type[Exception], ...]:
    """What huggingface_hub's HTTP client (requests, httpx or httpx2, by version) raises without an answer."""
    return (library().utils.HfHubHTTPError.__bases__[0], OSError)
