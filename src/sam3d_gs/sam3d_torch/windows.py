"""Attention inside cubic windows of a sparse voxel grid, without a mask over all pairs of tokens.

`partition` sorts the tokens by window once per object and shift; `attend` then works on tokens in that order. On CUDA
it is one variable-length flash attention, and nothing on the way waits for the device. Elsewhere, windows of similar
length are padded to a common one and attended to as a batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

FLASH_DTYPES = (torch.float16, torch.bfloat16)
FLASH_HEAD_CHANNELS = 256  # widest head of the flash kernels; widths must also be multiples of 8


@dataclass(frozen=True)
class Bucket:
    """Windows padded to one length."""

    tokens: Tensor  # (W, L) int64 into the sorted tokens; the padding repeats a token of the same window
    valid: Tensor | None  # (W, 1, 1, L) bool, False for padding; None when nothing is padded


@dataclass(frozen=True)
class Windows:
    """Which tokens attend to each other: window w holds tokens `offsets[w]:offsets[w + 1]` of the sorted sequence."""

    order: Tensor | None  # (N,) int64: sorted = tokens[order]; None when the tokens are sorted already
    offsets: Tensor  # (W + 1,) int32, from 0 to N; windows may be empty
    longest: int  # no window holds more tokens than this

    def sort(self, tokens: Tensor) -> Tensor:
        """(N, ...) to the order of the windows."""
        return tokens if self.order is None else tokens[self.order]

    def unsort(self, tokens: Tensor) -> Tensor:
        """The inverse of `sort`."""
        return tokens if self.order is None else tokens[self._inverse]

    def of_sorted(self) -> Windows:
        """The same windows for tokens that `sort` has been applied to."""
        return replace(self, order=None)

    @cached_property
    def _inverse(self) -> Tensor:
        assert self.order is not None
        inverse = torch.empty_like(self.order)
        inverse[self.order] = torch.arange(len(self.order), device=self.order.device)
        return inverse

    @cached_property
    def buckets(self) -> tuple[tuple[Bucket, ...], Tensor]:
        """Buckets by power of two, and (N,) int64: where each sorted token lies in their concatenated rows.

        Reads the offsets back from the device, once per partition.
        """
        device = self.offsets.device
        offsets = self.offsets.long().cpu()
        starts, lengths = offsets[:-1], offsets.diff()
        buckets, rows, first_row = [], torch.empty(int(offsets[-1]), dtype=torch.int64), 0
        shortest, longest = 1, max(int(lengths.max()), 1)
        while shortest <= longest:
            chosen = (lengths >= shortest) & (lengths < 2 * shortest)
            shortest *= 2
            if not chosen.any():
                continue
            start, length = starts[chosen, None], lengths[chosen, None]
            size = int(length.max())
            place = torch.arange(size)
            tokens = start + torch.minimum(place, length - 1)
            valid = place < length
            rows[tokens[valid]] = first_row + valid.flatten().nonzero().squeeze(1)
            first_row += valid.numel()
            mask = None if bool(valid.all()) else valid[:, None, None].to(device)
            buckets.append(Bucket(tokens.to(device), mask))
        return tuple(buckets), rows.to(device)


def partition(coords: Tensor, resolution: int, window: int, shift: int) -> Windows:
    """Sort voxels by the window `(coords + shift) // window` they lie in. Nothing is read back from the device.

    coords: (N, 3) int, distinct, in [0, resolution). window and shift are in voxels.
    """
    side = (resolution - 1 + shift) // window + 1
    x, y, z = ((coords.long() + shift) // window).unbind(1)
    key, order = ((x * side + y) * side + z).sort(stable=True)
    edges = torch.arange(side**3 + 1, device=coords.device)
    return Windows(order, torch.searchsorted(key, edges, out_int32=True), min(window**3, len(coords)))


def attend(q: Tensor, k: Tensor, v: Tensor, windows: Windows) -> Tensor:
    """(N, H, D) each, in the sorted order of `windows` -> (N, H, D): softmax attention inside every window."""
    flash = _flash(q.device) if _flash_takes(q) else None
    if flash is None:
        return attend_in_buckets(q, k, v, windows)
    return flash(q, k, v, windows.offsets, windows.offsets, windows.longest, windows.longest)


def attend_in_buckets(q: Tensor, k: Tensor, v: Tensor, windows: Windows) -> Tensor:
    """The same as `attend`, on any device and dtype."""
    buckets, rows = windows.buckets
    outputs = []
    for bucket in buckets:
        query, key, value = (t[bucket.tokens].transpose(1, 2) for t in (q, k, v))
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=bucket.valid)
        outputs.append(seen.transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs)[rows]


def _flash_takes(q: Tensor) -> bool:
    channels = q.shape[-1]
    return q.is_cuda and q.dtype in FLASH_DTYPES and channels % 8 == 0 and channels <= FLASH_HEAD_CHANNELS


@cache
def _flash(device: torch.device) -> Callable[..., Tensor] | None:
    """Variable-length flash attention, if torch (2.10 or newer) and the GPU (Ampere or newer) have it, else None."""
    if torch.cuda.get_device_capability(device) < (8, 0):
        return None
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    attention: Callable[..., Any] = varlen_attn
    return attention
