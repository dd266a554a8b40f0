"""A checkpoint folder's YAML files -> `Sam3dConfig` and the names of the weight files.

The files are those of the official release, written for Hydra; this reads them as plain YAML. Numbers that the
networks and samplers support are taken as they are. A value that needs another algorithm, or that contradicts another
file, is an error that names file and key. Some defaults exist only in the official constructors; they are repeated
here (`_structure_sampler`, `_latent_sampler`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sam3d_gs.errors import BadInputError
from sam3d_gs.sam3d_torch.checkpoints.yaml_networks import (
    SHAPE,
    read_gaussian_decoder,
    read_latent_flow,
    read_stage,
    read_structure_decoder,
    read_structure_flow,
)
from sam3d_gs.sam3d_torch.checkpoints.yaml_section import Section
from sam3d_gs.sam3d_torch.config import (
    ConditionConfig,
    DinoConfig,
    GaussianDecoderConfig,
    LatentFlowConfig,
    PreprocessConfig,
    Sam3dConfig,
    SamplerConfig,
    StructureDecoderConfig,
    StructureFlowConfig,
)

REPOSITORY = "facebook/sam-3d-objects"  # where the weights are published, behind their licence
DTYPES = ("float16", "bfloat16", "float32")


@dataclass(frozen=True)
class CheckpointFiles:
    """Paths of the weights, as the YAML files name them; `checkpoint.py` checks that they exist."""

    structure: Path
    latent: Path
    structure_decoder: Path
    gaussian_decoders: Mapping[int, Path]  # by Gaussians per voxel
    depth: str | None  # as in pipeline.yaml: a hub repository or a path


def read_config(folder: Path) -> Sam3dConfig:
    """The configuration of a checkpoint folder's networks. Raises BadInputError naming file and key."""
    return read_folder(folder)[0]


def read_folder(folder: Path) -> tuple[Sam3dConfig, CheckpointFiles]:
    """The configuration and the weight files of a checkpoint folder; only its YAML files are opened."""
    pipeline = _open_pipeline(folder)
    structure_file, structure_weights = _open_network(folder, pipeline, "ss_generator")
    latent_file, latent_weights = _open_network(folder, pipeline, "slat_generator")
    decoder_file, decoder_weights = _open_network(folder, pipeline, "ss_decoder")
    structure_condition, structure_generator = read_stage(structure_file)
    latent_condition, latent_generator = read_stage(latent_file)
    structure_flow, structure_time_scale = read_structure_flow(structure_generator, structure_condition)
    latent_flow, latent_time_scale = read_latent_flow(latent_generator, latent_condition)
    structure_decoder = read_structure_decoder(decoder_file)
    _check_fit(structure_flow, decoder_file, structure_decoder, latent_file, latent_flow)
    decoders, decoder_files = _gaussian_decoders(folder, pipeline, latent_flow)
    config = Sam3dConfig(
        structure_condition=structure_condition,
        structure_flow=structure_flow,
        structure_decoder=structure_decoder,
        structure_sampler=_structure_sampler(pipeline, structure_time_scale),
        latent_condition=latent_condition,
        latent_flow=latent_flow,
        latent_sampler=_latent_sampler(pipeline, latent_time_scale),
        latent_mean=pipeline.numbers("slat_mean", latent_flow.out_channels),
        latent_std=_latent_std(pipeline, latent_flow.out_channels),
        gaussian_decoders=decoders,
        preprocess=_preprocess(pipeline, structure_condition, latent_condition),
        dtype=_dtype(pipeline),
    )
    files = CheckpointFiles(structure_weights, latent_weights, decoder_weights, decoder_files, _depth(pipeline))
    _check_fixed(pipeline)
    return config, files


def _open_pipeline(folder: Path) -> Section:
    if not (folder / "pipeline.yaml").is_file():
        raise BadInputError(
            f"No checkpoints at {folder}: there is no pipeline.yaml. Download those of {REPOSITORY} from Hugging Face, "
            "or give --checkpoints the folder that holds it."
        )
    pipeline = Section.read(folder / "pipeline.yaml", "pipeline file")
    pipeline.target("InferencePipelinePointMap")
    return pipeline


