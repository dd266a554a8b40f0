"""All engines, and everything the rest of the program knows about them: one `EngineSpec` per engine.

The command line, `--check`, doctor, checkpoints, the manifest and the documentation all read this table. Another
package adds an engine by an entry point in the group `sam3d_gs.engines` that names its `EngineSpec`; see
examples/example_engine. Only `load` imports an engine's module.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path, PurePath
from typing import Any

from sam3d_gs.engines.plugins import add_plugins
from sam3d_gs.engines.spec import EngineSpec, GpuRequest
from sam3d_gs.errors import MissingPackageError, UsageError
from sam3d_gs.option_flags import flags_of
from sam3d_gs.options import (
    PROFILES,
    STAGES_WITH_ENGINES,
    EmbeddedObjectOptions,
    GivenMaskOptions,
    GivenPhraseOptions,
    MaskOptions,
    NativeOptions,
    OpenAIOptions,
    PhraseOptions,
    Sam3dOptions,
    Sam3Options,
    VllmOptions,
)
from sam3d_gs.vlm.model import licences as model_licences
from sam3d_gs.vlm.model import needed_mib
from sam3d_gs.weights.repositories import MESH_DECODER_FILES, SAM3_FILES, SAM3D_FILES

log = logging.getLogger("sam3d_gs")


@dataclass(frozen=True)
class EngineChoice:
    """An engine with its options."""

    spec: EngineSpec
    options: Any

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def needs_phrases(self) -> bool:
        """For masks engines: whether the phrases stage has to run first; not with own masks, boxes or points."""
        return bool(getattr(self.options, "needs_phrases", True))

    @property
    def licences(self) -> Mapping[str, str]:
        return self.spec.licences(self.options)

    @property
    def gpu(self) -> GpuRequest:
        return self.spec.gpu(self.options)

    def load(self) -> Any:
        """Build the engine; see `load`."""
        return load(self)


def _vllm_gpu(options: VllmOptions) -> GpuRequest:
    mib = needed_mib(options.model)
    on = tuple(part.strip() for part in options.gpus.split(",") if part.strip())
    return GpuRequest(round(mib / 1024, 1) if mib else math.inf, on, options.tensor_parallel)


def _sam3_gpu(options: Sam3Options) -> GpuRequest:
    return GpuRequest(7.5 if options.device in ("auto", "cuda") else 0.0)


def _native_gpu(options: NativeOptions) -> GpuRequest:
    return GpuRequest((options.vram_gib or 8.0) if options.device in ("auto", "cuda") else 0.0)


_EMBEDDED_MODULES = ("torch", "safetensors", "numba", "scipy", "skimage")
_MASK_NET = {"sam3d_gs embedded mask net, trained on procedural scenes": "Apache-2.0"}
_OBJECT_NET = {"embedded object network (sam3d_gs)": "Apache-2.0"}

# docs/engines.md says which of the GPU memory figures were measured.
BUILT_IN = (
    EngineSpec(
        "phrases",
        "embedded",
        "sam3d_gs.engines.phrases_embedded:EmbeddedPhrases",
        PhraseOptions,
        summary="describes the embedded masks by colour, shape, size and position, without nouns",
        profile="embedded",
        environment="embedded",
        modules=_EMBEDDED_MODULES,
        licences=lambda options: _MASK_NET,
    ),
    EngineSpec(
        "phrases",
        "given",
        "sam3d_gs.engines.phrases_given:GivenPhrases",
        GivenPhraseOptions,
        summary="your own list",
        chosen_by=("phrases", "phrases_file"),
    ),
    EngineSpec(
        "phrases",
        "vllm",
        "sam3d_gs.engines.phrases_vllm:VllmPhrases",
        VllmOptions,
        summary="a vision-language model; starts and stops `vllm serve`",
        profile="full",
        environment="vllm",
        modules=("vllm", "torch", "transformers"),
        weights={"qwen3-vl": ("config.json",)},
        downloads_weights=True,
        gpu=_vllm_gpu,
        needs_gpu=True,
        without_gpu="--phrases-engine openai --base-url URL",
        licences=lambda options: model_licences(options.model),
    ),
    EngineSpec(
        "phrases",
        "openai",
        "sam3d_gs.engines.phrases_openai:OpenAIPhrases",
        OpenAIOptions,
        summary="a vision-language model on any server with OpenAI's chat API",
        licences=lambda options: model_licences(options.model),
    ),
    EngineSpec(
        "masks",
        "embedded",
        "sam3d_gs.engines.masks_embedded:EmbeddedMasks",
        MaskOptions,
        summary="a small network proposes regions; phrases select among them by colour, size and position",
        profile="embedded",
        environment="embedded",
        modules=_EMBEDDED_MODULES,
        licences=lambda options: _MASK_NET,
    ),
    EngineSpec(
        "masks",
        "given",
        "sam3d_gs.engines.masks_given:GivenMasks",
        GivenMaskOptions,
        summary="your own masks or RGBA cut-outs",
        chosen_by=("masks_dir",),
    ),
    EngineSpec(
        "masks",
        "sam3",
        "sam3d_gs.engines.masks_sam3:Sam3Masks",
        Sam3Options,
        summary="SAM 3 in transformers: phrases, boxes or points",
        profile="full",
        environment="sam3",
        modules=("torch", "transformers"),
        weights={"sam3": SAM3_FILES},
        gpu=_sam3_gpu,
        licences=lambda options: {"SAM 3 weights": "SAM License"},
    ),
    EngineSpec(
        "masks",
        "sam3-official",
        "sam3d_gs.engines.masks_sam3_official:OfficialSam3Masks",
        Sam3Options,
        summary="SAM 3 in Meta's own package",
        environment="sam3",
        modules=("torch", "torchvision"),
        submodule="sam3",
        weights={"sam3": ("sam3.pt",)},
        gpu=_sam3_gpu,
        licences=lambda options: {"SAM 3 code and weights": "SAM License"},
    ),
    EngineSpec(
        "objects",
        "embedded",
        "sam3d_gs.engines.objects_embedded:EmbeddedObjects",
        EmbeddedObjectOptions,
        summary="a small network predicts surfaces and gravity on the CPU",
        profile="embedded",
        environment="embedded",
        modules=_EMBEDDED_MODULES,
        licences=lambda options: _OBJECT_NET,
    ),
    EngineSpec(
        "objects",
        "native",
        "sam3d_gs.engines.objects_native:NativeObjects",
        NativeOptions,
        summary="SAM 3D Objects in plain PyTorch, from the official checkpoints; nothing to compile",
        profile="full",  # preferred to the official package: same checkpoints, nothing to compile, less memory
        environment="native",
        modules=(
            "torch",
            "safetensors",
            "yaml",
            "numba",
        ),  # numba: for the scene stage, which runs in the same environment
        weights={"sam-3d-objects": SAM3D_FILES, "moge": ("model.pt",)},
        gpu=_native_gpu,
        own_mask_only=True,
        licences=lambda options: {
            "SAM 3D Objects weights": "SAM License",
            **({} if options.depth else {"MoGe weights": "MIT"}),
        },
    ),
    EngineSpec(
        "objects",
        "sam3d-objects",
        "sam3d_gs.engines.objects_sam3d:OfficialObjects",
        Sam3dOptions,
        summary="SAM 3D Objects in Meta's own package",
        environment="sam3d-objects",
        modules=("torch", "hydra", "omegaconf", "spconv", "kaolin", "pytorch3d", "moge", "numba"),
        submodule="sam-3d-objects",
        weights={"sam-3d-objects": (*SAM3D_FILES, *MESH_DECODER_FILES), "moge": ("model.pt",)},
        gpu=lambda options: GpuRequest(16.0),
        needs_gpu=True,
        without_gpu="--objects-engine native",
        own_mask_only=True,
        licences=lambda options: {"SAM 3D Objects code and weights": "SAM License", "MoGe code and weights": "MIT"},
    ),
)


@cache
def all_specs() -> Mapping[tuple[str, str], EngineSpec]:
    """(stage, name) -> engine: those of this package, then those of installed plugins."""
    return add_plugins({(spec.stage, spec.name): spec for spec in BUILT_IN})


def specs_of(stage: str) -> list[EngineSpec]:
    """All engines of a stage."""
    return [spec for (its_stage, _), spec in all_specs().items() if its_stage == stage]


def find(stage: str, name: str) -> EngineSpec:
    """The engine of this name. Raises UsageError, listing the valid names, if there is none."""
    _check_stage(stage)
    spec = all_specs().get((stage, name))
    if spec is None:
        raise UsageError(f"Unknown engine {name!r} for {stage}. Expected {_names(specs_of(stage))}.")
    return spec


def default_of(stage: str, profile: str) -> EngineSpec:
    """The engine that a profile uses. Raises UsageError for an unknown profile."""
    if profile not in PROFILES:
        raise UsageError(f"Unknown profile {profile!r}. Expected {' or '.join(PROFILES)}.")
    _check_stage(stage)
    return next(spec for spec in specs_of(stage) if spec.profile == profile)


def _check_stage(stage: str) -> None:
    if stage not in STAGES_WITH_ENGINES:
        raise UsageError(f"Stage {stage!r} has no engines. Expected {' or '.join(STAGES_WITH_ENGINES)}.")


def choose(stage: str, name: str = "", profile: str = "embedded", **options: Any) -> EngineChoice:
    """An engine with options, by name or by profile; some options, such as `masks_dir`, select their engine.

    Raises UsageError for an unknown engine, an option that the engine does not take, or an invalid value.
    """
    return with_options(choose_spec(stage, name, profile, options), **options)


def choose_spec(stage: str, name: str, profile: str, options: Collection[str]) -> EngineSpec:
    """The engine called `name`, selected by one of the options (names), or of the profile. Raises UsageError."""
    spec = find(stage, name) if name else default_of(stage, profile)
    for other in specs_of(stage):
        selecting = [option for option in other.chosen_by if option in options]
        if selecting and name not in ("", other.name):
            flag = other.flag(selecting[0])
            raise UsageError(f"{flag} is for engine {other.name!r} of {stage}, not {name!r}. Leave one of them out.")
        spec = other if selecting else spec
    return spec


def with_options(spec: EngineSpec, **options: Any) -> EngineChoice:
    """The engine with these options. Raises UsageError for one that it does not take, or an invalid value."""
    refuse_foreign(spec, options)
    made = spec.options(**{name: _converted(spec, name, value) for name, value in options.items()})
    made.check()
    return EngineChoice(spec, made)


def _converted(spec: EngineSpec, name: str, value: Any) -> Any:
    """A value given in Python, as the option's type has it: paths may be text, tuples any sequence but text."""
    hint = str(spec.options.__dataclass_fields__[name].type)
    if hint.startswith("Path") and isinstance(value, str):
        return Path(value)
    if hint.startswith("tuple") and isinstance(value, (str, PurePath)):
        raise UsageError(f"{name} of engine {spec.name!r} is {value!r}. Expected a list, such as [{value!r}].")
    return tuple(value) if hint.startswith("tuple") else value


