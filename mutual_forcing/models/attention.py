"""Joint self-attention: one softmax over references, past and own tokens of both branches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..chunks import POSITIONS_PER_SECOND, token_positions
from ..config import ModelConfig
from .kv_cache import LayerKeyValues, Past
from .layers import at_time, rotary_frequencies, rotary_table, rotate
from .varlen import ValidKeys, attend_rows

REFERENCE_SECONDS = 8.0
"""References begin so long before every chunk that reads them, or longer where the window is: they are
timeless, and lie before all of the past.
"""

BRANCHES = ("video", "audio")
COUPLING_DIMS = 8
"""Dimensions of each head that carry the coupling bias; two are used, eight keep kernels aligned."""

RotaryTable = Tensor
"""float32 [N, D / 2, 2], see layers.rotary_table."""


@dataclass(frozen=True)
class RotaryTables:
    """Rotations relative to the start of the chunk that attends, per branch."""

    own: dict[str, RotaryTable]
    references: dict[str, RotaryTable]
    positions: dict[str, Tensor]
    chunk_seconds: float
    reference_end: float
    frequencies: Tensor
    _past: dict[tuple[str, tuple[int, ...]], RotaryTable] = field(default_factory=dict)

    @staticmethod
    def build(config: ModelConfig, device: torch.device) -> RotaryTables:
        """Compute on the CPU in float64, then move."""
        frequencies = rotary_frequencies(config.head_dim - COUPLING_DIMS)
        video, audio = config.video.grid, config.audio.grid
        own = {"video": token_positions(video), "audio": token_positions(audio)}
        references = {
            "video": token_positions(video, 1),
            "audio": token_positions(audio, config.voice_latents),
        }
        longest = max(config.voice_latents / audio.rate, 1 / video.rate)
        before = max(REFERENCE_SECONDS, config.window * video.seconds + longest)
        for positions in references.values():
            positions[:, 0] -= before * POSITIONS_PER_SECOND

        def tables(positions: dict[str, Tensor]) -> dict[str, RotaryTable]:
            return {n: rotary_table(p, frequencies).to(device) for n, p in positions.items()}

        end = max(float(positions[:, 0].max()) for positions in references.values())
        return RotaryTables(tables(own), tables(references), own, video.seconds, end, frequencies)

    def clock(self, chunks: int) -> RotaryTable:
        """Rotations that put what is turned relative to its chunk on the clock of a clip: [chunks, 1, D / 2,
        2].
        """
        begin = torch.arange(chunks, dtype=torch.float64) * self.chunk_seconds
        table = rotary_table(at_time(begin * POSITIONS_PER_SECOND), self.frequencies)
        return table[:, None].to(self.own["video"].device)

    def past(self, name: str, offsets: tuple[int, ...]) -> RotaryTable:
        """Rotations of chunks `offsets` after the attending one: [len(offsets), N, D / 2, 2]."""
        if (name, offsets) not in self._past:
            shift = torch.tensor(offsets, dtype=torch.float64) * self.chunk_seconds
            positions = self.positions[name] + at_time(shift * POSITIONS_PER_SECOND)[:, None]
            table = rotary_table(positions, self.frequencies)
            self._past[name, offsets] = table.to(self.own[name].device)
        return self._past[name, offsets]


@dataclass(frozen=True)
class KeyGroup:
    """Some rotated keys and values [B, K, M, H, D] of one branch; `valid` bool [K, M] on the CPU, or None for
    all.
    """

    branch: str
    key: Tensor
    value: Tensor
    valid: Tensor | None = None


def reference_keys(references: LayerKeyValues, tables: RotaryTables, chunks: int) -> list[KeyGroup]:
    """The reference tokens (kept as one chunk [B, 1, R, H, D]) for every chunk."""
    groups = []
    for name, (key, value) in references.items():
        rotated = rotate(key, tables.references[name])
        shape = (-1, chunks, -1, -1, -1)
        groups.append(KeyGroup(name, rotated.expand(shape), value.expand(shape)))
    return groups


def past_keys(past: Past, tables: RotaryTables) -> list[KeyGroup]:
    """The past chunks [B, K, S, N, H, D], rotated relative to the chunk that reads them."""
    groups = []
    for name, (key, value) in past.branches.items():
        tokens = key.shape[3]
        rotated = rotate(key, tables.past(name, past.offsets))
        valid = None if past.valid is None else past.valid.repeat_interleave(tokens, 1)
        groups.append(KeyGroup(name, rotated.flatten(2, 3), value.flatten(2, 3), valid))
    return groups


def attend(
    queries: dict[str, Tensor], groups: list[KeyGroup], coupling: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Scaled dot-product attention of every chunk's rotated queries [B, K, N, H, C].

    `coupling[name]` [H] is added to the logits of branch `name`'s queries and the other branch's keys.
    It travels in COUPLING_DIMS extra dimensions of queries and keys (head_dim D = C + COUPLING_DIMS, the
    values' width), because a bias that needs a gradient would rule out the fused kernels. Returns
    [B, K, N, H * D] per branch.
    """
    key = torch.cat([g.key for g in groups], 2)
    marks = torch.cat([key_marks(g, coupling, key) for g in groups])
    key = torch.cat([key, marks.expand(*key.shape[:2], -1, -1, -1)], -1)
    value = torch.cat([g.value for g in groups], 2)
    query = marked_queries(queries)
    batch, chunks = query.shape[:2]
    valid = _validity(groups, chunks)
    keys = None if valid is None else ValidKeys(valid.repeat(batch, 1))
    mixed = attend_rows(query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1), keys)
    mixed = mixed.flatten(2).unflatten(0, (batch, chunks))
    split = mixed.split([q.shape[2] for q in queries.values()], 2)
    return dict(zip(queries, split, strict=True))


def marked_queries(queries: Mapping[str, Tensor]) -> Tensor:
    """The queries [B, K, N, H, C] of all branches beside each other, with dimensions appended that pick their
    branch's column of the keys' marks.
    """
    marked = []
    for name, query in queries.items():
        mark = F.one_hot(torch.tensor(BRANCHES.index(name)), COUPLING_DIMS).to(query)
        marked.append(torch.cat([query, mark.expand(*query.shape[:-1], -1)], -1))
    return torch.cat(marked, 2)


def key_marks(group: KeyGroup, coupling: dict[str, Tensor], like: Tensor) -> Tensor:
    """[M, H, COUPLING_DIMS]: dimension i holds what queries of BRANCHES[i] add for these keys."""
    tokens, heads, content = group.key.shape[2:]
    scale = (content + COUPLING_DIMS) ** 0.5
    columns = [
        coupling[name] * scale
        if name in coupling and name != group.branch
        else like.new_zeros(heads)
        for name in BRANCHES
    ]
    padding = like.new_zeros(heads, COUPLING_DIMS - len(BRANCHES))
    marks = torch.cat([torch.stack(columns, -1).to(like.dtype), padding], -1)
    return marks.expand(tokens, -1, -1)


def _validity(groups: list[KeyGroup], chunks: int) -> Tensor | None:
    """bool [K, M] over all keys, on the CPU; None when every key may be seen."""
    if all(g.valid is None for g in groups):
        return None
    every = (
        g.valid if g.valid is not None else torch.ones(chunks, g.key.shape[2], dtype=torch.bool)
        for g in groups
    )
    return torch.cat(list(every), 1)
