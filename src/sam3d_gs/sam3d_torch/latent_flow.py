"""Stage 2: the velocity of one latent vector per occupied voxel.

A small U: residual blocks at full resolution, one that halves it, a transformer over the coarse voxels, and back,
with the features of the way down joined on the way up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam3d_gs.sam3d_torch import ops, sparse
from sam3d_gs.sam3d_torch.config import LatentFlowConfig
from sam3d_gs.sam3d_torch.layers import (
    OUTPUT_NORM,
    Branches,
    CrossAttention,
    FeedForward,
    Gain,
    Groups,
    TimeEmbedder,
    attention_norm,
    finish_block,
    layer_dict,
    layer_list,
    lengthened,
    modulations,
    position_embedding,
)

TOKEN_MULTIPLE = 256  # so few different lengths that attention has met most of them with earlier objects


@dataclass(frozen=True)
class Indices:
    """Rows to gather at one level, for all groups, one group after the other."""

    neighbours: Tensor  # (N, 27) of this level
    children: Tensor | None  # (n, 8) of this level, for the next coarser one
    parent: Tensor | None  # (N,) of the next coarser level
    parents: Tensor | None  # (N, 27) of the next coarser level: the parent of each neighbour


@dataclass(frozen=True)
class Tokens:
    """The coarsest voxels as tokens of the transformer: each object's last one is repeated up to a round number."""

    lengths: tuple[int, ...]  # of the objects, repeats included
    repeats: tuple[int, ...]
    voxel: Tensor | None  # (t,) which voxel each token is; None when there are no repeats
    place: Tensor | None  # (n,) where each voxel is

    def of_voxels(self, features: Tensor) -> Tensor:
        """(n, C) to (t, C)."""
        return features if self.voxel is None else features[self.voxel]

    def to_voxels(self, tokens: Tensor, groups: int) -> Tensor:
        """(groups * t, C) to (groups * n, C)."""
        return tokens if self.place is None else tokens.unflatten(0, (groups, -1))[:, self.place].flatten(0, 1)


@dataclass(frozen=True)
class Voxels:
    """The voxels of a batch of objects at every resolution of the network, finest first."""

    levels: tuple[sparse.Level, ...]
    tokens: Tokens
    position: Tensor  # (t, C) float32, of the transformer's tokens
    indices: Mapping[int, tuple[Indices, ...]]  # number of groups -> a level


@dataclass(frozen=True)
class LatentContext:
    """The condition, the same for all steps: the context's keys and values, and what a context of zeros adds."""

    keys_values: tuple[Tensor, ...]  # a block: (B, S, 2, H, D)
    repeats: int  # of the last token
    empty: Tensor  # (blocks, C) float32


@dataclass(frozen=True)
class StepModulation:
    """Modulation at one step."""

    blocks: Tensor  # (blocks, 6, C) float32
    res_blocks: tuple[tuple[Tensor, Tensor], ...]  # a residual block: scale plus one and shift, (Cout,) float32


@dataclass(frozen=True)
class Modulations:
    """Modulation of every step, computed at once."""

    blocks: Tensor  # (S, blocks, 6, C)
    res_blocks: tuple[Tensor, ...]  # a residual block: (S, 2, Cout), scale plus one and shift

    def step(self, k: int) -> StepModulation:
        """The modulation at step k."""
        return StepModulation(self.blocks[k], tuple((m[k, 0], m[k, 1]) for m in self.res_blocks))


class _Kernel(nn.Module):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_channels, 3, 3, 3, channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))


class _Conv(nn.Module):
    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = _Kernel(channels, out_channels)


class ResBlock(nn.Module):
    """Norm, convolution, modulated norm, convolution, plus a skip; `change` first halves or doubles the resolution."""

    def __init__(self, channels: int, out_channels: int, emb_width: int, change: int = 0) -> None:
        super().__init__()
        self.change = change  # -1 halves the resolution, 1 doubles it
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.conv1 = _Conv(channels, out_channels)
        self.conv2 = _Conv(out_channels, out_channels)
        self.emb_layers = layer_dict({"1": nn.Linear(emb_width, 2 * out_channels)})  # 0 is a SiLU
        self.skip_connection = nn.Linear(channels, out_channels) if channels != out_channels else nn.Identity()

    def modulation(self, emb: Tensor) -> Tensor:
        """(S, C) time embedding to (S, 2, Cout) float32: scale plus one, shift."""
        layer = self.emb_layers["1"]
        out = layer(F.silu(emb.float()).to(layer.weight.dtype)).float().unflatten(-1, (2, -1)).clone()
        out[:, 0] += 1.0
        return out

    def forward(self, h: Tensor, levels: Sequence[Indices], depth: int, modulation: tuple[Tensor, Tensor]) -> Tensor:
        """Features at level `depth` to features at level ``depth - change``.

        Args:
            h: (N, C), all groups.
            levels: what to gather, for as many groups.
            depth: level of h, 0 the finest.
            modulation: scale plus one and shift, (Cout,) each.
        """
        dtype, here = h.dtype, levels[depth - self.change]
        conv1, conv2 = self.conv1.conv, self.conv2.conv
        if self.change < 0:
            h = sparse.pool(h, _there(levels[depth].children))
        first = ops.norm_silu(h, self.norm1.weight, self.norm1.bias, eps=self.norm1.eps, dtype=dtype, pad=True)
        skip = self.skip_connection(h)
        if self.change > 0:
            h = sparse.convolve_spread(first, _there(here.parents), conv1.weight, conv1.bias)
            skip = skip[_there(here.parent)]
        else:
            h = sparse.convolve(first, here.neighbours, conv1.weight, conv1.bias)
        second = ops.norm_silu(h, *modulation, dtype=dtype, pad=True)
        return sparse.convolve(second, here.neighbours, conv2.weight, conv2.bias) + skip


