"""Joint self-attention: one softmax over references, past and own tokens of both branches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..chunks import (
    CHUNK_SECONDS,
    POSITIONS_PER_SECOND,
    audio_positions,
    still_positions,
    video_positions,
)
from .kv_cache import LayerKeyValues, Past
from .layers import rotary_frequencies, rotary_table, rotate

REFERENCE_TIME = -8.0 * POSITIONS_PER_SECOND
"""References sit at one fixed time relative to every chunk that reads them: they are timeless."""

RotaryTable = Tensor
"""complex64 [N, D / 2], see layers.rotary_table."""


@dataclass(frozen=True)
class RotaryTables:
    """Rotations relative to the start of the chunk that attends, per branch."""

    own: dict[str, RotaryTable]
    references: dict[str, RotaryTable]
    positions: dict[str, Tensor]
    frequencies: Tensor

    @staticmethod
    def build(head_dim: int, voice_latents: int, device: torch.device) -> RotaryTables:
        """Compute on the CPU in float64, then move."""
        frequencies = rotary_frequencies(head_dim)
        own = {"video": video_positions(), "audio": audio_positions()}
        references = {"video": still_positions(), "audio": audio_positions(voice_latents)}
        for positions in references.values():
            positions[:, 0] += REFERENCE_TIME

        def tables(positions: dict[str, Tensor]) -> dict[str, RotaryTable]:
            return {n: rotary_table(p, frequencies).to(device) for n, p in positions.items()}

        return RotaryTables(tables(own), tables(references), own, frequencies)

    def past(self, name: str, slots: int) -> RotaryTable:
        """Rotations of the `slots` chunks before the attending one: [slots, N, D / 2]."""
        back = torch.arange(-slots, 0, dtype=torch.float64) * CHUNK_SECONDS * POSITIONS_PER_SECOND
        positions = self.positions[name][None].repeat(slots, 1, 1)
        positions[..., 0] += back[:, None]
        return rotary_table(positions, self.frequencies).to(self.own[name].device)


@dataclass(frozen=True)
class KeyGroup:
    """Some rotated keys and values [B, K, M, H, D] of one branch; `valid` bool [K, M] or None."""

    branch: str
    key: Tensor
    value: Tensor
    valid: Tensor | None = None


def reference_keys(references: LayerKeyValues, tables: RotaryTables, chunks: int) -> list[KeyGroup]:
    """The reference tokens (kept as one chunk [B, 1, R, H, D]) for every chunk."""
    groups = []
    for name, (key, value) in references.items():
        turned = rotate(key, tables.references[name])
        shape = (-1, chunks, -1, -1, -1)
        groups.append(KeyGroup(name, turned.expand(shape), value.expand(shape)))
    return groups


def past_keys(past: Past, tables: RotaryTables) -> list[KeyGroup]:
    """The past chunks [B, K, S, N, H, D], turned relative to the chunk that reads them."""
    groups = []
    for name, (key, value) in past.branches.items():
        slots, tokens = key.shape[2:4]
        turned = rotate(key, tables.past(name, slots))
        valid = None if past.valid is None else past.valid.repeat_interleave(tokens, 1)
        groups.append(KeyGroup(name, turned.flatten(2, 3), value.flatten(2, 3), valid))
    return groups


def attend(
    queries: dict[str, Tensor], groups: list[KeyGroup], coupling: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Scaled dot-product attention of every chunk's rotated queries [B, K, N, H, D].

    `coupling[name]` [H] is added to the logits of branch `name`'s queries and the other branch's keys.
    Returns [B, K, N, H * D] per branch.
    """
    key = torch.cat([g.key for g in groups], 2).flatten(0, 1).transpose(1, 2)
    value = torch.cat([g.value for g in groups], 2).flatten(0, 1).transpose(1, 2)
    batch, chunks = next(iter(queries.values())).shape[:2]
    valid = _validity(groups, chunks)
    out = {}
    for name, query in queries.items():
        bias = _bias(name, groups, coupling[name], valid, query)
        if bias is not None and valid is not None:
            bias = bias.repeat(batch, 1, 1, 1)
        mixed = F.scaled_dot_product_attention(
            query.flatten(0, 1).transpose(1, 2), key, value, attn_mask=bias
        )
        out[name] = mixed.transpose(1, 2).flatten(2).unflatten(0, (batch, chunks))
    return out


def _validity(groups: list[KeyGroup], chunks: int) -> Tensor | None:
    """bool [K, M] over all keys; None when every key may be seen."""
    if all(g.valid is None for g in groups):
        return None
    device = groups[0].key.device
    parts = [
        g.valid
        if g.valid is not None
        else torch.ones(chunks, g.key.shape[2], dtype=torch.bool, device=device)
        for g in groups
    ]
    return torch.cat(parts, 1)


def _bias(
    name: str, groups: list[KeyGroup], coupling: Tensor, valid: Tensor | None, query: Tensor
) -> Tensor | None:
    """Additive bias, [1 or K, H, N, M]: coupling towards the other branch, -inf where nothing is."""
    foreign = torch.cat(
        [torch.full((g.key.shape[2],), float(g.branch != name)) for g in groups]
    ).to(query.device)
    if valid is None and not foreign.any():
        return None
    bias = (coupling[:, None] * foreign)[None, :, None].to(query.dtype)
    if valid is not None:
        bias = bias.masked_fill(~valid[:, None, None], float("-inf"))
    return bias.expand(-1, -1, query.shape[2], -1)
