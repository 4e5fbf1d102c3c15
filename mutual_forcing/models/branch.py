"""What one branch has besides its blocks: how tokens, noise and known latents come in, and velocities out.

Shape letters: B batch, K chunks, N tokens of a chunk (F latent frames of P tokens), W residual width, D
numbers of a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..chunks import repeat_static, token_spans
from ..config import BranchConfig, ModelConfig
from .block import MODULATIONS
from .layers import NoiseEmbedding, SpectralGains, modulate
from .text_encoder import EncodedText

TREND_SCALE = 3.0
"""Of each order of differences in a trend."""


@dataclass(frozen=True)
class EmbeddedContext:
    """Known latents under every video token of a chunk: embedded [B, K, N, W], and their trend
    [B, K, L, P, D], zero where there is none.
    """

    hidden: Tensor
    trend: Tensor


class ContextEmbedding(nn.Module):
    """Known latent frames added to the tokens of a chunk at their place, as image-to-video models do by
    channels, and straight to the velocity: what stands still, or goes on as it went, need not be found by
    attention, nor pass through the residual stream.
    """

    def __init__(self, branch: BranchConfig, count: int) -> None:
        super().__init__()
        self.grid, self.count = branch.grid, count
        self.embed = nn.Linear(count * branch.token_dim, branch.width)
        self.null = nn.Parameter(torch.zeros(branch.width))
        self.gain = nn.Linear(branch.width, self.grid.frames * count * branch.token_dim)
        nn.init.zeros_(self.gain.weight)
        nn.init.zeros_(self.gain.bias)

    def forward(self, frames: Tensor, present: Tensor) -> EmbeddedContext:
        """frames [B, K, L * P, D], the newest last; where not `present` (bool [B or 1, K]) a learned null."""
        there = present[:, :, None, None]
        frames = frames.unflatten(2, (self.count, -1))
        embedded = self.embed(frames.transpose(2, 3).flatten(3))
        hidden = torch.where(there, embedded, self.null.to(embedded.dtype))
        return EmbeddedContext(repeat_static(hidden, self.grid), trend(frames) * there[..., None])

    def velocity_skip(self, features: Tensor, context: EmbeddedContext) -> Tensor:
        """Its share of the velocity [B, K, N, D]: a gain per noise level, latent frame and order."""
        gain = self.gain(features).unflatten(-1, (self.grid.frames, self.count, -1))
        velocity = gain[:, :, :, :, None] * context.trend[:, :, None]
        return velocity.sum(3).flatten(2, 3)


def trend(frames: Tensor) -> Tensor:
    """The last of latent frames [B, K, L, P, D] and its differences of each order, L rows in all.

    A pose hardly changes from frame to frame: differences are scaled so that gains of ordinary size can
    carry it on for a chunk.
    """
    found, differences = [frames[:, :, -1:]], frames
    for _ in range(frames.shape[2] - 1):
        differences = TREND_SCALE * differences.diff(dim=2)
        found.append(differences[:, :, -1:])
    return torch.cat(found, 2)


class Branch(nn.Module):
    """One modality: embedding of tokens, noise level, references and phonemes; output.

    `contexts` says how many known latent frames of each kind are added to the tokens.
    """

    contexts: Mapping[str, ContextEmbedding]
    token_start: Tensor
    token_end: Tensor

    def __init__(
        self,
        branch: BranchConfig,
        config: ModelConfig,
        contexts: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        width = branch.width
        self.embed = nn.Linear(branch.token_dim, width)
        self.embed_reference = nn.Linear(branch.token_dim, width)
        self.null_reference = nn.Parameter(torch.randn(width) * 0.02)
        self.place = nn.Parameter(torch.zeros(branch.grid.tokens, width))
        embeddings = {name: ContextEmbedding(branch, count) for name, count in contexts.items()}
        # A ModuleDict says nothing of the class of its modules.
        self.contexts = cast("Mapping[str, ContextEmbedding]", nn.ModuleDict(embeddings))
        self.embed_phonemes = nn.Linear(config.text_width, width)
        self.sigma = NoiseEmbedding(width)
        self.delta = NoiseEmbedding(width, zero=True)
        self.modulation = nn.Linear(width, MODULATIONS * width)
        self.out_modulation = nn.Linear(width, 2 * width)
        self.out_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.out = nn.Linear(width, branch.token_dim)
        self.skip = SpectralGains(width, branch, continues="last" in contexts)
        for layer in (self.modulation, self.out_modulation, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        start, end = token_spans(branch.grid)
        self.register_buffer("token_start", start, persistent=False)
        self.register_buffer("token_end", end, persistent=False)

    def noise_features(self, sigma: Tensor, delta: Tensor) -> Tensor:
        """sigma and delta [B, K] to [B, K, W]."""
        return F.silu(self.sigma(sigma) + self.delta(delta))

    def embed_tokens(
        self, tokens: Tensor, text: EncodedText, contexts: Mapping[str, EmbeddedContext]
    ) -> Tensor:
        """[B, K, N, D] to [B, K, N, W], with the phonemes spoken at each token and known latents added."""
        spoken = self.embed_phonemes(text.aligned(self.token_start, self.token_end))
        hidden = self.embed(tokens) + spoken
        # In the stream's own precision: a parameter would turn it all into fp32.
        return hidden + self.place.to(hidden.dtype) + sum(c.hidden for c in contexts.values())

    def embed_references(self, tokens: Tensor, present: Tensor | None) -> Tensor:
        """[B, R, D] to [B, 1, R, W]; absent rows become the learned null reference."""
        hidden = self.embed_reference(tokens)
        if present is not None:
            hidden = torch.where(
                present[:, None, None], hidden, self.null_reference.to(hidden.dtype)
            )
        return hidden[:, None]

    def project_out(
        self,
        x: Tensor,
        features: Tensor,
        noisy: Tensor,
        contexts: Mapping[str, EmbeddedContext],
    ) -> Tensor:
        """[B, K, N, W] to velocities [B, K, N, D].

        The noisy tokens, frequency by frequency, and known latents are added with learned gains that depend
        on the noise level: what the best linear estimate would do need not pass through the residual
        stream, which is hardly wider than a token.
        """
        shift, scale = self.out_modulation(features).chunk(2, -1)
        out = self.out(modulate(self.out_norm(x), shift, scale))
        out = out + self.skip(features, noisy)
        return out + sum(self.contexts[n].velocity_skip(features, c) for n, c in contexts.items())
