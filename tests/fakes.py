"""Fake engines that return what a test gives them and record their calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sam3d_gs.engines.api import FailedObject
from sam3d_gs.engines.registry import EngineChoice
from sam3d_gs.engines.spec import EngineSpec
from sam3d_gs.option_flags import EngineOptions
from sam3d_gs.options import EmbeddedObjectOptions, MaskOptions, PhraseOptions
from sam3d_gs.types import Gaussians, InstanceMask, Photo, Phrase, PlacedObject, Pose
from sam3d_gs.workspace import object_id

OPTIONS: Mapping[str, type[EngineOptions]] = {
    "phrases": PhraseOptions,
    "masks": MaskOptions,
    "objects": EmbeddedObjectOptions,
}


def fake_choice(stage: str, own_mask_only: bool = False, **options: Any) -> EngineChoice:
    """An engine called "fake" with the options of the embedded one."""
    spec = EngineSpec(
        stage, "fake", "", OPTIONS[stage], own_mask_only=own_mask_only, licences=lambda options: {"fake words": "CC0"}
    )
    return EngineChoice(spec, OPTIONS[stage](**options))


@dataclass
class FakePhrases:
    texts: Sequence[str] = ("red cup", "spoon")
    calls: list[str] = field(default_factory=list)

    def phrases(self, photo: Photo) -> list[Phrase]:
        self.calls.append(photo.name)
        return [Phrase(i, text, 0.9) for i, text in enumerate(self.texts)]


@dataclass
class FakeMasks:
    """A square for each phrase, side by side; with `drop` (the reason) the last one is dropped."""

    drop: str | None = None
    calls: list[tuple[str, ...]] = field(default_factory=list)

    def masks(self, photo: Photo, phrases: Sequence[Phrase]) -> list[InstanceMask]:
        self.calls.append(tuple(phrase.text for phrase in phrases))
        found = []
        step = photo.width_px // max(1, len(phrases))
        for phrase in phrases:
            mask = np.zeros((photo.height_px, photo.width_px), dtype=bool)
            left = phrase.number * step
            mask[photo.height_px // 4 : photo.height_px * 3 // 4, left + step // 8 : left + step * 7 // 8] = True
            reason = self.drop if self.drop and phrase is phrases[-1] else None
            found.append(InstanceMask(object_id(phrase.number, phrase.text, 0), phrase.text, mask, 0.8, dropped=reason))
        return found


def ball(n: int = 400, rgb: tuple[float, float, float] = (0.8, 0.2, 0.1), seed: int = 0) -> Gaussians:
    """Opaque Gaussians on a sphere of diameter 1 about the origin."""
    points = np.random.default_rng(seed).normal(size=(n, 3))
    points = 0.5 * points / np.linalg.norm(points, axis=1, keepdims=True)
    return Gaussians(
        means=points.astype(np.float32),
        quats=np.tile(np.float32([1, 0, 0, 0]), (n, 1)),
        log_scales=np.full((n, 3), np.log(0.05), np.float32),
        opacity_logits=np.full(n, 4.0, np.float32),
        sh0=np.tile(((np.array(rgb) - 0.5) / 0.28209479).astype(np.float32), (n, 1)),
    )


@dataclass
class FakeObjects:
    """A ball at the centre of each mask, as large as the mask."""

    fail: Sequence[str] = ()  # object ids that fail
    stop_after: int | None = None  # raise KeyboardInterrupt after this many objects
    requests: list[tuple[str, ...]] = field(default_factory=list)

    def objects(
        self, photo: Photo, masks: Sequence[InstanceMask], wanted: Sequence[str]
    ) -> Iterator[PlacedObject | FailedObject]:
        self.requests.append(tuple(wanted))
        focal_px, depth = float(photo.width_px), 4.0
        K = np.array([[focal_px, 0, photo.width_px / 2], [0, focal_px, photo.height_px / 2], [0, 0, 1]])
        for made, mask in enumerate(m for m in masks if m.object_id in wanted):
            if self.stop_after is not None and made >= self.stop_after:
                raise KeyboardInterrupt
            if mask.object_id in self.fail:
                yield FailedObject(mask.object_id, "fails on purpose")
                continue
            x0, y0, x1, y1 = mask.box_xyxy
            middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2, 1.0])
            translation = np.linalg.inv(K) @ middle * depth
            scale = max(x1 - x0, y1 - y0) / focal_px * depth
            pose = Pose(np.array([1.0, 0, 0, 0]), translation, float(scale))
            yield PlacedObject(
                mask.object_id,
                mask.phrase,
                ball(seed=made),
                pose,
                K,
                (photo.width_px, photo.height_px),
                scores={"mask": mask.score},
                engine="fake",
            )
