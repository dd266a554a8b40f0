"""Names of SAM 3's weights: from Meta's to transformers'."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# Rotations are computed in transformers, and points are the tracker's.
_NOT_DETECTOR = re.compile(r"freqs_cis|geometry_encoder\.points_|sam2_convs|^inst_interactive_predictor")
# Patterns and replacements, applied one after the other.
_DETECTOR = (
    (r"^backbone\.vision_backbone\.trunk\.pos_embed", "vision_encoder.backbone.embeddings.position_embeddings"),
    (
        r"^backbone\.vision_backbone\.trunk\.patch_embed\.proj",
        "vision_encoder.backbone.embeddings.patch_embeddings.projection",
    ),
    (r"^backbone\.vision_backbone\.trunk\.ln_pre", "vision_encoder.backbone.layer_norm"),
    (r"^backbone\.vision_backbone\.trunk\.blocks\.(\d+)\.norm(\d)", r"vision_encoder.backbone.layers.\1.layer_norm\2"),
    (
        r"^backbone\.vision_backbone\.trunk\.blocks\.(\d+)\.attn\.proj",
        r"vision_encoder.backbone.layers.\1.attention.o_proj",
    ),
    (r"^backbone\.vision_backbone\.trunk\.blocks\.(\d+)\.attn", r"vision_encoder.backbone.layers.\1.attention"),
    (r"^backbone\.vision_backbone\.trunk\.blocks", "vision_encoder.backbone.layers"),
    (
        r"^backbone\.vision_backbone\.convs\.(\d)\.dconv_2x2(_0)?\.",
        r"vision_encoder.neck.fpn_layers.\1.scale_layers.0.",
    ),
    (r"^backbone\.vision_backbone\.convs\.(\d)\.dconv_2x2_1\.", r"vision_encoder.neck.fpn_layers.\1.scale_layers.2."),
    (r"^backbone\.vision_backbone\.convs\.(\d)\.conv_1x1", r"vision_encoder.neck.fpn_layers.\1.proj1"),
    (r"^backbone\.vision_backbone\.convs\.(\d)\.conv_3x3", r"vision_encoder.neck.fpn_layers.\1.proj2"),
    (r"^backbone\.language_backbone\.resizer", "text_projection"),
    (r"^backbone\.language_backbone\.encoder\.text_projection", "text_encoder.text_projection.weight"),
    (
        r"^backbone\.language_backbone\.encoder\.positional_embedding",
        "text_encoder.text_model.embeddings.position_embedding.weight",
    ),
    (r"^backbone\.language_backbone\.encoder\.token_embedding", "text_encoder.text_model.embeddings.token_embedding"),
    (r"^backbone\.language_backbone\.encoder\.ln_final", "text_encoder.text_model.final_layer_norm"),
    (r"^backbone\.language_backbone\.encoder\.transformer\.resblocks", "text_encoder.text_model.encoder.layers"),
    (r"^(text_encoder.*)\.attn\.", r"\1.self_attn."),
    (r"^(text_encoder.*)\.ln_(\d)", r"\1.layer_norm\2"),
    (r"\.c_fc\.", ".fc1."),
    (r"\.c_proj\.", ".fc2."),
    (r"^geometry_encoder\.encode\.", "geometry_encoder.layers."),
    (r"^geometry_encoder\.encode_norm", "geometry_encoder.output_layer_norm"),
    (r"^geometry_encoder\.norm\.", "geometry_encoder.prompt_layer_norm."),
    (r"^geometry_encoder\.img_pre_norm", "geometry_encoder.vision_layer_norm"),
    (r"^transformer\.decoder\.norm\.", "detr_decoder.output_layer_norm."),
    (r"^transformer\.decoder\.bbox_embed", "detr_decoder.box_head"),
    (r"^transformer\.decoder\.boxRPB_embed", "detr_decoder.box_rpb_embed"),
    (r"^transformer\.decoder\.presence_token_head", "detr_decoder.presence_head"),
    (r"^transformer\.decoder\.presence_token_out_norm", "detr_decoder.presence_layer_norm"),
    (r"^transformer\.decoder\.layers\.(\d)\.cross_attn\.", r"detr_decoder.layers.\1.vision_cross_attn."),
    (r"^transformer\.decoder\.layers\.(\d)\.ca_text\.", r"detr_decoder.layers.\1.text_cross_attn."),
    (r"^transformer\.decoder\.layers\.(\d)\.catext_norm", r"detr_decoder.layers.\1.text_cross_attn_layer_norm"),
    (r"^transformer\.decoder\.layers\.(\d)\.norm1", r"detr_decoder.layers.\1.vision_cross_attn_layer_norm"),
    (r"^transformer\.decoder\.layers\.(\d)\.norm2", r"detr_decoder.layers.\1.self_attn_layer_norm"),
    (r"^transformer\.decoder\.layers\.(\d)\.norm3", r"detr_decoder.layers.\1.mlp_layer_norm"),
    (r"^transformer\.(de|en)coder\.", r"detr_\1coder."),
    (r"\.cross_attn_image\.", ".cross_attn."),
    (r"\.linear([12])\.", r".mlp.fc\1."),
    (r"^((?:geometry_encoder|detr_encoder).*)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"^segmentation_head\.mask_predictor\.mask_embed", "mask_decoder.mask_embedder"),
    (r"^segmentation_head\.cross_attend_prompt", "mask_decoder.prompt_cross_attn"),
    (r"^segmentation_head\.cross_attn_norm", "mask_decoder.prompt_cross_attn_norm"),
    (r"^segmentation_head\.semantic_seg_head", "mask_decoder.semantic_projection"),
    (r"^segmentation_head\.instance_seg_head", "mask_decoder.instance_projection"),
    (r"^segmentation_head\.", "mask_decoder."),
    (r"^dot_prod_scoring\.prompt_mlp\.out_norm", "dot_product_scoring.text_mlp_out_norm"),
    (r"^dot_prod_scoring\.prompt_mlp", "dot_product_scoring.text_mlp"),
    (r"^dot_prod_scoring\.prompt_proj", "dot_product_scoring.text_proj"),
    (r"^dot_prod_scoring\.hs_proj", "dot_product_scoring.query_proj"),
    (r"^((?!text_encoder).*attn)\.out_proj", r"\1.o_proj"),
)
# Small heads: a list of layers here, layer1, layer2, ... there.
_COUNTED = re.compile(
    r"^(detr_decoder\.(?:box_head|box_rpb_embed_[xy]|presence_head|ref_point_head)|dot_product_scoring\.text_mlp)\.layers\.(\d+)"
)
_TOGETHER = re.compile(r"(in_proj_|qkv\.)(weight|bias)$")  # query, key and value in one

_PHOTO = re.compile(r"^backbone\.vision_backbone\.(?!convs)(?!.*freqs_cis)")
_CLICKS = re.compile(r"^inst_interactive_predictor\.model\.(sam_|no_mem_embed)")
_DIRECTIONS = "prompt_encoder.shared_embedding.positional_embedding"
_TRACKER = (
    (r"^backbone\.vision_backbone\.sam2_convs", "backbone.vision_backbone.convs"),
    (r"^inst_interactive_predictor\.model\.", ""),
    (r"^no_mem_embed", "no_memory_embedding"),
    (r"^sam_prompt_encoder\.pe_layer\.positional_encoding_gaussian_matrix", _DIRECTIONS),
    (r"^sam_prompt_encoder\.mask_downscaling\.0\.", "prompt_encoder.mask_embed.conv1."),
    (r"^sam_prompt_encoder\.mask_downscaling\.1\.", "prompt_encoder.mask_embed.layer_norm1."),
    (r"^sam_prompt_encoder\.mask_downscaling\.3\.", "prompt_encoder.mask_embed.conv2."),
    (r"^sam_prompt_encoder\.mask_downscaling\.4\.", "prompt_encoder.mask_embed.layer_norm2."),
    (r"^sam_prompt_encoder\.mask_downscaling\.6\.", "prompt_encoder.mask_embed.conv3."),
    (r"^sam_(prompt_encoder|mask_decoder)\.", r"\1."),
    (r"^mask_decoder\.output_upscaling\.0\.", "mask_decoder.upscale_conv1."),
    (r"^mask_decoder\.output_upscaling\.1\.", "mask_decoder.upscale_layer_norm."),
    (r"^mask_decoder\.output_upscaling\.3\.", "mask_decoder.upscale_conv2."),
    (r"^(mask_decoder\.transformer\.layers\.\d)\.mlp\.lin1", r"\1.mlp.proj_in"),
    (r"^(mask_decoder\.transformer\.layers\.\d)\.mlp\.lin2", r"\1.mlp.proj_out"),
    (r"^(mask_decoder\.transformer\.layers\.\d)\.norm", r"\1.layer_norm"),
    (r"^mask_decoder\.transformer\.norm_final_attn", "mask_decoder.transformer.layer_norm_final_attn"),
    (r"^(mask_decoder.*)\.out_proj", r"\1.o_proj"),
    (r"^(mask_decoder\.(?!transformer).*)\.layers\.0\.", r"\1.proj_in."),
    (r"^(mask_decoder\.(?!transformer).*)\.layers\.1\.", r"\1.layers.0."),
    (r"^(mask_decoder\.(?!transformer).*)\.layers\.2\.", r"\1.proj_out."),
)


def to_detector(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of Meta's Sam3Image for transformers' Sam3Model."""
    renamed: dict[str, Tensor] = {}
    for old, weight in weights.items():
        if not _NOT_DETECTOR.search(old):
            renamed |= _renamed(old, weight)
    return renamed


