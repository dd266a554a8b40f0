"""The networks of engine sam3, with transformers' own classes and random weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.sam3_networks.tiny import SIDE_PX, sam3_classes

torch = pytest.importorskip("torch")
PHRASES = ["red cup", "spoon", "a very long phrase, " * 9]


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (90, 131, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def network(tiny_sam3: Path) -> Any:
    from sam3d_gs.sam3_networks.network import ConceptNetwork

    return ConceptNetwork.load(str(tiny_sam3), torch.device("cpu"), "fp32", "plain")


def with_metas_norms(model: Any) -> Any:
    """Of the photo encoder; transformers' own are 1e-6."""
    for module in model.vision_encoder.modules():
        if type(module) is torch.nn.LayerNorm:
            assert module.eps == 1e-6
            module.eps = 1e-5
    return model


def difference(one: Any, other: Any) -> float:
    """Largest difference over largest value."""
    return float((one - other).abs().max() / other.abs().max())


def answers(network: Any, rgb: np.ndarray, texts: list[str]) -> list[Any]:
    pairs = [(prediction.scores, prediction.mask_logits) for _, prediction in network.predict(rgb, texts)]
    return [torch.cat(parts) for parts in zip(*pairs, strict=True)]


@pytest.mark.slow
def test_answers_are_those_of_the_model_with_a_padded_box(
    network: Any, tiny_sam3: Path, rgb: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A padded box makes transformers append the CLS token, as Meta's code always does."""
    from transformers.models.sam3 import modeling_sam3

    from sam3d_gs.sam3_networks.prediction import network_pixels

    def nothing(features: Any, boxes: Any, size: int) -> Any:  # what is pooled in the padded box is masked out
        return features.new_zeros(len(boxes), features.shape[1], size, size)

    monkeypatch.setattr(modeling_sam3, "torchvision", SimpleNamespace(ops=SimpleNamespace(roi_align=nothing)))
    transformers = sam3_classes()
    model = with_metas_norms(transformers.Sam3Model.from_pretrained(tiny_sam3).eval())
    tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_sam3)
    scores, masks = answers(network, rgb, PHRASES)
    plain = []
    for n, text in enumerate(PHRASES):
        tokens = tokenizer([text], padding="max_length", max_length=32, truncation=True, return_tensors="pt")
        with torch.no_grad():
            pixels = network_pixels(rgb, SIDE_PX, torch.device("cpu"))
            boxes, labels = torch.zeros(1, 1, 4), torch.full((1, 1), -10)
            want = model(pixels, **tokens, input_boxes=boxes, input_boxes_labels=labels)
            without = model(pixels, **tokens)
        expected = want.pred_logits.sigmoid() * want.presence_logits.sigmoid()
        torch.testing.assert_close(scores[n], expected[0], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(masks[n], want.pred_masks[0], rtol=1e-4, atol=1e-4)
        plain.append(float((without.pred_masks - want.pred_masks).abs().max() / want.pred_masks.abs().max()))
    assert min(plain) > 1e-3  # the token matters: without it the test would fail above


@pytest.mark.slow
def test_a_batch_is_its_phrases_one_by_one(network: Any, rgb: np.ndarray) -> None:
    texts = [f"thing {n}" for n in range(14)]  # more than are decoded at once
    together = answers(network, rgb, texts)
    alone = [torch.cat(parts) for parts in zip(*(answers(network, rgb, [text]) for text in texts), strict=True)]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_several_photos_at_once_are_the_same_as_one_by_one(network: Any, rgb: np.ndarray) -> None:
    from sam3d_gs.sam3_networks.prediction import network_pixels

    pixels = torch.cat([network_pixels(photo, SIDE_PX, network.device) for photo in (rgb, rgb[::-1])])
    with torch.no_grad():
        text, valid = network.text_features(["cup", "spoon"])
        both = network.decode(text.repeat(2, 1, 1), valid.repeat(2, 1), *network.encode(pixels))
        second = network.decode(text, valid, *network.encode(pixels[1:]))
    for one, other in zip(both, second, strict=True):
        torch.testing.assert_close(one[2:], other, rtol=1e-4, atol=1e-5)


def test_a_phrase_is_encoded_once_and_a_photo_once(network: Any, rgb: np.ndarray, monkeypatch: Any) -> None:
    model, calls = network._model, []
    encode_text, encode = model.get_text_features, model.get_vision_features

    def text_features(*given: Any, **more: Any) -> Any:
        calls.append(("text", len(given[0])))
        return encode_text(*given, **more)

    def vision_features(*given: Any, **more: Any) -> Any:
        calls.append(("photo", 1))
        return encode(*given, **more)

    monkeypatch.setattr(model, "get_text_features", text_features)
    monkeypatch.setattr(model, "get_vision_features", vision_features)
    answers(network, rgb, ["new one", "new two", "new one"])
    answers(network, rgb, ["new two"])
    assert calls == [("photo", 1), ("text", 2), ("photo", 1)]


def test_a_padded_batch_gives_the_same(tiny_sam3: Path, network: Any, rgb: np.ndarray) -> None:
    """A CUDA graph always decodes the same number of phrases."""
    from sam3d_gs.sam3_networks.network import ConceptNetwork

    padded = ConceptNetwork(network._model, network._tokenizer)
    padded._fixed_batch = True
    for one, other in zip(answers(padded, rgb, PHRASES), answers(network, rgb, PHRASES), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_bfloat16_stays_near(network: Any, rgb: np.ndarray) -> None:
    from sam3d_gs.sam3_networks.network import ConceptNetwork

    rough = ConceptNetwork(network._model, network._tokenizer, precision="bf16")
    scores, _ = answers(rough, rgb, PHRASES[:2])
    torch.testing.assert_close(scores, answers(network, rgb, PHRASES[:2])[0], atol=0.05, rtol=0.1)


@pytest.mark.slow
def test_clicks_are_those_of_the_tracker(tiny_sam3: Path, rgb: np.ndarray) -> None:
    """When it gets the image as from Meta's code: with the "no memory" embedding added to the level that is read."""
    from sam3d_gs.masks.prompts import Prompt
    from sam3d_gs.sam3_networks.prediction import network_pixels
    from sam3d_gs.sam3_networks.tracker import ClickNetwork

    model = with_metas_norms(sam3_classes().Sam3TrackerModel.from_pretrained(tiny_sam3).eval())
    clicks = ClickNetwork.load(str(tiny_sam3), torch.device("cpu"), "fp32")
    found = clicks.predict(rgb, [Prompt("box", (10.0, 20.0, 60.0, 80.0)), Prompt("point", (65.5, 45.0))])
    with torch.no_grad():
        image = model.get_image_embeddings(network_pixels(rgb, SIDE_PX, torch.device("cpu")))
        forgotten = model(image_embeddings=list(image), input_points=torch.full((1, 1, 1, 2), SIDE_PX / 2))
        image[2] = image[2] + model.no_memory_embedding.reshape(1, -1, 1, 1)
        box = torch.tensor([[[10 / 131, 20 / 90, 60 / 131, 80 / 90]]]) * SIDE_PX
        by_box = model(image_embeddings=image, input_boxes=box, multimask_output=False)
        by_point = model(image_embeddings=image, input_points=torch.full((1, 1, 1, 2), SIDE_PX / 2))
    best = int(by_point.iou_scores[0, 0].argmax())
    for mask, want in ((found.mask_logits[0, 0], by_box), (found.mask_logits[1, 0], by_point)):
        expected = want.pred_masks[0, 0, best if want is by_point else 0]
        assert difference(mask, expected) < 1e-5
    assert difference(forgotten.pred_masks, by_point.pred_masks) > 1e-3  # without it the test would fail above


def test_the_photo_encoder_has_the_norms_of_metas(tiny_sam3: Path, network: Any) -> None:
    from sam3d_gs.sam3_networks.tracker import ClickNetwork

    clicks = ClickNetwork.load(str(tiny_sam3), torch.device("cpu"), "fp32")
    for model in (network._model, clicks._model):
        norms = [module for module in model.vision_encoder.modules() if isinstance(module, torch.nn.LayerNorm)]
        assert {module.eps for module in norms} == {1e-5}


@pytest.mark.gpu
@pytest.mark.parametrize("acceleration", ["graph", "compile"])
def test_accelerated_is_the_same_as_plain(tiny_sam3: Path, rgb: np.ndarray, acceleration: str) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    from sam3d_gs.sam3_networks.network import ConceptNetwork

    plain, quick = (
        ConceptNetwork.load(str(tiny_sam3), torch.device("cuda"), "fp32", name) for name in ("plain", acceleration)
    )
    for photo in (rgb, rgb[::-1].copy()):
        for one, other in zip(answers(quick, photo, PHRASES), answers(plain, photo, PHRASES), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