def _open_network(folder: Path, pipeline: Section, name: str) -> tuple[Section, Path]:
    """A network's YAML file and the path of its weights."""
    file = folder / pipeline.text(f"{name}_config_path")
    return Section.read(file, "network file"), folder / pipeline.text(f"{name}_ckpt_path")


def _check_fit(
    structure_flow: StructureFlowConfig,
    decoder_file: Section,
    structure_decoder: StructureDecoderConfig,
    latent_file: Section,
    latent_flow: LatentFlowConfig,
) -> None:
    """The structure decoder takes what its flow gives, and gives the voxels that the latent flow takes."""
    channels = structure_flow.latents[SHAPE].channels
    if structure_decoder.latent_channels != channels:
        raise decoder_file.fault("latent_channels", f"{channels}, as in ss_generator")
    resolution = structure_flow.resolution * 2 ** (len(structure_decoder.channels) - 1)
    if latent_flow.resolution != resolution:
        raise BadInputError(
            f"{latent_file.file}: resolution {latent_flow.resolution} does not fit the {resolution} voxels along an "
            f"axis that {decoder_file.file.name} gives. Use the files of one release."
        )


def _gaussian_decoders(
    folder: Path, pipeline: Section, latent_flow: LatentFlowConfig
) -> tuple[dict[int, GaussianDecoderConfig], dict[int, Path]]:
    """Configurations and weight files by Gaussians per voxel; the decoder with 4 of them is optional."""
    decoders: dict[int, GaussianDecoderConfig] = {}
    files: dict[int, Path] = {}
    for name in ("slat_decoder_gs", "slat_decoder_gs_4"):
        if name != "slat_decoder_gs" and not _present(folder, pipeline, f"{name}_config_path"):
            continue
        section, weights = _open_network(folder, pipeline, name)
        decoder = read_gaussian_decoder(section, latent_flow)
        count = decoder.gaussians_per_voxel
        if count in decoders:
            raise BadInputError(
                f"{section.file}: representation_config.num_gaussians is {count}, as in slat_decoder_gs. "
                "Use the files of one release."
            )
        decoders[count], files[count] = decoder, weights
    return decoders, files


def _present(folder: Path, pipeline: Section, key: str) -> bool:
    """Whether an optional network is named and its YAML file is there."""
    return pipeline.has(key) and (folder / pipeline.text(key)).is_file()


def _latent_std(pipeline: Section, channels: int) -> tuple[float, ...]:
    std = pipeline.numbers("slat_std", channels)
    if min(std) <= 0:
        raise pipeline.fault("slat_std", "a list of positive numbers")
    return std


def _dtype(pipeline: Section) -> str:
    dtype = pipeline.text("dtype", "bfloat16")
    if dtype not in DTYPES:
        raise pipeline.fault("dtype", " or ".join(DTYPES))
    return dtype


def _check_fixed(pipeline: Section) -> None:
    """Settings for which the runtime has one algorithm; then nothing may be left that nobody has read."""
    pipeline.fixed("pose_decoder_name", "ScaleShiftInvariant")
    pipeline.fixed("downsample_ss_dist", 1, why="voxels with no free neighbour are dropped")
    for stage in ("ss", "slat"):
        pipeline.fixed(f"{stage}_condition_input_mapping", [], why="inputs are passed by name")
    pipeline.done(*_PIPELINE_WITHOUT_EFFECT)


_PIPELINE_WITHOUT_EFFECT = (
    "compile_model",
    "decode_formats",
    "device",
    "pad_size",
    "rendering_engine",
    "shape_model_dtype",
    "slat_decoder_gs_4_ckpt_path",
    "slat_decoder_gs_4_config_path",
    "slat_decoder_mesh_ckpt_path",
    "slat_decoder_mesh_config_path",
    "ss_cfg_strength_pm",
    "ss_encoder_ckpt_path",
    "ss_encoder_config_path",
    "version",
    "workspace_dir",
)


