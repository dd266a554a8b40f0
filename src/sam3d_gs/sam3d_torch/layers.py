"""Layers that both flows share: time and position embeddings, attention weights, the transformer block."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam3d_gs.sam3d_torch import ops

FREQUENCIES = 256  # of the time embedding
CONTEXT_MULTIPLE = 128  # tokens
SHIFT_ATTN, SCALE_ATTN, GATE_ATTN, SHIFT_MLP, SCALE_MLP, GATE_MLP = range(6)  # order in the modulation layer


Layer = TypeVar("Layer", bound=nn.Module)


def layer_list(layers: Iterable[Layer]) -> Sequence[Layer]:
    """A ModuleList with typed elements."""
    return cast(Any, nn.ModuleList(layers))


def layer_dict(layers: Mapping[str, Layer]) -> Mapping[str, Layer]:
    """A ModuleDict with typed elements."""
    return cast(Any, nn.ModuleDict(layers))


class TimeEmbedder(nn.Module):
    """A scalar (time, or step size) to a vector."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, value: Tensor) -> Tensor:
        """(S,) float32, in units of 1/1000, to (S, width) in the weights' dtype."""
        half = FREQUENCIES // 2
        steps = torch.arange(half, dtype=torch.float32, device=value.device)
        angles = value.float()[:, None] * torch.exp(-math.log(10000.0) * steps / half)
        return self.mlp(torch.cat([angles.cos(), angles.sin()], dim=-1).to(next(self.parameters()).dtype))


def lengthened(tokens: Tensor, dtype: torch.dtype) -> tuple[Tensor, int]:
    """Context tokens (B, S, cond) in `dtype`, the last one repeated up to a length that is fast for attention; and the
    number of repeats."""
    repeats = ops.rounded(tokens.shape[1], CONTEXT_MULTIPLE, tokens.device, dtype) - tokens.shape[1]
    tokens = tokens.to(dtype)
    return torch.cat([tokens, tokens[:, -1:].expand(-1, repeats, -1)], dim=1) if repeats else tokens, repeats


def position_embedding(coords: Tensor, width: int) -> Tensor:
    """Sine and cosine of integer coordinates, axis after axis, padded with zeros to `width`.

    Args:
        coords: (N, 3) integer voxel coordinates.
        width: channels; each axis gets width // 3 // 2 frequencies 10000^(-i/count).

    Returns:
        (N, width) float32.
    """
    count = width // 3 // 2
    steps = torch.arange(count, dtype=torch.float32, device=coords.device) / count
    angles = coords.float()[:, :, None] * (1.0 / 10000.0**steps)
    waves = torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1)
    return F.pad(waves, (0, width - waves.shape[1]))


class Gain(nn.Module):
    """The learned gain of normalised queries or keys, (heads, head width)."""

    def __init__(self, heads: int, head_width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(heads, head_width))


class FeedForward(nn.Module):
    """Two linear layers with a tanh GELU between them."""

    def __init__(self, width: int, ratio: float) -> None:
        super().__init__()
        hidden = int(width * ratio)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(approximate="tanh"), nn.Linear(hidden, width))

    def forward(self, h: Tensor) -> Tensor:
        first, _, second = self.mlp
        return second(ops.linear_gelu(h, cast(nn.Linear, first)))


