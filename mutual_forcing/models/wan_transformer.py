"""The audio-video transformer at the paper's scale: two branches of Wan2.2's shape, joined in every layer.

Its video branch loads the public weights of Wan2.2-TI2V-5B (mutual_forcing/wan_weights.py). What is added to
them begins as nothing: the interval and the times of words. Shape letters: see wan_layers.py; F latent frames
of a chunk, R reference tokens, M keys.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..config import WanConfig
from ..types import AVLatents, References, TextTokens, Transcript
from .joint_model import Conditions, EncodedReferences, JointModel, Levels
from .kv_cache import ChunkKeys, LayerKeyValues, ParallelHistory
from .layers import rotate
from .merged_attention import KeySet, attend_sets
from .ring_cache import RingCache
from .sequence_parallel import SequenceParallel
from .wan_layers import WanBlock, WanBranch
from .wan_rotary import WanRotary
from .wan_text import UMT5Text, WanText

WanHistory = RingCache | ParallelHistory


@dataclass(frozen=True)
class LayerContext:
    """What the tokens of a pass see in one layer besides themselves.

    rotary: rotations of the tokens by branch, on the clock of the stream or clip. reading: those of one
    chunk's tokens on the chunk's own clock, on which the references lie. references: rotated keys and values
    by branch, empty for none. history: None for none; layer: this layer's number in it. chunks: of these
    tokens; where they are but this process's (sequence), rotary and history are of all.
    """

    rotary: Mapping[str, Tensor]
    reading: Mapping[str, Tensor]
    references: LayerKeyValues
    history: WanHistory | None
    layer: int
    text: WanText
    chunks: int
    sequence: SequenceParallel | None = None

    def see(self, own: LayerKeyValues) -> tuple[LayerKeyValues, list[ChunkKeys]]:
        """This pass's keys and values, rotated, where they are kept, and what each of its chunks sees."""
        if self.history is None:
            return own, [{name: [(k[:, 0], v[:, 0])] for name, (k, v) in own.items()}]
        if isinstance(self.history, RingCache):
            own = self.history.write(self.layer, own)
        return own, self.history.slices(self.layer, own)


class JointLayer(nn.Module):
    """Joint self-attention of both branches; then each reads the text and feeds forward."""

    branches: Mapping[str, WanBlock]

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        blocks = nn.ModuleDict({name: WanBlock(config) for name in config.branches})
        # A ModuleDict says nothing of the class of its modules.
        self.branches = cast("Mapping[str, WanBlock]", blocks)
        # Many tokens weigh as much as few, as in JointBlock.
        more = math.log(config.audio.grid.tokens / config.video.grid.tokens)
        start = {"video": config.coupling_bias - more, "audio": config.coupling_bias + more}
        self.coupling = nn.ParameterDict(
            {name: nn.Parameter(torch.full((config.heads,), start[name])) for name in start}
        )

    def forward(
        self, hidden: Mapping[str, Tensor], modulation: Mapping[str, Tensor], context: LayerContext
    ) -> tuple[dict[str, Tensor], LayerKeyValues]:
        """hidden [B, S, W] and modulation [B, T, 6, W] by branch to hidden, and the rotated keys and the
        values [B, K, N, H, D] of these tokens, which a history keeps; with a `sequence` those of all chunks,
        and of this process's heads.
        """
        sixes, queries, own, sequence = {}, {}, {}, context.sequence
        for name, x in hidden.items():
            block = self.branches[name]
            sixes[name] = block.six(modulation[name])
            inputs = block.attention_input(x, *sixes[name][:2])
            inputs = inputs.unflatten(1, (context.chunks, -1))
            parts = [block.attn1.queries(inputs), *block.attn1.keys_values(inputs)]
            queries[name], key, value = map(sequence.to_heads, parts) if sequence else parts
            own[name] = rotate(key, context.rotary[name]).to(value.dtype), value

        own, seen = context.see(own)
        mixed = self._attend(queries, seen, context)

        out = {}
        for name, x in hidden.items():
            block = self.branches[name]
            text = context.text.keys_values(name, context.layer, block.text_keys)
            mix = sequence.to_chunks(mixed[name]) if sequence else mixed[name]
            out[name] = block.finish(x, mix.flatten(1, 2), text, sixes[name])
        return out, own

    def _attend(
        self, queries: Mapping[str, Tensor], seen: list[ChunkKeys], context: LayerContext
    ) -> dict[str, Tensor]:
        """The mixed values of queries [B, K, N, H, D], not yet rotated, by branch.

        The queries of both branches ask together, so that keys are read once for both.
        """
        counts = {name: query.shape[2] for name, query in queries.items()}
        on_clock = torch.cat([rotate(q, context.rotary[n]) for n, q in queries.items()], 2)
        biases = {name: self._bias(name, counts, context.sequence) for name in queries}
        references = {n: pair for n, pair in context.references.items() if n in queries}
        reading = on_clock
        if references:
            reading = torch.cat([rotate(q, context.reading[n]) for n, q in queries.items()], 2)
        mixed = []
        for chunk, keys in enumerate(seen):
            sets = [
                KeySet(on_clock[:, chunk], key, value, biases[name])
                for name, pairs in keys.items()
                for key, value in pairs
            ]
            sets += [
                KeySet(reading[:, chunk], key[:, 0], value[:, 0], biases[name])
                for name, (key, value) in references.items()
            ]
            mixed.append(attend_sets(sets))
        split = torch.stack(mixed, 1).split(list(counts.values()), 2)
        return dict(zip(counts, split, strict=True))

    def _bias(
        self, name: str, counts: Mapping[str, int], sequence: SequenceParallel | None
    ) -> Tensor | None:
        """What the queries of every branch add for the keys of one: [H, queries]; None for nothing."""
        if len(counts) == 1:
            return None
        own = torch.zeros_like(self.coupling[name])
        parts = [own if other == name else self.coupling[other] for other in counts]
        spread = [p[:, None].expand(-1, n) for p, n in zip(parts, counts.values(), strict=True)]
        bias = torch.cat(spread, 1)
        return sequence.own_heads(bias) if sequence else bias


