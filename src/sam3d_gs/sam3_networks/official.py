"""SAM 3 in Meta's own package: the photo is encoded once and its phrases are decoded in batches.

The package's processor takes one phrase at a time. Its model takes many, so it is called directly here.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sam3.model.data_misc import FindStage
from sam3.model_builder import build_sam3_image_model
from torch import Tensor
from torch.overrides import TorchFunctionMode

from sam3d_gs.errors import BadInputError
from sam3d_gs.masks.prompts import Prompt
from sam3d_gs.sam3_networks.device import computing
from sam3d_gs.sam3_networks.prediction import Prediction, network_pixels

SIDE_PX = 1008  # the package's models are built for this size
FILE = "sam3.pt"
_BATCH = 12  # phrases decoded together
# Prefixes of weight names in the file -> in the model.
_PREFIXES = {"detector.": "", "tracker.": "inst_interactive_predictor.model."}
_UNUSED = re.compile(r"convs\.3\.")  # a coarser feature level that nothing reads; SAM 3.1 has none


class _CudaMeansCpu(TorchFunctionMode):
    """Replace "cuda" by "cpu": the package hard-codes it in places where it means the model's device."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function is torch.Tensor.pin_memory:  # it speeds up copies to a GPU
            return args[0]
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = "cpu"
        return function(*args, **kwargs)


def on_device(device: torch.device) -> AbstractContextManager[Any]:
    """A context in which the package's code runs on `device`, also on the CPU."""
    return nullcontext() if device.type == "cuda" else _CudaMeansCpu()


