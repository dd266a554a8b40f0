"""The Hugging Face hub as configured on this machine: access to repositories, lists of files, one file's download.

HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_TOKEN_PATH and HF_HUB_OFFLINE mean what they mean to huggingface_hub,
which does every request and is imported only when needed. The token never enters a message, and it is sent to the
hub alone, over TLS.
"""

from __future__ import annotations

import json
import logging
import os
import re
import ssl
import sys
import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sam3d_gs.errors import MissingPackageError, Sam3dGsError, UsageError
from sam3d_gs.files import cannot_write
from sam3d_gs.system.addresses import is_loopback
from sam3d_gs.weights.certificates import certificate_distrust, certificate_fault, share_variables
from sam3d_gs.weights.remote_files import Listing, RemoteFile, remote_file
from sam3d_gs.weights.transfer import TransferError, receive, retry_after_s

log = logging.getLogger("sam3d_gs")

TOKENS_PAGE = "https://huggingface.co/settings/tokens"
ELSEWHERE = "another place with HF_HOME or --folder"
ATTEMPTS = 5  # of one file, while its connection fails
_QUESTIONS = 3  # attempts of one request that is no file
_WAIT_S = 1.0  # between attempts, if the hub does not say
LONGEST_WAIT_S = 120.0  # that a hub may ask for
_TIMEOUT_S = 15.0
_BUSY = (429, 500, 502, 503, 504)
_Answer = TypeVar("_Answer")


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
        """Raises UsageError for an HF_ENDPOINT that is no address."""
        home = _path("HF_HOME") or (_path("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
        cache = _path("HF_HUB_CACHE") or _path("HUGGINGFACE_HUB_CACHE") or home / "hub"
        token = os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN")
        if not token:
            try:
                token = (_path("HF_TOKEN_PATH") or home / "token").read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                token = ""
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        return cls(_endpoint(), cache, token.strip() or None, offline)

    @property
    def address(self) -> str:
        """The endpoint as it may be shown: without a user's name and password."""
        return _without_passwords(self.endpoint)

    @property
    def official(self) -> bool:
        """Whether this is the hub itself, and not a mirror of it."""
        return urlsplit(self.endpoint).hostname == "huggingface.co"

    @property
    def encrypted(self) -> bool:
        """Whether a token may be sent: over TLS, or without leaving this machine."""
        try:
            address = urlsplit(self.endpoint)
            host = address.hostname or ""
            return address.scheme == "https" or (is_loopback(host) and not _by_proxy(host))
        except ValueError:  # no address at all
            return False

    @property
    def credentials(self) -> str | bool:
        """huggingface_hub's argument `token`; False stops it from looking for one itself."""
        return self.token if self.token and self.encrypted and _is_token(self.token) else False

    def notes(self) -> tuple[str, ...]:
        """What is worth knowing about this set-up, apart from any request."""
        found = []
        if self.token and not self.encrypted:
            found.append(f"{self.address} is not https, so your Hugging Face token is not sent there.")
        if fault := certificate_fault():
            found.append(f"{fault}.")
        return tuple(found)

    def page(self, repository_id: str) -> str:
        """Where a person asks for access: always the hub itself, since mirrors cannot grant it."""
        return f"https://huggingface.co/{repository_id}"

    def hidden(self, text: object) -> str:
        """One line of text from elsewhere, without the token and passwords of proxies, should it repeat them."""
        line = " ".join(str(text).split())
        return _without_passwords(line.replace(self.token, "***") if self.token else line)

    def access(self, repository_id: str, name: str) -> Access:
        """Check access with a HEAD request for one file; nothing is downloaded."""
        if self.offline:
            return Access("offline", "HF_HUB_OFFLINE is set. Unset it to ask the hub.")
        if self.token and not _is_token(self.token):
            return Access("bad token", "Your token has a space or a character that no token has. Set HF_TOKEN again.")
        url = library().hf_hub_url(repository_id, name, endpoint=self.endpoint)
        head = partial(library().get_hf_file_metadata, url, token=self.credentials, timeout=_TIMEOUT_S)
        try:
            if not self._ask(repository_id, head).commit_hash:  # a mirror, or the login page of a network
                self._model(repository_id)
        except Refusal as refusal:
            # A server may take no HEAD requests, and a repository need not have this file.
            if refusal.status not in (405, 501) and refusal.code != "EntryNotFound":
                return refusal.access
        return Access("granted")

    def files(self, repository_id: str) -> Listing:
        """The files of the main revision. Raises Sam3dGsError, also for a name that would leave a folder."""
        try:
            info = self._model(repository_id)
        except Refusal as refusal:
            raise Sam3dGsError(f"{repository_id}: {refusal}") from None
        files = []
        for file in info.siblings or ():
            try:
                files.append(remote_file(file.rfilename, file.size, file.lfs.sha256 if file.lfs else file.blob_id))
            except ValueError as error:
                raise Sam3dGsError(
                    f"{repository_id}: {self.address} lists a file named {self.hidden(ascii(file.rfilename))[:200]}, "
                    f"which {error}. Nothing was downloaded. Check HF_ENDPOINT, or tell the owners of the repository."
                ) from None
        return Listing.of(info.sha, files)

    def _model(self, repository_id: str) -> Any:
        api = library().HfApi(endpoint=self.endpoint, token=self.credentials)
        return self._ask(repository_id, partial(api.model_info, repository_id, files_metadata=True, timeout=_TIMEOUT_S))

    def _ask(self, repository_id: str, question: Callable[[], _Answer]) -> _Answer:
        """The hub's answer to a request that is no file; asked again while it is busy. Raises Refusal."""
        for attempt in range(1, _QUESTIONS + 1):
            try:
                return question()
            except Exception as error:  # the HTTP client's own types, and whatever reading a strange answer raises
                refusal = self._refusal(repository_id, error)
            if refusal.status not in _BUSY or attempt == _QUESTIONS or refusal.wait_s > LONGEST_WAIT_S:
                raise refusal from None
            wait(refusal.wait_s, str(refusal))
        raise AssertionError

    def download(
        self, repository_id: str, file: RemoteFile, revision: str, folder: Path, *, again: bool = False
    ) -> Path:
        """Download one file into `folder` and return its path there.

        Raises TransferError when the connection fails, Sam3dGsError when access is denied or nothing can be written.
        The hub's cache is neither read nor written: its copy may be the damaged one. `again` replaces what an earlier
        call left in `folder`.
        """
        try:
            if self.official:
                return self._download_by_library(repository_id, file.name, revision, folder, again)
            url = library().hf_hub_url(repository_id, file.name, revision=revision, endpoint=self.endpoint)
            headers = library().utils.build_hf_headers(token=self.credentials)
            return receive(library(), url, headers, file, folder)
        except MissingPackageError:
            raise
        except Exception as error:  # the HTTP and Xet clients' own types, which differ between versions
            raise self._failed(repository_id, folder / file.name, file.name, error) from None

    def _download_by_library(self, repository_id: str, name: str, revision: str, folder: Path, again: bool) -> Path:
        found = library().hf_hub_download(
            repository_id,
            name,
            revision=revision,
            local_dir=folder,
            cache_dir=folder,
            endpoint=self.endpoint,
            token=self.credentials,
            force_download=again,
        )
        return Path(found)

    def _failed(self, repository_id: str, path: Path, name: str, error: Exception) -> Sam3dGsError:
        """A failed download as one line."""
        local = isinstance(error, OSError) and not isinstance(error, (ConnectionError, TimeoutError, ssl.SSLError))
        if local and error.errno is not None:  # type: ignore[attr-defined]
            return cannot_write(path, error, ELSEWHERE)  # type: ignore[arg-type]
        if isinstance(error, TransferError):
            reason = str(error)
        else:
            # huggingface_hub wraps the errors of the first request.
            causes = (self._refusal(repository_id, one) for one in (error, error.__cause__) if one is not None)
            refusal = next((one for one in causes if one.status or one.final), None)
            if refusal is not None and refusal.status in _BUSY:
                return TransferError(f"{repository_id}: {refusal}", refusal.wait_s)
            if refusal is not None:
                return Sam3dGsError(f"{repository_id}: {refusal}")
            cause = error.__cause__ or error
            reason = f"{type(cause).__name__}: {self.hidden((str(cause).splitlines() or [''])[0])}"
        return TransferError(
            f"{repository_id}: {name} could not be downloaded from {self.address} ({reason}). "
            "Run the same command again; finished files are kept."
        )

    def _refusal(self, repository_id: str, error: BaseException) -> Refusal:
        """What stands behind an error of the HTTP client, or of reading its answer."""
        response = getattr(error, "response", None)
        if isinstance(error, library().utils.HfHubHTTPError) and response is not None:
            access, headers = self._denied(repository_id, response), response.headers
            return Refusal(access, response.status_code, headers.get("X-Error-Code", ""), retry_after_s(headers))
        trust = "Give the file with your network's or mirror's CA certificates in SSL_CERT_FILE"
        if fault := certificate_fault():
            return Refusal(Access("bad certificates", f"{fault}. {trust}, or unset it."))
        if reason := certificate_distrust(error, self.endpoint):
            return Refusal(Access("not trusted", f"No secure connection: {reason}. {trust}."))
        if isinstance(error, _network_errors()) and not isinstance(error, json.JSONDecodeError):
            name = type(error).__name__
            if name == "ProxyError":
                name = self.hidden(f"the proxy refused: {error}")
            advice = f"No answer from {self.address} ({name}). Check the network, proxy or HF_ENDPOINT."
            return Refusal(Access("unreachable", advice))
        reason = self.hidden(f"{type(error).__name__}: {error}")[:150]
        advice = (
            f"{self.address} did not answer as a hub does ({reason}): it may be the login page of a network, or a "
            "proxy. Open it in a browser, and check HF_ENDPOINT and HTTPS_PROXY."
        )
        return Refusal(Access("not a hub", advice))

    def _denied(self, repository_id: str, response: Any) -> Access:
        """Why the hub refused, from the status, X-Error-Code and the words of X-Error-Message.

        The words are the real hub's, as quoted in public (2026): "... is awaiting a review from the
        repo authors", "... has been rejected by the repo's authors", "... has been reset by the repo's authors. Visit
        ... to submit a new request", "... you are not in the authorized list", all with 403 and the code GatedRepo;
        "Please enable access to public gated repositories in your fine-grained token settings ..." with 403 and no
        code; "Invalid credentials in Authorization header" with 401 for an unknown token. Without a
        token, a gated file is 401 with GatedRepo, and a missing repository 401 without a code.
        """
        status, headers = response.status_code, response.headers
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
        if status in (401, 403) and self.token and not self.encrypted:
            return Access(
                "token withheld", f"{self.address} is not https, so your token was not sent. Fix HF_ENDPOINT."
            )
        if status == 401 and self.token:
            return Access("bad token", f"The hub does not know your token: make one at {TOKENS_PAGE}, `hf auth login`.")
        if code == "GatedRepo" and not self.token:
            return Access("no token", f"Ask for access at {page}, make a token at {TOKENS_PAGE}, `hf auth login`.")
        if code == "GatedRepo":
            return Access("not asked for", f"Ask for access at {page}, signed in as the owner of your token.")
        if status in (401, 404):
            return Access("not found", f"No such repository or file at {self.address}, or your token cannot see it.")
        if status == 407:
            return Access("HTTP 407", "Your proxy wants a user and password: put them in HTTPS_PROXY.")
        seconds = retry_after_s(headers)
        when = f"in {seconds:.0f} s, as it asks" if seconds else "later"
        many = " (too many requests)" if status == 429 else ""
        return Access(f"HTTP {status}", f"{self.address} answered {status}{many}; try again {when}.")


class Refusal(Exception):
    """Why a request to the hub had no usable answer."""

    def __init__(self, access: Access, status: int = 0, code: str = "", wait_s: float = 0.0) -> None:
        super().__init__(f"{access.state}. {access.advice}" if status else access.advice)
        self.access = access
        self.status = status  # HTTP; 0: none
        self.code = code  # the hub's own
        self.wait_s = wait_s  # that the hub asks for

    @property
    def final(self) -> bool:
        """Whether asking again cannot help, although there was no answer."""
        return self.access.state in ("bad certificates", "not trusted")


def wait(asked_s: float, reason: str) -> None:
    """Wait before another attempt, as long as the hub asked for."""
    if asked_s:
        log.info("%s Waiting %.0f s ...", reason, asked_s)
    time.sleep(max(asked_s, _WAIT_S))


def _path(variable: str) -> Path | None:
    value = os.environ.get(variable)
    try:
        return Path(value).expanduser() if value else None
    except RuntimeError as error:  # ~nobody
        raise UsageError(f"{variable}={value}: {error}") from error


def _endpoint() -> str:
    value = (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").strip().rstrip("/")
    try:
        address = urlsplit(value)
        usable = address.scheme in ("http", "https") and address.hostname and address.port != 0
    except ValueError:
        usable = False
    if not usable or re.search(r"[\s\x00-\x1f]", value):
        raise UsageError(
            f"HF_ENDPOINT={_without_passwords(value)!r} is no address of a hub. Expected e.g. https://huggingface.co."
        )
    return value


def _by_proxy(host: str) -> bool:
    """Whether the environment sends plain HTTP to a proxy, even if it is meant for this machine."""
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    return bool(proxies.get("http") or proxies.get("all")) and not proxy_bypass(host)


def _is_token(text: str) -> bool:
    """Whether this can be sent in a header."""
    return bool(re.fullmatch(r"[!-~]+", text))


def _without_passwords(text: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//***@", text)


def keep_token_from_libraries(environment: MutableMapping[str, str]) -> None:
    """Stop this process and those it starts from sending the token to an HF_ENDPOINT without TLS.

    Engines and servers download models themselves, by huggingface_hub, which sends the token to any address.
    """
    endpoint = environment.get("HF_ENDPOINT") or ""
    if not endpoint or Hub(endpoint, Path()).encrypted:
        return
    environment["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        environment.pop(name, None)
    if constants := sys.modules.get("huggingface_hub.constants"):  # it read the variable when it was imported
        constants.HF_HUB_DISABLE_IMPLICIT_TOKEN = True  # type: ignore[attr-defined]


def library() -> Any:
    """The module huggingface_hub, imported on first use. Raises MissingPackageError."""
    share_variables(os.environ)
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