def to_tracker(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of Meta's Sam3Image, built for boxes and points, for transformers' Sam3TrackerModel."""
    renamed: dict[str, Tensor] = {}
    points: list[Tensor] = []  # one by one here, in one there
    for old, weight in weights.items():
        name = old
        if ".sam_prompt_encoder.point_embeddings." in old:
            points.append(weight)
        elif _PHOTO.match(old) or _CLICKS.match(old):
            for pattern, replacement in _TRACKER:
                name = re.sub(pattern, replacement, name)
            renamed |= _renamed(name, weight) if name.startswith("backbone") else {name: weight}
    renamed["prompt_encoder.point_embed.weight"] = torch.cat(points)
    renamed["shared_image_embedding.positional_embedding"] = renamed[_DIRECTIONS]
    return renamed


def _renamed(old: str, weight: Tensor) -> dict[str, Tensor]:
    """One weight of the detector or the photo encoder; three if it was query, key and value in one."""
    name = old
    for pattern, replacement in _DETECTOR:
        name = re.sub(pattern, replacement, name)
    name = _COUNTED.sub(lambda found: f"{found[1]}.layer{int(found[2]) + 1}", name)
    if old.endswith("trunk.pos_embed"):
        weight = weight[:, 1:]  # the first is of a class token that SAM 3 has not
    elif old.endswith("encoder.text_projection"):
        weight = weight.T
    together = _TOGETHER.search(name)
    if not together:
        return {name: weight}
    thirds = zip("qkv", weight.chunk(3), strict=True)
    return {f"{name[: together.start()]}{part}_proj.{together[2]}": third for part, third in thirds}
