"""Speed and memory of engine `sam3` at full size, with random weights, compared with the usual scheme.

    python benchmarks/sam3_gpu.py                  # on an NVIDIA GPU, about a minute
    python benchmarks/sam3_gpu.py --compile        # also torch.compile, which takes minutes to warm up
    python benchmarks/sam3_gpu.py --size tiny --device cpu   # tests the script

The usual scheme runs the whole network for every phrase and writes PNG files with Pillow. Speed does not depend on the
values of the weights. The masks to write are generated here, to have a known number. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import machine_line
from PIL import Image
from torch import Tensor
from transformers import BatchEncoding, Sam3Config, Sam3Model

from sam3d_gs.masks.detections import select_objects
from sam3d_gs.masks.files import write_masks
from sam3d_gs.options import Sam3Options
from sam3d_gs.sam3_networks.device import choose_precision, computing
from sam3d_gs.sam3_networks.network import SLOTS, ConceptNetwork
from sam3d_gs.sam3_networks.prediction import Prediction, detections, network_pixels
from sam3d_gs.types import Phrase
from sam3d_gs.workspace import Workspace

PHOTO_PX = (1536, 2048)
PHRASES = [f"thing {n}" for n in range(SLOTS)]
MASKS = 60
PHOTOS = 4
REPEATS = 7
TINY = {
    "vision_config": {
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 112,
            "window_size": 4,
            "global_attn_indexes": [1],
            "pretrain_image_size": 56,
        },
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    },
    "text_config": {
        "model_type": "clip_text_model",
        "vocab_size": 600,
        "hidden_size": 32,
        "intermediate_size": 64,
        "projection_dim": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
    },
    "geometry_encoder_config": {"hidden_size": 32, "num_attention_heads": 2, "num_layers": 1},
    "detr_encoder_config": {"hidden_size": 32, "num_attention_heads": 2, "num_layers": 1},
    "detr_decoder_config": {"hidden_size": 32, "num_attention_heads": 2, "num_layers": 2, "num_queries": 10},
    "mask_decoder_config": {"hidden_size": 32, "num_attention_heads": 2},
}


@dataclass(frozen=True)
class Timed:
    """A median time and the peak GPU memory."""

    ms: float
    peak_gib: float | None

    @property
    def row(self) -> str:
        return f"{self.ms:.1f} | " + ("" if self.peak_gib is None else f"{self.peak_gib:.1f}")


def timed(work: Callable[[], object], device: torch.device, repeats: int, per: int = 1) -> Timed:
    """Median time of several calls after two to warm up, divided by `per` photos."""
    cuda = device.type == "cuda"
    for _ in range(2):
        work()
    if cuda:
        torch.cuda.reset_peak_memory_stats(device)
    took = []
    for _ in range(repeats):
        if cuda:
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        work()
        if cuda:
            torch.cuda.synchronize(device)
        took.append(time.perf_counter() - started)
    peak = torch.cuda.max_memory_allocated(device) / (1 << 30) if cuda else None
    return Timed(statistics.median(took) * 1000 / per, peak)


class Tokens:
    """A tokenizer that needs no vocabulary: ids of letters. The network's speed does not depend on the text."""

    def __call__(self, texts: list[str], max_length: int, **_: Any) -> BatchEncoding:
        ids = torch.zeros(len(texts), max_length, dtype=torch.long)
        for row, text in zip(ids, texts, strict=True):
            letters = [3, *(4 + ord(letter) % 64 for letter in text), 2][:max_length]
            row[: len(letters)] = torch.tensor(letters)
        return BatchEncoding({"input_ids": ids, "attention_mask": (ids != 0).long()})


def usual_scheme(network: ConceptNetwork, pixels: Tensor) -> list[Tensor]:
    """Run the whole network for every phrase."""
    masks = []
    for phrase in PHRASES:
        network._texts.clear()
        with computing(network.device, network.precision):
            text, valid = network.text_features([phrase])
            masks.append(network.decode(text, valid, *network.encode(pixels))[2])
    return masks


def our_scheme(network: ConceptNetwork, pixels: Tensor) -> tuple[Tensor, ...]:
    """Encode all photos (B, 3, side, side) once, then all phrases of each in one batch."""
    with computing(network.device, network.precision):
        text, valid = network.text_features(PHRASES)
        return network.decode(text.repeat(len(pixels), 1, 1), valid.repeat(len(pixels), 1), *network.encode(pixels))