class WanAVTransformer(JointModel):
    """See the module. `text` encodes texts; without it a model reads only those that are encoded already.

    It is no part of the module: it never learns, and all copies of the model share it.
    """

    config: WanConfig
    branches: Mapping[str, WanBranch]
    layers: Sequence[JointLayer]

    def __init__(self, config: WanConfig, text: UMT5Text | None = None) -> None:
        super().__init__()
        self.config, self.text = config, text
        patches = {"video": config.patch, "audio": 1}
        branches = {
            name: WanBranch(branch, config, patches[name])
            for name, branch in config.branches.items()
        }
        # A ModuleDict and a ModuleList say nothing of the class of their modules.
        self.branches = cast("Mapping[str, WanBranch]", nn.ModuleDict(branches))
        layers = nn.ModuleList(JointLayer(config) for _ in range(config.layers))
        self.layers = cast("Sequence[JointLayer]", layers)
        self._rotary = WanRotary(config)
        self.sequence: SequenceParallel | None = None
        """Processes that share each clip; passes of single chunks are every process's own."""

    def forward(
        self,
        latents: AVLatents,
        sigma: Levels,
        delta: Levels,
        conditions: Conditions,
        history: WanHistory,
    ) -> AVLatents:
        """See JointModel. Levels may also be given for every latent frame, [B, K, F]: Wan's first latent is
        clean where a picture begins its film.
        """
        features, sequence = self._noise_features(sigma, delta), self._sequence(latents)
        if sequence:
            features = {n: sequence.own(x, latents.shape[1]) for n, x in features.items()}
        hidden, _ = self._run(latents, features, conditions, history)
        out = {}
        for name, tokens in latents.modalities.items():
            velocity = self.branches[name].project_out(hidden[name], features[name])
            velocity = velocity.unflatten(1, (-1, tokens.shape[2]))
            out[name] = sequence.gather(velocity) if sequence else velocity
        if self.sequence and not sequence:
            return AVLatents.of(out).map(self.sequence.shared)
        return AVLatents.of(out)

    def prefill(
        self, clean: AVLatents, conditions: Conditions, history: WanHistory
    ) -> list[LayerKeyValues]:
        """See JointModel."""
        shape, sequence = list(clean.shape), self._sequence(clean)
        if sequence:
            shape[1] //= sequence.ranks
        level = {name: x.new_zeros(shape) for name, x in clean.modalities.items()}
        return self._run(clean, self._noise_features(level, level), conditions, history)[1]

    def new_cache(self, window: int | None = None) -> RingCache:
        """See JointModel."""
        return RingCache(window or self.config.window)

    def tokens(
        self,
        transcript: Transcript | None,
        caption: str,
        first_chunk: int,
        chunks: int,
        device: torch.device | str = "cpu",
    ) -> TextTokens:
        """Words as the text encoder has them, each with its time; see JointModel and UMT5Text.tokens."""
        return self._text().tokens(transcript, caption, first_chunk, chunks).to(device)

    def encode_text(self, text: TextTokens) -> WanText:
        """See JointModel."""
        return self._text().encode(text)

    def encode_references(self, references: References) -> EncodedReferences:
        """See EncodedReferences. They see one another and no word."""
        hidden = {}
        given = {
            "video": (references.picture, references.has_picture),
            "audio": (references.voice, references.has_voice),
        }
        for name, (tokens, present) in given.items():
            if tokens is not None:
                hidden[name] = self.branches[name].embed_references(tokens, present)
        if not hidden:
            return EncodedReferences([{} for _ in self.layers], None)
        x = next(iter(hidden.values()))
        level = {name: x.new_zeros(len(x), 1) for name in hidden}
        rotary = {n: self._rotary.references(n, h.shape[1], x.device) for n, h in hidden.items()}
        nothing = WanText.empty(self.config, len(x), 1, x.device)
        modulation, text = self._prepare(self._noise_features(level, level), nothing)
        stored = []
        for index, layer in enumerate(self.layers):
            context = LayerContext(rotary, {}, {}, None, index, text, 1)
            hidden, own = layer(hidden, modulation, context)
            stored.append(own)
        return EncodedReferences(stored, None)

    def freeze_branch(self, name: str) -> None:
        """See JointModel."""
        self.branches[name].requires_grad_(False)
        for layer in self.layers:
            layer.branches[name].requires_grad_(False)

    def freeze_text(self) -> None:
        """Nothing: the text encoder never learns, and each branch embeds its states for itself."""

    def _run(
        self,
        latents: AVLatents,
        features: Mapping[str, Tensor],
        conditions: Conditions,
        history: WanHistory,
    ) -> tuple[dict[str, Tensor], list[LayerKeyValues]]:
        """All layers over both branches: residual streams, and keys and values per layer.

        features and residual streams are those of this process's chunks, where the pass is shared out.
        """
        chunks, first, sequence = latents.shape[1], history.first, self._sequence(latents)
        parts, text, count = latents.modalities, conditions.text, chunks
        hidden = {name: self.branches[name].embed(x) for name, x in parts.items()}
        if sequence:
            count = chunks // sequence.ranks
            hidden = {name: sequence.own(x, chunks) for name, x in hidden.items()}
            text = text.map(lambda x: sequence.own(x, chunks))
        device = next(iter(parts.values())).device
        rotary = {name: self._rotary.chunks(name, first, chunks, device) for name in parts}
        reading = {name: self._rotary.chunks(name, 0, 1, device) for name in parts}
        modulation, text = self._prepare(features, text)
        stored = []
        for index, layer in enumerate(self.layers):
            references = conditions.references.layers[index]
            if sequence:
                references = {
                    name: (sequence.own_heads(key), sequence.own_heads(value))
                    for name, (key, value) in references.items()
                }
            context = LayerContext(
                rotary, reading, references, history, index, text, count, sequence
            )
            hidden, own = layer(hidden, modulation, context)
            stored.append(own)
        return hidden, stored

    def _sequence(self, latents: AVLatents) -> SequenceParallel | None:
        """The processes that share a pass out; None where this one computes all of it."""
        shared = self.sequence
        return shared if shared and shared.splits(latents.shape[1]) else None

    def _prepare(
        self, features: Mapping[str, Tensor], text: WanText
    ) -> tuple[dict[str, Tensor], WanText]:
        """Modulation [B, T, 6, W] by branch, and the text embedded for every branch."""
        embedders = {name: self.branches[name].condition_embedder for name in features}
        modulation = {name: embedders[name].modulation(x) for name, x in features.items()}
        return modulation, text.embedded({name: e.text for name, e in embedders.items()})

    def _noise_features(self, sigma: Levels, delta: Levels) -> dict[str, Tensor]:
        """[B, T, W] by branch."""
        return {
            name: self.branches[name].condition_embedder.noise(
                sigma[name].flatten(1), delta[name].flatten(1)
            )
            for name in sigma
        }

    def _text(self) -> UMT5Text:
        if self.text is None:
            raise ValueError(
                "This model has no text encoder: give it one with UMT5Text.load(folder)."
            )
        return self.text
