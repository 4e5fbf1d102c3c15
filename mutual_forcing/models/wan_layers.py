"""The layers of one branch of Wan2.2's transformer, with the names that its public weights have in diffusers
(WanTransformer3DModel), written for chunks: modulation per latent frame and text per chunk.

Norms, modulation and the residual stream are in fp32, as in Wan's own code. Shape letters: B batch, K chunks,
N tokens of a chunk, S = K * N tokens of a pass, T latent frames (or chunks) with a noise level of their own,
P text tokens, W width, H heads, D width of a head.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import BranchConfig, WanConfig
from .merged_attention import KeySet, attend_sets

TIME_SCALE = 1000.0
"""Wan counts noise levels from 0 to 1000."""
WORD_SCALE = 100.0
"""Word times are told in hundredths of a second."""


def time_features(values: Tensor, count: int) -> Tensor:
    """Cosines and sines [..., count] of values of any size, with periods from 2 pi to 2 pi * 10,000."""
    half = count // 2
    places = torch.arange(half, dtype=torch.float32, device=values.device)
    angles = values.float()[..., None] * torch.exp(-math.log(10_000.0) / half * places)
    return torch.cat([angles.cos(), angles.sin()], -1)


def norm(x: Tensor, eps: float, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Layer norm in fp32."""
    weight, bias = (None if t is None else t.float() for t in (weight, bias))
    return F.layer_norm(x.float(), x.shape[-1:], weight, bias, eps)