def _there(index: Tensor | None) -> Tensor:
    assert index is not None
    return index


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)
        self.q_rms_norm = Gain(heads, width // heads)
        self.k_rms_norm = Gain(heads, width // heads)


class _Block(nn.Module):
    def __init__(self, config: LatentFlowConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm2 = nn.LayerNorm(config.width, eps=1e-6)
        self.self_attn = _SelfAttention(config.width, config.heads)
        self.cross_attn = CrossAttention(config.width, config.cond_width)
        self.mlp = FeedForward(config.width, config.mlp_ratio)
        # 0 is a SiLU, see `modulations`
        self.adaLN_modulation = layer_dict({"1": nn.Linear(config.width, 6 * config.width)})

    def branches(self) -> Branches:
        """The block's weights."""
        attn, cross = self.self_attn, self.cross_attn
        return Branches(
            heads=self.heads,
            qkv=attn.to_qkv,
            q_gain=attn.q_rms_norm,
            k_gain=attn.k_rms_norm,
            attn_out=attn.to_out,
            cross_norm=self.norm2,
            cross_q=cross.to_q,
            cross_kv=cross.to_kv,
            cross_out=cross.to_out,
            mlp=self.mlp,
        )


class LatentFlow(nn.Module):
    """See `velocity`; state-dict keys are those of the checkpoint."""

    def __init__(self, config: LatentFlowConfig) -> None:
        super().__init__()
        self.config = config
        width, io = config.width, config.io_channels
        more = config.io_res_blocks - 1
        self.t_embedder = TimeEmbedder(width)
        self.input_layer = nn.Linear(config.in_channels, io[0])
        down, up = [], []
        for channels, following in pairwise([*io, width]):
            down += [ResBlock(channels, channels, width) for _ in range(more)]
            down.append(ResBlock(channels, following, width, change=-1))
        for previous, channels in pairwise([width, *reversed(io)]):
            up.append(ResBlock(2 * previous, channels, width, change=1))
            up += [ResBlock(2 * channels, channels, width) for _ in range(more)]
        self.input_blocks, self.out_blocks = layer_list(down), layer_list(up)
        self.blocks = layer_list(_Block(config) for _ in range(config.blocks))
        self.out_layer = nn.Linear(io[0], config.out_channels)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the matrix products."""
        return self.blocks[0].self_attn.to_qkv.weight.dtype

    def voxels(self, coords: Sequence[Tensor]) -> Voxels:
        """The voxels of a batch, from each object's (N, 3) coordinates. Waits for the device once per level."""
        resolution = self.config.resolution
        levels, halvings = [sparse.level(coords, resolution)], []
        for i in range(len(self.config.io_channels)):
            coarse, halving = sparse.halve(levels[-1], resolution >> i)
            levels.append(coarse)
            halvings.append(halving)
        tokens = _tokens(levels[-1], self.dtype)
        position = position_embedding(tokens.of_voxels(levels[-1].coords), self.config.width)
        indices = {groups: _indices(levels, halvings, groups) for groups in (1, 2)}
        return Voxels(tuple(levels), tokens, position, indices)

    def context(self, tokens: Tensor) -> LatentContext:
        """The context of (B, S, cond) condition tokens."""
        branches = [block.branches() for block in self.blocks]
        tokens, repeats = lengthened(tokens, self.dtype)
        keys_values = tuple(b.keys_values(tokens, repeats) for b in branches)
        return LatentContext(keys_values, repeats, torch.stack([b.without_context() for b in branches]))

    def modulations(self, times: Tensor) -> Modulations:
        """(S,) times, times 1000, to the modulation of every step."""
        emb = self.t_embedder(times).float()
        blocks = modulations(emb, [block.adaLN_modulation["1"] for block in self.blocks])
        return Modulations(blocks, tuple(b.modulation(emb) for b in (*self.input_blocks, *self.out_blocks)))

    def velocity(
        self, state: Tensor, voxels: Voxels, modulation: StepModulation, context: LatentContext, groups: Groups
    ) -> Tensor:
        """One call of the network.

        The way down does not see the context, so both groups share it.

        Args:
            state: (N, channels) float32, the voxels of all objects.
            voxels: of the same objects.
            modulation: one step's.
            context: of the same objects.
            groups: which groups of rows see the context.

        Returns:
            (groups * N, channels) float32, the conditional group first.
        """
        dtype, copies = self.dtype, len(groups)
        h = F.linear(state, self.input_layer.weight.float(), self.input_layer.bias.float()).to(dtype)
        skips, depth = [], 0
        step = iter(modulation.res_blocks)
        for block in self.input_blocks:
            h = block(h, voxels.indices[1], depth, next(step))
            depth -= min(block.change, 0)
            skips.append(h)
        h = self._transformer(h, voxels, modulation.blocks, context, groups).to(dtype)
        for block in self.out_blocks:
            joined = torch.cat([h, skips.pop().repeat(copies, 1)], dim=1)
            h = block(joined, voxels.indices[copies], depth, next(step))
            depth -= max(block.change, 0)
        h = OUTPUT_NORM(h)
        return F.linear(h, self.out_layer.weight.float(), self.out_layer.bias.float())

    def _transformer(
        self, h: Tensor, voxels: Voxels, modulation: Tensor, context: LatentContext, groups: Groups
    ) -> Tensor:
        """(n, C) features of the coarsest level to (groups * n, C) float32."""
        dtype, tokens = self.dtype, voxels.tokens
        x = tokens.of_voxels(h).float() + voxels.position
        h = attention_norm(modulation[0], dtype)(x)
        for i, block in enumerate(self.blocks):
            branches = block.branches()
            copies = 1 if i == 0 else len(groups)
            qkv = branches.queries_keys_values(h).unflatten(0, (copies, -1))
            parts = [
                _self_attention(part, repeats)
                for part, repeats in zip(qkv.split(tokens.lengths, dim=1), tokens.repeats, strict=True)
            ]
            attended = (parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)).flatten(0, 1)

            def cross(rows: Tensor, i: int = i, branches: Branches = branches) -> Tensor:
                q = branches.cross_q(rows).unflatten(-1, (branches.heads, -1))
                objects = zip(q.split(tokens.lengths), context.keys_values[i], strict=True)
                parts = [
                    ops.attention(part[None], kv[None, :, 0], kv[None, :, 1], repeats=context.repeats)[0]
                    for part, kv in objects
                ]
                return parts[0] if len(parts) == 1 else torch.cat(parts)

            last = i + 1 == len(self.blocks)
            # After the last block nothing is normalised; a cheap call avoids a special case.
            then = OUTPUT_NORM if last else attention_norm(modulation[i + 1], dtype)
            split = i == 0 and len(groups) == 2
            x, h = finish_block(
                x, attended, branches, modulation[i], groups, cross, context.empty[i], then, split=split
            )
        return tokens.to_voxels(x, len(groups))


def _self_attention(qkv: Tensor, repeats: int) -> Tensor:
    """(B, L, 3, H, D) of one object to (B, L, H * D)."""
    q, k, v = qkv.unbind(2)
    if repeats:
        v[:, -repeats:] = 0
    return ops.attention(q, k, v, repeats=repeats)


def _tokens(level: sparse.Level, dtype: torch.dtype) -> Tokens:
    device = level.coords.device
    lengths = tuple(ops.rounded(length, TOKEN_MULTIPLE, device, dtype) for length in level.lengths)
    repeats = tuple(more - length for more, length in zip(lengths, level.lengths, strict=True))
    if not any(repeats):
        return Tokens(lengths, repeats, None, None)
    voxel, place, token_start, voxel_start = [], [], 0, 0
    for length, more in zip(level.lengths, lengths, strict=True):
        row = torch.arange(more, device=device)
        voxel.append(voxel_start + row.clamp(max=length - 1))
        place.append(token_start + row[:length])
        token_start, voxel_start = token_start + more, voxel_start + length
    return Tokens(lengths, repeats, torch.cat(voxel), torch.cat(place))


def _indices(levels: Sequence[sparse.Level], halvings: Sequence[sparse.Halving], groups: int) -> tuple[Indices, ...]:
    made = []
    for level, halving, coarse in zip_longest(levels, halvings, levels[1:]):
        neighbours = sparse.repeated(level.neighbours, len(level), groups)
        if halving is None:  # the coarsest level
            made.append(Indices(neighbours, None, None, None))
            continue
        missing = halving.parent.new_full((1,), len(coarse))
        parents = torch.cat([halving.parent, missing])[level.neighbours]
        made.append(
            Indices(
                neighbours,
                sparse.repeated(halving.children, len(level), groups),
                sparse.repeated(halving.parent, len(coarse), groups),
                sparse.repeated(parents, len(coarse), groups),
            )
        )
    return tuple(made)
