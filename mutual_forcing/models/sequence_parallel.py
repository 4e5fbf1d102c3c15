"""A clip's chunks shared out over processes, as Ulysses does it (arXiv 2309.14509): each has some of the
chunks, but in attention all of them and some of the heads.

All processes of a group hold the whole clip before and after a pass, and compute the same loss. Each finds
the part of a weight's gradient that comes from its chunks and heads, so that their sum is the gradient. What
is not split, such as a rollout chunk by chunk, every process computes for itself; `shared` makes a part of
that too. A gradient that enters one pass from another would be counted wrongly; no objective has one.

Shape letters: B batch, K chunks, N tokens of a chunk, H heads, D width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class SequenceParallel:
    """The processes that share a clip; rank: which of them this is."""

    group: dist.ProcessGroup
    rank: int
    ranks: int

    def splits(self, chunks: int) -> bool:
        """Whether a pass of so many chunks is shared out."""
        return chunks >= self.ranks and chunks % self.ranks == 0

    def own(self, x: Tensor, chunks: int) -> Tensor:
        """This process's chunks of x [B, chunks * ..., ...], which lie one after the other."""
        return x.unflatten(1, (chunks, -1)).chunk(self.ranks, 1)[self.rank].flatten(1, 2)

    def own_heads(self, x: Tensor) -> Tensor:
        """This process's heads of x [..., H, D]."""
        return x.chunk(self.ranks, -2)[self.rank]

    def to_heads(self, x: Tensor) -> Tensor:
        """All chunks of own heads [B, K, N, H / P, D] for all heads of own chunks [B, K / P, N, H, D]."""
        return _Exchange.apply(x, self, 3, 1)

    def to_chunks(self, x: Tensor) -> Tensor:
        """Undo `to_heads`."""
        return _Exchange.apply(x, self, 1, 3)

    def gather(self, x: Tensor) -> Tensor:
        """All chunks [B, K, ...] of own ones [B, K / P, ...]."""
        return _Gather.apply(x, self)

    def shared(self, x: Tensor) -> Tensor:
        """x, whose gradient every process finds whole: here it passes on its part."""
        return x if not x.requires_grad else x / self.ranks + (x - x / self.ranks).detach()


class _Exchange(torch.autograd.Function):
    """Split one dimension over the processes, and join another from them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sequence: SequenceParallel, split: int, join: int) -> Tensor:
        ctx.how = sequence, split, join
        return _exchange(x, sequence, split, join)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        sequence, split, join = ctx.how
        return _exchange(grad, sequence, join, split), None, None, None


def _exchange(x: Tensor, sequence: SequenceParallel, split: int, join: int) -> Tensor:
    parts = torch.stack(x.chunk(sequence.ranks, split))
    found = torch.empty_like(parts)
    dist.all_to_all_single(found, parts, group=sequence.group)
    return torch.cat(found.unbind(0), join)


class _Gather(torch.autograd.Function):
    """All processes go on with the same, so that each has the gradient of its own part."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sequence: SequenceParallel) -> Tensor:
        ctx.sequence = sequence
        parts = [torch.empty_like(x) for _ in range(sequence.ranks)]
        dist.all_gather(parts, x.contiguous(), group=sequence.group)
        return torch.cat(parts, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grad.chunk(ctx.sequence.ranks, 1)[ctx.sequence.rank], None