class CrossAttention(nn.Module):
    """The weights of attention to the context; keys and values come from one layer."""

    def __init__(self, width: int, cond_width: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(width, width)
        self.to_kv = nn.Linear(cond_width, 2 * width)
        self.to_out = nn.Linear(width, width)


@dataclass(frozen=True)
class Branches:
    """The weights of one stream of one block, wherever the state dict keeps them."""

    heads: int
    qkv: nn.Linear
    q_gain: Gain
    k_gain: Gain
    attn_out: nn.Linear
    cross_norm: nn.LayerNorm
    cross_q: nn.Linear
    cross_kv: nn.Linear
    cross_out: nn.Linear
    mlp: FeedForward

    def keys_values(self, context: Tensor, repeats: int = 0, out: Tensor | None = None) -> Tensor:
        """(B, S, cond) context tokens to (B, S, 2, H, D), the same for every step.

        The last `repeats` tokens only round up the length (`lengthened`): their values are set to zero.
        """
        if out is None:
            out = self.cross_kv(context).unflatten(-1, (2, self.heads, -1))
        else:
            rows = out.view(-1, self.cross_kv.out_features)
            torch.addmm(self.cross_kv.bias, context.flatten(0, 1), self.cross_kv.weight.t(), out=rows)
        if repeats:
            out[:, -repeats:, 1] = 0
        return out

    def without_context(self) -> Tensor:
        """(C,) float32: what cross-attention adds when every context token is zero.

        All keys are then equal and all values are the layer's bias, so the output does not depend on the query.
        """
        width = self.cross_out.in_features
        return F.linear(self.cross_kv.bias[-width:].float(), self.cross_out.weight.float(), self.cross_out.bias.float())

    def queries_keys_values(self, h: Tensor) -> Tensor:
        """(R, C) to (R, 3, H, D), queries and keys normalised."""
        qkv = self.qkv(h).unflatten(-1, (3, self.heads, -1))
        return ops.unit_heads_(qkv, self.q_gain.gamma, self.k_gain.gamma)


@dataclass(frozen=True)
class Norm:
    """LayerNorm, times weight, plus bias, to be applied later."""

    weight: Tensor | None  # (C,) float32
    bias: Tensor | None  # (C,) float32
    eps: float
    dtype: torch.dtype  # of the result

    def __call__(self, x: Tensor, y: Tensor | None = None, gate: Tensor | None = None) -> Tensor:
        """Add ``gate * y`` to x in place, and return the sum normalised."""
        return ops.residual_norm(x, y, gate, self.weight, self.bias, eps=self.eps, dtype=self.dtype)


def attention_norm(modulation: Tensor, dtype: torch.dtype) -> Norm:
    """The norm before the self-attention of a block with this (6, C) modulation."""
    return Norm(modulation[SCALE_ATTN], modulation[SHIFT_ATTN], 1e-6, dtype)


OUTPUT_NORM = Norm(None, None, 1e-5, torch.float32)  # before an output layer


@dataclass(frozen=True)
class Groups:
    """The groups of rows in a stream: conditional (sees the context), unconditional (sees zeros), or both, in order."""

    conditional: bool = True
    unconditional: bool = False

    def __len__(self) -> int:
        return self.conditional + self.unconditional


def finish_block(
    x: Tensor,
    attended: Tensor,
    branches: Branches,
    modulation: Tensor,
    groups: Groups,
    cross: Callable[[Tensor], Tensor],
    empty: Tensor,
    then: Norm,
    *,
    split: bool,
) -> tuple[Tensor, Tensor]:
    """The part of a block after its self-attention, and the norm of the next layer.

    Args:
        x: (R, C) residual stream, changed in place.
        attended: (R, C) output of self-attention before its projection.
        branches: weights.
        modulation: (6, C) float32, scales already plus one.
        groups: of the result's rows.
        cross: normalised rows of the conditional group to their attention over the context, before its projection.
        empty: (C,) what cross-attention adds for a context of zeros.
        then: the norm of the next layer.
        split: x holds one group that stands for both; the groups differ from the first cross-attention on.

    Returns:
        x and its normalised form.
    """
    dtype, affine = attended.dtype, branches.cross_norm
    h = Norm(affine.weight, affine.bias, affine.eps, dtype)(x, branches.attn_out(attended), modulation[GATE_ATTN])
    if split:
        x, h = x.repeat(2, 1), h.repeat(2, 1)
    seen = len(x) // len(groups) if groups.conditional else 0
    weight, bias = modulation[SCALE_MLP], modulation[SHIFT_MLP]
    if seen:
        branch = branches.cross_out(cross(h[:seen]))
        ops.residual_norm(x[:seen], branch, None, weight, bias, dtype=dtype, out=h[:seen])
    if seen < len(x):
        ops.residual_norm(x[seen:], empty, None, weight, bias, dtype=dtype, out=h[seen:])
    return x, then(x, branches.mlp(h), modulation[GATE_MLP])


def modulations(emb: Tensor, layers: Sequence[nn.Linear]) -> Tensor:
    """Shifts, scales (plus one) and gates of every block at every step.

    Args:
        emb: (S, C) time embedding of S steps.
        layers: one Linear(C, 6 C) a block.

    Returns:
        (S, blocks, 6, C) float32.
    """
    active = F.silu(emb.float())
    out = torch.stack([layer(active.to(layer.weight.dtype)).float() for layer in layers], dim=1)
    out = out.unflatten(-1, (6, -1)).clone()
    out[:, :, (SCALE_ATTN, SCALE_MLP)] += 1.0
    return out
