"""What sampling, streaming and training know of an audio-video transformer, of whichever kind.

A base class and no Protocol, because all of them also move it, freeze it and read its weights as PyTorch
modules do. Shape letters: B batch, K chunks, N tokens of a chunk, R reference tokens, H heads, D width of a
head.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ..config import JointConfig
from ..types import AVLatents, References, TextTokens, Transcript
from .branch import EmbeddedContext
from .kv_cache import LayerKeyValues, ParallelHistory, rows_of

Levels = Mapping[str, Tensor]
"""Noise levels or intervals [B, K] by branch."""


@dataclass(frozen=True)
class EncodedReferences:
    """References, encoded once per stream.

    layers: keys and values [B, 1, R, H, D] per layer and branch. picture: the picture's latent frame under
    every video token, K = 1; None where a model does without.
    """

    layers: list[LayerKeyValues]
    picture: EmbeddedContext | None

    def with_rows(self, rows: int) -> EncodedReferences:
        """The first row, `rows` times."""
        layers = [
            {name: (rows_of(k, rows), rows_of(v, rows)) for name, (k, v) in layer.items()}
            for layer in self.layers
        ]
        if self.picture is None:
            return EncodedReferences(layers, None)
        hidden, trend = rows_of(self.picture.hidden, rows), rows_of(self.picture.trend, rows)
        return EncodedReferences(layers, EmbeddedContext(hidden, trend))


@dataclass(frozen=True)
class Conditions:
    """What a pass is conditioned on: text per chunk, references per stream."""

    text: Any  # what the model's own `encode_text` returns
    references: EncodedReferences


class StreamCache(Protocol):
    """The past of one stream, owned by its session; how it keeps keys, only its model knows."""

    window: int

    @property
    def length(self) -> int:
        """Chunks that the next chunk sees."""
        ...

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        ...

    def append(self, chunk: list[LayerKeyValues], latents: AVLatents) -> None:
        """Add one clean chunk and what `JointModel.prefill` made of it; evict the oldest."""
        ...

    def set_rows(self, rows: int) -> None:
        """Go on with `rows` rows, all of them the first one."""
        ...


class JointModel(nn.Module, ABC):
    """Predicts the (mean) velocity of a chunk's video and audio latents given the past.

    Either branch may be absent from a call: the other then runs alone (unimodal).
    """

    config: JointConfig

    @abstractmethod
    def forward(
        self,
        latents: AVLatents,
        sigma: Levels,
        delta: Levels,
        conditions: Conditions,
        history: Any,
    ) -> AVLatents:
        """Mean velocity over [sigma - delta, sigma] of every chunk; sigma and delta [B, K] per branch.

        history: a ParallelHistory, or what `new_cache` made. What it holds of the past is only read.
        """

    @abstractmethod
    def prefill(
        self, clean: AVLatents, conditions: Conditions, history: Any
    ) -> list[LayerKeyValues]:
        """Keys and values of clean chunks (sigma = 0), for `StreamCache.append` or `ParallelHistory`."""

    @abstractmethod
    def new_cache(self, window: int | None = None) -> StreamCache:
        """The empty past of a stream that sees `window` chunks (default: as many as the configuration)."""

    @abstractmethod
    def tokens(
        self,
        transcript: Transcript | None,
        caption: str,
        first_chunk: int,
        chunks: int,
        device: torch.device | str = "cpu",
    ) -> TextTokens:
        """The text of `chunks` chunks from `first_chunk` on as the model reads it, batch size 1; None and ""
        for nothing.
        """

    @abstractmethod
    def encode_text(self, text: TextTokens) -> Any:
        """What every pass over the chunks of a text [B, K, P] needs of it."""

    @abstractmethod
    def encode_references(self, references: References) -> EncodedReferences:
        """See EncodedReferences."""

    @abstractmethod
    def freeze_branch(self, name: str) -> None:
        """Let nothing that belongs to one branch alone learn."""

    @abstractmethod
    def freeze_text(self) -> None:
        """Let nothing learn that reads the text for both branches."""

    def condition(self, text: TextTokens, references: References) -> Conditions:
        """Encode text [B, K, P] and references; the result serves every pass over these K chunks."""
        return Conditions(self.encode_text(text), self.encode_references(references))


History = StreamCache | ParallelHistory
