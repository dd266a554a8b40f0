"""Phrases by a vision-language model on a vLLM server that runs for this stage alone."""

from __future__ import annotations

import logging
import shlex

from sam3d_gs.errors import UsageError
from sam3d_gs.options import VllmOptions
from sam3d_gs.redaction import redacted
from sam3d_gs.system.nvidia import all_gpus
from sam3d_gs.types import Photo, Phrase
from sam3d_gs.vlm.ask import Asker, Transcript, context_tokens, system_prompt
from sam3d_gs.vlm.client import Client, ServerError
from sam3d_gs.vlm.gpus import choose_gpus
from sam3d_gs.vlm.model import needed_mib, thinks
from sam3d_gs.vlm.server import Launch, Server, find_program
from sam3d_gs.vlm.server_keys import without_keys

log = logging.getLogger("sam3d_gs")


class VllmPhrases:
    """Starts `vllm serve` for the first photo, asks it about each, and stops it in `close`."""

    def __init__(self, options: VllmOptions) -> None:
        """Checks the options; starts nothing yet. Raises Sam3dGsError."""
        self._options = options
        self._server: Server | None = None
        self._asker: Asker | None = None
        find_program(options.vllm_command)
        system_prompt(options)
        self._extra_arguments = _split(options.vllm_args)
        without_keys(self._extra_arguments)

    @property
    def transcript(self) -> Transcript | None:
        """The requests and answers about the last photo."""
        return self._asker.transcript if self._asker else None

    def phrases(self, photo: Photo) -> list[Phrase]:
        """Best first. Raises Sam3dGsError when the server does not start, dies, or gives no list."""
        if self._server is None or self._asker is None:
            self._server = Server.start(self._launch())
            client = Client(self._server.base_url, self._server.key)
            self._asker = Asker(client, self._options, thinks(self._options.model))
        try:
            return self._asker.ask(photo)
        except ServerError:
            self._server.check_alive()  # the error in its log explains more than a broken connection
            raise

    def close(self) -> None:
        """Stop the server, or with --keep-server leave it running and log how to stop it."""
        server, self._server = self._server, None
        if server is not None and self._options.keep_server:
            log.warning("%s", server.leave_running())
        elif server is not None:
            server.stop()

    def _launch(self) -> Launch:
        options = self._options
        leave_free_mib = round(options.leave_free_gib * 1024)
        model_mib = needed_mib(options.model)
        return Launch(
            command=options.vllm_command,
            model=options.model,
            log_file=options.server_log,
            context_tokens=context_tokens(options),
            thinking=thinks(options.model),
            gpus=choose_gpus(all_gpus(), options.gpus, options.tensor_parallel, model_mib, leave_free_mib),
            port=options.port,
            start_timeout_s=options.start_timeout_s,
            extra_arguments=self._extra_arguments,
        )


def _split(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError:
        raise UsageError(f"--vllm-args has an unmatched quote: {redacted(text)}") from None
