"""SAM 3 in transformers: the photo is encoded once, and its phrases are decoded in one batch.

Meta's code appends the geometry encoder's CLS token to every phrase. It depends on the photo alone, so it is computed
once per photo and appended to the text features of every phrase.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Sam3Model
from transformers.modeling_outputs import BaseModelOutputWithPooling
from transformers.models.sam3.modeling_sam3 import Sam3VisionEncoderOutput

from sam3d_gs.sam3_networks.checkpoint import load_model, load_tokenizer
from sam3d_gs.sam3_networks.device import computing
from sam3d_gs.sam3_networks.graph import accelerated
from sam3d_gs.sam3_networks.meta_compat import cls_token, set_norm_epsilon
from sam3d_gs.sam3_networks.prediction import Prediction, network_pixels

SLOTS = 12  # phrases decoded at once; a captured or compiled network always decodes this many


class ConceptNetwork:
    """Sam3Model: masks of all objects that a phrase names."""

    def __init__(self, model: Any, tokenizer: Any, precision: str = "fp32", acceleration: str = "plain") -> None:
        """`model`: a Sam3Model on its device; `tokenizer`: its CLIP tokenizer."""
        self.device: torch.device = model.device
        self.side_px = int(model.config.vision_config.image_size)
        self.precision = precision
        self._model, self._tokenizer = model, tokenizer
        self.encode = accelerated(self._encode, acceleration, self.device)
        self.decode = accelerated(self._decode, acceleration, self.device)
        self._fixed_batch = self.decode != self._decode
        self._texts: dict[str, tuple[Tensor, Tensor]] = {}
        set_norm_epsilon(model.vision_encoder)
        _keep_sizes_on_the_host(model.detr_encoder)

    @staticmethod
    def load(checkpoint: str, device: torch.device, precision: str, acceleration: str) -> ConceptNetwork:
        """From a folder or hub repository. Raises BadInputError when it does not hold SAM 3."""
        tokenizer = load_tokenizer(checkpoint)
        return ConceptNetwork(load_model(Sam3Model, checkpoint, device), tokenizer, precision, acceleration)

    def predict(self, rgb: np.ndarray, texts: Sequence[str]) -> Iterator[tuple[int, Prediction]]:
        """(position of the first phrase, prediction) for up to SLOTS phrases at a time about a photo, (H, W, 3) uint8.

        A prediction is valid until the next one is asked for.
        """
        with computing(self.device, self.precision):
            photo = self.encode(network_pixels(rgb, self.side_px, self.device))
        for start in range(0, len(texts), SLOTS):
            batch = list(texts[start : start + SLOTS])
            padding = SLOTS - len(batch) if self._fixed_batch else 0
            with computing(self.device, self.precision):
                logits, presence, masks, _ = self.decode(*self.text_features(batch + padding * batch[:1]), *photo)
                prediction = Prediction.of_phrases(logits[: len(batch)], presence[: len(batch)], masks[: len(batch)])
            yield start, prediction

    def text_features(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(N, L, C) features and (N, L) bool, True for text; each phrase is encoded once and remembered."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if new:
            tokens = self._tokenizer(
                new,
                padding="max_length",
                max_length=self._model.config.text_config.max_position_embeddings,
                truncation=True,
                return_tensors="pt",
            ).to(self.device)
            features = self._model.get_text_features(tokens.input_ids, tokens.attention_mask, return_dict=True)
            for text, feature, valid in zip(new, features.pooler_output, tokens.attention_mask.bool(), strict=True):
                self._texts[text] = feature, valid
        found = [self._texts[text] for text in texts]
        return torch.stack([feature for feature, _ in found]), torch.stack([valid for _, valid in found])

    def _encode(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, side, side) photos -> three levels of features, their position encodings, and CLS tokens (B, 1, C)."""
        seen = self._model.get_vision_features(pixel_values=pixels)
        features, positions = seen.fpn_hidden_states[:3], seen.fpn_position_encoding[:3]
        return (*features, *positions, cls_token(self._model.geometry_encoder, features[-1], positions[-1]))

    def _decode(self, text: Tensor, valid: Tensor, *photo: Tensor) -> tuple[Tensor, ...]:
        """Decode N phrases, as of `text_features`, (B N, ...), for each of B photos, as of `_encode`.

        Returns logits (B N, Q), presence (B N, 1), mask logits (B N, Q, h, w) and boxes (B N, Q, 4) xyxy in 0..1.
        """
        photo = tuple(_repeated(tensor, len(text) // len(tensor)) for tensor in photo)
        features, positions, cls = photo[:3], photo[3:6], photo[6]
        # The model ignores the last level that it is given.
        vision = Sam3VisionEncoderOutput(
            fpn_hidden_states=(*features, features[-1]), fpn_position_encoding=(*positions, positions[-1])
        )
        out = self._model(
            vision_embeds=vision,
            text_embeds=BaseModelOutputWithPooling(pooler_output=torch.cat([text, cls.to(text.dtype)], dim=1)),
            attention_mask=torch.cat([valid, valid.new_ones(len(valid), 1)], dim=1),
        )
        return out.pred_logits, out.presence_logits, out.pred_masks, out.pred_boxes


def _repeated(tensor: Tensor, times: int) -> Tensor:
    """Every row `times` times; a single row is not copied."""
    return tensor.expand(times, *tensor.shape[1:]) if len(tensor) == 1 else tensor.repeat_interleave(times, 0)


def _keep_sizes_on_the_host(encoder: Any) -> None:
    """Make `encoder`, a Sam3DetrEncoder, return the size of its feature map on the host.

    The decoder reads it: from the device it would have to wait for it, and could not be captured in a CUDA graph.
    """

    def flatten_with_sizes(features: list[Tensor], positions: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        flat = [
            torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1) for levels in (features, positions)
        ]
        return flat[0], flat[1], torch.tensor([level.shape[-2:] for level in features])

    encoder._prepare_multilevel_features = flatten_with_sizes
