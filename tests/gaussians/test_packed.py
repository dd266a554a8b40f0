"""Quantising for web pages."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_gs.gaussians.packed import BYTES_PER_SPLAT, quantise
from sam3d_gs.types import Gaussians


def random_gaussians(n: int, seed: int) -> Gaussians:
    rng = np.random.default_rng(seed)
    quats = rng.normal(size=(n, 4))
    return Gaussians(
        means=rng.normal(0, 5, (n, 3)).astype(np.float32),
        quats=(quats / np.linalg.norm(quats, axis=1, keepdims=True)).astype(np.float32),
        log_scales=rng.uniform(-8, -2, (n, 3)).astype(np.float32),
        opacity_logits=rng.normal(0, 3, n).astype(np.float32),
        sh0=rng.normal(0, 1, (n, 3)).astype(np.float32),
    )


@settings(deadline=None, max_examples=30)
@given(n=st.integers(1, 300), seed=st.integers(0, 1000))
def test_a_reader_gets_back_what_was_packed(n: int, seed: int) -> None:
    gaussians = random_gaussians(n, seed)
    data, header = quantise(gaussians)
    assert header["n"] == n
    assert len(data) == BYTES_PER_SPLAT * n
    means = np.frombuffer(data, "<u2", 3 * n).reshape(n, 3)
    log_scales = np.frombuffer(data, np.uint8, 3 * n, 6 * n).reshape(n, 3)
    quats = np.frombuffer(data, np.int8, 4 * n, 9 * n).reshape(n, 4)
    rgba = np.frombuffer(data, np.uint8, 4 * n, 13 * n).reshape(n, 4)

    low, high = np.array(header["mean_min"]), np.array(header["mean_max"])
    span = high - low
    assert (np.abs(low + means / 65535 * span - gaussians.means) <= span / 65535 + 1e-5).all()
    low_s, high_s = header["log_scale_min"], header["log_scale_max"]
    assert isinstance(low_s, float)
    assert isinstance(high_s, float)
    np.testing.assert_allclose(low_s + log_scales / 255 * (high_s - low_s), gaussians.log_scales, atol=0.013)
    np.testing.assert_allclose(quats / 127, gaussians.quats, atol=0.5 / 127 + 1e-6)
    np.testing.assert_allclose(rgba[:, :3] / 255, gaussians.rgb, atol=0.5 / 255 + 1e-6)
    np.testing.assert_allclose(rgba[:, 3] / 255, gaussians.opacities, atol=0.5 / 255 + 1e-6)


def test_one_degenerate_splat_does_not_cost_the_others_their_sizes() -> None:
    gaussians = random_gaussians(100, 0)
    gaussians.log_scales[0] = -80
    data, header = quantise(gaussians)
    levels = np.frombuffer(data, np.uint8, 300, 600).reshape(100, 3)
    low, high = header["log_scale_min"], header["log_scale_max"]
    assert isinstance(low, float)
    assert isinstance(high, float)
    np.testing.assert_allclose((low + levels / 255 * (high - low))[1:], gaussians.log_scales[1:], atol=0.021)


def test_nothing_packs_to_nothing() -> None:
    data, header = quantise(random_gaussians(0, 0))
    assert data == b""
    assert header["n"] == 0
