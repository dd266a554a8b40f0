"""Windowed attention against attention with a dense mask over all pairs of voxels."""

from itertools import pairwise

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sam3d_gs.sam3d_torch import windows as module
from sam3d_gs.sam3d_torch.windows import attend, attend_in_buckets, partition


@st.composite
def scenes(draw):
    """Distinct voxels in any order, and a partition: (coords, resolution, window, shift)."""
    resolution, window = draw(st.integers(2, 9)), draw(st.integers(1, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    coords = torch.argwhere(torch.ones((resolution,) * 3)).int()
    count = draw(st.integers(1, min(len(coords), 150)))
    return coords[torch.randperm(len(coords), generator=generator)[:count]], resolution, window, draw(st.integers(0, 4))


def random_heads(count, heads=2, channels=8, seed=0):
    return torch.randn(3, count, heads, channels, generator=torch.Generator().manual_seed(seed)).unbind()


def with_dense_mask(q, k, v, coords, window, shift):
    cell = (coords + shift) // window
    same = (cell[:, None] == cell[None]).all(-1)
    return F.scaled_dot_product_attention(*(t.transpose(0, 1) for t in (q, k, v)), attn_mask=same).transpose(0, 1)


def varlen_by_loop(q, k, v, q_offsets, k_offsets, longest_q, longest_k):
    """What a variable-length kernel promises: sequence i is offsets[i]:offsets[i + 1], and may be empty."""
    assert q_offsets.dtype == k_offsets.dtype == torch.int32
    assert int(q_offsets.diff().max()) <= longest_q and int(k_offsets.diff().max()) <= longest_k
    out = torch.full_like(q, torch.nan)
    for start, end in pairwise(q_offsets.tolist()):
        scores = torch.einsum("qhd,khd->hqk", q[start:end], k[start:end]) / q.shape[-1] ** 0.5
        out[start:end] = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v[start:end])
    return out


@given(scenes())
@settings(max_examples=60, deadline=None)
def test_equals_attention_with_a_dense_mask(scene):
    coords, resolution, window, shift = scene
    windows = partition(coords, resolution, window, shift)
    q, k, v = random_heads(len(coords))
    ours = windows.unsort(attend(*(windows.sort(t) for t in (q, k, v)), windows))
    torch.testing.assert_close(ours, with_dense_mask(q, k, v, coords, window, shift))


@pytest.mark.slow
@given(scenes())
@settings(max_examples=60, deadline=None)
def test_buckets_mean_what_the_variable_length_kernel_means(scene):
    windows = partition(*scene)
    q, k, v = random_heads(len(scene[0]))
    loop = varlen_by_loop(q, k, v, windows.offsets, windows.offsets, windows.longest, windows.longest)
    torch.testing.assert_close(attend_in_buckets(q, k, v, windows), loop)


@given(scenes())
@settings(max_examples=40, deadline=None)
def test_every_window_is_one_run_of_tokens(scene):
    coords, _, window, shift = scene
    windows = partition(*scene)
    assert torch.equal(windows.unsort(windows.sort(coords)), coords)
    cells = (windows.sort(coords) + shift) // window
    edges = windows.offsets.tolist()
    runs = [cells[start:end] for start, end in pairwise(edges) if end > start]
    assert edges[0] == 0 and edges[-1] == len(coords)
    assert all((run == run[0]).all() for run in runs)
    assert len({tuple(run[0].tolist()) for run in runs}) == len(runs)


def test_sorted_tokens_need_no_second_sort():
    coords = torch.tensor([[5, 5, 5], [0, 0, 0], [5, 4, 5]])
    windows = partition(coords, 8, 4, 0)
    again = windows.of_sorted()
    tokens = windows.sort(coords)
    assert again.sort(tokens) is tokens and again.unsort(tokens) is tokens
    q, k, v = random_heads(3)
    assert torch.equal(attend(q, k, v, again), attend(q, k, v, windows))


def test_the_kernel_is_used_where_there_is_one(monkeypatch):
    monkeypatch.setattr(module, "_flash_takes", lambda q: True)
    monkeypatch.setattr(module, "_flash", lambda device: varlen_by_loop)
    coords = torch.argwhere(torch.ones((6,) * 3)).int()
    windows = partition(coords, 6, 4, 2)
    q, k, v = random_heads(len(coords))
    ours = windows.unsort(attend(*(windows.sort(t) for t in (q, k, v)), windows))
    torch.testing.assert_close(ours, with_dense_mask(q, k, v, coords, 4, 2))
    assert "buckets" not in windows.__dict__  # so nothing was read back


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_on_cuda(dtype):
    coords = torch.argwhere(torch.rand((64,) * 3, generator=torch.Generator().manual_seed(0)) < 0.05).int()
    windows = partition(coords.cuda(), 64, 8, 4)
    q, k, v = (t.cuda().to(dtype) for t in random_heads(len(coords), heads=12, channels=64))
    exact = varlen_by_loop(q.float(), k.float(), v.float(), windows.offsets, windows.offsets, 512, 512)
    tolerance = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 1e-5}[dtype]  # three digits of fp16 outputs
    for ours in (attend(q, k, v, windows), attend_in_buckets(q, k, v, windows)):
        torch.testing.assert_close(ours.float(), exact, rtol=0, atol=tolerance)
