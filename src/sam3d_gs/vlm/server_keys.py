"""Keys in the arguments for `vllm serve`: moved to the environment of the child.

Every user of the machine can read a command line, and vLLM writes its own into its log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sam3d_gs.errors import UsageError

_VARIABLES = {"--api-key": "VLLM_API_KEY", "--hf-token": "HF_TOKEN"}


@dataclass(frozen=True)
class ServerArguments:
    """Arguments for vLLM without keys, and the environment variables by which vLLM gets those."""

    plain: tuple[str, ...]
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)


def without_keys(arguments: Sequence[str]) -> ServerArguments:
    """Split the keys off. Raises UsageError, without naming a key, for one that is missing or cannot be moved."""
    plain: list[str] = []
    keys: dict[str, str] = {}
    position = 0
    while position < len(arguments):
        argument = arguments[position]
        position += 1
        option, has_value, value = argument.partition("=")
        option = option.replace("_", "-")
        if option not in _VARIABLES:
            if re.match(r"[A-Z_][A-Z0-9_]*=", argument) and not (plain and plain[-1].startswith("--")):
                raise UsageError(
                    f"--vllm-args sets {argument.partition('=')[0]}: export it before the command instead."
                )
            plain.append(argument)
            continue
        values = [value] if has_value else []
        while not has_value and position < len(arguments) and not arguments[position].startswith("-"):
            values.append(arguments[position])
            position += 1
        if option == "--hf-token" and not values:  # the one that is stored on this machine
            plain.append(argument)
        elif len(values) != 1 or not values[0].strip() or _VARIABLES[option] in keys:
            raise UsageError(f"{option} in --vllm-args must have one value. Give the server one key.")
        else:
            keys[_VARIABLES[option]] = values[0]
    return ServerArguments(tuple(plain), keys)
