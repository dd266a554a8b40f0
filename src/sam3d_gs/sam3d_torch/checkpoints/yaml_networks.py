"""The networks' sections of the YAML files -> their configurations."""

from __future__ import annotations

from math import log2

from sam3d_gs.errors import BadInputError
from sam3d_gs.sam3d_torch.checkpoints.yaml_section import Section
from sam3d_gs.sam3d_torch.config import (
    VITS,
    ConditionConfig,
    DinoConfig,
    GaussianDecoderConfig,
    LatentConfig,
    LatentFlowConfig,
    PointPatchConfig,
    StructureDecoderConfig,
    StructureFlowConfig,
)

SHAPE = "shape"  # the stream and latent of the occupancy
INPUTS = ("image", "mask", "pointmap", "rgb_image", "rgb_image_mask", "rgb_pointmap")
GROUPS = ("cropped", "full")


def read_stage(top: Section) -> tuple[ConditionConfig, Section]:
    """The condition embedder of a generator file and the section of its flow."""
    module = top.section("module")
    condition = _condition(module.section("condition_embedder").section("backbone"))
    return condition, module.section("generator").section("backbone")


def _condition(fuser: Section) -> ConditionConfig:
    fuser.target("EmbedderFuser")
    embedders: list[tuple[DinoConfig | PointPatchConfig, tuple[tuple[str, str], ...]]] = []
    for i, pair in enumerate(fuser.items("embedder_list")):
        key = f"{fuser.key}.embedder_list[{i}]"
        if not (isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], dict)):
            raise fuser.fault("embedder_list", "a list of pairs: an embedder and its inputs")
        inputs = pair[1] if isinstance(pair[1], list) else []
        pairs = [item for item in inputs if isinstance(item, list) and len(item) == 2]
        known = [(str(name), str(group)) for name, group in pairs if name in INPUTS and group in GROUPS]
        if not known or len(known) != len(inputs):
            raise BadInputError(
                f"{fuser.file}: {key} must list its inputs as pairs of one of {', '.join(INPUTS)} and one of "
                f"{', '.join(GROUPS)}, found {pair[1]!r}."
            )
        embedders.append((_embedder(Section(pair[0], fuser.file, key)), tuple(known)))
    if not any(isinstance(embedder, DinoConfig) for embedder, _ in embedders):
        raise fuser.fault("embedder_list", "a list with an image embedder")
    multiplier = fuser.positive("projection_net_hidden_dim_multiplier", 4.0)
    fuser.fixed("use_pos_embedding", "learned", "learned")
    fuser.fixed("projection_pre_norm", True, True)
    fuser.fixed("compression_projection_multiplier", 0, 0)
    fuser.fixed("force_drop_modalities", None, None)
    fuser.done("drop_modalities_weight", "dropout_prob", "freeze")
    return ConditionConfig(tuple(embedders), multiplier)


def _embedder(section: Section) -> DinoConfig | PointPatchConfig:
    if section.target("Dino", "PointPatchEmbed") == "Dino":
        name = section.text("dino_model", "dinov2_vitb14")
        if name not in VITS:
            raise section.fault("dino_model", "one of " + ", ".join(VITS))
        vit, size = VITS[name], section.integer("input_size", 224)
        if size % vit.patch_px:
            raise section.fault("input_size", f"a multiple of {vit.patch_px}, the size of a patch")
        section.fixed("normalize_images", True, True)
        prenorm = section.flag("prenorm_features", False)
        section.fixed("prune_network", False, False)
        section.fixed("backbone_kwargs", None, None)
        section.done("freeze_backbone", "repo_or_dir", "source")
        return DinoConfig(vit, size, prenorm)
    patch = PointPatchConfig(
        width=section.integer("embed_dim", 768),
        input_px=section.integer("input_size", 256),
        patch_px=section.integer("patch_size", 8),
    )
    if patch.width % patch.heads:
        raise section.fault("embed_dim", f"a multiple of {patch.heads}, the number of heads")
    if patch.input_px % patch.patch_px:
        raise section.fault("input_size", f"a multiple of {patch.patch_px}, the patch_size")
    section.fixed("remap_output", "linear", "exp")
    section.fixed("dropout_prob", 0.0, 0.0)
    section.done("force_dropout_always")
    return patch


