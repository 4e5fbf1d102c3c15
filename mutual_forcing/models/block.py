"""One layer of the transformer: both branches attend to one another, read the text and feed forward.

Shape letters: B batch, K chunks, N tokens of a chunk, W residual width, H heads, D head_dim, C = D less the
dimensions that carry the coupling bias (attention.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..config import BranchConfig, ModelConfig
from .attention import COUPLING_DIMS, KeyGroup, RotaryTables, attend, past_keys, reference_keys
from .kv_cache import KVCache, LayerKeyValues, ParallelHistory, Past, StackedCaches
from .layers import FeedForward, HeadNorm, modulate, rotate
from .varlen import ValidKeys, attend_rows

MODULATIONS = 6
"""Shift, scale and gate before attention and before the feed-forward (adaLN-single)."""

History = KVCache | ParallelHistory | StackedCaches


@dataclass(frozen=True)
class TextView:
    """The text as one branch's cross-attention needs it (see EncodedText), with both rotations."""

    tokens: Tensor
    keys: ValidKeys
    query_rotary: Tensor
    key_rotary: Tensor


@dataclass(frozen=True)
class BlockContext:
    """What the tokens of a pass see in one layer besides themselves.

    rotary: rotations of the tokens by branch. references: keys and values by branch, empty for none.
    history: where the past comes from, None for none; layer: this layer's number in it. text by branch,
    empty for none. flex: attend to a clip as clip_attention.py does.
    """

    rotary: Mapping[str, Tensor]
    tables: RotaryTables
    references: LayerKeyValues
    history: History | None
    layer: int
    text: Mapping[str, TextView]
    flex: bool = False

    def attend(
        self,
        queries: dict[str, Tensor],
        own: LayerKeyValues,
        rotated: list[KeyGroup],
        coupling: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """What the rotated queries [B, K, N, H, C] see of all that and of this pass's keys and values (`own`,
        also rotated): [B, K, N, H * D] per branch.
        """
        chunks = rotated[0].key.shape[1]
        if self.flex and isinstance(self.history, ParallelHistory):
            # Imported where it is asked for: it takes seconds.
            from .clip_attention import attend_clip

            references = reference_keys(_only(self.references, own), self.tables, chunks)
            return attend_clip(
                queries, rotated, references, self.history, self.layer, self.tables, coupling
            )
        return attend(queries, self.keys(own, chunks) + rotated, coupling)

    def keys(self, own: LayerKeyValues, chunks: int) -> list[KeyGroup]:
        """References and past, rotated, of the branches in `own` (this pass's keys and values)."""
        groups = reference_keys(_only(self.references, own), self.tables, chunks)
        past = None if self.history is None else self.history.past(self.layer, own)
        if past is not None:
            past = Past(_only(past.branches, own), past.offsets, past.valid)
            groups += past_keys(past, self.tables)
        return groups


class CrossAttention(nn.Module):
    """Reading the text tokens of a chunk; starts as nothing."""

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()
        content = config.head_dim - COUPLING_DIMS
        self.heads = config.heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, config.heads * content)
        self.key_value = nn.Linear(config.text_width, 2 * config.heads * content)
        self.query_norm, self.key_norm = HeadNorm(content), HeadNorm(content)
        self.out = nn.Linear(config.heads * content, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, text: TextView) -> Tensor:
        """What x [B, K, N, W] reads."""
        batch, chunks = x.shape[:2]
        query = self.query(self.norm(x)).unflatten(-1, (self.heads, -1))
        key_value = self.key_value(text.tokens).unflatten(-1, (2, self.heads, -1))
        key, value = key_value.unbind(-3)
        query = rotate(self.query_norm(query), text.query_rotary)
        key = rotate(self.key_norm(key), text.key_rotary)
        query, key, value = (t.flatten(0, 1) for t in (query, key, value.to(query.dtype)))
        mixed = attend_rows(query, key, value, text.keys)
        return self.out(mixed.flatten(2).unflatten(0, (batch, chunks)))


class BranchBlock(nn.Module):
    """The weights of one branch in a block."""

    def __init__(self, branch: BranchConfig, config: ModelConfig) -> None:
        super().__init__()
        content, width = config.head_dim - COUPLING_DIMS, branch.width
        self.heads, self.split = config.heads, (content, content, config.head_dim)
        self.modulation = nn.Parameter(torch.zeros(MODULATIONS, width))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, config.heads * sum(self.split))
        self.query_norm, self.key_norm = HeadNorm(content), HeadNorm(content)
        self.out = nn.Linear(config.heads * config.head_dim, width)
        self.cross = CrossAttention(width, config)
        self.ffn_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.ffn = FeedForward(width, branch.ffn_multiple)


class JointBlock(nn.Module):
    """Joint self-attention of both branches, then each reads the text and feeds forward (adaLN-single)."""

    branches: Mapping[str, BranchBlock]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        branches = config.branches
        blocks = nn.ModuleDict({n: BranchBlock(b, config) for n, b in branches.items()})
        # A ModuleDict says nothing of the class of its modules.
        self.branches = cast("Mapping[str, BranchBlock]", blocks)
        # Many tokens weigh as much as few: the bias begins less by the logarithm of how many more the other
        # branch has.
        more = math.log(config.audio.grid.tokens / config.video.grid.tokens)
        start = {"video": config.coupling_bias - more, "audio": config.coupling_bias + more}
        self.coupling = nn.ParameterDict(
            {name: nn.Parameter(torch.full((config.heads,), start[name])) for name in branches}
        )

    def forward(
        self, hidden: Mapping[str, Tensor], modulation: Mapping[str, Tensor], context: BlockContext
    ) -> tuple[dict[str, Tensor], LayerKeyValues]:
        """hidden [B, K, N, W] and modulation [B, K, 6 W] by branch to hidden, and the keys (not rotated) and
        values [B, K, N, H, .] of these tokens, which a history keeps.
        """
        modulations, queries, own, rotated = {}, {}, {}, []
        for name, x in hidden.items():
            block = self.branches[name]
            # Shift, scale and gate for the attention, and for the feed-forward.
            six = (modulation[name] + block.modulation.flatten()).chunk(MODULATIONS, -1)
            qkv = block.qkv(modulate(block.norm(x), six[0], six[1]))
            query, key, value = qkv.unflatten(-1, (block.heads, -1)).split(block.split, -1)
            query, key = block.query_norm(query), block.key_norm(key)
            modulations[name], own[name] = six, (key, value)
            queries[name] = rotate(query, context.rotary[name])
            rotated.append(KeyGroup(name, rotate(key, context.rotary[name]), value))

        coupling = {name: self.coupling[name] for name in hidden}
        mixed = context.attend(queries, own, rotated, coupling)

        out = {}
        for name, x in hidden.items():
            block, (_, _, gate, shift, scale, ffn_gate) = self.branches[name], modulations[name]
            x = x + block.out(mixed[name]) * gate[:, :, None]
            if name in context.text:
                x = x + block.cross(x, context.text[name])
            ffn = block.ffn(modulate(block.ffn_norm(x), shift, scale))
            out[name] = x + ffn * ffn_gate[:, :, None]
        return out, own


def _only(branches: LayerKeyValues, own: LayerKeyValues) -> LayerKeyValues:
    """The branches that take part in this pass."""
    return {name: pair for name, pair in branches.items() if name in own}
