"""Sound reader: it says of a sound what the transformer's own text encoder says of its transcript.

The transformer is asked nothing and learns nothing: who reads the same features moves the same lips.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mutual_forcing.audio import excerpt
from mutual_forcing.chunks import FRAMES_PER_CHUNK, SAMPLES_PER_CHUNK
from mutual_forcing.config import FPS, SAMPLE_RATE
from mutual_forcing.models.sound_reader import MARGIN, SAMPLES, SoundReader
from mutual_forcing.models.transformer import AVTransformer
from mutual_forcing.text.inventory import PAUSE, is_pause
from mutual_forcing.types import TextTokens, TimedPhoneme, Transcript

from ..data.dataset import Clip, Corpus
from ..data.latents import join_batches
from ..data.sound_augment import Surroundings, nobody, played_faster, speed_of, surround
from ..stage_config import Recipe, Sources, Turns

CHUNKS = 6
"""Of a crop, besides MARGIN tokens on each side that are heard and not asked for."""
LONGEST_PAUSE, SILENCE = 2.0, 12.0
"""Seconds: pauses of the corpus last no longer, so silence is many of them."""
HEARD = CHUNKS * SAMPLES_PER_CHUNK + 2 * MARGIN * SAMPLES
"""Samples of a crop."""
VALIDATION_CLIPS = 48


@dataclass(frozen=True)
class SoundReadingConfig:
    """surroundings: what is heard around the speech. delay: how many seconds later than in the text its
    features are wanted, for a transformer whose lips are early.
    """

    kind: ClassVar[str] = "sound_reader"
    surroundings: Surroundings = field(default_factory=Surroundings)
    delay: float = 0.0

    def build(self, sources: Sources, recipe: Recipe) -> SoundReaderObjective:
        """See ObjectiveConfig. Raises ValueError for a preset whose transformer reads no phonemes."""
        settings = sources.system_config.sound_reader
        model = sources.system(recipe.init[-1]).model
        if settings is None or not isinstance(model, AVTransformer):
            raise ValueError("This preset has no sound reader: there is no such stage.")
        reader = SoundReader(settings, model.config.text_width).to(next(model.parameters()).device)
        return SoundReaderObjective(reader, model, sources.corpus(), self, recipe)


@dataclass(frozen=True)
class SoundBatch:
    """audio float [B, N] and the text of CHUNKS chunks of it, from token MARGIN on."""

    audio: Tensor
    text: TextTokens


class SoundReaderObjective:
    """Mean difference of features, and of what the video branch makes of them by its variance."""

    splits = False

    def __init__(
        self,
        reader: SoundReader,
        model: AVTransformer,
        corpus: Corpus,
        config: SoundReadingConfig,
        recipe: Recipe,
    ) -> None:
        self.model, self.config, self.size, self.seed = model, config, recipe.batch, recipe.seed
        self.networks: dict[str, nn.Module] = {"reader": reader}
        self.clips = corpus.split("train")
        # 170 MB an hour: the whole corpus is heard many times.
        self.sounds = [np.round(clip.read_file() * 32767).astype(np.int16) for clip in self.clips]
        held_out = corpus.split("development")[:VALIDATION_CLIPS] or self.clips[:1]
        self.heldout = {
            "clean": self._heldout(held_out, None),
            "surrounded": self._heldout(held_out, config.surroundings),
        }
        _, embedded = self._wanted(self.heldout["clean"].text)
        self.variance = embedded.var((0, 1)).mean()

    def batch(self, step: int) -> SoundBatch:
        """Crops in rooms, noise and music, some without anybody who speaks."""
        rng = np.random.default_rng([self.seed, step])
        return join_batches([self._item(rng) for _ in range(self.size)])

    def _item(self, rng: np.random.Generator) -> SoundBatch:
        settings = self.config.surroundings
        if rng.random() < settings.nothing:
            quiet = Transcript(tuple(_pauses(-SILENCE, SILENCE)))
            return self._as_batch(nobody(HEARD, rng), quiet)
        speech, transcript = self._crop(rng)
        others, _ = self._crop(rng)
        return self._as_batch(surround(speech, others, settings, rng), transcript)

    def _crop(self, rng: np.random.Generator) -> tuple[np.ndarray, Transcript]:
        number = int(rng.integers(len(self.clips)))
        sound = self.sounds[number].astype(np.float32) / 32767
        speed = speed_of(rng)
        sound = played_faster(sound, speed)
        # Beginnings and ends are heard as well, with silence around them.
        half = SAMPLE_RATE // 2
        free = max(len(sound) - CHUNKS * SAMPLES_PER_CHUNK, 1)
        return self._cut(sound, self.clips[number], speed, int(rng.integers(-half, free + half)))

    def _cut(
        self, sound: np.ndarray, clip: Clip, speed: float, first: int
    ) -> tuple[np.ndarray, Transcript]:
        """CHUNKS chunks from sample `first` on of a clip that is played faster."""
        crop = excerpt(sound, first - MARGIN * SAMPLES, HEARD)
        start, end = first / SAMPLE_RATE - self.config.delay, len(sound) / SAMPLE_RATE
        said = [
            TimedPhoneme(p.phoneme, p.start / speed, p.end / speed)
            for p in clip.transcript.phonemes
        ]
        # Its own first and last pause go on for a second, as they do in streams.
        if is_pause(said[0].phoneme):
            said[0] = replace(said[0], start=said[0].start - 1)
        if is_pause(said[-1].phoneme):
            said[-1] = replace(said[-1], end=max(said[-1].end, end) + 1)
        before = _pauses(said[0].start - SILENCE, said[0].start)
        after = _pauses(said[-1].end, said[-1].end + SILENCE)
        return crop, Transcript((*before, *said, *after)).shifted(-start)

    def _heldout(self, clips: list[Clip], settings: Surroundings | None) -> SoundBatch:
        items, rng = [], np.random.default_rng([self.seed, 2**31])
        for clip in clips:
            crop, transcript = self._cut(clip.read_file(), clip, 1.0, 0)
            if settings is not None:
                crop = surround(crop, np.roll(crop, SAMPLE_RATE), settings, rng)
            items.append(self._as_batch(crop, transcript))
        return join_batches(items)

    def _as_batch(self, crop: np.ndarray, transcript: Transcript) -> SoundBatch:
        text = self.model.tokens(transcript, "", 0, CHUNKS)
        return SoundBatch(torch.from_numpy(crop)[None], text)

    def step(
        self, batch: SoundBatch, ema: nn.Module, generator: torch.Generator, step: int
    ) -> Turns:
        """See the class. What is random is in the batch."""
        yield "reader", {"loss": self._loss(self.networks["reader"], batch)}

    def _loss(self, reader: nn.Module, batch: SoundBatch) -> Tensor:
        device = self.variance.device
        wanted, embedded = self._wanted(batch.text)
        read = reader(batch.audio.to(device))[:, MARGIN:-MARGIN].float()
        moved = self.model.branches["video"].embed_phonemes(read) - embedded
        return (read - wanted).abs().mean() + moved.square().mean() / self.variance

    @torch.no_grad()
    def _wanted(self, text: TextTokens) -> tuple[Tensor, Tensor]:
        """Features [B, T, W] of the text encoder, and the video branch's embedding of them."""
        video = self.model.branches["video"]
        device = video.token_start.device
        start = torch.arange(FRAMES_PER_CHUNK, device=device) / FPS
        said = self.model.encode_text(text.to(device)).aligned(start, start + 1 / FPS)
        features = said.flatten(1, 2).float()
        return features, video.embed_phonemes(features)

    @torch.no_grad()
    def write_samples(self, ema: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """The loss on held-out clips, as they are and in their surroundings."""
        return {f"heldout/{n}": float(self._loss(ema, b)) for n, b in self.heldout.items()}

    def finish(self, ema: nn.Module) -> None:
        """Nothing to add."""


def _pauses(start: float, end: float) -> list[TimedPhoneme]:
    """Silence as pauses of at most LONGEST_PAUSE seconds."""
    count = math.ceil((end - start) / LONGEST_PAUSE)
    edges = np.linspace(start, end, count + 1).tolist()
    return [TimedPhoneme(PAUSE, a, b) for a, b in itertools.pairwise(edges)]
