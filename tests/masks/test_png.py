from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from sam3d_gs.masks.png import mask_png


@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (5, 9), (48, 63), (17, 640)])
def test_pillow_reads_the_same_bits(shape: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(shape) > 0.5
    with Image.open(io.BytesIO(mask_png(mask))) as image:
        image.load()  # checks the checksums
        assert image.mode == "1"
        assert np.array_equal(np.asarray(image), mask)
