"""Load a SAM 3 checkpoint from a folder or the hub; another model or an incomplete file is refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sam3d_gs.errors import BadInputError, MissingPackageError

try:
    import torchvision  # noqa: F401  transformers needs it for SAM 3
except RuntimeError as error:  # its operators do not load: it was built for another PyTorch
    raise MissingPackageError(
        f"torchvision does not match PyTorch {torch.__version__} ({error}). Install both from the same index, e.g. "
        "`uv pip install --torch-backend=auto --reinstall torch torchvision`."
    ) from error

from transformers import AutoConfig, AutoTokenizer

_HUB_TYPE = "sam3_video"  # the hub's checkpoint: a detector, which takes phrases, and a tracker, which takes prompts


def load_model(kind: Any, checkpoint: str, device: torch.device) -> Any:
    """A transformers model of class `kind` with float32 weights on `device`, in eval mode. Raises BadInputError."""
    model_type = _loaded(AutoConfig, checkpoint).model_type
    if model_type not in (_HUB_TYPE, kind.config_class.model_type):
        raise BadInputError(
            f"{checkpoint} holds a model of type {model_type!r}, not SAM 3 with its {kind.__name__}. "
            "Give --sam3 facebook/sam3 or a folder with that checkpoint."
        )
    model, report = _loaded(kind, checkpoint, dtype=torch.float32, output_loading_info=True)
    missing = sorted(report["missing_keys"])
    if missing:
        raise BadInputError(
            f"The checkpoint {checkpoint} lacks {len(missing)} weights of {kind.__name__}, e.g. {missing[0]}. "
            "Download it again."
        )
    return model.eval().to(device)


def load_tokenizer(checkpoint: str) -> Any:
    """The checkpoint's CLIP tokenizer. Raises BadInputError."""
    return _loaded(AutoTokenizer, checkpoint)


def _loaded(kind: Any, checkpoint: str, **options: Any) -> Any:
    try:
        return kind.from_pretrained(checkpoint, **options)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        if Path(checkpoint).is_dir():
            fix = "Give the folder of a complete checkpoint with --sam3 DIR"
        else:
            fix = (
                f"Ask for access at https://huggingface.co/{checkpoint}, log in with `hf auth login`, or give a folder "
                "with --sam3 DIR"
            )
        raise BadInputError(f"Cannot load SAM 3 from {checkpoint}: {reason}. {fix}.") from error
