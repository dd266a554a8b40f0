"""Engine sam3-official against a mock of Meta's package with its names, layouts and quirks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sam3d_gs.errors import BadInputError
from sam3d_gs.types import Photo, Phrase

torch = pytest.importorskip("torch")


@dataclass
class FindStage:
    img_ids: Any
    text_ids: Any
    input_boxes: Any
    input_boxes_mask: Any
    input_boxes_label: Any
    input_points: Any
    input_points_mask: Any


@dataclass
class Backbone:
    calls: list[tuple[str, int]] = field(default_factory=list)

    def forward_image(self, pixels: Any) -> dict[str, Any]:
        assert pixels.shape == (1, 3, 1008, 1008) and pixels.dtype == torch.float32
        assert pixels.min() >= -1 and pixels.max() <= 1
        self.calls.append(("photo", 1))
        levels = [torch.zeros(1, 4, 8 // 2**n, 8 // 2**n) for n in range(3)]
        return {"backbone_fpn": levels, "sam2_backbone_out": {"backbone_fpn": list(levels)}}

    def forward_text(self, texts: list[str], device: Any) -> dict[str, Any]:
        self.calls.append(("text", len(texts)))
        lengths = torch.tensor([[float(len(text))] for text in texts])
        return {
            "language_features": lengths[None].repeat(5, 1, 1),  # sequence first
            "language_mask": torch.arange(5)[None] >= torch.tensor([[len(t.split())] for t in texts]),
        }


class Model(torch.nn.Module):
    """One mask a phrase: as many columns from the left as the phrase has letters; the second query answers nothing."""

    def __init__(self, clicks: bool) -> None:
        super().__init__()
        self.backbone = Backbone()
        twice = SimpleNamespace(conv_s0=lambda level: level + 1, conv_s1=lambda level: level + 1)
        self.inst_interactive_predictor = (
            SimpleNamespace(
                model=SimpleNamespace(sam_mask_decoder=twice), _transforms=SimpleNamespace(max_hole_area=256.0)
            )
            if clicks
            else None
        )
        self.scale = torch.nn.Parameter(torch.zeros(1))
        # as upstream: built with "cuda" named, whatever device is meant
        self.position = torch.zeros(1, device="cuda")

    def _get_dummy_prompt(self, num_prompts: int = 1) -> Any:
        return SimpleNamespace(prompts=num_prompts, scale=torch.ones(4).pin_memory())

    def forward_grounding(
        self, backbone_out: Any, find_input: FindStage, find_target: Any, geometric_prompt: Any
    ) -> dict[str, Any]:
        n = len(find_input.text_ids)
        assert find_input.img_ids.tolist() == [0] * n and geometric_prompt.prompts == n and find_target is None
        letters = backbone_out["language_features"][0, find_input.text_ids, 0]
        assert backbone_out["language_mask"][find_input.text_ids].shape == (n, 5)
        columns = torch.where(torch.arange(32)[None] < letters[:, None], 5.0, -5.0)
        masks = torch.stack([columns[:, None].expand(n, 32, 32), torch.full((n, 32, 32), -5.0)], 1)
        logits = torch.tensor([[5.0], [-5.0]]).expand(n, 2, 1)
        return {"pred_logits": logits, "presence_logit_dec": torch.full((n, 1), 5.0), "pred_masks": masks}

    def predict_inst(self, state: Any, multimask_output: bool, **asked: Any) -> Any:
        assert (state["original_height"], state["original_width"]) == (64, 64)
        levels = state["backbone_out"]["sam2_backbone_out"]["backbone_fpn"]
        assert [float(level.mean()) for level in levels] == [1, 1, 0]  # as set_image prepares them, once
        assert multimask_output == ("point_coords" in asked)
        assert self.inst_interactive_predictor._transforms.max_hole_area == 0  # else it wants scikit-image, or warns
        logits = np.full((3 if multimask_output else 1, 16, 16), -5.0, np.float32)
        x, y = (asked["box"][:2] if "box" in asked else asked["point_coords"][0]) / 4
        logits[-1, int(y) : int(y) + 4, int(x) : int(x) + 4] = 5
        return None, np.linspace(0.1, 0.9, len(logits), dtype=np.float32), logits


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The mocked package. Returns the arguments of the models it built."""
    asked: list[dict[str, Any]] = []

    def build_sam3_image_model(**given: Any) -> Model:
        asked.append(given)
        return Model(given["enable_inst_interactivity"])

    for name, content in {
        "sam3": {},
        "sam3.model": {},
        "sam3.model.data_misc": {"FindStage": FindStage},
        "sam3.model_builder": {"build_sam3_image_model": build_sam3_image_model},
    }.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    ours = ("sam3d_gs.sam3_networks.official", "sam3d_gs.engines.masks_sam3_official")
    for name in ours:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield asked
    for name in ours:
        sys.modules.pop(name, None)


