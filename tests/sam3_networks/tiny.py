"""A SAM 3 of half a million random weights in transformers' own classes, saved under the hub's names. No downloads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

SIDE_PX = 112
_DECLARED: list[Any] = []  # a library of operators lives as long as its object


def sam3_classes() -> Any:
    """The transformers package; skips where it, or torchvision, is not installed."""
    torch = pytest.importorskip("torch")
    try:
        import torchvision  # noqa: F401
    except ModuleNotFoundError:
        pytest.skip("torchvision is not installed")
    except RuntimeError:  # a wheel for CUDA beside PyTorch for the CPU: the operators are declared, none is called here
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms", "roi_align"):
            library.define(f"{name}(Tensor a) -> Tensor")
        _DECLARED.append(library)
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("transformers.models.sam3")
    return transformers


def save_tiny(folder: Path) -> Path:
    """Write detector, tracker and tokenizer to `folder`."""
    transformers = sam3_classes()
    import torch
    from safetensors.torch import load_file, save_file

    torch.manual_seed(0)
    model = transformers.Sam3VideoModel(_config(transformers))
    with torch.no_grad():  # of plain initialisation every answer is the same
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(3)
        model.tracker_model.no_memory_embedding.normal_()  # zero at first
    model.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    named = {name.replace("tracker_model.tracker_model.", "tracker_model."): w for name, w in weights.items()}
    save_file(named, folder / "model.safetensors", metadata={"format": "pt"})
    _tokenizer(transformers).save_pretrained(folder)
    return folder


def _config(transformers: Any) -> Any:
    vision = {
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": SIDE_PX,
            "patch_size": 14,
            "window_size": 4,
            "global_attn_indexes": [1],
            "pretrain_image_size": 56,
        },
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    }
    small = {"hidden_size": 32, "num_attention_heads": 2}
    return transformers.Sam3VideoConfig(
        detector_config={
            "model_type": "sam3",
            "vision_config": vision,
            "text_config": {
                "model_type": "clip_text_model",
                "vocab_size": 600,
                **small,
                "intermediate_size": 64,
                "projection_dim": 16,
                "num_hidden_layers": 2,
                "max_position_embeddings": 32,
                "hidden_act": "gelu",
            },
            "geometry_encoder_config": {**small, "num_layers": 1, "intermediate_size": 64},
            "detr_encoder_config": {**small, "num_layers": 1, "intermediate_size": 64},
            "detr_decoder_config": {**small, "num_layers": 2, "intermediate_size": 64, "num_queries": 10},
            "mask_decoder_config": small,
        },
        tracker_config={
            "model_type": "sam3_tracker_video",
            "image_size": SIDE_PX,
            "vision_config": vision,
            "prompt_encoder_config": {
                "hidden_size": 32,
                "image_size": SIDE_PX,
                "patch_size": 14,
                "mask_input_channels": 4,
            },
            "mask_decoder_config": {**small, "mlp_dim": 64, "iou_head_hidden_dim": 32},
            "memory_attention_hidden_size": 32,
            "memory_attention_feed_forward_hidden_size": 64,
            "memory_attention_num_layers": 1,
            "memory_attention_rope_feat_sizes": [8, 8],
            "memory_encoder_hidden_size": 32,
            "memory_encoder_output_channels": 16,
            "mask_downsampler_embed_dim": 32,
            "memory_fuser_embed_dim": 32,
            "memory_fuser_num_layers": 1,
            "memory_fuser_intermediate_dim": 64,
        },
    )


def _tokenizer(transformers: Any) -> Any:
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(vocab={word: n for n, word in enumerate(words)}, merges=[])
