"""The audio-video transformer: one Branch class used twice, joined by one self-attention.

Each branch has its own embeddings, norms, projections, cross-attention and feed-forward; the residual
widths may differ, the attention's inner width (heads * head_dim) is shared. Shape letters: B batch,
K chunks, N tokens of a chunk, W residual width, H heads, D head_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..chunks import TOKENS_PER_CHUNK, held_still, last_tokens, token_seconds
from ..config import BranchConfig, ModelConfig
from ..types import AVLatents, References, TextTokens
from .attention import COUPLING_DIMS, KeyGroup, RotaryTables, attend, past_keys, reference_keys
from .kv_cache import LATENTS_BEFORE, Before, KVCache, LayerKeyValues, ParallelHistory, Past
from .layers import (
    FeedForward,
    HeadNorm,
    NoiseEmbedding,
    SpectralGains,
    modulate,
    rotary_table,
    rotate,
)
from .text_encoder import EncodedText, TextEncoder

MODULATIONS = 6
"""Shift, scale and gate before attention and before the feed-forward (adaLN-single)."""
TREND_SCALE = 3.0
"""Of each order of differences in a trend."""

History = KVCache | ParallelHistory


@dataclass(frozen=True)
class Laid:
    """Known latents under every video token of a chunk: embedded [B, K, 16, W], and their trend
    [B, K, L, token_dim], zero where there is none.
    """

    hidden: Tensor
    trend: Tensor


@dataclass(frozen=True)
class EncodedReferences:
    """References, encoded once per stream.

    layers: keys and values [B, 1, R, H, D] per layer and branch. picture: see Underlay, K = 1.
    """

    layers: list[LayerKeyValues]
    picture: Laid | None


@dataclass(frozen=True)
class Conditions:
    """What a pass is conditioned on: text per chunk, references per stream."""

    text: EncodedText
    references: EncodedReferences


@dataclass(frozen=True)
class Projection:
    """One branch's share of a joint attention: [B, K, N, H, C] but for the value's width D.

    query and turned_key carry the rotation; the unturned key is what a history keeps.
    """

    query: Tensor
    key: Tensor
    turned_key: Tensor
    value: Tensor


class LayerHead(nn.Module):
    """What one branch does before the joint attention: norm, queries, keys and values."""

    def __init__(self, width: int, config: ModelConfig) -> None:
        super().__init__()
        content = config.head_dim - COUPLING_DIMS
        self.heads, self.widths = config.heads, (content, content, config.head_dim)
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.qkv = nn.Linear(width, config.heads * sum(self.widths))
        self.query_norm, self.key_norm = HeadNorm(content), HeadNorm(content)

    def forward(self, x: Tensor, shift: Tensor, scale: Tensor, rotary: Tensor) -> Projection:
        """x [B, K, N, W], shift and scale [B, K, W], rotary [N, C / 2, 2]."""
        qkv = self.qkv(modulate(self.norm(x), shift, scale))
        query, key, value = qkv.unflatten(-1, (self.heads, -1)).split(self.widths, -1)
        query, key = self.query_norm(query), self.key_norm(key)
        return Projection(rotate(query, rotary), key, rotate(key, rotary), value)


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
        query, key, value = (t.flatten(0, 1).transpose(1, 2) for t in (query, key, value))
        mask = text.valid.flatten(0, 1)[:, None, None]
        mixed = F.scaled_dot_product_attention(query, key, value.to(query.dtype), attn_mask=mask)
        return self.out(mixed.transpose(1, 2).flatten(2).unflatten(0, (batch, chunks)))


class LayerTail(nn.Module):
    """What one branch does after the joint attention: project, read the text, feed forward."""

    def __init__(self, branch: BranchConfig, config: ModelConfig) -> None:
        super().__init__()
        self.out = nn.Linear(config.heads * config.head_dim, branch.width)
        self.cross = CrossAttention(branch.width, config)
        self.norm = nn.LayerNorm(branch.width, elementwise_affine=False)
        self.ffn = FeedForward(branch.width, branch.ffn_multiple)

    def forward(
        self, x: Tensor, mixed: Tensor, modulations: Sequence[Tensor], text: TextView | None
    ) -> Tensor:
        """x [B, K, N, W], mixed [B, K, N, H * D], modulations: gate, shift, scale, gate [B, K, W]."""
        gate, shift, scale, ffn_gate = modulations
        x = x + self.out(mixed) * gate[:, :, None]
        if text is not None:
            x = x + self.cross(x, text)
        return x + self.ffn(modulate(self.norm(x), shift, scale)) * ffn_gate[:, :, None]


class BranchLayer(nn.Module):
    """One branch's share of a transformer layer; the joint attention lies between head and tail."""

    def __init__(self, branch: BranchConfig, config: ModelConfig) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(MODULATIONS, branch.width))
        self.head = LayerHead(branch.width, config)
        self.tail = LayerTail(branch, config)

    def modulations(self, noise: Tensor) -> tuple[Tensor, ...]:
        """noise [B, K, 6 W] plus this layer's own table: six [B, K, W]."""
        return (noise + self.table.flatten()).chunk(MODULATIONS, -1)


