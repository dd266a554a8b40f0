from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sam3d_gs.sam3_networks.prediction import (  # noqa: E402
    Prediction,
    detections,
    network_pixels,
    packed_masks,
    unpacked,
)


@pytest.mark.parametrize("size", [(7, 8), (31, 45), (64, 63)])
def test_bits_packed_by_torch_are_those_of_numpy(size: tuple[int, int]) -> None:
    logits = torch.randn(11, 9, 12, generator=torch.Generator().manual_seed(0))
    plain = torch.nn.functional.interpolate(logits[None], size, mode="bilinear")[0].numpy() > 0
    bits = packed_masks(logits, size)
    assert np.array_equal(bits, np.packbits(plain, axis=2))
    assert np.array_equal(np.stack([unpacked(rows, size[1]) for rows in bits]), plain)


def test_no_mask_packs_to_nothing() -> None:
    assert packed_masks(torch.zeros(0, 4, 4), (8, 9)).shape == (0, 8, 2)


def test_what_reaches_its_threshold_and_the_best_of_every_phrase_come_out() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.6], [0.2, 0.3, 0.1]])
    masks = torch.stack([torch.full((3, 4, 4), -1.0), torch.full((3, 4, 4), 1.0)])
    found = detections(Prediction(scores, masks), [0.5, 0.5], (8, 8))
    assert sorted((d.phrase, round(d.score, 2), bool(d.mask.all())) for d in found) == [
        (0, 0.6, False),
        (0, 0.9, False),
        (1, 0.3, True),
    ]


def test_at_most_so_many_are_looked_at_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    scores = torch.rand(2, 100, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.5
    scores[1] -= 0.5
    with caplog.at_level("WARNING", "sam3d_gs"):
        found = detections(Prediction(scores, torch.zeros(2, 100, 2, 2)), [0.0, 0.0], (4, 4))
    assert len(found) == 64
    assert {d.phrase for d in found} == {0, 1}  # the best of the second one is among them
    assert "200 masks" in caplog.text


def test_scores_are_the_query_times_the_presence() -> None:
    made = Prediction.of_phrases(torch.zeros(2, 3), torch.tensor([[0.0], [100.0]]), torch.zeros(2, 3, 1, 1))
    assert made.scores.tolist() == [[0.25] * 3, [0.5] * 3]


def test_pixels_are_in_steps_of_8_bits_from_minus_one_to_one() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    rgb[:30], rgb[30:] = 0, 255
    pixels = network_pixels(rgb, 20, torch.device("cpu"))
    assert pixels.shape == (1, 3, 20, 20)
    assert (pixels.min(), pixels.max()) == (-1, 1)
    levels = (pixels + 1) * 127.5
    torch.testing.assert_close(levels, levels.round())
