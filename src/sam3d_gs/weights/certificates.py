"""Which certificates a hub is checked with, and why its own is not trusted.

The HTTP clients of huggingface_hub read different variables: requests (0.x) REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE,
httpx (1.x and later) and Xet SSL_CERT_FILE and SSL_CERT_DIR. Any of them means the same here.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_FILE, _FOLDER = "SSL_CERT_FILE", "SSL_CERT_DIR"
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
_TIMEOUT_S = 5.0


def share_variables(environment: MutableMapping[str, str]) -> None:
    """Give each client the variable it reads, if only another one is set."""
    bundle = next((environment[name] for name in _BUNDLES if environment.get(name)), "")
    if bundle and not environment.get(_FILE) and not environment.get(_FOLDER):
        environment[_FOLDER if Path(bundle).is_dir() else _FILE] = bundle
    elif not bundle and (own := environment.get(_FILE) or environment.get(_FOLDER)):
        environment[_BUNDLES[0]] = own


def certificate_fault() -> str:
    """What is wrong with the certificates that the environment names; "" if nothing."""
    for name in (_FILE, _FOLDER, *_BUNDLES):
        value = os.environ.get(name)
        if not value:
            continue
        path = Path(value)
        if not path.exists():
            return f"{name} names {value}, which does not exist"
        if path.is_dir():
            continue
        try:
            ssl.create_default_context(cafile=value)
        except (OSError, ValueError) as error:
            reason = "no certificates in PEM form" if isinstance(error, ssl.SSLError) else error
            return f"{name} names {value}, which cannot be used: {reason}"
    return ""


def certificate_distrust(error: BaseException, endpoint: str) -> str:
    """Why the certificate behind an HTTP error was not trusted, with its host and issuer; "" for any other error."""
    cause = next((link for link in _chain(error) if isinstance(link, ssl.SSLCertVerificationError)), None)
    if cause is None and not any("CERTIFICATE_VERIFY_FAILED" in str(link) for link in _chain(error)):
        return ""
    from urllib.request import getproxies

    reason = getattr(cause, "verify_message", "") or "certificate verify failed"
    address = urlsplit(endpoint)
    host, port = address.hostname or "", address.port or 443
    issuer = "" if getproxies().get("https") else _issuer(host, port)
    return f"the certificate of {host} is not trusted ({reason}{f'; issued by {issuer}' if issuer else ''})"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what caused it, however the clients wrap it."""
    waiting, seen = [error], set[int]()
    while waiting:
        link = waiting.pop()
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        inner = (link.__cause__, link.__context__, getattr(link, "reason", None), *link.args)
        waiting += [one for one in inner if isinstance(one, BaseException)]


def _issuer(host: str, port: int) -> str:
    """Who signed a server's certificate, e.g. "Acme Corp Root"; "" if it cannot be read."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # only to look at it; nothing is sent
    try:
        with (
            socket.create_connection((host, port), _TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secure,
        ):
            certificate = secure.getpeercert(binary_form=True)
        readable = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        readable.load_verify_locations(cadata=certificate)
        issuer: Any = readable.get_ca_certs()[0]["issuer"]
        fields = {key: value for part in issuer for key, value in part}
        return str(fields.get("commonName") or fields.get("organizationName") or "")
    except (OSError, ValueError, TypeError, LookupError):
        return ""
