"""Phrases by a vision-language model on any server with OpenAI's chat API."""

from __future__ import annotations

import os

from sam3d_gs.errors import UsageError
from sam3d_gs.options import OpenAIOptions
from sam3d_gs.types import Photo, Phrase
from sam3d_gs.vlm.ask import Asker, Transcript
from sam3d_gs.vlm.client import Client


class OpenAIPhrases:
    """Asks the server at `base_url`, with the key from the environment if there is one."""

    def __init__(self, options: OpenAIOptions) -> None:
        """Raises UsageError without `base_url`."""
        if not options.base_url:
            raise UsageError("Engine 'openai' of phrases needs --base-url, e.g. http://127.0.0.1:8000/v1.")
        self._asker = Asker(Client(options.base_url, os.environ.get(options.api_key_env, "")), options)

    @property
    def transcript(self) -> Transcript | None:
        """The requests and answers about the last photo."""
        return self._asker.transcript

    def phrases(self, photo: Photo) -> list[Phrase]:
        """Best first. Raises Sam3dGsError when the server refuses, does not answer, or gives no list."""
        return self._asker.ask(photo)
