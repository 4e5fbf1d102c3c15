"""Batches of latents for the transformer: crops of clips with text and sibling references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from mutual_forcing.chunks import repeat_static
from mutual_forcing.config import JointConfig
from mutual_forcing.models.joint_model import Conditions, JointModel
from mutual_forcing.text.timing import text_tokens
from mutual_forcing.types import AVLatents, References, TextTokens, Transcript

from .dataset import Clip, Corpus
from .precompute import SILENCE

BatchT = TypeVar("BatchT")


@dataclass(frozen=True)
class Dropout:
    """Probability of dropping each condition on its own; transcript and caption together, which is what
    guidance compares with; and all of them. beginning: that a crop begins as streams do.
    """

    transcript: float = 0.1
    caption: float = 0.1
    picture: float = 0.05
    voice: float = 0.3
    everything: float = 0.1
    text: float = 0.1
    beginning: float = 0.5


@dataclass(frozen=True)
class LatentBatch:
    """Clean latents of K chunks, their text, and references drawn from sibling clips.

    video [B, K, Nv, Dv], audio [B, K, Na, Da], picture [B, H * W, Dv], voice [B, V, Da], has_* bool [B].
    Without motion the first chunk is what streams begin with, a static picture in silence before anything is
    said: a past to continue, not something to learn. The tensors of a branch that the dataset does not hold
    have no tokens.
    """

    video: Tensor
    audio: Tensor
    text: TextTokens
    picture: Tensor
    voice: Tensor
    has_picture: Tensor
    has_voice: Tensor
    has_motion: Tensor

    def to(self, device: torch.device) -> LatentBatch:
        """Move every tensor."""
        return self.map(lambda t: t.to(device))

    def map(self, change: Callable[[Tensor], Tensor]) -> LatentBatch:
        """The batch of every tensor changed, those of the text too."""
        return _map(self, change)

    def clean(self, branches: tuple[str, ...]) -> AVLatents:
        """The latents of the named branches."""
        return AVLatents.of({name: getattr(self, name) for name in branches})

    def conditions(self, model: JointModel, branches: tuple[str, ...]) -> Conditions:
        """Encode text and references for the named branches."""
        return model.condition(self.text, self.references(branches))

    def references(self, branches: tuple[str, ...]) -> References:
        """The references of the named branches."""
        video, audio = "video" in branches, "audio" in branches
        return References(
            self.picture if video else None,
            self.voice if audio else None,
            self.has_picture,
            self.has_voice,
        )

    def weights(self, branches: tuple[str, ...]) -> dict[str, Tensor]:
        """How much each token [B, K, N] counts in a loss: those of a static first chunk do not."""
        ones = self.clean(branches).map(lambda x: torch.ones(x.shape[:3], device=x.device))
        weights = ones.modalities
        for weight in weights.values():
            weight[:, 0] *= self.has_motion[:, None]
        return weights

    def head(self, rows: int) -> LatentBatch:
        """The first `rows` rows."""
        return self.map(lambda t: t[:rows])

    def without_transcript(self, rows: Tensor) -> LatentBatch:
        """The same batch where the rows (bool [B]) know no phonemes."""
        text = self.text
        ids = torch.where(rows[:, None, None], torch.zeros_like(text.ids), text.ids)
        return replace(self, text=replace(text, ids=ids))

    def without_text(self) -> LatentBatch:
        """The same batch with transcript and caption nulled, for guidance."""
        text = self.text
        null = TextTokens(
            torch.zeros_like(text.ids), text.start, text.end, torch.zeros_like(text.caption)
        )
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return LatentBatch(**{**values, "text": null})


def _map(value: LatentBatch | TextTokens, change) -> LatentBatch:  # noqa: ANN001 - a lambda
    parts = {}
    for field in fields(value):
        part = getattr(value, field.name)
        parts[field.name] = _map(part, change) if isinstance(part, TextTokens) else change(part)
    return type(value)(**parts)


class LatentDataset:
    """All latents of a corpus in memory (3 KB a second of clip). Clips that lack those of a branch, as clips
    without a film do where films are encoded, are left out.

    read: how the model reads texts (JointModel.tokens); None for phonemes.
    """

    def __init__(
        self,
        corpus: Corpus,
        folder: Path,
        config: JointConfig,
        branches: tuple[str, ...],
        read: Callable[[Transcript | None, str, int, int], TextTokens] | None = None,
    ) -> None:
        self.corpus, self.config, self.branches = corpus, config, branches
        self.read = read or partial(text_tokens, known_phonemes=config.phonemes)
        self.tensors: dict[str, Tensor] = {}
        for branch in branches:
            paths = sorted(folder.glob(f"{branch}-*.safetensors"))
            if not paths:
                raise ValueError(
                    f"No {branch} latents in {folder}: run training.train encode_{branch}."
                )
            for path in paths:
                self.tensors |= load_file(path)

    def batch(
        self, rng: np.random.Generator, split: str, size: int, chunks: int, dropout: Dropout
    ) -> LatentBatch:
        """Random crops of `chunks` chunks."""
        pool = [clip for clip in self.corpus.split(split) if self._holds(clip, chunks)]
        if not pool:
            raise ValueError(f"The corpus has no {split} clip of {chunks} chunks.")
        items = [
            self._item(pool[rng.integers(len(pool))], rng, chunks, dropout) for _ in range(size)
        ]
        return join_batches(items)

    def _holds(self, clip: Clip, chunks: int) -> bool:
        """Whether the latents of so many chunks are there in every branch."""
        here = all(f"{clip.index}.{branch}" in self.tensors for branch in self.branches)
        return here and clip.chunks >= chunks

    def memory(self) -> Tensor:
        """How much of a video latent's deviation from its clip's mean is left 1..F latent frames later:
        [F, Dv] within 0..1, F frames in a chunk. A pose is remembered, lips are not. For grids of one token a
        frame.
        """
        tracks = [
            self.tensors[f"{clip.index}.video"].flatten(0, 1).float()
            for clip in self.corpus.split("train")
        ]
        return autocorrelation(tracks, self.config.video.grid.frames)

    def _item(
        self, clip: Clip, rng: np.random.Generator, chunks: int, dropout: Dropout
    ) -> LatentBatch:
        first = int(rng.integers(clip.chunks - chunks + 1))
        if rng.random() < dropout.beginning:
            first = -1
        return self.item(clip, first, chunks, rng, dropout)

    def item(
        self,
        clip: Clip,
        first: int,
        chunks: int,
        rng: np.random.Generator,
        dropout: Dropout | None = None,
    ) -> LatentBatch:
        """One crop as a batch of one. From chunk -1 on it begins as streams do: see LatentBatch."""
        dropped = self._dropped(rng, dropout)
        sibling = self.corpus.sibling(clip, rng)
        part = slice(max(first, 0), first + chunks)
        parts = {name: self._chunks(clip, name, part) for name in ("video", "audio")}
        if first < 0:
            parts = {n: torch.cat([self._before(clip, n, x), x], 1) for n, x in parts.items()}
        return LatentBatch(
            **parts,
            text=self.read(
                None if dropped["transcript"] else clip.transcript,
                "" if dropped["caption"] else clip.row["caption"],
                first,
                chunks,
            ),
            picture=self._picture(sibling, rng),
            voice=self._voice(self.corpus.sibling(clip, rng), rng),
            has_picture=torch.tensor([not dropped["picture"]]),
            has_voice=torch.tensor([not dropped["voice"]]),
            has_motion=torch.tensor([first >= 0]),
        )

    def _chunks(self, clip: Clip, branch: str, part: slice) -> Tensor:
        if branch not in self.branches:
            return torch.zeros(1, part.stop - part.start, 0, 0)
        return self.tensors[f"{clip.index}.{branch}"][None, part].float()

    def _before(self, clip: Clip, branch: str, chunks: Tensor) -> Tensor:
        """What a stream looks back on before chunks [1, K, N, D]: [1, 1, N, D]."""
        if branch not in self.branches:
            return chunks[:, :1]
        if branch == "audio":
            return self.tensors[SILENCE][None].float()
        grid = self.config.video.grid
        first = self.tensors.get(f"{clip.index}.first")
        still = chunks[:, :1, : grid.frame_tokens] if first is None else first[None, None].float()
        return repeat_static(still, grid)

    def _picture(self, clip: Clip, rng: np.random.Generator) -> Tensor:
        if "video" not in self.branches:
            return torch.zeros(1, 0, 0)
        stills = self.tensors[f"{clip.index}.stills"]
        return stills[rng.integers(len(stills))][None].float()

    def _voice(self, clip: Clip, rng: np.random.Generator) -> Tensor:
        if "audio" not in self.branches:
            return torch.zeros(1, 0, 0)
        before, after = clip.row.get("silent_chunks", (0, 0))
        spoken = self.tensors[f"{clip.index}.audio"][before : clip.chunks - after]
        track = spoken.flatten(0, 1).float()
        count = self.config.voice_latents
        if len(track) < count:
            track = track.repeat(-(-count // len(track)), 1)
        start = int(rng.integers(len(track) - count + 1))
        return track[None, start : start + count]

    def _dropped(self, rng: np.random.Generator, dropout: Dropout | None) -> dict[str, bool]:
        names = ("transcript", "caption", "picture", "voice")
        if dropout is None:
            return dict.fromkeys(names, False)
        everything, text = rng.random() < dropout.everything, rng.random() < dropout.text
        dropped = {name: everything or rng.random() < getattr(dropout, name) for name in names}
        return dropped | {name: dropped[name] or text for name in ("transcript", "caption")}


def autocorrelation(tracks: list[Tensor], lags: int) -> Tensor:
    """Of tracks [T, D] around their own means, at 1..lags: [lags, D] within 0..1."""
    centred = [track - track.mean(0) for track in tracks if len(track) > lags]
    power = sum(track[:-lags].square().sum(0) for track in centred)
    found = [
        sum((track[lag : len(track) - lags + lag] * track[:-lags]).sum(0) for track in centred)
        for lag in range(1, lags + 1)
    ]
    return (torch.stack(found) / power.clamp_min(1e-6)).clamp(0, 1)


def join_batches(items: Sequence[BatchT]) -> BatchT:
    """Concatenate every tensor of equal dataclasses along the batch, those within them too."""
    values = {}
    for field in fields(items[0]):
        parts = [getattr(item, field.name) for item in items]
        tensors = isinstance(parts[0], Tensor)
        values[field.name] = torch.cat(parts) if tensors else join_batches(parts)
    return type(items[0])(**values)
