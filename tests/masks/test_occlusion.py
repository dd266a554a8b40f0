"""The union of all masks but one, against the plain way to compute it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.masks.occlusion import OtherMasks


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(1, 12), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_it_is_the_union_of_the_others(n: int, height: int, width: int, density: float, seed: int) -> None:
    masks = list(np.random.default_rng(seed).random((n, height, width)) < density)
    others = OtherMasks(masks)
    for i in range(n):
        expected = np.zeros((height, width), bool)
        for j, mask in enumerate(masks):
            if j != i:
                expected |= mask
        found = others.without(i)
        assert found.dtype == np.bool_
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("n", [255, 256, 257])
def test_the_count_does_not_overflow(n: int) -> None:
    everywhere = np.ones((2, 3), bool)
    assert OtherMasks([everywhere] * n).without(n - 1).all()


def test_a_single_mask_has_no_others() -> None:
    assert not OtherMasks([np.ones((2, 3), bool)]).without(0).any()