class OfficialNetwork:
    """Sam3Image: masks of all objects that a phrase names, or of the one that a box or a point marks."""

    def __init__(self, model: Any, device: torch.device, precision: str = "fp32") -> None:
        """`model`: a Sam3Image on `device`; boxes and points need one built with its interactive predictor."""
        self.device, self.precision, self.model = device, precision, model
        self._texts: dict[str, tuple[Tensor, Tensor]] = {}

    @staticmethod
    def load(checkpoint: str, device: torch.device, precision: str, clicks: bool) -> OfficialNetwork:
        """From a folder with sam3.pt, that file, or a hub repository. Raises BadInputError when there is none."""
        return OfficialNetwork(build_model(_weights(checkpoint), device, clicks), device, precision)

    def predict(self, rgb: np.ndarray, texts: Sequence[str]) -> Iterator[tuple[int, Prediction]]:
        """(position of the first phrase, prediction) for each batch of phrases about a photo, (H, W, 3) uint8."""
        with on_device(self.device), computing(self.device, self.precision):
            photo = self.model.backbone.forward_image(network_pixels(rgb, SIDE_PX, self.device))
        for start in range(0, len(texts), _BATCH):
            with on_device(self.device), computing(self.device, self.precision):
                out = self.ground(photo, texts[start : start + _BATCH])
                prediction = Prediction.of_phrases(
                    out["pred_logits"][..., 0], out["presence_logit_dec"], out["pred_masks"]
                )
            yield start, prediction

    def ground(self, photo: dict[str, Any], texts: Sequence[str]) -> dict[str, Tensor]:
        """The model's raw outputs for N phrases about one encoded photo."""
        features, padding = self._text_features(texts)
        indices = torch.arange(len(texts), device=self.device)
        return self.model.forward_grounding(
            backbone_out={**photo, "language_features": features, "language_mask": padding},
            find_input=FindStage(
                img_ids=torch.zeros_like(indices),
                text_ids=indices,
                input_boxes=None,
                input_boxes_mask=None,
                input_boxes_label=None,
                input_points=None,
                input_points_mask=None,
            ),
            geometric_prompt=self.model._get_dummy_prompt(num_prompts=len(texts)),
            find_target=None,
        )

    def _text_features(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """(L, N, C) features and (N, L) bool, True for padding; each phrase is encoded once and remembered."""
        new = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if new:
            out = self.model.backbone.forward_text(new, device=self.device)
            for n, text in enumerate(new):
                self._texts[text] = out["language_features"][:, n], out["language_mask"][n]
        found = [self._texts[text] for text in texts]
        return torch.stack([feature for feature, _ in found], 1), torch.stack([padding for _, padding in found])

    def click(self, rgb: np.ndarray, prompts: Sequence[Prompt]) -> Prediction:
        """One candidate per box or point; its score is the IoU that the network predicts."""
        with on_device(self.device), computing(self.device, self.precision):
            photo = self.model.backbone.forward_image(network_pixels(rgb, SIDE_PX, self.device))
            levels, decoder = photo["sam2_backbone_out"]["backbone_fpn"], self._predictor.model.sam_mask_decoder
            levels[0], levels[1] = decoder.conv_s0(levels[0]), decoder.conv_s1(levels[1])
            state = {"original_height": rgb.shape[0], "original_width": rgb.shape[1], "backbone_out": photo}
            masks = [self._mask(state, prompt) for prompt in prompts]
        return Prediction(torch.stack([score for score, _ in masks]), torch.stack([mask for _, mask in masks]))

    @property
    def _predictor(self) -> Any:
        return self.model.inst_interactive_predictor

    def _mask(self, state: dict[str, Any], prompt: Prompt) -> tuple[Tensor, Tensor]:
        """Score (1,) and mask logits (1, h, w): of a box its one mask, of a point the best of its three."""
        xy = np.array(prompt.xy, np.float32)
        inputs = {"box": xy} if prompt.is_box else {"point_coords": xy[None], "point_labels": np.ones(1, np.int32)}
        _, scores, logits = self.model.predict_inst(state, multimask_output=not prompt.is_box, **inputs)
        best = int(scores.argmax())
        return torch.tensor([float(scores[best])]).clamp(0, 1), torch.from_numpy(logits[best : best + 1])


class OfficialClicks:
    """`OfficialNetwork.click` behind the interface of a `PromptNetwork`."""

    def __init__(self, network: OfficialNetwork) -> None:
        self._network = network

    def predict(self, rgb: np.ndarray, prompts: Sequence[Prompt]) -> Prediction:
        return self._network.click(rgb, prompts)


def build_model(weights: Path | None, device: torch.device, clicks: bool) -> Any:
    """The package's Sam3Image in eval mode; its weights are random without a file. Raises BadInputError."""
    with on_device(device):
        model = build_sam3_image_model(
            device=device.type, checkpoint_path=None, load_from_HF=False, enable_inst_interactivity=clicks
        )
    if weights is not None:
        _load(model, weights)
    if clicks:  # else it fills holes in masks at photo size, which are not used here, and needs more packages for that
        model.inst_interactive_predictor._transforms.max_hole_area = 0
    return model.eval().to(device)


def _load(model: Any, path: Path) -> None:
    """Load the weights of the release's sam3.pt. Raises BadInputError when some are missing.

    The package's own loader silently leaves random weights where names do not match, as in checkpoints of its training.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BadInputError(f"Cannot read {path}: {reason}. Download {FILE} again.") from error
    found = found.get("model", found) if isinstance(found, dict) else {}
    weights = {
        f"{new_prefix}{name.removeprefix(prefix)}": weight
        for prefix, new_prefix in _PREFIXES.items()
        for name, weight in found.items()
        if name.startswith(prefix)
    }
    missing = set(model.load_state_dict(weights, strict=False).missing_keys)
    lacking = sorted(name for name, _ in model.named_parameters() if name in missing and not _UNUSED.search(name))
    if lacking:
        raise BadInputError(
            f"{path} lacks {len(lacking)} weights of SAM 3, e.g. {lacking[0]}. Give --sam3 the release's {FILE}."
        )


def _weights(checkpoint: str) -> Path:
    path = Path(checkpoint)
    if path.is_file():
        return path
    if path.is_dir():
        if (path / FILE).is_file():
            return path / FILE
        raise BadInputError(
            f"No {FILE} in {path}. Give the folder that has it with --sam3 DIR, or --sam3 facebook/sam3."
        )
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(checkpoint, FILE))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BadInputError(
            f"Cannot get {FILE} of {checkpoint}: {reason}. Ask for access at https://huggingface.co/{checkpoint}, "
            "log in with `hf auth login`, or give a folder with --sam3 DIR."
        ) from error
