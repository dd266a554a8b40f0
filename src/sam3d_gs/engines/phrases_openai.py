"""Phrases by a vision-language model on any server that speaks OpenAI's chat interface."""

from __future__ import annotations

import os
from collections.abc import Mapping

from sam3d_gs.errors import UsageError
from sam3d_gs.options import OpenAIOptions
from sam3d_gs.types import Photo, Phrase
from sam3d_gs.vlm.ask import Asker, Transcript
from sam3d_gs.vlm.client import Client
from sam3d_gs.vlm.model import licences


class OpenAIPhrases:
    """Asks the server at `base_url`, with the key from the environment when there is one."""

    def __init__(self, options: OpenAIOptions) -> None:
        """Raises UsageError without an address."""
        if not options.base_url:
            raise UsageError("Engine 'openai' of phrases needs --base-url, e.g. http://127.0.0.1:8000/v1.")
        self.licences: Mapping[str, str] = licences(options.model)
        self._asker = Asker(Client(options.base_url, os.environ.get(options.api_key_env, "")), options)

    @property
    def transcript(self) -> Transcript | None:
        """What was said about the latest photo."""
        return self._asker.transcript

    def phrases(self, photo: Photo) -> list[Phrase]:
        """Raises Sam3dGsError when the server refuses, does not answer, or gives no list."""
        return self._asker.ask(photo)
