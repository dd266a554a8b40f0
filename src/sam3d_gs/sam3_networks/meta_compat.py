"""Three changes that make transformers' SAM 3 compute what Meta's code does, for which the weights were trained.

With them the two agree up to rounding at the same weights (benchmarks/sam3_parity.py). Class names are those of
transformers 5.23.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

# From Meta's photo encoder (sam3/model/vitdet.py). Sam3ViTConfig has 1e-6, and so has the release's config.json, which
# was written from it. With random weights the difference moves mask logits by 7e-4 of the largest one.
_NORM_EPSILON = 1e-5


def set_norm_epsilon(vision_encoder: nn.Module) -> None:
    """Set the epsilon of all layer norms of a Sam3VisionModel to the one it was trained with."""
    for module in vision_encoder.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = _NORM_EPSILON


def cls_token(encoder: Any, features: Tensor, positions: Tensor) -> Tensor:
    """(B, 1, C): the CLS token of `encoder`, a Sam3GeometryEncoder, without boxes.

    `features` and `positions` (B, C, h, w) are the photo's. Meta's code appends the token to every phrase, Sam3Model
    only to phrases that come with boxes.
    """
    flat_features, flat_positions = features.flatten(2).transpose(1, 2), positions.flatten(2).transpose(1, 2)
    token = encoder.cls_embed.weight[None].expand(len(features), -1, -1)
    token = encoder.prompt_layer_norm(encoder.final_proj(token))
    for layer in encoder.layers:
        token = layer(
            prompt_feats=token, vision_feats=flat_features, vision_pos_encoding=flat_positions, prompt_mask=None
        )
    return encoder.output_layer_norm(token)


def image_embeddings(model: Any, pixels: Tensor) -> list[Tensor]:
    """Three levels (B, C, h, w), finest first, from which a Sam3TrackerModel segments boxes and points.

    The learned embedding "no memory" is added to the coarsest of them. get_image_embeddings adds it to a fourth level,
    half that size, which nothing reads.
    """
    levels = model.vision_encoder(pixels, return_dict=True).fpn_hidden_states
    decoder = model.mask_decoder
    no_memory = model.no_memory_embedding.reshape(1, -1, 1, 1)
    return [decoder.conv_s0(levels[0]), decoder.conv_s1(levels[1]), levels[2] + no_memory]
