"""Pictures, masks and pointmaps of one object to the condition tokens that the flows attend to.

Each stage has its own embedders, projections and group vectors, but the inputs are the same and the DINO weights
usually are. So embedding (`raw_tokens`, one pass per network and distinct input for both stages, the photo's full
view once for all its objects) is separate from projecting and joining (`ConditionEmbedder.assemble`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam3d_gs.sam3d_torch.config import ConditionConfig, DinoConfig, PointPatchConfig
from sam3d_gs.sam3d_torch.dino import DinoTokens, DinoVit, VitBlock, as_image, layer_norm, linear

PROJECTION_EPS = 1e-5
HIDDEN_MULTIPLE = 256  # the hidden width of a projection is rounded up to this


class DinoEmbedder(nn.Module):
    """An image or mask, (B, 3 or 1, H, W), to tokens. Several may hold one `backbone`."""

    def __init__(self, config: DinoConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = DinoVit(config.vit)

    @property
    def network(self) -> DinoVit:
        """The network of a pass; embedders that hold the same object share the pass."""
        return self.backbone

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) float32."""
        return self.choose(self.backbone(self.prepare(x)))

    def prepare(self, x: Tensor) -> Tensor:
        """The network's input, (B, 3, S, S)."""
        return as_image(x, self.config.input_px)

    def choose(self, tokens: DinoTokens) -> Tensor:
        """The part of a pass's output that this stage uses."""
        return tokens.prenorm if self.config.prenorm else tokens.final


class PointPatchEmbed(nn.Module):
    """A pointmap to one token per square window, through one transformer block inside each window."""

    def __init__(self, config: PointPatchConfig) -> None:
        super().__init__()
        self.config = config
        width, points, windows = config.width, config.patch_px**2, config.input_px // config.patch_px
        self.point_proj = nn.Linear(3, width)
        self.invalid_xyz_token = nn.Parameter(torch.empty(width))
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed_window = nn.Parameter(torch.empty(1, 1 + points, width))
        self.pos_embed = nn.Parameter(torch.empty(1, width, windows, windows))
        self.blocks = nn.ModuleList([VitBlock(width, config.heads, config.mlp_ratio, layer_scale=False)])

    @property
    def network(self) -> PointPatchEmbed:
        return self

    def forward(self, pointmap: Tensor) -> Tensor:
        """(B, 3, H, W), a point with any coordinate NaN or infinite is invalid, to (B, windows, C) float32."""
        # One map at a time: the points of one fill a GPU, and those of many would fill its memory.
        return torch.cat([self._one(one) for one in self.prepare(pointmap)])

    def prepare(self, pointmap: Tensor) -> Tensor:
        """The nearest points on the network's grid, (B, 3, S, S) float32."""
        size = (self.config.input_px, self.config.input_px)
        return (
            F.interpolate(pointmap.float(), size, mode="nearest") if pointmap.shape[-2:] != size else pointmap.float()
        )

    def choose(self, tokens: Tensor) -> Tensor:
        return tokens

    def _one(self, pointmap: Tensor) -> Tensor:
        """(3, S, S) to (1, windows, C)."""
        patch = self.config.patch_px
        windows = pointmap.unfold(1, patch, patch).unfold(2, patch, patch)  # (3, rows, columns, patch, patch)
        points = windows.permute(1, 2, 3, 4, 0).reshape(-1, patch**2, 3)
        valid = points.isfinite().all(-1, keepdim=True)
        # Coordinates are lengths of any range: they are projected in float32.
        weight, bias = self.point_proj.weight.float(), self.point_proj.bias.float()
        tokens = F.linear(points.where(valid, 0.0), weight, bias).where(valid, self.invalid_xyz_token.float())
        cls = self.cls_token.float().expand(len(tokens), -1, -1)
        tokens = torch.cat([cls, tokens], dim=1) + self.pos_embed_window.float()
        # Only the class token is returned, so in the last block only it needs queries and an MLP.
        for i, block in enumerate(self.blocks):
            tokens = block(tokens, first_only=i == len(self.blocks) - 1)
        return tokens.transpose(0, 1) + self.pos_embed.float().flatten(2).transpose(1, 2)


