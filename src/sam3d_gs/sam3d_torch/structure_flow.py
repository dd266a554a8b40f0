"""Stage 1: the velocity of an object's coarse shape and pose (a mixture of two transformers).

Two streams with their own weights share only their modulation and one attention: shape tokens attend to shape
tokens, the four pose tokens to both. The shape therefore never depends on the pose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sam3d_gs.sam3d_torch import ops
from sam3d_gs.sam3d_torch.config import LatentConfig, StructureFlowConfig
from sam3d_gs.sam3d_torch.layers import (
    OUTPUT_NORM,
    Branches,
    CrossAttention,
    FeedForward,
    Gain,
    Groups,
    Norm,
    TimeEmbedder,
    attention_norm,
    finish_block,
    layer_dict,
    layer_list,
    lengthened,
    modulations,
)
from sam3d_gs.sam3d_torch.side_stream import SideStream

SHAPE = "shape"

Latents = dict[str, Tensor]  # latent name -> (B, tokens, channels) float32


@dataclass(frozen=True)
class StructureContext:
    """The condition of a batch of objects, computed once for all steps."""

    tokens: Tensor  # (B, S, cond) in the weights' dtype, lengthened
    shape_kv: tuple[Tensor, ...]  # a block: (B, S, 2, H, D)
    repeats: int  # of the last token

    @property
    def own_tokens(self) -> Tensor:
        """(B, S, cond) without the repeats of the last token."""
        return self.tokens[:, : self.tokens.shape[1] - self.repeats]


class LatentLayers(nn.Module):
    """Input and output layers of one latent."""

    def __init__(self, latent: LatentConfig, width: int, learned_position: bool) -> None:
        super().__init__()
        self.input_layer = nn.Linear(latent.channels, width)
        self.out_layer = nn.Linear(width, latent.channels)
        position = torch.zeros(latent.tokens, width)
        if learned_position:
            self.pos_emb = nn.Parameter(position)
        else:
            self.register_buffer("pos_emb", position)

    def into(self, latent: Tensor) -> Tensor:
        """(B, tokens, channels) to (B, tokens, width) float32."""
        return F.linear(latent, self.input_layer.weight.float(), self.input_layer.bias.float()) + self.pos_emb.float()

    def out(self, h: Tensor) -> Tensor:
        """(B, tokens, width) to (B, tokens, channels) float32."""
        return F.linear(h.float(), self.out_layer.weight.float(), self.out_layer.bias.float())


class _SelfAttention(nn.Module):
    def __init__(self, streams: tuple[str, str], width: int, heads: int) -> None:
        super().__init__()
        self.to_qkv = layer_dict({s: nn.Linear(width, 3 * width) for s in streams})
        self.to_out = layer_dict({s: nn.Linear(width, width) for s in streams})
        self.q_rms_norm = layer_dict({s: Gain(heads, width // heads) for s in streams})
        self.k_rms_norm = layer_dict({s: Gain(heads, width // heads) for s in streams})


class _Block(nn.Module):
    def __init__(self, config: StructureFlowConfig) -> None:
        super().__init__()
        width, streams = config.width, (SHAPE, config.pose_stream)
        self.heads = config.heads
        self.norm2 = layer_dict({s: nn.LayerNorm(width, eps=1e-6) for s in streams})
        self.self_attn = _SelfAttention(streams, width, config.heads)
        self.cross_attn = layer_dict({s: CrossAttention(width, config.cond_width) for s in streams})
        self.mlp = layer_dict({s: FeedForward(width, config.mlp_ratio) for s in streams})
        self.adaLN_modulation = layer_dict({"1": nn.Linear(width, 6 * width)})  # 0 is a SiLU, see `modulations`

    def branches(self, stream: str) -> Branches:
        """The weights of one stream."""
        attn, cross = self.self_attn, self.cross_attn[stream]
        return Branches(
            heads=self.heads,
            qkv=attn.to_qkv[stream],
            q_gain=attn.q_rms_norm[stream],
            k_gain=attn.k_rms_norm[stream],
            attn_out=attn.to_out[stream],
            cross_norm=self.norm2[stream],
            cross_q=cross.to_q,
            cross_kv=cross.to_kv,
            cross_out=cross.to_out,
            mlp=self.mlp[stream],
        )


class StructureFlow(nn.Module):
    """See `velocity`; state-dict keys are those of the checkpoint."""

    def __init__(self, config: StructureFlowConfig) -> None:
        super().__init__()
        self.config = config
        self.t_embedder = TimeEmbedder(config.width)
        self.d_embedder = TimeEmbedder(config.width)
        self.latent_mapping = layer_dict(
            {name: LatentLayers(latent, config.width, name != SHAPE) for name, latent in config.latents.items()}
        )
        self.blocks = layer_list(_Block(config) for _ in range(config.blocks))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the matrix products."""
        return self.blocks[0].self_attn.to_qkv[SHAPE].weight.dtype

    def context(self, tokens: Tensor) -> StructureContext:
        """The context of (B, S, cond) condition tokens."""
        tokens, repeats = lengthened(tokens, self.dtype)
        keys_values = tuple(b.branches(SHAPE).keys_values(tokens, repeats) for b in self.blocks)
        return StructureContext(tokens, keys_values, repeats)

    def renew_context(self, context: StructureContext, tokens: Tensor) -> None:
        """Recompute `context` in place for other tokens of the same shape."""
        context.tokens.copy_(lengthened(tokens, self.dtype)[0])
        for block, held in zip(self.blocks, context.shape_kv, strict=True):
            block.branches(SHAPE).keys_values(context.tokens, context.repeats, out=held)

    def empty_context(self) -> Tensor:
        """(blocks, 2, C) float32: what cross-attention to a context of zeros adds to shape and to pose tokens."""
        streams = (SHAPE, self.config.pose_stream)
        rows = [torch.stack([block.branches(s).without_context() for s in streams]) for block in self.blocks]
        return torch.stack(rows)

    def modulations(self, times: Tensor, sizes: Tensor) -> Tensor:
        """(S,) times and (S,) step sizes, both times 1000, to (S, blocks, 6, C) float32."""
        emb = self.t_embedder(times).float() + self.d_embedder(sizes).float()
        return modulations(emb, [block.adaLN_modulation["1"] for block in self.blocks])

    def velocity(
        self,
        latents: Mapping[str, Tensor],
        modulation: Tensor,
        context: StructureContext | None,
        empty: Tensor,
        groups: Groups,
    ) -> Latents:
        """One call of the network.

        Args:
            latents: name -> (B, tokens, channels) float32.
            modulation: (blocks, 6, C), one step of `modulations`.
            context: of the same B objects; None when no group sees it.
            empty: from `empty_context`.
            groups: which groups of rows see the context.

        Returns:
            name -> (groups * B, tokens, channels) float32, the conditional objects first.
        """
        x, p = self._embedded(latents)
        first = attention_norm(modulation[0], self.dtype)
        h, hp = first(x), first(p)
        side = SideStream(x.device)
        for i, block in enumerate(self.blocks):
            step = self._step(i, len(latents[SHAPE]), modulation, context, empty, groups)
            shape, pose = block.branches(SHAPE), block.branches(self.config.pose_stream)
            qkv = step.queries_keys_values(h, shape)
            held = (p, hp, qkv)  # memory that the side stream reads, not to be reused before the streams meet
            with side:
                p, hp = _pose_stream(p, hp, qkv, pose, step)
            x, h = _shape_stream(x, qkv, shape, step)
            side.meet()
            del qkv, held
        return self._read_out(h, hp, len(latents[SHAPE]) * len(groups))

    def _embedded(self, latents: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(B * tokens, C) float32 residual streams: shape tokens, and pose tokens in the order of the checkpoint."""
        mapping = self.latent_mapping
        pose = torch.cat([mapping[name].into(latents[name]) for name in self.config.pose_order], dim=1)
        return mapping[SHAPE].into(latents[SHAPE]).flatten(0, 1), pose.flatten(0, 1)

    def _step(
        self,
        i: int,
        batch: int,
        modulation: Tensor,
        context: StructureContext | None,
        empty: Tensor,
        groups: Groups,
    ) -> _Step:
        """What both streams need in block `i`."""
        last = i + 1 == len(self.blocks)
        return _Step(
            first=i == 0,
            batch=batch,
            groups=groups,
            modulation=modulation[i],
            context=context,
            shape_kv=None if context is None else context.shape_kv[i],
            empty_shape=empty[i, 0],
            empty_pose=empty[i, 1],
            then=OUTPUT_NORM if last else attention_norm(modulation[i + 1], self.dtype),
        )

    def _read_out(self, h: Tensor, hp: Tensor, rows: int) -> Latents:
        """Normalised streams of `rows` objects to velocities."""
        order, latents = self.config.pose_order, self.config.latents
        out = {SHAPE: self.latent_mapping[SHAPE].out(h.unflatten(0, (rows, -1)))}
        parts = hp.unflatten(0, (rows, -1)).split([latents[name].tokens for name in order], dim=1)
        return out | {name: self.latent_mapping[name].out(part) for name, part in zip(order, parts, strict=True)}


@dataclass(frozen=True)
class _Step:
    """One block of one call: what its two streams share."""

    first: bool  # one group stands for all: they part at the first cross-attention
    batch: int  # objects in a group
    groups: Groups
    modulation: Tensor  # (6, C)
    context: StructureContext | None
    shape_kv: Tensor | None  # (B, S, 2, H, D), of this block
    empty_shape: Tensor  # (C,), what a context of zeros adds to a shape token
    empty_pose: Tensor
    then: Norm  # before the layer that follows

    def queries_keys_values(self, h: Tensor, branches: Branches) -> Tensor:
        """Normalised rows to (objects, tokens, 3, H, D)."""
        objects = self.batch if self.first else self.batch * len(self.groups)
        return branches.queries_keys_values(h).unflatten(0, (objects, -1))

    def finish(
        self, x: Tensor, attended: Tensor, branches: Branches, cross: Callable[[Tensor], Tensor], empty: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `finish_block`."""
        split = self.first and len(self.groups) == 2
        return finish_block(x, attended, branches, self.modulation, self.groups, cross, empty, self.then, split=split)


def _shape_stream(x: Tensor, qkv: Tensor, shape: Branches, step: _Step) -> tuple[Tensor, Tensor]:
    """A block's shape tokens, which attend to themselves and to the context; residual stream and normalised form."""

    def cross(rows: Tensor) -> Tensor:
        assert step.context is not None
        assert step.shape_kv is not None
        q = shape.cross_q(rows).unflatten(0, (step.batch, -1)).unflatten(-1, (shape.heads, -1))
        return ops.attention(q, *step.shape_kv.unbind(2), repeats=step.context.repeats).flatten(0, 1)

    attended = ops.attention(*qkv.unbind(2)).flatten(0, 1)
    return step.finish(x, attended, shape, cross, step.empty_shape)


def _pose_stream(p: Tensor, hp: Tensor, shape_qkv: Tensor, pose: Branches, step: _Step) -> tuple[Tensor, Tensor]:
    """A block's pose tokens, which attend to the shape, to themselves and to the context; as `_shape_stream`."""

    def cross(rows: Tensor) -> Tensor:
        assert step.context is not None
        return folded_cross_attention(rows.unflatten(0, (step.batch, -1)), step.context.own_tokens, pose).flatten(0, 1)

    query, key, value = step.queries_keys_values(hp, pose).unbind(2)
    attended = ops.attention(query, *shape_qkv.unbind(2)[1:], more=(key, value)).flatten(0, 1)
    return step.finish(p, attended, pose, cross, step.empty_pose)


def folded_cross_attention(rows: Tensor, tokens: Tensor, branches: Branches) -> Tensor:
    """Cross-attention of a handful of queries without keys or values for the context.

    ``q . (W_k c + b_k)`` is ``(W_k^T q) . c`` plus a number that is the same for every token, which the softmax
    ignores; the value layer is applied after the weighted sum of the tokens instead of before it.

    Args:
        rows: (B, L, C) normalised input of the queries, L small.
        tokens: (B, S, cond).
        branches: weights.

    Returns:
        (B, L, C), before the output projection.
    """
    heads = branches.heads
    q = branches.cross_q(rows).unflatten(-1, (heads, -1))
    width = q.shape[2] * q.shape[3]
    w_k = branches.cross_kv.weight[:width].unflatten(0, (heads, -1))  # (H, D, cond)
    w_v = branches.cross_kv.weight[width:].unflatten(0, (heads, -1))
    b_v = branches.cross_kv.bias[width:].unflatten(0, (heads, -1))
    folded = torch.einsum("blhd,hdc->bhlc", q * q.shape[-1] ** -0.5, w_k).flatten(1, 2)
    weights = _scores(folded, tokens.transpose(1, 2)).softmax(-1).to(tokens.dtype)
    mixed = (weights @ tokens).unflatten(1, (heads, -1))
    return (torch.einsum("bhlc,hdc->blhd", mixed, w_v) + b_v).flatten(2)


def _scores(folded: Tensor, tokens: Tensor) -> Tensor:
    """Batched product in float32: scores rounded to 16 bits would change the softmax by a percent."""
    if folded.is_cuda and folded.dtype != torch.float32:
        with suppress(TypeError):  # PyTorch before 2.8 has no `out_dtype`
            return torch.bmm(folded, tokens, out_dtype=torch.float32)
    return folded.float() @ tokens.float()
