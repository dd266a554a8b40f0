"""Phrases by a vision-language model on any server with OpenAI's chat API."""

from __future__ import annotations

import os
import re

from sam3d_gs.errors import UsageError
from sam3d_gs.options import OpenAIOptions
from sam3d_gs.redaction import redacted
from sam3d_gs.types import Photo, Phrase
from sam3d_gs.vlm.ask import Asker, Transcript
from sam3d_gs.vlm.client import Client


class OpenAIPhrases:
    """Asks the server at `base_url`, with the key from the environment if there is one."""

    def __init__(self, options: OpenAIOptions) -> None:
        """Raises UsageError without `base_url`, and for a key that cannot be used or must not be sent there."""
        if not options.base_url:
            raise UsageError("Engine 'openai' of phrases needs --base-url, e.g. http://127.0.0.1:8000/v1.")
        key = _key(options.api_key_env)
        self._asker = Asker(Client(options.base_url, key, options.key_over_http), options)

    @property
    def transcript(self) -> Transcript | None:
        """The requests and answers about the last photo."""
        return self._asker.transcript

    def phrases(self, photo: Photo) -> list[Phrase]:
        """Best first. Raises Sam3dGsError when the server refuses, does not answer, or gives no list."""
        return self._asker.ask(photo)


def _key(variable: str) -> str:
    """The key in an environment variable; "" without one. Raises UsageError if it was named but is not set."""
    if variable and not re.fullmatch(r"[A-Za-z_]\w*", variable):
        raise UsageError(
            "--api-key-env takes the name of an environment variable, e.g. OPENAI_API_KEY, not the key itself."
        )
    if variable not in ("", OpenAIOptions.api_key_env) and variable not in os.environ:
        raise UsageError(
            f"--api-key-env names {redacted(variable)}, which is not set. Export it, or leave the option out."
        )
    return os.environ.get(variable, "") if variable else ""
