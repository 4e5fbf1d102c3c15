"""Joint self-attention of all chunks of a clip at once, for training on CUDA (flex_attention).

`attention.attend` copies its whole past for every chunk and masks what does not exist. Here every key lies
once, on the clock of the clip, and a rule says which chunks see it; tiles that no chunk sees are skipped. The
result is the same. On a CPU flex_attention has no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from .attention import KeyGroup, RotaryTables, key_marks, marked_queries
from .kv_cache import LayerKeyValues, ParallelHistory
from .layers import rotate


@dataclass(frozen=True)
class Layout:
    """Which chunks see the keys of a group: `tokens` of them lie in each chunk; `own`: it sees them itself;
    `past`: chunks up to a window later do, and up to `after` chunks earlier.
    """

    tokens: int
    own: bool
    past: bool


def attend_clip(
    queries: Mapping[str, Tensor],
    rotated: list[KeyGroup],
    references: list[KeyGroup],
    history: ParallelHistory,
    layer: int,
    tables: RotaryTables,
    coupling: dict[str, Tensor],
) -> dict[str, Tensor]:
    """What `attention.attend` returns for the same pass, [B, K, N, H * D] per branch.

    queries [B, K, N, H, C] and own keys (`rotated`) are turned as in their chunk, `references` as every chunk
    reads them.
    """
    alone = history.clean is None
    groups = [(g, Layout(g.key.shape[2], True, False)) for g in references]
    groups += [(g, Layout(g.key.shape[2], True, alone)) for g in rotated]
    if history.clean is not None:
        past = _clean_keys(history.clean[layer], tables, {g.branch for g in rotated})
        groups += [(g, Layout(g.key.shape[2], False, True)) for g in past]

    keys = [g for g, _ in groups]
    chunks = rotated[0].key.shape[1]
    clock = tables.clock(chunks)
    key = torch.cat([g.key for g in keys], 2)
    marks = torch.cat([key_marks(g, coupling, key) for g in keys])
    key = torch.cat([rotate(key, clock), marks.expand(*key.shape[:2], -1, -1, -1)], -1)
    value = torch.cat([g.value for g in keys], 2)
    query = marked_queries({name: rotate(q, clock) for name, q in queries.items()})

    counts = [q.shape[2] for q in queries.values()]
    mask = _block_mask(
        sum(counts),
        tuple(layout for _, layout in groups),
        chunks,
        history.window,
        max(0, *history.offsets),
        query.device,
    )
    kind = query.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else value.dtype
    heads = (x.flatten(1, 2).transpose(1, 2).to(dtype) for x in (query, key, value))
    mixed = _kernel(kind)(*heads, block_mask=mask).transpose(1, 2)
    split = mixed.unflatten(1, (chunks, -1)).flatten(3).split(counts, 2)
    return dict(zip(queries, split, strict=True))


def _clean_keys(clean: LayerKeyValues, tables: RotaryTables, branches: set[str]) -> list[KeyGroup]:
    """The keys of an earlier clean pass, each turned as in its own chunk."""
    return [
        KeyGroup(name, rotate(key, tables.own[name]), value)
        for name, (key, value) in clean.items()
        if name in branches
    ]


@lru_cache(maxsize=64)
def _block_mask(
    queries: int,
    groups: tuple[Layout, ...],
    chunks: int,
    window: int,
    after: int,
    device: torch.device,
) -> BlockMask:
    """Which keys [K * M] the queries [K * N] see; the same for all layers and steps of a length."""
    with torch.inference_mode(False):  # training may meet it again, and needs its tensors
        order = torch.arange(chunks, device=device)
        of_query = order.repeat_interleave(queries)
        own, past = (
            torch.cat([torch.full((g.tokens,), getattr(g, part)) for g in groups])
            .repeat(chunks)
            .to(device)
            for part in ("own", "past")
        )
        of_key = order.repeat_interleave(len(own) // chunks)

        def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            apart = of_key[key] - of_query[query]
            around = (apart != 0) & (apart >= -window) & (apart <= after)
            return (own[key] & (apart == 0)) | (past[key] & around)

        return create_block_mask(seen, None, None, len(of_query), len(of_key), device=device)


@lru_cache
def _kernel(kind: str) -> Callable[..., Any]:
    """The fused kernel where there is one; the plain rule in PyTorch on a CPU, forwards only."""
    return torch.compile(flex_attention) if kind == "cuda" else flex_attention