def shapes(side: int, device: torch.device) -> Prediction:
    """MASKS discs, five per phrase, with scores above the threshold, among many below it."""
    each = MASKS // len(PHRASES)
    yy, xx = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    logits = torch.full((len(PHRASES), 2 * each, side, side), -1.0)
    for n in range(len(PHRASES) * each):
        cy, cx = (n // 10 + 0.5) * side / 6, (n % 10 + 0.5) * side / 10
        logits[n // each, n % each] = 0.04 * side - ((yy - cy) ** 2 + (xx - cx) ** 2).sqrt()
    scores = torch.zeros(len(PHRASES), 2 * each)
    scores[:, :each] = 0.9
    return Prediction(scores.to(device), logits.to(device))


def usual_output(answers: Prediction, folder: Path) -> None:
    """Resize, threshold, copy as booleans, and write with Pillow, as most programs do."""
    keep = answers.scores > 0.5
    sized = torch.nn.functional.interpolate(answers.mask_logits[keep][None].float(), PHOTO_PX, mode="bilinear")[0]
    for n, mask in enumerate((sized > 0).cpu().numpy()):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{n}.png")


def our_output(answers: Prediction, workspace: Workspace) -> None:
    phrases = [Phrase(n, text) for n, text in enumerate(PHRASES)]
    options = Sam3Options(score_threshold=0.5, max_objects=MASKS)
    found = detections(answers, [0.5] * len(phrases), PHOTO_PX)
    write_masks(workspace, select_objects(found, phrases, options), "sam3")


def networks(size: str, device: torch.device, precision: str, compiled: bool) -> dict[str, ConceptNetwork]:
    torch.manual_seed(0)
    config = Sam3Config(**TINY) if size == "tiny" else Sam3Config()
    with torch.device(device):
        model = Sam3Model(config).eval()
    kinds = ["plain", *(["graph"] if device.type == "cuda" else []), *(["compile"] if compiled else [])]
    return {kind: ConceptNetwork(model, Tokens(), precision, kind) for kind in kinds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", choices=("full", "tiny"), default="full")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "tf32", "bf16"))
    parser.add_argument("--compile", action="store_true", help="also time torch.compile")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    given = parser.parse_args()
    device = torch.device(given.device)
    precision = choose_precision(given.precision, device)
    made = networks(given.size, device, precision, given.compile)
    plain = made["plain"]
    rgb = np.random.default_rng(0).integers(0, 256, (*PHOTO_PX, 3), dtype=np.uint8)
    pixels = network_pixels(rgb, plain.side_px, device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else machine_line()
    print(f"{card}; PyTorch {torch.__version__}, {precision}, {given.size} size, random weights, {SLOTS} phrases\n")

    print("| network | ms per photo | peak GiB |\n|---|---|---|")
    row = timed(lambda: usual_scheme(plain, pixels), device, max(given.repeats // 2, 1)).row
    print(f"| whole network for every phrase (usual) | {row} |")
    for kind, network in made.items():
        row = timed(lambda network=network: our_scheme(network, pixels), device, given.repeats).row  # type: ignore[misc]
        print(f"| one encoding, one batch, {kind} | {row} |")
        many = pixels.repeat(PHOTOS, 1, 1, 1)
        row = timed(
            lambda network=network: our_scheme(network, many),  # type: ignore[misc]  # noqa: B023
            device,
            given.repeats,
            PHOTOS,
        ).row
        print(f"| the same, {PHOTOS} photos in one batch | {row} |")

    answers = shapes(288, device)
    quick = made.get("graph", plain)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder), "photo")

        def whole() -> None:
            our_scheme(quick, network_pixels(rgb, plain.side_px, device))
            our_output(answers, workspace)

        print(f"\n| {MASKS} masks of {PHOTO_PX[1]} x {PHOTO_PX[0]} px to PNG files | ms | peak GiB |\n|---|---|---|")
        print(
            f"| booleans copied, Pillow (usual) | {timed(lambda: usual_output(answers, Path(folder)), device, 3).row} |"
        )
        print(f"| bits, chosen among, threads | {timed(lambda: our_output(answers, workspace), device, 3).row} |")
        print(
            f"| decoded photo to PNG files, {'graph' if 'graph' in made else 'plain'} | {timed(whole, device, 3).row} |"
        )


if __name__ == "__main__":
    main()
