"""The operations of the two flow transformers, in plain torch.

On a CUDA GPU with Triton the memory-bound ones are fused (`kernels.py`); the functions here choose, and both ways
give the same numbers up to rounding. Statistics are always computed in float32.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

log = logging.getLogger("sam3d_gs")

HALF = (torch.float16, torch.bfloat16)


@cache
def _kernels(device: torch.device):  # type: ignore[no-untyped-def]
    """The Triton kernels, or None where Triton is not installed or does not work.

    It needs a C compiler and Python's headers, and a GPU that it still supports.
    """
    try:
        from sam3d_gs.sam3d_torch import kernels
    except ImportError:
        return None
    try:
        kernels.try_out(device)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler, a linker or a driver raises
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        log.warning("Triton does not work here (%s): going on without its kernels, somewhat slower.", reason)
        return None
    return kernels


def _fused(x: Tensor):  # type: ignore[no-untyped-def]
    return _kernels(x.device) if x.is_cuda else None


def residual_norm(
    x: Tensor,
    y: Tensor | None,
    gate: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    *,
    eps: float = 1e-6,
    dtype: torch.dtype,
    out: Tensor | None = None,
) -> Tensor:
    """Add a branch to the residual stream in place and normalise the sum: the step between any two layers.

    ``x += gate * y``, then ``LayerNorm(x) * weight + bias``. With a modulation, weight is 1 + scale and bias the shift.

    Args:
        x: (..., C), the residual stream, contiguous, changed in place unless y is None.
        y: (..., C) like x, or (C,) for a branch that is the same for every row; None adds nothing.
        gate: (C,) float32, or None for 1.
        weight: (C,) float32, or None for 1.
        bias: (C,) float32, or None for 0.
        eps: of the normalisation.
        dtype: of the result.
        out: where to write the result, shaped like x.

    Returns:
        (..., C) in `dtype`.
    """
    kernels = _fused(x)
    if kernels is not None:
        return kernels.residual_norm(x, y, gate, weight, bias, eps, dtype, out)
    if y is not None:
        x += y if gate is None else y * gate
    h = F.layer_norm(x.float(), x.shape[-1:], eps=eps)
    if weight is not None:
        h = h * weight
    if bias is not None:
        h = h + bias
    h = h.to(dtype)
    return h if out is None else out.copy_(h)


def norm_silu(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, *, eps: float = 1e-6, dtype: torch.dtype, pad: bool = False
) -> Tensor:
    """``SiLU(LayerNorm(x) * weight + bias)``.

    Args:
        x: (N, C).
        weight: (C,) float32, or None for 1.
        bias: (C,) float32, or None for 0.
        eps: of the normalisation.
        dtype: of the result.
        pad: append a row of zeros, which stands for every missing neighbour in `sparse.py`.

    Returns:
        (N, C), or (N + 1, C) with `pad`, in `dtype`.
    """
    kernels = _fused(x)
    if kernels is not None:
        return kernels.norm_silu(x, weight, bias, eps, dtype, pad)
    h = F.layer_norm(x.float(), x.shape[-1:], eps=eps)
    if weight is not None:
        h = h * weight
    if bias is not None:
        h = h + bias
    h = F.silu(h).to(dtype)
    return F.pad(h, (0, 0, 0, 1)) if pad else h


def unit_heads_(qkv: Tensor, q_gamma: Tensor, k_gamma: Tensor) -> Tensor:
    """Bring queries and keys to unit length per head, times gamma and the root of the head's width, in place.

    This is the "RMS norm" of the checkpoints (an L2 norm with a learned gain; Henry et al. 2020).

    Args:
        qkv: (..., 3, H, D), contiguous; values are not changed.
        q_gamma: (H, D) float32.
        k_gamma: (H, D) float32.

    Returns:
        qkv.
    """
    kernels = _fused(qkv)
    if kernels is not None:
        return kernels.unit_heads_(qkv, q_gamma, k_gamma)
    root = qkv.shape[-1] ** 0.5
    for i, gamma in enumerate((q_gamma, k_gamma)):
        part = qkv[..., i, :, :]
        part.copy_(F.normalize(part.float(), dim=-1) * gamma * root)
    return qkv


def gather_rows(table: Tensor, index: Tensor) -> Tensor:
    """Gather rows of a table and concatenate them.

    Args:
        table: (R, C).
        index: (M, K) int64 rows.

    Returns:
        (M, K * C).
    """
    kernels = _fused(table)
    if kernels is not None:
        return kernels.gather_rows(table, index)
    return table[index.flatten()].view(len(index), index.shape[1] * table.shape[1])


def linear_gelu(h: Tensor, layer: nn.Linear) -> Tensor:
    """``GELU(layer(h))`` with the tanh form, (N, C) to (N, hidden); on CUDA fused into the product."""
    if h.is_cuda and h.dtype != torch.float32:
        return torch._addmm_activation(layer.bias, h, layer.weight.t(), use_gelu=True)
    return F.gelu(layer(h), approximate="tanh")


def attention(
    q: Tensor, k: Tensor, v: Tensor, *, repeats: int = 0, more: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Softmax attention of every query over every key.

    Args:
        q: (B, L, H, D).
        k: (B, S, H, D).
        v: (B, S, H, D).
        repeats: how many keys at the end only round up the length, without effect. They must be copies of the key
            before them and have values of zero (see `rounded`).
        more: a few more keys and values (B, M, H, D) to attend to.

    Returns:
        (B, L, H * D).
    """
    with_sums = _attention_with_sums(q.device) if (repeats or more) and q.dtype in HALF else None
    if with_sums is not None:
        mixed, log_sums = with_sums(q, k, v)
        if repeats:
            add_keys_(mixed, log_sums, q, k[:, -1:], None, -repeats)
        if more:
            add_keys_(mixed, log_sums, q, *more, 1)
        return mixed.flatten(2)
    if repeats:
        k, v = k[:, :-repeats], v[:, :-repeats]
    if more:
        k, v = torch.cat([more[0], k], dim=1), torch.cat([more[1], v], dim=1)
    mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2))
    return mixed.transpose(1, 2).flatten(2)


