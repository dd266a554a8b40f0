"""Properties of a model that can be read from its name or folder before it is loaded."""

from __future__ import annotations

import json
import re
from pathlib import Path

_OVERHEAD_MIB = 5 * 1024  # CUDA itself, activations and the KV cache of one request
_BYTES_PER_WEIGHT = ((r"4.?bit|awq|gptq|int4|fp4", 0.6), (r"fp8|int8|8.?bit", 1.0), ("", 2.0))


def needed_mib(model: str) -> int | None:
    """GPU memory to serve the model, from its folder's weights or the size in its name; None when neither is known."""
    folder = Path(model)
    if folder.is_dir():
        weights_mib = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 2**20
    else:
        billions = [float(size) for size in re.findall(r"(?<![A-Za-z\d.])(\d+(?:\.\d+)?)B(?![a-z])", model)]
        each = next(size for pattern, size in _BYTES_PER_WEIGHT if re.search(pattern, model, re.IGNORECASE))
        weights_mib = max(billions, default=0.0) * 1e9 * each / 2**20
    return round(weights_mib) + _OVERHEAD_MIB if weights_mib else None


def thinks(model: str) -> bool:
    """True for a model that thinks before it answers, judged by its folder's chat template or its name."""
    folder = Path(model)
    return "<think>" in _chat_template(folder) if folder.is_dir() else "thinking" in model.lower()


def _chat_template(folder: Path) -> str:
    """The folder's chat template, "" without one; the tokenizer itself may know <think> and never use it."""
    try:
        if (folder / "chat_template.jinja").is_file():
            return (folder / "chat_template.jinja").read_text(encoding="utf-8", errors="replace")
        for name in ("chat_template.json", "tokenizer_config.json"):
            if (folder / name).is_file():
                template = json.loads((folder / name).read_text(encoding="utf-8")).get("chat_template")
                if template:
                    return json.dumps(template)
    except (OSError, ValueError, AttributeError):
        pass  # vLLM reports what is wrong with the folder
    return ""


def licences(model: str) -> dict[str, str]:
    """Model -> licence, for the report."""
    return {model: "Apache-2.0" if model.startswith("Qwen/Qwen3") else "see the model's page"}
