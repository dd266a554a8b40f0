"""Engine `sam3` (transformers) compared with `sam3-official` (Meta's package), with the same random weights.

    python benchmarks/sam3_parity.py                       # full size; minutes and 10 GB on a CPU, seconds on a GPU
    python benchmarks/sam3_parity.py --device cuda --phrases "red cup" "spoon" "wooden chair"
    python benchmarks/sam3_parity.py --precision fp64 --blocks 8     # to see whether a difference is due to rounding

Compares phrases, and one box and one point as in `--box` and `--point`. Downloads nothing: the weights are initialised
in Meta's model, renamed, and loaded into transformers'; both use the vocabulary in Meta's package. Needs transformers,
torchvision and the package in the submodule sam3/ in one environment. Exits with 1 if a difference exceeds the limit.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from typing import Any

import numpy as np
import torch
from machine import machine_line
from PIL import Image
from sam3_names import to_detector, to_tracker
from torch import Tensor
from torch.overrides import TorchFunctionMode
from transformers import BatchEncoding, Sam3Config, Sam3Model, Sam3TrackerConfig, Sam3TrackerModel

from sam3d_gs.masks.prompts import Prompt
from sam3d_gs.sam3_networks.device import computing
from sam3d_gs.sam3_networks.network import ConceptNetwork
from sam3d_gs.sam3_networks.official import SIDE_PX, OfficialNetwork, build_model, on_device
from sam3d_gs.sam3_networks.prediction import network_pixels
from sam3d_gs.sam3_networks.tracker import ClickNetwork

LIMITS = {"fp64": 1e-9}  # largest difference over the largest value
LIMIT = 1e-4  # for the other precisions
Row = tuple[str, float]

PHOTO_PX = 640, 480
PROMPTS = (Prompt("box", (120.0, 80.0, 430.0, 400.0)), Prompt("point", (410.0, 300.0)))


class InDouble(TorchFunctionMode):
    """Replaces float32 by float64 where code requests it by name, as both packages do for tables of angles."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is torch.Tensor.float:
            return args[0].double()
        args = tuple(torch.float64 if value is torch.float32 else value for value in args)
        kwargs = {key: torch.float64 if value is torch.float32 else value for key, value in (kwargs or {}).items()}
        return function(*args, **kwargs)


class MetasTokens:
    """The tokenizer of Meta's package with the interface of transformers."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer

    def __call__(self, texts: list[str], max_length: int, **_: Any) -> BatchEncoding:
        ids = self._tokenizer(texts, context_length=max_length)
        return BatchEncoding({"input_ids": ids, "attention_mask": (ids != 0).long()})


@torch.no_grad()
def draw(model: torch.nn.Module) -> None:
    """Random weights of realistic size: the package leaves some uninitialised, and zeros would hide errors."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1:
            parameter.normal_(0, parameter[0].numel() ** -0.5)
        else:
            parameter.normal_(1.0 if name.endswith("weight") else 0.0, 0.02)


def metas(device: torch.device, seed: int, blocks: int) -> Any:
    """Meta's Sam3Image with only the first of its 32 blocks; numbers 8, 16 and 24 have global attention."""
    torch.manual_seed(seed)
    model = build_model(None, device, clicks=True)
    draw(model)
    trunk = model.backbone.vision_backbone.trunk
    trunk.blocks = trunk.blocks[:blocks]
    trunk.full_attn_ids = [n for n in trunk.full_attn_ids if n < blocks]
    return model


def twin(kind: Any, config: Any, weights: dict[str, Tensor], device: torch.device, blocks: int) -> Any:
    """A transformers model with these weights."""
    encoder = config.vision_config.backbone_config
    encoder.num_hidden_layers = blocks
    encoder.global_attn_indexes = [n for n in encoder.global_attn_indexes if n < blocks]
    model = kind(config)
    model.load_state_dict(weights, assign=True)
    return model.eval().to(device)


def difference(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).abs().max() / other.double().abs().max())


def phrases_compared(official: OfficialNetwork, ours: ConceptNetwork, pixels: Tensor, texts: list[str]) -> list[Row]:
    with on_device(official.device), computing(official.device, official.precision):
        want = official.ground(official.model.backbone.forward_image(pixels), texts)
    with computing(ours.device, ours.precision):
        text, valid = ours.text_features(texts)
        logits, presence, masks, boxes = ours.decode(text, valid, *ours.encode(pixels))
    return [
        ("phrases: logits", difference(logits, want["pred_logits"][..., 0])),
        ("phrases: presence", difference(presence.flatten(), want["presence_logit_dec"].flatten())),
        ("phrases: boxes", difference(boxes, want["pred_boxes_xyxy"])),
        ("phrases: masks", difference(masks, want["pred_masks"])),
    ]


def clicks_compared(official: OfficialNetwork, ours: ClickNetwork, rgb: np.ndarray) -> list[Row]:
    want, got = official.click(rgb, PROMPTS), ours.predict(rgb, PROMPTS)
    rows = []
    for n, prompt in enumerate(PROMPTS):
        rows.append((f"{prompt.name}: score", difference(got.scores[n].cpu(), want.scores[n].cpu())))
        mask = got.mask_logits[n].clamp(-32, 32)  # as the package returns them
        rows.append((f"{prompt.name}: mask", difference(mask.cpu(), want.mask_logits[n].cpu())))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="fp32", choices=("fp64", "fp32", "tf32", "bf16"))
    parser.add_argument("--phrases", nargs="+", default=["red cup", "wooden chair with a blue cushion"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--blocks",
        type=int,
        default=32,
        choices=(8, 16, 24, 32),
        help="number of blocks in the photo encoder; fewer are faster",
    )
    parser.add_argument("--limit", type=float, help="largest relative difference allowed (1e-4; fp64: 1e-9)")
    given = parser.parse_args()
    device, double = torch.device(given.device), given.precision == "fp64"
    precision = "fp32" if double else given.precision
    limit = given.limit or LIMITS.get(given.precision, LIMIT)
    noise = np.random.default_rng(given.seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    rgb = np.asarray(Image.fromarray(noise).resize(PHOTO_PX, Image.Resampling.BICUBIC))  # soft blobs of colour

    started = time.perf_counter()
    if double:
        torch.set_default_dtype(torch.float64)
    with InDouble() if double else contextlib.nullcontext():
        model = metas(device, given.seed, given.blocks)
        official, weights = OfficialNetwork(model, device, precision), model.state_dict()
        detector = twin(Sam3Model, Sam3Config(), to_detector(weights), device, given.blocks)
        ours = ConceptNetwork(detector, MetasTokens(model.backbone.language_backbone.tokenizer), precision)
        rows = phrases_compared(official, ours, network_pixels(rgb, SIDE_PX, device), given.phrases)
        del detector, ours
        tracker = twin(Sam3TrackerModel, Sam3TrackerConfig(), to_tracker(weights), device, given.blocks)
        rows += clicks_compared(official, ClickNetwork(tracker, precision), rgb)
    print(f"{machine_line()}; PyTorch {torch.__version__}, {device.type}, {given.precision}, {given.blocks} blocks")
    print(f"{len(given.phrases)} phrases, one box, one point; {time.perf_counter() - started:.0f} s in all\n")
    print("| output | largest difference / largest value |\n|---|---|")
    for name, value in rows:
        print(f"| {name} | {value:.1e} |")
    if not max(value for _, value in rows) <= limit:
        sys.exit(f"More than {limit:g}: the two engines do not agree.")


if __name__ == "__main__":
    main()