def rounded(length: int, multiple: int, device: torch.device, dtype: torch.dtype) -> int:
    """`length` keys rounded up to a number that is fast for attention.

    cuDNN's attention is a sixth slower for odd lengths, and takes 60 ms to prepare for a new one. Where it is not used
    the length stays.
    """
    rounds = dtype in HALF and _attention_with_sums(device) is not None
    return -(-length // multiple) * multiple if rounds else length


def add_keys_(mixed: Tensor, log_sums: Tensor, q: Tensor, k: Tensor, v: Tensor | None, times: int) -> None:
    """Add a few more keys to a finished softmax attention, or remove some, in place.

    Args:
        mixed: (B, L, H, D), contiguous, the attention's result so far.
        log_sums: (B, H, L) float32, logarithm of the sum under its softmax.
        q: (B, L, H, D).
        k: (B, M, H, D).
        v: (B, M, H, D), or None for zeros.
        times: how often each key is added; negative removes it.
    """
    kernels = _fused(mixed)
    if kernels is not None:
        kernels.add_keys_(mixed, log_sums, q, k, v, times)
        return
    scores = torch.einsum("blhd,bmhd->blhm", q.float(), k.float()) * q.shape[-1] ** -0.5
    before = log_sums.transpose(1, 2)[..., None]
    top = torch.maximum(before, scores.amax(-1, keepdim=True))
    old, new = (before - top).exp(), times * (scores - top).exp()
    total = mixed * old
    if v is not None:
        total += torch.einsum("blhm,bmhd->blhd", new, v.float())
    mixed.copy_(total / (old + new.sum(-1, keepdim=True)))


@cache
def _attention_with_sums(device: torch.device) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    """cuDNN's attention and the logarithm of the sum under its softmax, (B, H, L) float32.

    None where PyTorch would not choose it either: other devices, GPUs before Hopper, builds without it.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (9, 0):
        return None

    def attend(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        mixed, log_sums, *_ = torch.ops.aten._scaled_dot_product_cudnn_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), None, True
        )
        return mixed.transpose(1, 2).contiguous(), log_sums.flatten(2)

    q, k, v = torch.randn(3, 1, 128, 2, 64, dtype=torch.float16, device=device)
    try:
        mixed, log_sums = attend(q, k, v)
    except (RuntimeError, AttributeError, TypeError) as error:
        log.debug("No attention of cuDNN here: %s", error)
        return None
    scores = torch.einsum("blhd,bshd->bhls", q.float(), k.float()) / 8
    told = torch.allclose(log_sums, scores.logsumexp(-1), atol=1e-2)
    right = torch.allclose(mixed.float(), torch.einsum("bhls,bshd->blhd", scores.softmax(-1), v.float()), atol=1e-2)
    return attend if told and right else None