class Underlay(nn.Module):
    """Known latents laid under the tokens of a chunk, as image-to-video models do by channels: what
    stands still, or goes on as it went, need not be found by attention, nor pass through the residual
    stream.
    """

    def __init__(self, width: int, token_dim: int, count: int) -> None:
        super().__init__()
        self.count = count
        self.embed = nn.Linear(count * token_dim, width)
        self.null = nn.Parameter(torch.zeros(width))
        self.gain = nn.Linear(width, TOKENS_PER_CHUNK * count * token_dim)
        nn.init.zeros_(self.gain.weight)
        nn.init.zeros_(self.gain.bias)

    def forward(self, tokens: Tensor, present: Tensor) -> Laid:
        """tokens [B, K, L, token_dim], the newest last; where not `present` (bool, [B or 1, K]) a learned
        null.
        """
        there = present[:, :, None, None]
        embedded = self.embed(tokens.flatten(2))[:, :, None]
        hidden = torch.where(there, embedded, self.null.to(embedded.dtype))
        return Laid(held_still(hidden), trend(tokens) * there)

    def guess(self, features: Tensor, laid: Laid) -> Tensor:
        """Its share of the velocity [B, K, 16, token_dim]: a gain per noise level, token and order."""
        gain = self.gain(features).unflatten(-1, (TOKENS_PER_CHUNK, self.count, -1))
        return (gain * laid.trend[:, :, None]).sum(3)


def trend(tokens: Tensor) -> Tensor:
    """The last of tokens [B, K, L, D] and its differences of each order, L rows in all.

    A pose hardly changes from frame to frame: differences are scaled so that gains of ordinary size can
    carry it on for a chunk.
    """
    found, differences = [tokens[:, :, -1:]], tokens
    for _ in range(tokens.shape[2] - 1):
        differences = TREND_SCALE * differences.diff(dim=2)
        found.append(differences[:, :, -1:])
    return torch.cat(found, 2)


@dataclass(frozen=True)
class TextView:
    """The text as one branch's cross-attention needs it (see EncodedText), with both rotations."""

    tokens: Tensor
    valid: Tensor
    query_rotary: Tensor
    key_rotary: Tensor


