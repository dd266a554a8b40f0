"""Keep keys and passwords out of what is stored and shown."""

from __future__ import annotations

import re

HIDDEN = "<hidden>"
MIN_KEY = 6  # characters; shorter ones, such as "EMPTY", are placeholders and may be words of any text

_NAME = r"(?:[\w-]{0,40}(?:(?:api|access|secret|private|auth)[-_]?key|secret|passw(?:or)?d|credentials?)"
_NAME += r"|(?:[\w-]{0,40}(?:hf|hub|auth|access|api|bearer|refresh|session)[-_])?token|authorization)"
_VALUE = r"""(?!--)(?:"[^"]{0,400}"|'[^']{0,400}'|[^\s"',}&]+)"""
_PATTERNS = (
    (re.compile(r"(://)[^/\s@\"']{1,200}@"), rf"\1{HIDDEN}@"),  # user and password in a URL
    (re.compile(r"\b(Bearer|Basic)\s+[\w.~+/=-]{6,}"), rf"\1 {HIDDEN}"),
    (re.compile(rf"(?<![\w-])(--{_NAME}(?:\s*=\s*|\s+)){_VALUE}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(rf"(?<![\w-])([\"']?{_NAME}[\"']?\s*[=:]\s*\[?){_VALUE}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(rf"(?<!\w)([A-Z][A-Z0-9_]{{0,60}}(?:KEY|TOKEN|SECRET|PASSWORD)=){_VALUE}"), rf"\1{HIDDEN}"),
    (re.compile(rf"([?&](?:key|sig|signature)=){_VALUE}", re.IGNORECASE), rf"\1{HIDDEN}"),
    (re.compile(r"(?<![\w-])(?:sk-|hf_|ghp_|gho_|xai-|nvapi-|gsk_|pplx-)[\w-]{8,}"), HIDDEN),
)


def redacted(text: str, *secrets: str) -> str:
    """`text` with `secrets`, and everything that looks like a key or password, replaced by "<hidden>"."""
    for secret in secrets:
        if len(secret) >= MIN_KEY:
            text = text.replace(secret, HIDDEN)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text
