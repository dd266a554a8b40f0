"""Which engine answers to which name. Only `load_engine` imports one.

An engine lives in `engines/<stage>_<who>.py`; a name here is what `--engine` accepts for that stage.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from sam3d_gs.errors import MissingPackageError, UsageError

ENGINES: dict[str, dict[str, str]] = {
    "phrases": {
        "embedded": "sam3d_gs.engines.phrases_embedded:EmbeddedPhrases",
        "given": "sam3d_gs.engines.phrases_given:GivenPhrases",
        "openai": "sam3d_gs.engines.phrases_openai:OpenAIPhrases",
        "vllm": "sam3d_gs.engines.phrases_vllm:VllmPhrases",
    },
    "masks": {
        "embedded": "sam3d_gs.engines.masks_embedded:EmbeddedMasks",
        "given": "sam3d_gs.engines.masks_given:GivenMasks",
        "sam3": "sam3d_gs.engines.masks_sam3:Sam3Masks",
        "sam3-official": "sam3d_gs.engines.masks_sam3_official:OfficialSam3Masks",
    },
    "objects": {
        "embedded": "sam3d_gs.engines.objects_embedded:EmbeddedObjects",
        "native": "sam3d_gs.engines.objects_native:NativeObjects",
        "sam3d-objects": "sam3d_gs.engines.objects_sam3d:OfficialObjects",
    },
}

# Engines of objects that look at one mask alone: an object stays when the masks of others change.
ONE_BY_ONE = ("native", "sam3d-objects")

# Where an engine's packages are: the extra to install, named when an import fails.
_EXTRAS = {"embedded": "embedded", "sam3d-objects": "native"}


def load_engine(stage: str, name: str, options: Any) -> Any:
    """Build the engine `name` of `stage` with its options.

    Raises UsageError for an unknown name, MissingPackageError when a package of the engine is not installed here.
    """
    if name not in ENGINES[stage]:
        raise UsageError(f"Unknown engine {name!r} for {stage}. Expected {' or '.join(ENGINES[stage])}.")
    module, _, attribute = ENGINES[stage][name].partition(":")
    try:
        engine = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("sam3d_gs"):
            raise
        extra = _EXTRAS.get(name, name)
        raise MissingPackageError(
            f"Engine {name!r} of {stage} needs the package {error.name!r}, which is not installed in this environment. "
            f"Run `pip install 'sam3d_gs[{extra}]'`{', or use run_pipeline.sh' * (extra == 'embedded')}."
        ) from error
    return engine(options)