def refuse_foreign(spec: EngineSpec, names: Iterable[str]) -> None:
    """Raises UsageError for the first option that the engine does not take; the message names engines that do."""
    known = flags_of(spec.options).keys() | {f.name for f in dataclasses.fields(spec.options)}
    for name in names:
        if name in known:
            continue
        takers = [other for other in specs_of(spec.stage) if other.takes(name)]
        if not takers:
            raise UsageError(f"Engine {spec.name!r} of {spec.stage} has no option {name!r}.")
        raise UsageError(
            f"{takers[0].flag(name)} is for engine {_names(takers, quote=True)} of {spec.stage}, not {spec.name!r}. "
            "Leave it out."
        )


def _names(specs: Iterable[EngineSpec], quote: bool = False) -> str:
    return " or ".join(repr(spec.name) if quote else spec.name for spec in specs)


def load(choice: EngineChoice) -> Any:
    """The engine, built. Raises MissingPackageError if a package that it imports is not installed here."""
    from sam3d_gs.weights.hub import keep_token_from_libraries

    spec = choice.spec
    module, _, attribute = spec.target.partition(":")
    keep_token_from_libraries(os.environ)
    try:
        engine = getattr(import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("sam3d_gs"):
            raise
        script = ", or use run_pipeline.sh" if spec.environment == "embedded" else ""
        raise MissingPackageError(
            f"Engine {spec.name!r} of {spec.stage} needs the package {error.name!r}, which is not installed in this "
            f"environment. Run `{spec.install_command}`{script}."
        ) from error
    return engine(choice.options.resolved(Path.cwd()))
