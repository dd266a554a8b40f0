"""The YAML files of a `Sam3dConfig` as in the release: the inverse of `sam3d_torch.checkpoints.yaml_files`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sam3d_gs.sam3d_torch.config import (
    VITS,
    ConditionConfig,
    DinoConfig,
    GaussianDecoderConfig,
    LatentConfig,
    LatentFlowConfig,
    PointPatchConfig,
    Sam3dConfig,
    StructureFlowConfig,
)

Yaml = dict[str, Any]

PACKAGE = "sam3d_objects"
TRANSFORMS = f"{PACKAGE}.data.dataset.tdfy.img_and_mask_transforms"
BACKBONE = f"{PACKAGE}.model.backbone"
EMBEDDER = f"{BACKBONE}.dit.embedder"
GENERATOR = f"{BACKBONE}.generator"
MODELS = f"{BACKBONE}.tdfy_dit.models"


def yaml_files(config: Sam3dConfig, depth: str = "Ruicheng/moge-vitl", suffix: str = ".ckpt") -> dict[str, Yaml]:
    """File name -> content of every YAML file; `suffix` is that of the weight files."""
    decoders = {
        "slat_decoder_gs" if count == max(config.gaussian_decoders) else "slat_decoder_gs_4": _gaussian_decoder(decoder)
        for count, decoder in config.gaussian_decoders.items()
    }
    networks = {
        "ss_generator": _generator(
            config.structure_condition,
            f"{GENERATOR}.shortcut.model.ShortCut",
            config.structure_sampler.time_scale,
            _structure_flow(config.structure_flow),
        ),
        "slat_generator": _generator(
            config.latent_condition,
            f"{GENERATOR}.flow_matching.model.FlowMatching",
            config.latent_sampler.time_scale,
            _latent_flow(config.latent_flow),
        ),
        "ss_decoder": {
            "_target_": f"{MODELS}.sparse_structure_vae.SparseStructureDecoderTdfyWrapper",
            "out_channels": config.structure_decoder.out_channels,
            "latent_channels": config.structure_decoder.latent_channels,
            "num_res_blocks": config.structure_decoder.res_blocks,
            "num_res_blocks_middle": config.structure_decoder.middle_blocks,
            "channels": list(config.structure_decoder.channels),
            "reshape_input_to_cube": False,
        },
        **decoders,
    }
    paths = {f"{name}_{kind}_path": name + end for name in networks for kind, end in _paths(suffix)}
    pipeline = {**_pipeline(config, depth), **paths}
    return {"pipeline.yaml": pipeline, **{f"{name}.yaml": content for name, content in networks.items()}}


def _paths(suffix: str) -> tuple[tuple[str, str], ...]:
    return (("config", ".yaml"), ("ckpt", suffix))


def _pipeline(config: Sam3dConfig, depth: str) -> Yaml:
    structure, latent = config.structure_sampler, config.latent_sampler
    crop = {
        "_partial_": True,
        "_target_": f"{TRANSFORMS}.crop_around_mask_with_padding",
        "box_size_factor": config.preprocess.box_factor,
        "padding_factor": 0.0,
    }
    preprocessor = {
        "_target_": f"{PACKAGE}.data.dataset.tdfy.preprocessor.PreProcessor",
        "img_transform": _square(config.preprocess.size_px),
        "mask_transform": _square(config.preprocess.size_px, interpolation=0),
    }
    return {
        "_target_": f"{PACKAGE}.pipeline.inference_pipeline_pointmap.InferencePipelinePointMap",
        "dtype": config.dtype,
        "downsample_ss_dist": 1,
        "pose_decoder_name": "ScaleShiftInvariant",
        "ss_inference_steps": structure.steps,
        "ss_rescale_t": structure.rescale_t,
        "ss_cfg_strength": structure.guidance,
        "ss_cfg_interval": list(structure.interval),
        "slat_inference_steps": latent.steps,
        "slat_rescale_t": latent.rescale_t,
        "slat_cfg_strength": latent.guidance,
        "slat_cfg_interval": list(latent.interval),
        "slat_mean": list(config.latent_mean),
        "slat_std": list(config.latent_std),
        "ss_condition_input_mapping": [],
        "slat_condition_input_mapping": [],
        "depth_model": {
            "_target_": f"{PACKAGE}.pipeline.depth_models.moge.MoGe",
            "model": {
                "_target_": "moge.model.v1.MoGeModel.from_pretrained",
                "pretrained_model_name_or_path": depth,
            },
        },
        "ss_preprocessor": {
            **preprocessor,
            "img_mask_joint_transform": [],
            "img_mask_pointmap_joint_transform": [
                {"_partial_": True, "_target_": f"{TRANSFORMS}.resize_all_to_same_size"},
                crop,
            ],
            "normalize_pointmap": True,
            "pointmap_normalizer": {
                "_target_": f"{TRANSFORMS}.ObjectCentricSSI",
                "allow_scale_and_shift_override": True,
                "use_scene_scale": config.preprocess.scene_scale,
            },
            "pointmap_transform": _square(config.preprocess.size_px, interpolation=0),
        },
        "slat_preprocessor": {**preprocessor, "img_mask_joint_transform": [crop]},
    }


def _square(size_px: int, **settings: int) -> Yaml:
    pad = {"_partial_": True, "_target_": f"{PACKAGE}.data.dataset.tdfy.img_processing.pad_to_square_centered"}
    resize = {"_target_": "torchvision.transforms.Resize", "size": size_px, **settings}
    return {"_target_": "torchvision.transforms.Compose", "transforms": [pad, resize]}


def _generator(condition: ConditionConfig, flow: str, time_scale: float, network: Yaml) -> Yaml:
    guided = {
        "_target_": f"{GENERATOR}.classifier_free_guidance.ClassifierFreeGuidance",
        "backbone": network,
        "unconditional_handling": "add_flag",
    }
    generator = {"_target_": flow, "reverse_fn": guided, "sigma_min": 0.0, "time_scale": time_scale}
    return {"module": {"condition_embedder": {"backbone": _condition(condition)}, "generator": {"backbone": generator}}}


def _condition(config: ConditionConfig) -> Yaml:
    return {
        "_target_": f"{EMBEDDER}.embedder_fuser.EmbedderFuser",
        "embedder_list": [
            [_embedder(embedder), [list(pair) for pair in inputs]] for embedder, inputs in config.embedders
        ],
        "projection_net_hidden_dim_multiplier": config.hidden_multiplier,
        "use_pos_embedding": "learned",
    }


def _embedder(config: DinoConfig | PointPatchConfig) -> Yaml:
    if isinstance(config, DinoConfig):
        return {
            "_target_": f"{EMBEDDER}.dino.Dino",
            "dino_model": next(name for name, vit in VITS.items() if vit == config.vit),
            "input_size": config.input_px,
            "normalize_images": True,
            "prenorm_features": config.prenorm,
        }
    return {
        "_target_": f"{EMBEDDER}.pointmap.PointPatchEmbed",
        "embed_dim": config.width,
        "input_size": config.input_px,
        "patch_size": config.patch_px,
        "remap_output": "linear",
    }


def _transformer(config: StructureFlowConfig | LatentFlowConfig) -> Yaml:
    return {
        "cond_channels": config.cond_width,
        "condition_embedder": None,
        "force_zeros_cond": True,
        "mlp_ratio": config.mlp_ratio,
        "model_channels": config.width,
        "num_blocks": config.blocks,
        "num_heads": config.heads,
        "pe_mode": "ape",
        "qk_rms_norm": True,
        "resolution": config.resolution,
    }


def _structure_flow(config: StructureFlowConfig) -> Yaml:
    return {
        "_target_": f"{MODELS}.mot_sparse_structure_flow.SparseStructureFlowTdfyWrapper",
        **_transformer(config),
        "is_shortcut_model": True,
        "latent_mapping": {name: _latent(name, latent, config) for name, latent in config.latents.items()},
        "latent_share_transformer": {config.pose_stream: list(config.pose_order)},
    }


def _latent(name: str, latent: LatentConfig, config: StructureFlowConfig) -> Yaml:
    position: Mapping[str, Any] = {
        "_target_": f"{MODELS}.mm_latent.LearntPositionEmbedder",
        "token_len": latent.tokens,
    }
    if name == "shape":
        position = {
            "_target_": f"{MODELS}.mm_latent.ShapePositionEmbedder",
            "patch_size": 1,
            "resolution": config.resolution,
        }
    return {
        "_target_": f"{MODELS}.mm_latent.Latent",
        "in_channels": latent.channels,
        "model_channels": config.width,
        "pos_embedder": {**position, "model_channels": config.width},
    }


def _latent_flow(config: LatentFlowConfig) -> Yaml:
    return {
        "_target_": f"{MODELS}.structured_latent_flow.SLatFlowModelTdfyWrapper",
        **_transformer(config),
        "in_channels": config.in_channels,
        "io_block_channels": list(config.io_channels),
        "num_io_res_blocks": config.io_res_blocks,
        "out_channels": config.out_channels,
        "patch_size": config.patch,
    }


def _gaussian_decoder(config: GaussianDecoderConfig) -> Yaml:
    return {
        "_target_": f"{MODELS}.structured_latent_vae.decoder_gs.SLatGaussianDecoderTdfyWrapper",
        "resolution": config.resolution,
        "model_channels": config.width,
        "latent_channels": config.latent_channels,
        "num_blocks": config.blocks,
        "num_heads": config.heads,
        "mlp_ratio": config.mlp_ratio,
        "attn_mode": "swin",
        "window_size": config.window,
        "representation_config": {
            "lr": {
                "_xyz": 1.0,
                "_features_dc": 1.0,
                "_opacity": 1.0,
                "_scaling": 1.0,
                "_rotation": config.rotation_rate,
            },
            "perturb_offset": True,
            "voxel_size": config.voxel_size,
            "num_gaussians": config.gaussians_per_voxel,
            "3d_filter_kernel_size": config.kernel_size_3d,
            "scaling_bias": config.scale_bias,
            "opacity_bias": config.opacity_bias,
            "scaling_activation": "softplus",
        },
    }