@pytest.fixture
def photo(tmp_path: Path) -> Photo:
    return Photo(tmp_path / "p.png", "p", np.zeros((64, 64, 3), np.uint8), "0" * 64)


def engine(tmp_path: Path, **options: Any) -> Any:
    from sam3d_gs.engines.registry import choose

    if not (tmp_path / "sam3.pt").exists():
        torch.save({"detector.scale": torch.ones(1)}, tmp_path / "sam3.pt")
    given = {"score_threshold": 0.5, "border_filter": False, "device": "cpu", "sam3": str(tmp_path), **options}
    return choose("masks", "sam3-official", **given).load()


@pytest.mark.slow
def test_phrases_in_one_batch_on_one_encoding(built: list[dict[str, Any]], photo: Photo, tmp_path: Path) -> None:
    made = engine(tmp_path)
    phrases = [Phrase(0, "cup"), Phrase(1, "wooden chair of oak")]
    found = made.masks(photo, phrases)
    assert [(mask.object_id, mask.dropped) for mask in found] == [
        ("00-cup-0", None),
        ("01-wooden-chair-of-oak-0", None),
    ]
    assert found[0].area_px == 6 * 64  # three of 32 columns; the chair's mask gave them up
    assert found[1].area_px == (38 - 6) * 64
    assert made._network.model.backbone.calls == [("photo", 1), ("text", 2)]
    assert made._network.model.scale.tolist() == [1]
    assert built[0]["load_from_HF"] is False and built[0]["enable_inst_interactivity"] is False
    made.masks(photo, phrases[1:])
    assert made._network.model.backbone.calls[2:] == [("photo", 1)]  # texts are kept
    made.close()


def test_boxes_and_points(built: list[dict[str, Any]], photo: Photo, tmp_path: Path) -> None:
    made = engine(tmp_path, boxes=((8.0, 8.0, 20.0, 20.0),), points=((40.0, 44.0),))
    box, point = made.masks(photo, [])
    assert built[0]["enable_inst_interactivity"] is True
    assert (box.object_id, box.box_xyxy[:2]) == ("00-object-at-14-14-0", (8, 8))
    assert (point.object_id, point.box_xyxy[:2]) == ("01-object-at-40-44-0", (40, 44))
    assert point.score == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"scale": 1.0}, r"sam3\.pt lacks 1 weights of SAM 3, e\.g\. scale\. Give --sam3 the release's sam3\.pt"),
        (b"<html>not found</html>", r"Cannot read .*sam3\.pt: .*Download sam3\.pt again"),
        (b"", r"Cannot read .*sam3\.pt"),
    ],
    ids=["names of a training", "no checkpoint", "empty"],
)
def test_a_file_that_does_not_hold_sam3(
    built: list[dict[str, Any]], tmp_path: Path, content: bytes | dict[str, float], says: str
) -> None:
    if isinstance(content, bytes):
        (tmp_path / "sam3.pt").write_bytes(content)
    else:
        torch.save({name: torch.full((1,), value) for name, value in content.items()}, tmp_path / "sam3.pt")
    with pytest.raises(BadInputError, match=says) as error:
        engine(tmp_path)
    assert "\n" not in str(error.value)


def test_no_checkpoint_in_the_folder(built: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInputError, match=r"No sam3\.pt in .*empty"):
        engine(tmp_path, sam3=str(tmp_path / "empty"))
