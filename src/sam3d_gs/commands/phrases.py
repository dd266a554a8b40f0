"""The options of the phrases stage, declared once for the two commands that take them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from sam3d_gs.errors import UsageError
from sam3d_gs.options import PhraseOptions

_MODEL = "Engines vllm and openai: phrases by a vision-language model"
_OPENAI = "Engine openai: a server that runs already"
_VLLM = "Engine vllm: a server of our own"


def _option(panel: str, help: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


# Field of PhraseOptions -> how it is typed. The defaults are those of PhraseOptions.
_MODEL_FLAGS: dict[str, Any] = {
    "model": Annotated[str, _option(_MODEL, "Hub id or folder of the model.", envvar="SAM3D_GS_VLM_MODEL")],
    "system_prompt": Annotated[
        Path | None,
        _option(_MODEL, "Your own system prompt: a text file; {max_phrases} in it is replaced.", dir_okay=False),
    ],
    "include_surfaces": Annotated[
        bool, _option(_MODEL, "Keep phrases for walls, floors and the scene.", "--include-surfaces")
    ],
    "sent_side_px": Annotated[int, _option(_MODEL, "Longer side of the photo as it is sent, in pixels.", min=64)],
    "thinking_tokens": Annotated[int, _option(_MODEL, "Let the model think so long; 0: not at all.", min=0)],
    "max_tokens": Annotated[int, _option(_MODEL, "Longest answer, thinking included, in tokens.", min=64)],
    "request_timeout_s": Annotated[
        float, _option(_MODEL, "Wait so long for each of two answers, in seconds.", "--request-timeout", min=1)
    ],
}
_OPENAI_FLAGS: dict[str, Any] = {
    "base_url": Annotated[
        str, _option(_OPENAI, "Address of the server; it usually ends in /v1.", envvar="SAM3D_GS_VLM_BASE_URL")
    ],
    "api_key_env": Annotated[str, _option(_OPENAI, "Environment variable that holds the server's key, if any.")],
}
_VLLM_FLAGS: dict[str, Any] = {
    "gpus": Annotated[
        str, _option(_VLLM, "Ids of the GPUs it may use, e.g. 0,1; else CUDA_VISIBLE_DEVICES, else all.")
    ],
    "tensor_parallel": Annotated[
        int | None, _option(_VLLM, "Spread the model over so many GPUs; else as few as hold it.", min=1)
    ],
    "leave_free_gib": Annotated[
        float, _option(_VLLM, "Leave so much memory of each GPU to other programs, in GiB.", "--leave-free", min=0)
    ],
    "port": Annotated[
        int, _option(_VLLM, "Port on this machine; 0 takes a free one.", min=0, max=65535, envvar="SAM3D_GS_VLM_PORT")
    ],
    "start_timeout_s": Annotated[
        float, _option(_VLLM, "Wait so long for the server to be ready, in seconds.", "--start-timeout", min=1)
    ],
    "keep_server": Annotated[
        bool, _option(_VLLM, "Leave the server running and say how to use and stop it.", "--keep-server")
    ],
    "vllm_command": Annotated[
        str, _option(_VLLM, "vLLM's program, on PATH or as a path.", envvar="SAM3D_GS_VLLM_COMMAND")
    ],
    "vllm_args": Annotated[
        str, _option(_VLLM, "More arguments for `vllm serve`, in one text.", envvar="SAM3D_GS_VLLM_ARGS")
    ],
}
_FLAGS = {**_MODEL_FLAGS, **_OPENAI_FLAGS, **_VLLM_FLAGS}
_ENGINES_OF = {
    **dict.fromkeys(_MODEL_FLAGS, ("vllm", "openai")),
    **dict.fromkeys(_OPENAI_FLAGS, ("openai",)),
    **dict.fromkeys(_VLLM_FLAGS, ("vllm",)),
}
_BY_ENVIRONMENT = {"model", "base_url", "port", "vllm_command", "vllm_args"}  # set for good, whatever a call uses


def takes_phrase_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of the phrases stage to a command, which receives them as its argument `asking`."""

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        asking = PhraseOptions(**{name: given.pop(name) for name in _FLAGS})
        command(**given, asking=asking)

    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "asking"]
    added = [
        inspect.Parameter(
            name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=getattr(PhraseOptions, name), annotation=annotation
        )
        for name, annotation in _FLAGS.items()
    ]
    # A parameter without a default, such as one that another decorator fills, comes first.
    signature = inspect.Signature(sorted([*own, *added], key=lambda p: p.default is not inspect.Parameter.empty))
    with_options.__signature__ = signature  # type: ignore[attr-defined]  # what Typer reads
    with_options.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
    return with_options


def phrase_options(
    engine: str, asking: PhraseOptions, max_phrases: int, own: Sequence[str], own_file: Path | None, server_log: Path
) -> PhraseOptions:
    """The options with their engine, checked, paths absolute. Raises UsageError when they contradict each other."""
    for name, engines in _ENGINES_OF.items():
        changed = getattr(asking, name) != getattr(PhraseOptions, name)
        if changed and engine not in engines and name not in _BY_ENVIRONMENT:
            known = " and ".join(repr(e) for e in engines)
            raise UsageError(f"{_flag(name)} is for engine {known} of phrases, not {engine!r}. Leave it out.")
    if engine == "openai" and not asking.base_url:
        raise UsageError("Engine 'openai' of phrases needs --base-url, e.g. http://127.0.0.1:8000/v1.")
    return replace(
        asking if engine in ("vllm", "openai") else PhraseOptions(),
        engine=engine,
        max_phrases=max_phrases,
        phrases=tuple(own),
        phrases_file=own_file and own_file.absolute(),
        system_prompt=asking.system_prompt and asking.system_prompt.absolute(),
        server_log=server_log,
    )


def _flag(name: str) -> str:
    return f"--{name.removesuffix('_s').removesuffix('_gib').replace('_', '-')}"
