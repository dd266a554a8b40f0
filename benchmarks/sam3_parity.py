"""Engine `sam3` (transformers) against `sam3-official` (Meta's package): the same random weights, the same answers?

    python benchmarks/sam3_parity.py                       # full size; minutes and 10 GB on a CPU, seconds on a card
    python benchmarks/sam3_parity.py --device cuda --phrases "red cup" "spoon" "wooden chair"

Fetches nothing: the weights are drawn in Meta's model, renamed, and loaded into transformers'; both read phrases with
the vocabulary that lies in Meta's package. Needs transformers, torchvision and the package of the submodule sam3/ in
one environment. Exits with 1 when something differs by more than the limit.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from typing import Any

import numpy as np
import torch
from machine import machine_line
from torch import Tensor
from transformers import BatchEncoding, Sam3Config, Sam3Model

from sam3d_gs.sam3_masks.device import computing
from sam3d_gs.sam3_masks.network import ConceptNetwork
from sam3d_gs.sam3_masks.official import SIDE_PX, OfficialNetwork, built, placed
from sam3d_gs.sam3_masks.prediction import network_pixels

LIMIT = 1e-4  # largest difference over the largest value
WITHOUT_TWIN = (
    r"freqs_cis|geometry_encoder\.points_"  # rotations are computed; points are the tracker's in transformers
)

# Meta's names -> transformers', applied one after the other.
RENAMED = (
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
COUNTED = re.compile(
    r"^(detr_decoder\.(?:box_head|box_rpb_embed_[xy]|presence_head|ref_point_head)|dot_product_scoring\.text_mlp)\.layers\.(\d)"
)
TOGETHER = re.compile(r"(in_proj_|qkv\.)(weight|bias)$")  # query, key and value in one


def to_transformers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of Meta's Sam3Image under the names of transformers' Sam3Model."""
    renamed: dict[str, Tensor] = {}
    for old, weight in weights.items():
        if re.search(WITHOUT_TWIN, old):
            continue
        name = old
        for pattern, replacement in RENAMED:
            name = re.sub(pattern, replacement, name)
        name = COUNTED.sub(lambda found: f"{found[1]}.layer{int(found[2]) + 1}", name)
        if old.endswith("trunk.pos_embed"):
            weight = weight[:, 1:]  # the first is of a class token that SAM 3 has not
        elif old.endswith("encoder.text_projection"):
            weight = weight.T
        together = TOGETHER.search(name)
        if together:
            for part, third in zip("qkv", weight.chunk(3), strict=True):
                renamed[f"{name[: together.start()]}{part}_proj.{together[2]}"] = third
        else:
            renamed[name] = weight
    return renamed


class MetasTokens:
    """The tokenizer of Meta's package, called as transformers calls one."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, texts: list[str], max_length: int, **_: Any) -> BatchEncoding:
        ids = self._tokenizer(texts, context_length=max_length)
        return BatchEncoding({"input_ids": ids, "attention_mask": (ids != 0).long()})


@torch.no_grad()
def draw(model: torch.nn.Module) -> None:
    """Random weights of a sensible size: the package leaves some uninitialised, and zeros would hide a mix-up."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, parameter[0].numel() ** -0.5)
        else:
            parameter.normal_(1.0 if name.endswith("weight") else 0.0, 0.02)


def keep_blocks(official: Any, model: Any, blocks: int) -> None:
    """Leave the first of the 32 blocks of both photo encoders; 8, 16 and 24 end with one of global attention."""
    trunk, backbone = official.backbone.vision_backbone.trunk, model.vision_encoder.backbone
    trunk.blocks, backbone.layers = trunk.blocks[:blocks], backbone.layers[:blocks]
    trunk.full_attn_ids = [n for n in trunk.full_attn_ids if n < blocks]


def pair(device: torch.device, precision: str, seed: int, blocks: int) -> tuple[OfficialNetwork, ConceptNetwork]:
    """Both networks with the same weights."""
    torch.manual_seed(seed)
    official = built(None, device, clicks=False)
    draw(official)
    model = Sam3Model(Sam3Config())
    model.load_state_dict(to_transformers(official.state_dict()))
    keep_blocks(official, model, blocks)
    tokens = MetasTokens(official.backbone.language_backbone.tokenizer)
    return OfficialNetwork(official, device, precision), ConceptNetwork(model.eval().to(device), tokens, precision)


def difference(one: Tensor, other: Tensor) -> float:
    return float((one.float() - other.float()).abs().max() / other.float().abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "tf32", "bf16"))
    parser.add_argument("--phrases", nargs="+", default=["red cup", "wooden chair with a blue cushion"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--blocks", type=int, default=32, choices=(8, 16, 24, 32), help="of the photo encoder: fewer are quicker"
    )
    parser.add_argument("--limit", type=float, default=LIMIT, help="largest relative difference allowed")
    given = parser.parse_args()
    device = torch.device(given.device)
    official, ours = pair(device, given.precision, given.seed, given.blocks)
    noise = np.random.default_rng(given.seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    pixels = network_pixels(noise, SIDE_PX, device)  # soft blobs of colour

    started = time.perf_counter()
    with placed(device), computing(device, given.precision):
        want = official.ground(official.model.backbone.forward_image(pixels), given.phrases)
    middle = time.perf_counter()
    with computing(device, given.precision):
        text, valid = ours.text_features(given.phrases)
        logits, presence, masks, boxes = ours.decode(text, valid, *ours.encode(pixels))
    print(f"{machine_line()}; PyTorch {torch.__version__}, {device.type}, {given.precision}, {given.blocks} blocks")
    print(
        f"official {middle - started:.1f} s, sam3 {time.perf_counter() - middle:.1f} s, {len(given.phrases)} phrases\n"
    )
    rows = {
        "logits": difference(logits, want["pred_logits"][..., 0]),
        "presence": difference(presence.flatten(), want["presence_logit_dec"].flatten()),
        "boxes": difference(boxes, want["pred_boxes_xyxy"]),
        "masks": difference(masks, want["pred_masks"]),
    }
    print("| output | largest difference / largest value |\n|---|---|")
    for name, value in rows.items():
        print(f"| {name} | {value:.1e} |")
    if not max(rows.values()) <= given.limit:
        sys.exit(f"More than {given.limit:g}: the two engines do not agree.")


if __name__ == "__main__":
    main()
