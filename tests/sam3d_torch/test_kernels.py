"""The Triton kernels against their plain versions; in Triton's interpreter where there is no GPU."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

pytest.importorskip("torch")

import torch

from sam3d_gs import sam3d_torch
from sam3d_gs.sam3d_torch import ops

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def compare(kernels, device, widths=(8, 48, 129, 1024)):
    """Every combination of arguments; rows and widths that fill no tile."""
    torch.manual_seed(0)
    for width in widths:
        gate, weight, bias = torch.randn(3, width, device=device)
        for dtype in DTYPES:
            y = torch.randn(13, width, device=device).to(dtype)
            for branch, g in ((y, gate), (y, None), (torch.randn(width, device=device), None), (None, None)):
                for w, b in ((weight, bias), (None, None)):
                    x = torch.randn(13, width, device=device)
                    plain_x, fused_x = x.clone(), x.clone()
                    out = torch.full_like(x, torch.nan, dtype=dtype)
                    plain = plain_norm(plain_x, branch, g, w, b, dtype)
                    fused = kernels.residual_norm(fused_x, branch, g, w, b, 1e-6, dtype, out)
                    close(fused, plain, dtype)
                    torch.testing.assert_close(fused_x, plain_x)
            padded = kernels.norm_silu(y, weight, bias, 1e-6, dtype, True)
            close(padded, torch.nn.functional.pad(silu(y, weight, bias, dtype), (0, 0, 0, 1)), dtype)
            assert not padded[-1].any()
            close(kernels.norm_silu(y, None, None, 1e-6, dtype, False), silu(y, None, None, dtype), dtype)
    for heads, width in ((3, 12),) if len(widths) == 1 else ((3, 12), (16, 64)):
        gammas = torch.rand(2, heads, width, device=device) + 0.5
        for dtype in DTYPES:
            qkv = torch.randn(5, 3, heads, width, device=device).to(dtype)
            fused = kernels.unit_heads_(qkv.clone(), *gammas)
            root = width**0.5
            unit = torch.nn.functional.normalize(qkv[:, :2].float(), dim=-1) * gammas * root
            close(fused[:, :2], unit.to(dtype), dtype)
            assert torch.equal(fused[:, 2], qkv[:, 2])

    for width in widths:
        for dtype in DTYPES:
            table = torch.randn(11, width, device=device).to(dtype)
            index = torch.randint(0, 11, (7, 27), device=device)
            assert torch.equal(kernels.gather_rows(table, index), table[index].flatten(1))
        assert kernels.gather_rows(table, index[:0]).shape == (0, 27 * width)

    heads, width = 3, 12
    more = torch.randn(2, 2, 2, heads, width, device=device)
    for dtype in DTYPES:
        q, k, v = torch.randn(3, 2, 9, heads, width, device=device).to(dtype)
        few_k, few_v = more.to(dtype)
        mixed, log_sums = with_sums(q, k, v)
        kernels.add_keys_(mixed, log_sums, q, few_k, few_v, 1)
        close(mixed, with_sums(q, torch.cat([k, few_k], 1), torch.cat([v, few_v], 1))[0], dtype)
        thrice = [torch.cat([t, *(t[:, -1:] for _ in range(3))], dim=1) for t in (k, v)]
        thrice[1][:, -3:] = 0
        mixed, log_sums = with_sums(q, *thrice)
        kernels.add_keys_(mixed, log_sums, q, thrice[0][:, -1:], None, -3)
        close(mixed, with_sums(q, k, v)[0], dtype)


def with_sums(q, k, v):
    """Attention with the logarithm of the sum under its softmax, in float32."""
    scores = torch.einsum("blhd,bshd->bhls", q.float(), k.float()) * q.shape[-1] ** -0.5
    mixed = torch.einsum("bhls,bshd->blhd", scores.softmax(-1), v.float())
    return mixed.to(q.dtype).contiguous(), scores.logsumexp(-1)


def plain_norm(x, y, gate, weight, bias, dtype):
    if y is not None:
        x += y.float() * (1.0 if gate is None else gate)
    h = torch.nn.functional.layer_norm(x, x.shape[-1:], weight, bias, 1e-6)
    return h.to(dtype)


def silu(x, weight, bias, dtype):
    h = torch.nn.functional.layer_norm(x.float(), x.shape[-1:], weight, bias, 1e-6)
    return torch.nn.functional.silu(h).to(dtype)


def close(ours, theirs, dtype):
    torch.testing.assert_close(ours.float(), theirs.float(), rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


class Plain:
    """`ops` by the kernels' signatures."""

    @staticmethod
    def residual_norm(x, y, gate, weight, bias, eps, dtype, out):
        return ops.residual_norm(x, y, gate, weight, bias, eps=eps, dtype=dtype, out=out)

    @staticmethod
    def norm_silu(x, weight, bias, eps, dtype, pad):
        return ops.norm_silu(x, weight, bias, eps=eps, dtype=dtype, pad=pad)

    unit_heads_ = staticmethod(ops.unit_heads_)
    gather_rows = staticmethod(ops.gather_rows)
    add_keys_ = staticmethod(ops.add_keys_)


def test_plain_operations():
    compare(Plain, "cpu")


def test_kernels_in_the_interpreter():
    pytest.importorskip("triton")
    code = (
        "from sam3d_gs.sam3d_torch import kernels; from tests.sam3d_torch.test_kernels import compare; "
        "compare(kernels, 'cpu', widths=(129,))"
    )
    env = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def test_where_triton_does_not_work_the_plain_operations_do(monkeypatch, caplog):
    def no_compiler(device):
        raise RuntimeError("Failed to find C compiler.\nPlease specify one.")

    monkeypatch.setattr(sam3d_torch, "kernels", SimpleNamespace(try_out=no_compiler), raising=False)
    ops._kernels.cache_clear()
    assert ops._kernels(torch.device("cpu")) is None
    ops._kernels.cache_clear()
    assert "Triton does not work here (Failed to find C compiler.)" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_kernels_on_the_gpu():
    from sam3d_gs.sam3d_torch import kernels

    compare(kernels, "cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gelu_in_the_epilogue(dtype):
    layer = torch.nn.Linear(64, 256).cuda().to(dtype)
    h = torch.randn(100, 64, device="cuda", dtype=dtype)
    plain = torch.nn.functional.gelu(
        torch.nn.functional.linear(h.float(), layer.weight.float(), layer.bias.float()), approximate="tanh"
    )
    close(ops.linear_gelu(h, layer), plain, dtype)