class SwiGlu(nn.Module):
    """``w2(silu(w1 x) * w3 x)`` without biases (Shazeer 2020)."""

    def __init__(self, width: int, hidden: int, out: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(width, hidden, bias=False)
        self.w2 = nn.Linear(hidden, out, bias=False)
        self.w3 = nn.Linear(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return linear(F.silu(linear(x, self.w1.weight)) * linear(x, self.w3.weight), self.w2.weight)


class ConditionEmbedder(nn.Module):
    """The condition tokens of one stage: embedders in order, and for each its inputs in order."""

    def __init__(self, config: ConditionConfig) -> None:
        super().__init__()
        self.config = config
        parts = [part for part, _ in config.embedders]
        groups = [group for _, inputs in config.embedders for _, group in inputs]
        self.groups = {group: row for row, group in enumerate(dict.fromkeys(groups))}  # row of `idx_emb`
        self.module_list = nn.ModuleList(
            DinoEmbedder(part) if isinstance(part, DinoConfig) else PointPatchEmbed(part) for part in parts
        )
        self.projection_nets = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width, eps=PROJECTION_EPS),
                SwiGlu(width, projection_hidden(config), config.width),
            )
            for width in (part.vit.width if isinstance(part, DinoConfig) else part.width for part in parts)
        )
        self.idx_emb = nn.Parameter(torch.empty(len(self.groups) + 1, config.width))  # the last row is never used

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs of `forward` and `assemble`, in token order."""
        return tuple(name for _, inputs in self.config.embedders for name, _ in inputs)

    def embedders(self) -> Iterator[tuple[DinoEmbedder | PointPatchEmbed, tuple[str, ...]]]:
        """Each embedder with the names of its inputs."""
        for module, (_, inputs) in zip(self.module_list, self.config.embedders, strict=True):
            yield cast("DinoEmbedder | PointPatchEmbed", module), tuple(name for name, _ in inputs)

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Images and masks (B, 3 or 1, S, S) and pointmaps (B, 3, S, S) by name to (B, T, C)."""
        return self.assemble(raw_tokens([self], inputs)[0])

    def assemble(self, raw: Mapping[str, Tensor]) -> Tensor:
        """Tokens of the embedders by input name, (B or 1, t, c), to the condition (B, T, C) in the weights' dtype.

        Tokens with batch 1 serve every object of the batch: the full view of a photo does.
        """
        parts = [
            self.project(i, group, raw[name])
            for i, (_, inputs) in enumerate(self.config.embedders)
            for name, group in inputs
        ]
        batch = max(len(part) for part in parts)
        return torch.cat([part.expand(batch, -1, -1) for part in parts], dim=1)

    def project(self, i: int, group: str, raw: Tensor) -> Tensor:
        """Tokens (B, t, c) of embedder `i` to (B, t, C), with the vector that marks the crop or the full view added."""
        norm, feed_forward = cast(nn.Sequential, self.projection_nets[i])
        projected = feed_forward(layer_norm(raw, cast(nn.LayerNorm, norm)))
        return (projected.float() + self.idx_emb[self.groups[group]].float()).to(projected.dtype)


def projection_hidden(config: ConditionConfig) -> int:
    """Hidden width of every projection: two thirds of the multiple, since SwiGLU has three matrices, rounded up."""
    hidden = int(2 * int(config.hidden_multiplier * config.width) / 3)
    return -(-hidden // HIDDEN_MULTIPLE) * HIDDEN_MULTIPLE


def raw_tokens(stages: Sequence[ConditionEmbedder], inputs: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Un-projected tokens of every stage, (B, t, c) float32 by input name: what `assemble` takes.

    Inputs may come in parts (once per photo, once per object): names that are not in `inputs` are left out. A network
    that several embedders share sees each input once, and all its inputs of one batch size in one pass.
    """
    passes: dict[tuple[nn.Module, int, int], list[tuple[int, str, DinoEmbedder | PointPatchEmbed]]] = {}
    for stage_number, stage in enumerate(stages):
        for embedder, names in stage.embedders():
            for name in names:
                if name in inputs:
                    key = (embedder.network, embedder.config.input_px, len(inputs[name]))
                    passes.setdefault(key, []).append((stage_number, name, embedder))
    raw: list[dict[str, Tensor]] = [{} for _ in stages]
    for (network, _, batch), readers in passes.items():
        prepared = {name: embedder.prepare(inputs[name]) for _, name, embedder in readers}
        tokens = network(torch.cat(list(prepared.values())))
        for stage_number, name, embedder in readers:
            start = batch * list(prepared).index(name)
            raw[stage_number][name] = embedder.choose(tokens)[start : start + batch]
    return raw
