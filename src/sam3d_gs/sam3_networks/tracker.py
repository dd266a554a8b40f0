"""SAM 3's tracker in transformers, which takes boxes and points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import Sam3TrackerModel

from sam3d_gs.masks.prompts import Prompt
from sam3d_gs.sam3_networks.checkpoint import load_model
from sam3d_gs.sam3_networks.device import computing
from sam3d_gs.sam3_networks.meta_compat import image_embeddings, set_norm_epsilon
from sam3d_gs.sam3_networks.prediction import Prediction, network_pixels


class ClickNetwork:
    """Sam3TrackerModel: the mask of the one object that a box or a point marks."""

    def __init__(self, model: Any, precision: str = "fp32") -> None:
        """`model`: a Sam3TrackerModel on its device."""
        self._model, self._precision = model, precision
        set_norm_epsilon(model.vision_encoder)

    @staticmethod
    def load(checkpoint: str, device: torch.device, precision: str) -> ClickNetwork:
        """From a folder or hub repository. Raises BadInputError when it does not hold SAM 3's tracker."""
        return ClickNetwork(load_model(Sam3TrackerModel, checkpoint, device), precision)

    def predict(self, rgb: np.ndarray, prompts: Sequence[Prompt]) -> Prediction:
        """One candidate per prompt for a photo, (H, W, 3) uint8; its score is the IoU that the network predicts."""
        device = self._model.device
        side_px = int(self._model.prompt_encoder.input_image_size)
        scale = torch.tensor([side_px / rgb.shape[1], side_px / rgb.shape[0]] * 2)
        with computing(device, self._precision):
            embeddings = image_embeddings(self._model, network_pixels(rgb, side_px, device))
            masks = [self._mask(embeddings, (torch.tensor(p.xy) * scale[: len(p.xy)]).to(device)) for p in prompts]
        return Prediction(torch.stack([score for score, _ in masks]), torch.stack([mask for _, mask in masks]))

    def _mask(self, embeddings: list[Tensor], xy: Tensor) -> tuple[Tensor, Tensor]:
        """Score (1,) and mask logits (1, h, w): of a box its one mask, of a point the best of its three."""
        prompt = {"input_boxes": xy[None, None]} if len(xy) == 4 else {"input_points": xy[None, None, None]}
        out = self._model(image_embeddings=embeddings, multimask_output=len(xy) == 2, **prompt)
        scores, masks = out.iou_scores[0, 0].float(), out.pred_masks[0, 0]
        best = scores.argmax()
        return scores[best].clamp(0, 1)[None], masks[best][None]