def modulate_frames(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x [B, S, W] * (1 + scale) + shift, with shift and scale [B, T, W], T equal stretches of tokens."""
    frames = x.unflatten(1, (shift.shape[1], -1))
    return (frames * (1 + scale[:, :, None]) + shift[:, :, None]).flatten(1, 2)


def gate_frames(x: Tensor, gate: Tensor) -> Tensor:
    """x [B, S, W] * gate [B, T, W], T equal stretches of tokens."""
    return (x.float().unflatten(1, (gate.shape[1], -1)) * gate[:, :, None]).flatten(1, 2)


class WideNorm(nn.RMSNorm):
    """RMS norm over all heads, in the weights' precision also under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype))


class TwoLinears(nn.Module):
    """Two linear layers with an activation between them, starting as nothing where `zero`."""

    def __init__(self, inputs: int, width: int, activation: nn.Module, zero: bool = False) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(inputs, width)
        self.act = activation
        self.linear_2 = nn.Linear(width, width)
        if zero:
            nn.init.zeros_(self.linear_2.weight)
            nn.init.zeros_(self.linear_2.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] to [..., width], in the weights' precision."""
        return self.linear_2(self.act(self.linear_1(x.to(self.linear_1.weight.dtype))))


class WanAttention(nn.Module):
    """Projections of an attention; queries and keys are normed over all heads at once."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        width = config.heads * config.head_dim
        self.heads = config.heads
        self.to_q, self.to_k, self.to_v = (nn.Linear(width, width) for _ in range(3))
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.norm_q, self.norm_k = (WideNorm(width, eps=config.eps) for _ in range(2))

    def queries(self, x: Tensor) -> Tensor:
        """[..., W] to [..., H, D]."""
        return self.norm_q(self.to_q(x)).unflatten(-1, (self.heads, -1))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[..., W] to two [..., H, D]."""
        key, value = self.norm_k(self.to_k(x)), self.to_v(x)
        return key.unflatten(-1, (self.heads, -1)), value.unflatten(-1, (self.heads, -1))

    def out(self, mixed: Tensor) -> Tensor:
        """[..., H, D] to [..., W]."""
        return self.to_out[0](mixed.flatten(-2))


class GELUProjection(nn.Module):
    """The first half of the feed-forward."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.proj(x), approximate="tanh")


class WanFeedForward(nn.Module):
    """Two linear layers with GELU."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        # diffusers keeps a dropout between the two.
        self.net = nn.Sequential(
            GELUProjection(width, inner), nn.Identity(), nn.Linear(inner, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class WanBlock(nn.Module):
    """The weights of one branch in a layer, and all of the layer but the joint attention."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        width = config.heads * config.head_dim
        self.eps = config.eps
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, width) / width**0.5)
        self.attn1, self.attn2 = WanAttention(config), WanAttention(config)
        self.norm2 = nn.LayerNorm(width, eps=config.eps)
        self.ffn = WanFeedForward(width, config.ffn_width)

    def six(self, modulation: Tensor) -> tuple[Tensor, ...]:
        """Shift, scale and gate [B, T, W] of the attention and of the feed-forward, of modulation
        [B, T, 6, W].
        """
        return (self.scale_shift_table[:, None].float() + modulation.float()).unbind(2)

    def attention_input(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        """What queries, keys and values are made of, [B, S, W]."""
        return modulate_frames(norm(x, self.eps), shift, scale).to(self.attn1.to_q.weight.dtype)

    def text_keys(self, text: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, K, P, H, D] of the embedded text [B, K, P, W]."""
        return self.attn2.keys_values(text)

    def finish(
        self, x: Tensor, mixed: Tensor, text: tuple[Tensor, Tensor], six: tuple[Tensor, ...]
    ) -> Tensor:
        """The rest of the layer after the attention's mixed values [B, S, H, D]: x [B, S, W] to the same."""
        _, _, gate, shift, scale, ffn_gate = six
        x = x + gate_frames(self.attn1.out(mixed), gate)
        x = x + self._read(x, *text)
        hidden = modulate_frames(norm(x, self.eps), shift, scale).to(mixed.dtype)
        return x + gate_frames(self.ffn(hidden), ffn_gate)

    def _read(self, x: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """What every chunk reads of its text. It has no positions; its padding counts like its words."""
        rows, chunks = key.shape[:2]
        hidden = norm(x, self.eps, self.norm2.weight, self.norm2.bias).to(value.dtype)
        query = self.attn2.queries(hidden).unflatten(1, (chunks, -1))
        mixed = attend_sets([KeySet(*(t.flatten(0, 1) for t in (query, key, value)))])
        return self.attn2.out(mixed.unflatten(0, (rows, chunks)).flatten(1, 2))


class PatchEmbedding(nn.Module):
    """Wan's convolution over patches as what it is, a linear layer on the numbers of a token (channels, then
    the patch's rows and columns).
    """

    def __init__(self, channels: int, patch: int, width: int) -> None:
        super().__init__()
        like = nn.Conv3d(channels, width, (1, patch, patch))
        self.weight, self.bias = like.weight, like.bias

    def forward(self, tokens: Tensor) -> Tensor:
        """[..., D] to [..., W]."""
        return F.linear(tokens.to(self.weight.dtype), self.weight.flatten(1), self.bias)


class ConditionEmbedder(nn.Module):
    """Noise levels, intervals and text to the branch's width.

    `delta_embedder` (the interval, named as in AnyFlow) and `word_embedder` (when a word is spoken) are not
    in Wan and begin as nothing.
    """

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        width, self.count = config.heads * config.head_dim, config.frequencies
        self.time_embedder = TwoLinears(self.count, width, nn.SiLU())
        self.delta_embedder = TwoLinears(self.count, width, nn.SiLU(), zero=True)
        self.time_proj = nn.Linear(width, 6 * width)
        self.text_embedder = TwoLinears(config.text_dim, width, nn.GELU(approximate="tanh"))
        self.word_embedder = TwoLinears(2 * self.count, width, nn.SiLU(), zero=True)

    def noise(self, sigma: Tensor, delta: Tensor) -> Tensor:
        """sigma and delta [B, T] within 0..1 to features [B, T, W]."""
        level = self.time_embedder(time_features(TIME_SCALE * sigma, self.count))
        return level + self.delta_embedder(time_features(TIME_SCALE * delta, self.count))

    def modulation(self, features: Tensor) -> Tensor:
        """Features [B, T, W] to the modulation [B, T, 6, W] of every layer."""
        features = F.silu(features.to(self.time_proj.weight.dtype))
        return self.time_proj(features).unflatten(-1, (6, -1))

    def text(self, states: Tensor, start: Tensor, end: Tensor, timed: Tensor) -> Tensor:
        """The text encoder's states [B, K, P, text_dim] to [B, K, P, W], with what is added for the times
        [B, K, P], in seconds from the chunk's start, of the tokens that are `timed` (bool [B, K, P]).
        """
        hidden = self.text_embedder(states)
        times = torch.stack([start, end], -1) * WORD_SCALE
        added = self.word_embedder(time_features(times, self.count).flatten(-2))
        return hidden + torch.where(timed[..., None], added, 0.0).to(hidden.dtype)


class WanBranch(nn.Module):
    """What one branch has besides its layers."""

    def __init__(self, branch: BranchConfig, config: WanConfig, patch: int) -> None:
        """patch: latents on each side of a token."""
        super().__init__()
        width, self.eps, self.patch = branch.width, config.eps, patch
        self.patch_embedding = PatchEmbedding(branch.token_dim // patch**2, patch, width)
        self.condition_embedder = ConditionEmbedder(config)
        self.proj_out = nn.Linear(width, branch.token_dim)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, width) / width**0.5)
        self.null_reference = nn.Parameter(torch.zeros(width))

    def embed(self, tokens: Tensor) -> Tensor:
        """[B, ..., D] to the residual stream, fp32 [B, S, W]."""
        return self.patch_embedding(tokens.flatten(1, -2)).float()

    def embed_references(self, tokens: Tensor, present: Tensor | None) -> Tensor:
        """[B, R, D] to [B, R, W]; rows that are not `present` (bool [B]) become the learned null."""
        hidden = self.embed(tokens)
        if present is None:
            return hidden
        return torch.where(present[:, None, None], hidden, self.null_reference.float())

    def project_out(self, x: Tensor, features: Tensor) -> Tensor:
        """[B, S, W] and features of the noise levels [B, T, W] to velocities [B, S, D]."""
        table = self.scale_shift_table[:, None].float() + features.float()[:, :, None]
        shift, scale = table.unbind(2)
        hidden = modulate_frames(norm(x, self.eps), shift, scale)
        out = self.proj_out(hidden.to(self.proj_out.weight.dtype))
        # Wan takes channels first in a patch and gives them last.
        return out.unflatten(-1, (self.patch**2, -1)).transpose(-1, -2).flatten(-2)