def _structure_sampler(pipeline: Section, time_scale: float) -> SamplerConfig:
    return SamplerConfig(
        steps=pipeline.integer("ss_inference_steps", 25),
        rescale_t=pipeline.positive("ss_rescale_t", 3.0),
        guidance=pipeline.number("ss_cfg_strength", 7.0, least=0),
        interval=_interval(pipeline, "ss_cfg_interval"),
        time_scale=time_scale,
    )


def _latent_sampler(pipeline: Section, time_scale: float) -> SamplerConfig:
    return SamplerConfig(
        steps=pipeline.integer("slat_inference_steps", 25),
        rescale_t=pipeline.positive("slat_rescale_t", 3.0),
        guidance=pipeline.number("slat_cfg_strength", 5.0, least=0),
        interval=_interval(pipeline, "slat_cfg_interval"),
        time_scale=time_scale,
    )


def _interval(pipeline: Section, key: str) -> tuple[float, float]:
    first, last = pipeline.numbers(key, 2, default=(0.0, 500.0))
    return first, last


def _depth(pipeline: Section) -> str | None:
    """Repository or path of the depth model; None when the file names none."""
    if not pipeline.has("depth_model"):
        return None
    depth = pipeline.section("depth_model")
    depth.target("MoGe")
    model = depth.section("model")
    if not model.text("_target_").startswith("moge.model.v1."):
        raise model.fault("_target_", "moge.model.v1.MoGeModel.from_pretrained", "this runtime knows MoGe version 1")
    return model.text("pretrained_model_name_or_path")


def _preprocess(pipeline: Section, *conditions: ConditionConfig) -> PreprocessConfig:
    """Both stages see the same crop, so it is made once; another size for stage 2 is an error."""
    structure, latent = pipeline.section("ss_preprocessor"), pipeline.section("slat_preprocessor")
    structure.target("PreProcessor")
    latent.target("PreProcessor")
    box = _crop(structure, "img_mask_pointmap_joint_transform", ("resize_all_to_same_size",))
    if _crop(latent, "img_mask_joint_transform") != box:
        raise latent.fault("img_mask_joint_transform", f"a crop by {box:g}, as in ss_preprocessor")
    structure.fixed("img_mask_joint_transform", [], [])
    structure.fixed("normalize_pointmap", True)
    normaliser = structure.section("pointmap_normalizer")
    normaliser.target("ObjectCentricSSI")
    scene_scale = normaliser.flag("use_scene_scale")
    normaliser.done("allow_scale_and_shift_override")
    sizes = {c.input_px for condition in conditions for c, _ in condition.embedders if isinstance(c, DinoConfig)}
    for section in (structure, latent):
        for name in ("img_transform", "mask_transform", "pointmap_transform"):
            if name != "pointmap_transform" or section is structure:
                transform, size = _square(section, name, interpolation=None if name == "img_transform" else 0)
                if sizes != {size}:
                    expected = f"{max(sizes)}, the input_size of every image embedder"
                    raise transform.fault("size", expected, "images are resized once")
        section.done()
    return PreprocessConfig(size_px=max(sizes), box_factor=box, scene_scale=scene_scale)


def _crop(section: Section, key: str, before: tuple[str, ...] = ()) -> float:
    """The box factor of a list of transforms that ends with the crop around the mask."""
    steps = section.sections(key)
    names = (*before, "crop_around_mask_with_padding")
    if len(steps) != len(names):
        raise section.fault(key, "the list " + ", ".join(names))
    for step, name in zip(steps, names, strict=True):
        step.target(name)
    crop = steps[-1]
    box = crop.positive("box_size_factor")
    crop.fixed("padding_factor", 0.0, 0.0)
    for step in steps:
        step.done("_partial_")
    return box


def _square(section: Section, key: str, interpolation: int | None) -> tuple[Section, int]:
    """Pad to a square, resize: the section of the resize and its size in pixels."""
    compose = section.section(key)
    compose.target("Compose")
    steps = compose.sections("transforms")
    if len(steps) != 2:
        raise compose.fault("transforms", "the list pad_to_square_centered, Resize")
    pad, resize = steps
    pad.target("pad_to_square_centered")
    pad.done("_partial_")
    resize.target("Resize")
    resize.fixed("interpolation", interpolation, None)
    size = resize.integer("size")
    resize.done()
    return resize, size
