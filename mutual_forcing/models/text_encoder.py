"""Transcript and caption to tokens for cross-attention, and phonemes laid along the time axis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..chunks import CHUNK_SECONDS, POSITIONS_PER_SECOND
from ..text.captions import CAPTION_WORDS
from ..types import TextTokens
from .varlen import ValidKeys


@dataclass(frozen=True)
class EncodedText:
    """tokens [B, K, 1 + Q + P, W] (a null token, the caption, the phonemes), their rotary positions
    [B, K, 1 + Q + P] and which are real (bool [B, K, 1 + Q + P]).

    `phonemes` [B, K, P, W] with `start` and `end` [B, K, P] in seconds from the chunk's start.
    """

    tokens: Tensor
    positions: Tensor
    valid: Tensor
    phonemes: Tensor
    start: Tensor
    end: Tensor

    def hearing(self, heard: Tensor, start: Tensor, end: Tensor) -> EncodedText:
        """The same with what a sound says in place of phonemes: features [1, K, P, W] of tokens that last
        from start to end [P]. Rows but the first, which are there for guidance, go without.
        """
        rows, chunks, count = self.start.shape
        assert heard.shape[2] == count, "as many tokens as there is room for phonemes"
        first = torch.arange(rows, device=heard.device)[:, None, None] == 0
        phonemes = heard * first[..., None]
        middle = ((start + end) / 2 * POSITIONS_PER_SECOND).expand(rows, chunks, -1)
        return EncodedText(
            tokens=torch.cat([self.tokens[:, :, :-count], phonemes.to(self.tokens.dtype)], 2),
            positions=torch.cat([self.positions[:, :, :-count], middle], 2),
            valid=torch.cat([self.valid[:, :, :-count], first.expand(-1, chunks, count)], 2),
            phonemes=phonemes,
            start=start.expand(rows, chunks, -1),
            end=end.expand(rows, chunks, -1),
        )

    @cached_property
    def keys(self) -> ValidKeys:
        """`valid` for cross-attention: a row for every chunk."""
        return ValidKeys(self.valid.flatten(0, 1))

    def aligned(self, token_start: Tensor, token_end: Tensor) -> Tensor:
        """Mean phoneme features over each token's time span [N]: [B, K, N, W]."""
        begin = torch.maximum(token_start[:, None], self.start[:, :, None])
        finish = torch.minimum(token_end[:, None], self.end[:, :, None])
        share = (finish - begin).clamp_min(0) / (token_end - token_start)[:, None]
        return share.to(self.phonemes.dtype) @ self.phonemes


class TextEncoder(nn.Module):
    """Embeddings, then convolutions over neighbouring phonemes.

    The caption sits at the middle of every chunk: it has no time of its own.
    """

    def __init__(self, width: int, layers: int, phonemes: int) -> None:
        super().__init__()
        self.phoneme = nn.Embedding(phonemes + 1, width, padding_idx=0)
        self.caption = nn.Embedding(len(CAPTION_WORDS) + 1, width, padding_idx=0)
        self.null = nn.Parameter(torch.randn(width) * 0.02)
        self.length = nn.Linear(1, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))
        self.mixers = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2) for _ in range(layers))
        self.out = nn.LayerNorm(width)

    def forward(self, text: TextTokens) -> EncodedText:
        """See EncodedText."""
        batch, chunks = text.ids.shape[:2]
        real = text.ids > 0
        seconds = (text.end - text.start)[..., None]
        hidden = self.phoneme(text.ids) + self.length(torch.log(seconds.clamp_min(0.01)))
        hidden = (hidden * real[..., None]).flatten(0, 1)
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            mixed = mixer(F.gelu(norm(hidden)).transpose(1, 2)).transpose(1, 2)
            hidden = (hidden + mixed) * real.flatten(0, 1)[..., None]
        phonemes = self.out(hidden) * real.flatten(0, 1)[..., None]
        phonemes = phonemes.unflatten(0, (batch, chunks))
        caption = self.out(self.caption(text.caption))[:, None].expand(-1, chunks, -1, -1)
        null = self.null.expand(batch, chunks, 1, -1)
        tokens = torch.cat([null.to(phonemes.dtype), caption, phonemes], 2)
        return EncodedText(
            tokens=tokens,
            positions=self._positions(text, caption.shape[2]),
            valid=self._valid(text, real),
            phonemes=phonemes,
            start=text.start,
            end=text.end,
        )

    def _positions(self, text: TextTokens, caption: int) -> Tensor:
        middle = (text.start + text.end) / 2
        timeless = middle.new_full((*middle.shape[:2], 1 + caption), CHUNK_SECONDS / 2)
        return torch.cat([timeless, middle], 2) * POSITIONS_PER_SECOND

    def _valid(self, text: TextTokens, real: Tensor) -> Tensor:
        chunks = real.shape[1]
        caption = (text.caption > 0)[:, None].expand(-1, chunks, -1)
        null = torch.ones_like(real[:, :, :1])
        return torch.cat([null, caption, real], 2)
