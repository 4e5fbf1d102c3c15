"""The audio-video transformer: two branches of one class, joined in every block by one self-attention.

Each branch has its own embeddings, norms, projections, cross-attention and feed-forward; the residual
widths may differ, the attention's inner width (heads * head_dim) is shared. Shape letters: B batch,
K chunks, N tokens of a chunk, W residual width, R reference tokens, H heads, D head_dim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from ..chunks import last_frames
from ..config import ModelConfig
from ..text.timing import text_tokens
from ..types import AVLatents, References, TextTokens, Transcript
from .attention import RotaryTables
from .block import BlockContext, History, JointBlock, TextView
from .branch import Branch, EmbeddedContext
from .joint_model import Conditions, EncodedReferences, JointModel, Levels
from .kv_cache import KVCache, LayerKeyValues, PreviousChunks
from .layers import at_time, rotary_table
from .text_encoder import EncodedText, TextEncoder

LAST_LATENTS = 3
"""Latent frames of video before a chunk that are added to its tokens: where it is, how fast, how it turns."""


class AVTransformer(JointModel):
    """The transformer that is trained here from nothing; it reads phonemes."""

    config: ModelConfig

    branches: Mapping[str, Branch]
    blocks: Sequence[JointBlock]

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.text_encoder = TextEncoder(config.text_width, config.text_layers, config.phonemes)
        contexts = {"picture": 1, "last": min(LAST_LATENTS, config.video.grid.frames)}
        branches = {
            "video": Branch(config.video, config, contexts),
            "audio": Branch(config.audio, config),
        }
        # A ModuleDict and a ModuleList say nothing of the class of their modules.
        self.branches = cast("Mapping[str, Branch]", nn.ModuleDict(branches))
        blocks = nn.ModuleList(JointBlock(config) for _ in range(config.layers))
        self.blocks = cast("Sequence[JointBlock]", blocks)
        self._tables: RotaryTables | None = None
        self.flex = False
        """Whether passes over a clip attend by flex_attention: clip_attention.py."""

    def forward(
        self,
        latents: AVLatents,
        sigma: Levels,
        delta: Levels,
        conditions: Conditions,
        history: History,
    ) -> AVLatents:
        """See JointModel."""
        features = self._noise_features(sigma, delta)
        contexts = self._contexts(latents, conditions, history.previous(None))
        hidden, _ = self._run(latents, features, contexts, conditions, history)
        noisy = latents.modalities
        return AVLatents.of(
            {
                name: self.branches[name].project_out(
                    x, features[name], noisy[name], contexts[name]
                )
                for name, x in hidden.items()
            }
        )

    def prefill(
        self, clean: AVLatents, conditions: Conditions, history: History
    ) -> list[LayerKeyValues]:
        """See JointModel."""
        level = {name: x.new_zeros(clean.shape) for name, x in clean.modalities.items()}
        features = self._noise_features(level, level)
        contexts = self._contexts(clean, conditions, history.previous(clean))
        return self._run(clean, features, contexts, conditions, history)[1]

    def freeze_branch(self, name: str) -> None:
        """Let nothing that belongs to one branch alone learn."""
        self.branches[name].requires_grad_(False)
        for block in self.blocks:
            block.branches[name].requires_grad_(False)

    def new_cache(self, window: int | None = None) -> KVCache:
        """See JointModel."""
        return KVCache(window or self.config.window)

    def tokens(
        self,
        transcript: Transcript | None,
        caption: str,
        first_chunk: int,
        chunks: int,
        device: torch.device | str = "cpu",
    ) -> TextTokens:
        """The phonemes near each chunk; see JointModel."""
        known = self.config.phonemes
        return text_tokens(transcript, caption, first_chunk, chunks, device, known)

    def encode_text(self, text: TextTokens) -> EncodedText:
        """See JointModel."""
        return self.text_encoder(text)

    def freeze_text(self) -> None:
        """See JointModel."""
        self.text_encoder.requires_grad_(False)

    def encode_references(self, references: References) -> EncodedReferences:
        """See EncodedReferences."""
        picture, tokens = None, {}
        if references.picture is not None:
            present = references.has_picture
            if present is None:
                present = references.picture.new_ones(1, dtype=torch.bool)
            video = self.branches["video"]
            picture = video.contexts["picture"](references.picture[:, None], present[:, None])
            tokens["video"] = video.embed_references(references.picture, references.has_picture)
        if references.voice is not None:
            audio = self.branches["audio"]
            tokens["audio"] = audio.embed_references(references.voice, references.has_voice)
        return EncodedReferences(self._reference_layers(tokens), picture)

    def _reference_layers(self, hidden: dict[str, Tensor]) -> list[LayerKeyValues]:
        """References [B, 1, R, W] by branch see one another and nothing else."""
        if not hidden:
            return [{} for _ in self.blocks]
        device = next(iter(hidden.values())).device
        tables = self._rotary(device)
        level = {n: torch.zeros(x.shape[:2], device=device) for n, x in hidden.items()}
        modulation = self._modulation(self._noise_features(level, level))
        stored = []
        for index, block in enumerate(self.blocks):
            context = BlockContext(tables.references, tables, {}, None, index, {})
            hidden, own = block(hidden, modulation, context)
            stored.append(own)
        return stored

    def _run(
        self,
        latents: AVLatents,
        features: Mapping[str, Tensor],
        contexts: Mapping[str, Mapping[str, EmbeddedContext]],
        conditions: Conditions,
        history: History,
    ) -> tuple[dict[str, Tensor], list[LayerKeyValues]]:
        """All blocks over both branches: residual streams, and keys and values per layer."""
        text, references = conditions.text, conditions.references
        hidden = {
            name: self.branches[name].embed_tokens(x, text, contexts[name])
            for name, x in latents.modalities.items()
        }
        tables = self._rotary(text.tokens.device)
        frequencies = tables.frequencies.to(text.positions.device)
        key_rotary = rotary_table(at_time(text.positions), frequencies)
        views = {
            name: TextView(text.tokens, text.keys, tables.own[name], key_rotary) for name in hidden
        }
        modulation, stored = self._modulation(features), []
        for index, block in enumerate(self.blocks):
            context = BlockContext(
                tables.own, tables, references.layers[index], history, index, views, self.flex
            )
            hidden, own = block(hidden, modulation, context)
            stored.append(own)
        return hidden, stored

    def _contexts(
        self, latents: AVLatents, conditions: Conditions, previous: PreviousChunks | None
    ) -> dict[str, dict[str, EmbeddedContext]]:
        """The known latents that are added to the tokens of every branch of a pass."""
        contexts: dict[str, dict[str, EmbeddedContext]] = {n: {} for n in latents.modalities}
        if latents.video is None:
            return contexts
        if conditions.references.picture is not None:
            contexts["video"]["picture"] = conditions.references.picture
        if previous is None:
            nothing = torch.zeros_like(latents.video[:1, :1])
            previous = PreviousChunks(nothing, nothing.new_zeros(1, dtype=torch.bool))
        embedding = self.branches["video"].contexts["last"]
        last = last_frames(previous.tokens, self.config.video.grid, embedding.count)
        contexts["video"]["last"] = embedding(last, previous.present[None])
        return contexts

    def _rotary(self, device: torch.device) -> RotaryTables:
        if self._tables is None or self._tables.own["video"].device != device:
            self._tables = RotaryTables.build(self.config, device)
        return self._tables

    def _noise_features(self, sigma: Levels, delta: Levels) -> dict[str, Tensor]:
        return {
            name: self.branches[name].noise_features(sigma[name], delta[name]) for name in sigma
        }

    def _modulation(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """[B, K, 6 W] by branch."""
        return {name: self.branches[name].modulation(x) for name, x in features.items()}