class Branch(nn.Module):
    """One modality: embedding of tokens, noise level, references and phonemes; layers; output.

    `underlays` says how many latents of each kind lie under the tokens.
    """

    def __init__(
        self,
        branch: BranchConfig,
        config: ModelConfig,
        underlays: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        super().__init__()
        width = branch.width
        self.embed = nn.Linear(branch.token_dim, width)
        self.embed_reference = nn.Linear(branch.token_dim, width)
        self.null_reference = nn.Parameter(torch.randn(width) * 0.02)
        self.place = nn.Parameter(torch.zeros(TOKENS_PER_CHUNK, width))
        self.underlays = nn.ModuleDict(
            {name: Underlay(width, branch.token_dim, n) for name, n in underlays.items()}
        )
        self.embed_phonemes = nn.Linear(config.text_width, width)
        self.sigma = NoiseEmbedding(width)
        self.delta = NoiseEmbedding(width, zero=True)
        self.noise = nn.Linear(width, MODULATIONS * width)
        self.layers = nn.ModuleList(BranchLayer(branch, config) for _ in range(config.layers))
        self.out_noise = nn.Linear(width, 2 * width)
        self.out_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.out = nn.Linear(width, branch.token_dim)
        self.skip = SpectralGains(width, branch.token_dim, "before" in underlays)
        for layer in (self.noise, self.out_noise, self.out):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        start, end = token_seconds()
        self.register_buffer("token_start", start, persistent=False)
        self.register_buffer("token_end", end, persistent=False)

    def noise_features(self, sigma: Tensor, delta: Tensor) -> Tensor:
        """sigma and delta [B, K] to [B, K, W]."""
        return F.silu(self.sigma(sigma) + self.delta(delta))

    def embed_tokens(self, tokens: Tensor, text: EncodedText, laid: Mapping[str, Laid]) -> Tensor:
        """[B, K, N, token_dim] to [B, K, N, W], with the phonemes spoken at each token and what lies
        under it added.
        """
        spoken = self.embed_phonemes(text.aligned(self.token_start, self.token_end))
        hidden = self.embed(tokens) + spoken
        # In the stream's own precision: a parameter would turn it all into fp32.
        return hidden + self.place.to(hidden.dtype) + sum(under.hidden for under in laid.values())

    def embed_references(self, tokens: Tensor, present: Tensor | None) -> Tensor:
        """[B, R, token_dim] to [B, 1, R, W]; absent rows become the learned null reference."""
        hidden = self.embed_reference(tokens)
        if present is not None:
            hidden = torch.where(
                present[:, None, None], hidden, self.null_reference.to(hidden.dtype)
            )
        return hidden[:, None]

    def project_out(
        self, x: Tensor, features: Tensor, noisy: Tensor, laid: Mapping[str, Laid]
    ) -> Tensor:
        """[B, K, N, W] to velocities [B, K, N, token_dim].

        The noisy tokens, frequency by frequency, and what lies under them are added with learned gains that
        depend on the noise level: what the best linear guess would do need not pass through the residual
        stream, which is hardly wider than a token.
        """
        shift, scale = self.out_noise(features).chunk(2, -1)
        out = self.out(modulate(self.out_norm(x), shift, scale))
        out = out + self.skip(features, noisy)
        return out + sum(
            self.underlays[name].guess(features, under) for name, under in laid.items()
        )


class AVTransformer(nn.Module):
    """Predicts the (mean) velocity of a chunk's video and audio latents given the past.

    Either branch may be absent from a call: the other then runs alone (unimodal).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.text_encoder = TextEncoder(config.text_width, config.text_layers)
        self.branches = nn.ModuleDict(
            {
                "video": Branch(config.video, config, {"picture": 1, "before": LATENTS_BEFORE}),
                "audio": Branch(config.audio, config),
            }
        )
        shape = (config.layers, config.heads)
        self.coupling = nn.ParameterDict(
            {
                name: nn.Parameter(torch.full(shape, config.coupling_bias))
                for name in ("video", "audio")
            }
        )
        self._tables: RotaryTables | None = None

    def condition(self, text: TextTokens, references: References) -> Conditions:
        """Encode text [B, K, P] and references; the result serves every pass over these K chunks."""
        return Conditions(self.text_encoder(text), self.encode_references(references))

    def encode_references(self, references: References) -> EncodedReferences:
        """See EncodedReferences."""
        picture = None
        if references.picture is not None:
            present = references.has_picture
            if present is None:
                present = references.picture.new_ones(1, dtype=torch.bool)
            under = self.branches["video"].underlays["picture"]
            picture = under(references.picture[:, None], present[:, None])
        return EncodedReferences(self._reference_layers(references), picture)

    def _reference_layers(self, references: References) -> list[LayerKeyValues]:
        parts: dict[str, Tensor] = {}
        if references.picture is not None:
            parts["video"] = self.branches["video"].embed_references(
                references.picture, references.has_picture
            )
        if references.voice is not None:
            parts["audio"] = self.branches["audio"].embed_references(
                references.voice, references.has_voice
            )
        if not parts:
            return [{} for _ in range(self.config.layers)]
        tables = self._rotary(next(iter(parts.values())).device)
        clean = next(iter(parts.values())).new_zeros(next(iter(parts.values())).shape[:2])
        levels = dict.fromkeys(parts, clean)
        _, stored = self._run(
            parts, self._noise(levels, levels), None, tables.references, lambda *_: []
        )
        return stored

    def forward(
        self,
        latents: AVLatents,
        sigma: dict[str, Tensor],
        delta: dict[str, Tensor],
        conditions: Conditions,
        history: History,
    ) -> AVLatents:
        """Mean velocity over [sigma - delta, sigma] of every chunk; sigma and delta [B, K] per branch.

        The history is only read.
        """
        features = self._noise(sigma, delta)
        laid = self._laid(latents, conditions, history)
        hidden, _ = self._chunks(latents, features, laid, conditions, history)
        return AVLatents.of(
            {
                name: self.branches[name].project_out(
                    x, features[name], latents.parts[name], laid[name]
                )
                for name, x in hidden.items()
            }
        )

    def remember(
        self, clean: AVLatents, conditions: Conditions, history: History
    ) -> list[LayerKeyValues]:
        """Keys and values of clean chunks (sigma = 0), for `KVCache.append` or `ParallelHistory`."""
        level = {name: part.new_zeros(part.shape[:2]) for name, part in clean.parts.items()}
        laid = self._laid(clean, conditions, history)
        _, stored = self._chunks(clean, self._noise(level, level), laid, conditions, history)
        return stored

    def _laid(
        self, latents: AVLatents, conditions: Conditions, history: History
    ) -> dict[str, dict[str, Laid]]:
        """What lies under the tokens of every branch of a pass."""
        laid: dict[str, dict[str, Laid]] = {name: {} for name in latents.parts}
        if latents.video is None:
            return laid
        if conditions.references.picture is not None:
            laid["video"]["picture"] = conditions.references.picture
        before = history.before(latents)
        if before is None:
            nothing = last_tokens(latents.video[:1, :1], LATENTS_BEFORE)
            before = Before(torch.zeros_like(nothing), nothing.new_zeros(1, dtype=torch.bool))
        under = self.branches["video"].underlays["before"]
        laid["video"]["before"] = under(before.tokens, before.present[None])
        return laid

    def _rotary(self, device: torch.device) -> RotaryTables:
        if self._tables is None or self._tables.own["video"].device != device:
            config = self.config
            self._tables = RotaryTables.build(
                config.head_dim - COUPLING_DIMS, config.voice_latents, device
            )
        return self._tables

    def _noise(self, sigma: dict[str, Tensor], delta: dict[str, Tensor]) -> dict[str, Tensor]:
        return {
            name: self.branches[name].noise_features(sigma[name], delta[name]) for name in sigma
        }

    def _chunks(
        self,
        latents: AVLatents,
        features: dict[str, Tensor],
        laid: dict[str, dict[str, Laid]],
        conditions: Conditions,
        history: History,
    ) -> tuple[dict[str, Tensor], list[LayerKeyValues]]:
        text = conditions.text
        hidden = {
            name: self.branches[name].embed_tokens(part, text, laid[name])
            for name, part in latents.parts.items()
        }
        first = next(iter(hidden.values()))
        tables, chunks = self._rotary(first.device), first.shape[1]

        def context(layer: int, own: LayerKeyValues) -> list[KeyGroup]:
            groups = reference_keys(_only(conditions.references.layers[layer], own), tables, chunks)
            past = history.past(layer, own)
            if past is not None:
                groups += past_keys(
                    Past(_only(past.branches, own), past.offsets, past.valid), tables
                )
            return groups

        return self._run(hidden, features, text, tables.own, context)

    def _run(
        self,
        hidden: dict[str, Tensor],
        features: dict[str, Tensor],
        text: EncodedText | None,
        rotary: dict[str, Tensor],
        context: Callable[[int, LayerKeyValues], list[KeyGroup]],
    ) -> tuple[dict[str, Tensor], list[LayerKeyValues]]:
        """All layers over both branches. Returns residual streams and per-layer keys and values."""
        noise = {name: self.branches[name].noise(f) for name, f in features.items()}
        views = self._text_views(text, rotary) if text is not None else {}
        stored = []
        for index in range(self.config.layers):
            layers = {name: self.branches[name].layers[index] for name in hidden}
            mods = {name: layer.modulations(noise[name]) for name, layer in layers.items()}
            projected = {n: layers[n].head(x, *mods[n][:2], rotary[n]) for n, x in hidden.items()}
            own = {name: (p.key, p.value) for name, p in projected.items()}
            stored.append(own)
            groups = context(index, own) + [
                KeyGroup(name, p.turned_key, p.value) for name, p in projected.items()
            ]
            queries = {name: p.query for name, p in projected.items()}
            coupling = {name: self.coupling[name][index] for name in hidden}
            mixed = attend(queries, groups, coupling)
            for name, layer in layers.items():
                hidden[name] = layer.tail(
                    hidden[name], mixed[name], mods[name][2:], views.get(name)
                )
        return hidden, stored

    def _text_views(self, text: EncodedText, rotary: dict[str, Tensor]) -> dict[str, TextView]:
        frequencies = self._rotary(text.positions.device).frequencies.to(text.positions.device)
        key = rotary_table(text.positions, frequencies)
        return {
            name: TextView(text.tokens, text.valid, table, key) for name, table in rotary.items()
        }


def _only(branches: LayerKeyValues, own: LayerKeyValues) -> LayerKeyValues:
    """The branches that take part in this pass."""
    return {name: pair for name, pair in branches.items() if name in own}