def _guided(flow: Section, *targets: str) -> tuple[Section, float]:
    """The network inside a flow and its guidance, and the factor on t."""
    flow.target(*targets)
    time_scale = flow.positive("time_scale", 1000.0)
    guided = flow.section("reverse_fn")
    guided.target("ClassifierFreeGuidance", "ClassifierFreeGuidanceWithExternalUnconditionalProbability")
    guided.fixed("unconditional_handling", "add_flag")
    network = guided.section("backbone")
    guided.done("interval", "p_unconditional", "strength")  # the pipeline's own values take precedence
    flow.done(*_FLOW_WITHOUT_EFFECT)
    return network, time_scale


_FLOW_WITHOUT_EFFECT = (  # training, or overridden by the pipeline
    "batch_mode",
    "cfg_modalities",
    "inference_steps",
    "loss_weights",
    "ratio_cfg_samples_in_self_consistency_target",
    "rescale_t",
    "self_consistency_cfg_strength",
    "self_consistency_prob",
    "shortcut_loss_weight",
    "sigma_min",
    "training_time_sampler_fn",
)


def _transformer(section: Section, condition: ConditionConfig) -> tuple[int, int]:
    """Checks what both flows share; width and heads."""
    width = section.integer("model_channels")
    heads = _heads(section, width)
    if section.integer("cond_channels") != condition.width:
        raise section.fault("cond_channels", f"{condition.width}, the width of the condition embedder")
    section.fixed("condition_embedder", None, None)
    section.fixed("force_zeros_cond", True, False)
    section.fixed("pe_mode", "ape", "ape")
    section.fixed("qk_rms_norm", True, False)
    section.fixed("qk_rms_norm_cross", False, False)
    section.fixed("share_mod", False, False)
    return width, heads


