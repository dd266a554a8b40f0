"""Triton kernels for the memory-bound operations of `ops.py`: one read and one write instead of several.

Each function has the signature and the results of the function of the same name there.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 2048  # elements a program holds, so that narrow rows share one
_GATHERED = 8192  # elements a program moves: 27 neighbours of 256 channels


@triton.jit
def _norm_kernel(
    x_ptr,
    y_ptr,
    gate_ptr,
    weight_ptr,
    bias_ptr,
    out_ptr,
    rows,
    y_stride,
    eps,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    ADD: tl.constexpr,
    GATE: tl.constexpr,
    WEIGHT: tl.constexpr,
    BIAS: tl.constexpr,
    SILU: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = (row < rows) & (column < WIDTH)
    x = tl.load(x_ptr + row * WIDTH + column, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        y = tl.load(y_ptr + row * y_stride + column, mask=inside, other=0.0).to(tl.float32)
        if GATE:
            y *= tl.load(gate_ptr + column, mask=column < WIDTH, other=0.0)
        x += y
        tl.store(x_ptr + row * WIDTH + column, x.to(x_ptr.dtype.element_ty), mask=inside)
    mean = tl.sum(x, axis=1)[:, None] / WIDTH
    centred = tl.where(inside, x - mean, 0.0)
    h = centred * tl.rsqrt(tl.sum(centred * centred, axis=1)[:, None] / WIDTH + eps)
    if WEIGHT:
        h *= tl.load(weight_ptr + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    if BIAS:
        h += tl.load(bias_ptr + column, mask=column < WIDTH, other=0.0).to(tl.float32)
    if SILU:
        h *= tl.sigmoid(h)
    tl.store(out_ptr + row * WIDTH + column, h.to(out_ptr.dtype.element_ty), mask=inside)


def _norm(
    x: Tensor,
    y: Tensor | None,
    gate: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    out: Tensor,
    silu: bool,
) -> None:
    width = x.shape[-1]
    rows = x.numel() // width
    if not rows:
        return
    block = triton.next_power_of_2(width)
    tall = max(1, _TILE // block)
    with torch.cuda.device_of(x):  # Triton launches on the current GPU, wherever the tensors are
        _norm_kernel[(triton.cdiv(rows, tall),)](
            x,
            y,
            gate,
            weight,
            bias,
            out,
            rows,
            0 if y is None or y.dim() == 1 else width,
            eps,
            WIDTH=width,
            BLOCK=block,
            ROWS=tall,
            ADD=y is not None,
            GATE=gate is not None,
            WEIGHT=weight is not None,
            BIAS=bias is not None,
            SILU=silu,
            num_warps=4,
        )


def residual_norm(
    x: Tensor,
    y: Tensor | None,
    gate: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    dtype: torch.dtype,
    out: Tensor | None,
) -> Tensor:
    """See `ops.residual_norm`."""
    out = torch.empty_like(x, dtype=dtype) if out is None else out
    _norm(x, None if y is None else y.contiguous(), gate, weight, bias, eps, out, silu=False)
    return out


def norm_silu(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, dtype: torch.dtype, pad: bool
) -> Tensor:
    """See `ops.norm_silu`."""
    x = x.contiguous()
    out = torch.empty(len(x) + int(pad), x.shape[-1], dtype=dtype, device=x.device)
    if pad:
        out[-1].zero_()
    _norm(x, None, None, weight, bias, eps, out, silu=True)
    return out


@triton.jit
def _unit_heads_kernel(
    qkv_ptr,
    q_gamma_ptr,
    k_gamma_ptr,
    root,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.arange(0, BLOCK_HEADS)[:, None]
    column = tl.arange(0, BLOCK_WIDTH)[None, :]
    inside = (head < HEADS) & (column < WIDTH)
    offset = head * WIDTH + column
    for part in tl.static_range(2):
        place = qkv_ptr + row * (3 * HEADS * WIDTH) + part * (HEADS * WIDTH) + offset
        value = tl.load(place, mask=inside, other=0.0).to(tl.float32)
        if part == 0:
            gamma = tl.load(q_gamma_ptr + offset, mask=inside, other=0.0).to(tl.float32)
        else:
            gamma = tl.load(k_gamma_ptr + offset, mask=inside, other=0.0).to(tl.float32)
        length = tl.sqrt(tl.sum(value * value, axis=1)[:, None])
        value = value / tl.maximum(length, 1e-12) * gamma * root
        tl.store(place, value.to(qkv_ptr.dtype.element_ty), mask=inside)


def unit_heads_(qkv: Tensor, q_gamma: Tensor, k_gamma: Tensor) -> Tensor:
    """See `ops.unit_heads_`."""
    heads, width = qkv.shape[-2:]
    rows = qkv.numel() // (3 * heads * width)
    if rows:
        with torch.cuda.device_of(qkv):
            _unit_heads_kernel[(rows,)](
                qkv,
                q_gamma,
                k_gamma,
                width**0.5,
                HEADS=heads,
                WIDTH=width,
                BLOCK_HEADS=triton.next_power_of_2(heads),
                BLOCK_WIDTH=triton.next_power_of_2(width),
                num_warps=4,
            )
    return qkv


@triton.jit
def _gather_kernel(
    table_ptr,
    index_ptr,
    out_ptr,
    WIDTH: tl.constexpr,
    PLACES: tl.constexpr,
    BLOCK_PLACES: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    place = tl.arange(0, BLOCK_PLACES)
    column = tl.program_id(1) * BLOCK_WIDTH + tl.arange(0, BLOCK_WIDTH)[None, :]
    inside = (place < PLACES)[:, None] & (column < WIDTH)
    source = tl.load(index_ptr + row * PLACES + place, mask=place < PLACES, other=0)[:, None]
    value = tl.load(table_ptr + source * WIDTH + column, mask=inside)
    tl.store(out_ptr + (row * PLACES + place[:, None]) * WIDTH + column, value, mask=inside)


def gather_rows(table: Tensor, index: Tensor) -> Tensor:
    """See `ops.gather_rows`."""
    table, index = table.contiguous(), index.contiguous()
    rows, places = index.shape
    width = table.shape[1]
    out = torch.empty(rows, places * width, dtype=table.dtype, device=table.device)
    if rows:
        block_places = triton.next_power_of_2(places)
        block_width = min(triton.next_power_of_2(width), max(1, _GATHERED // block_places))
        with torch.cuda.device_of(table):
            _gather_kernel[(rows, triton.cdiv(width, block_width))](
                table,
                index,
                out,
                WIDTH=width,
                PLACES=places,
                BLOCK_PLACES=block_places,
                BLOCK_WIDTH=block_width,
                num_warps=4,
            )
    return out


@triton.jit
def _add_keys_kernel(
    mixed_ptr,
    log_sums_ptr,
    q_ptr,
    k_ptr,
    v_ptr,
    times,
    scale,
    queries,
    q_batch,
    q_row,
    k_batch,
    k_row,
    v_batch,
    v_row,
    KEYS: tl.constexpr,
    VALUES: tl.constexpr,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_HEADS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
):
    row, batch = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    head = tl.arange(0, BLOCK_HEADS)
    column = tl.arange(0, BLOCK_WIDTH)[None, :]
    inside = (head[:, None] < HEADS) & (column < WIDTH)
    offset = head[:, None] * WIDTH + column
    q = tl.load(q_ptr + batch * q_batch + row * q_row + offset, mask=inside, other=0.0).to(tl.float32)
    place = mixed_ptr + (batch * queries + row) * (HEADS * WIDTH) + offset
    total = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    top = tl.load(log_sums_ptr + (batch * HEADS + head) * queries + row, mask=head < HEADS, other=0.0)
    weight = tl.full((BLOCK_HEADS,), 1.0, tl.float32)
    for i in tl.static_range(KEYS):
        k = tl.load(k_ptr + batch * k_batch + i * k_row + offset, mask=inside, other=0.0).to(tl.float32)
        score = tl.sum(q * k, axis=1) * scale
        higher = tl.maximum(top, score)
        shrunk = tl.exp(top - higher)
        new = times * tl.exp(score - higher)
        total *= shrunk[:, None]
        if VALUES:
            v = tl.load(v_ptr + batch * v_batch + i * v_row + offset, mask=inside, other=0.0).to(tl.float32)
            total += new[:, None] * v
        weight = weight * shrunk + new
        top = higher
    tl.store(place, (total / weight[:, None]).to(mixed_ptr.dtype.element_ty), mask=inside)


def add_keys_(mixed: Tensor, log_sums: Tensor, q: Tensor, k: Tensor, v: Tensor | None, times: int) -> None:
    """See `ops.add_keys_`; heads of one row of q, k and v must lie side by side."""
    batch, queries, heads, width = q.shape
    if not mixed.numel():
        return
    with torch.cuda.device_of(mixed):
        _add_keys_kernel[(queries, batch)](
            mixed,
            log_sums.contiguous(),
            q,
            k,
            v,
            float(times),
            width**-0.5,
            queries,
            q.stride(0),
            q.stride(1),
            k.stride(0),
            k.stride(1),
            0 if v is None else v.stride(0),
            0 if v is None else v.stride(1),
            KEYS=k.shape[1],
            VALUES=v is not None,
            HEADS=heads,
            WIDTH=width,
            BLOCK_HEADS=triton.next_power_of_2(heads),
            BLOCK_WIDTH=triton.next_power_of_2(width),
            num_warps=4,
        )


def try_out(device: torch.device) -> None:
    """Compile and run a kernel; raises whatever prevents it."""
    gamma = torch.ones(1, 16, device=device)
    unit_heads_(torch.ones(1, 3, 1, 16, device=device), gamma, gamma)
