"""Where transformers' SAM 3 computes other than Meta's code, for which the weights were trained: as Meta's code does.

With these three changes the two agree at the same weights to what rounding leaves (benchmarks/sam3_parity.py). Class
names are of transformers 5.23.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

# Meta's photo encoder names this value (sam3/model/vitdet.py). Sam3ViTConfig has 1e-6, and so has the config.json of
# the release, which was written from it. Small as it is, masks of random weights move by 7e-4 of the largest logit.
_NORM_EPSILON = 1e-5


def set_norms(vision_encoder: nn.Module) -> None:
    """Let the layer norms of a Sam3VisionModel divide by what they were trained to divide by."""
    for module in vision_encoder.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = _NORM_EPSILON


def cls_token(encoder: Any, features: Tensor, positions: Tensor) -> Tensor:
    """(B, 1, C): what `encoder`, a Sam3GeometryEncoder, makes of no box at all; features and positions (B, C, h, w).

    Meta's code gives it to every phrase, Sam3Model only to those that come with boxes.
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
    """Three levels (B, C, h, w), finest first, that a Sam3TrackerModel answers boxes and points from.

    The learned embedding "no other frame" belongs to the coarsest of them. get_image_embeddings adds it to a fourth
    level, half that size, which nothing reads.
    """
    levels = model.vision_encoder(pixels, return_dict=True).fpn_hidden_states
    decoder = model.mask_decoder
    nothing_before = model.no_memory_embedding.reshape(1, -1, 1, 1)
    return [decoder.conv_s0(levels[0]), decoder.conv_s1(levels[1]), levels[2] + nothing_before]