def _heads(section: Section, width: int) -> int:
    """Number of heads; files may state their width instead."""
    head_width = section.integer("num_head_channels", 64)
    if section.has("num_heads"):
        heads = section.integer("num_heads")
    else:
        section.fixed("num_heads", None, None)
        heads = max(width // head_width, 1)
    if width % heads:
        raise section.fault("num_heads", f"a divisor of {width}, the model_channels")
    return heads


def read_structure_flow(generator: Section, condition: ConditionConfig) -> tuple[StructureFlowConfig, float]:
    section, time_scale = _guided(generator, "ShortCut")
    section.target("SparseStructureFlowTdfyWrapper")
    width, heads = _transformer(section, condition)
    section.fixed("is_shortcut_model", True, False)
    resolution = section.integer("resolution")
    mapping = section.section("latent_mapping")
    latents = {name: _latent(mapping.section(name), width) for name in mapping.names()}
    shared = section.section("latent_share_transformer")
    if len(shared.names()) != 1:
        raise section.fault("latent_share_transformer", "one stream of pose latents")
    stream = shared.names()[0]
    order = tuple(shared.items(stream))
    if SHAPE not in latents or stream not in latents or sorted(map(str, order)) != sorted({*latents} - {SHAPE}):
        raise shared.fault(stream, "the latents of latent_mapping other than shape, once each")
    if latents[SHAPE].tokens != resolution**3:
        raise section.fault("resolution", "the resolution of the shape latent's pos_embedder")
    config = StructureFlowConfig(
        width=width,
        cond_width=condition.width,
        blocks=section.integer("num_blocks"),
        heads=heads,
        resolution=resolution,
        mlp_ratio=section.positive("mlp_ratio", 4.0),
        latents=latents,
        pose_stream=stream,
        pose_order=order,
    )
    section.done(*_NETWORK_WITHOUT_EFFECT, "in_channels", "out_channels", "patch_size")
    return config, time_scale


_NETWORK_WITHOUT_EFFECT = ("freeze_d_time_embedder", "freeze_shared_parameters", "use_checkpoint", "use_fp16")


def _latent(section: Section, width: int) -> LatentConfig:
    section.target("Latent")
    section.fixed("model_channels", width, why="the flow's model_channels")
    position = section.section("pos_embedder")
    position.fixed("model_channels", width, why="the flow's model_channels")
    if position.target("LearntPositionEmbedder", "ShapePositionEmbedder") == "ShapePositionEmbedder":
        position.fixed("patch_size", 1)
        tokens = position.integer("resolution") ** 3
    else:
        tokens = position.integer("token_len")
    position.done()
    channels = section.integer("in_channels")
    section.done()
    return LatentConfig(channels, tokens)


def read_latent_flow(generator: Section, condition: ConditionConfig) -> tuple[LatentFlowConfig, float]:
    section, time_scale = _guided(generator, "FlowMatching")
    section.target("SLatFlowModelTdfyWrapper")
    width, heads = _transformer(section, condition)
    section.fixed("is_shortcut_model", False, False)
    section.fixed("use_skip_connection", True, True)
    patch = section.integer("patch_size", 2, least=2)
    io_channels = section.integers("io_block_channels")
    if 2 ** len(io_channels) != patch:
        raise section.fault("io_block_channels", f"a list of {log2(patch):g}", f"patch_size is {patch}")
    channels = section.integer("in_channels")
    section.fixed("out_channels", channels, why="as in_channels")
    config = LatentFlowConfig(
        width=width,
        cond_width=condition.width,
        blocks=section.integer("num_blocks"),
        heads=heads,
        resolution=section.integer("resolution"),
        mlp_ratio=section.positive("mlp_ratio", 4.0),
        in_channels=channels,
        out_channels=channels,
        patch=patch,
        io_channels=io_channels,
        io_res_blocks=section.integer("num_io_res_blocks", 2),
    )
    section.done(*_NETWORK_WITHOUT_EFFECT)
    return config, time_scale


def read_structure_decoder(section: Section) -> StructureDecoderConfig:
    section.target("SparseStructureDecoderTdfyWrapper")
    section.fixed("out_channels", 1, why="one occupancy a voxel")
    section.fixed("reshape_input_to_cube", False, False)
    section.fixed("norm_type", "layer", "layer")
    config = StructureDecoderConfig(
        channels=section.integers("channels"),
        latent_channels=section.integer("latent_channels"),
        out_channels=1,
        res_blocks=section.integer("num_res_blocks"),
        middle_blocks=section.integer("num_res_blocks_middle", 2),
    )
    section.done("pretrained_ckpt_path", "use_fp16")
    return config


def read_gaussian_decoder(section: Section, flow: LatentFlowConfig) -> GaussianDecoderConfig:
    section.target("SLatGaussianDecoderTdfyWrapper")
    section.fixed("attn_mode", "swin", "swin")
    section.fixed("pe_mode", "ape", "ape")
    section.fixed("qk_rms_norm", False, False)
    section.fixed("resolution", flow.resolution, why="as in slat_generator")
    section.fixed("latent_channels", flow.out_channels, why="as in slat_generator")
    width = section.integer("model_channels")
    form = section.section("representation_config")
    rates = form.section("lr")
    for name in ("_xyz", "_features_dc", "_opacity", "_scaling"):
        rates.fixed(name, 1.0)
    form.fixed("perturb_offset", True)
    form.fixed("scaling_activation", "softplus")
    voxel_size = form.number("voxel_size")
    if voxel_size <= 1:  # offsets are the atanh of up to 1 / voxel_size
        raise form.fault("voxel_size", "more than 1", "officially 1.5; smaller ones have no finite offsets")
    opacity_bias = form.number("opacity_bias")
    if not 0 < opacity_bias < 1:
        raise form.fault("opacity_bias", "between 0 and 1")
    config = GaussianDecoderConfig(
        width=width,
        blocks=section.integer("num_blocks"),
        heads=_heads(section, width),
        resolution=flow.resolution,
        mlp_ratio=section.positive("mlp_ratio", 4.0),
        latent_channels=flow.out_channels,
        window=section.integer("window_size", 8, least=2),
        gaussians_per_voxel=form.integer("num_gaussians"),
        voxel_size=voxel_size,
        kernel_size_3d=form.number("3d_filter_kernel_size", least=0),
        scale_bias=form.positive("scaling_bias"),
        opacity_bias=opacity_bias,
        rotation_rate=rates.positive("_rotation"),
    )
    rates.done()
    form.done("2d_filter_kernel_size")
    section.done("pretrained_ckpt_path", "use_checkpoint", "use_fp16")
    return config
