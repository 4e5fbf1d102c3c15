"""Phoneme reader: cross entropy over the corpus's exact phoneme times, through all that sounds go through.

The corpus's voices are clean and few. What users give has rooms, microphones, music and noise in it, and
other people's voices; so spectrograms are bent, filtered, smeared and laid over noise and music (augment.py
does the same for pictures). All of it happens to mel magnitudes, where it costs next to nothing. Where
nobody speaks there is a pause, whatever sounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from mutual_forcing.config import SAMPLE_RATE
from mutual_forcing.models.phoneme_reader import (
    COLUMNS_PER_SECOND,
    STRIDE,
    PhonemeReader,
    best_path,
)
from mutual_forcing.text.inventory import phoneme_id, plain

from ..data.dataset import Clip, Corpus
from ..data.noises import noise, tune
from ..stage_config import Recipe, Sources, Turns

SECONDS = 6.0
NOISES = 60
"""Sounds of SECONDS each that are laid under speech, half of them tunes."""
UNSPOKEN = 0.1
"""Share of the rows in which nobody speaks."""
BENT, FILTERED, SMEARED, NOISY = 0.7, 0.7, 0.5, 0.7
"""Shares of rows to which it happens."""


@dataclass(frozen=True)
class ReaderConfig:
    """Nothing to choose."""

    kind: ClassVar[str] = "phoneme_reader"

    def build(self, sources: Sources, recipe: Recipe) -> PhonemeReaderObjective:
        """See ObjectiveConfig."""
        return PhonemeReaderObjective(
            sources.system().reader, sources.corpus(), recipe.batch, recipe.seed
        )


@dataclass(frozen=True)
class ReaderBatch:
    """Mel magnitudes of speech and of what is laid under it, [B, M, 2 T], and classes long [B, T]."""

    speech: Tensor
    noise: Tensor
    classes: Tensor


class PhonemeReaderObjective:
    """Stretches of a few seconds of random clips."""

    def __init__(self, model: PhonemeReader, corpus: Corpus, batch: int, seed: int) -> None:
        self.model, self.size, self.seed = model.requires_grad_(True), batch, seed
        self.networks: dict[str, nn.Module] = {"model": model}
        self.columns = round(SECONDS * COLUMNS_PER_SECOND)
        splits = ("train", "development")
        self.rows = {
            name: [self._row(c) for c in tqdm(corpus.split(name), f"{name} sound")]
            for name in splits
        }
        rng = np.random.default_rng([seed, 2**31])
        length = round(SECONDS * SAMPLE_RATE)
        sounds = [(tune if i % 2 else noise)(rng, length) for i in range(NOISES)]
        self.noises = model.features(torch.from_numpy(np.stack(sounds)))

    def _row(self, clip: Clip) -> tuple[Tensor, np.ndarray]:
        """Mel magnitudes [M, 2 T] in half precision, since all are kept, and classes [T]."""
        audio = torch.from_numpy(clip.read_audio())
        magnitudes = self.model.features(audio[None])[0]
        columns = magnitudes.shape[1] // STRIDE
        classes = np.zeros(columns, np.int64)
        for phone in clip.transcript.phonemes:
            first, last = (round(t * COLUMNS_PER_SECOND) for t in (phone.start, phone.end))
            classes[first:last] = phoneme_id(plain(phone.phoneme)) - 1
        return magnitudes[:, : columns * STRIDE].half(), classes

    def batch(self, step: int) -> ReaderBatch:
        """Random stretches."""
        rng = np.random.default_rng([self.seed, step])
        rows = [self._stretch(rng) for _ in range(self.size)]
        under = torch.from_numpy(rng.integers(len(self.noises), size=self.size))
        speech, classes = (torch.stack(part) for part in zip(*rows, strict=True))
        return ReaderBatch(speech, self.noises[under], classes)

    def _stretch(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        rows = self.rows["train"]
        magnitudes, classes = rows[rng.integers(len(rows))]
        first = int(rng.integers(max(1, len(classes) - self.columns + 1)))
        part = magnitudes[:, first * STRIDE : (first + self.columns) * STRIDE].float()
        named = torch.from_numpy(classes[first : first + self.columns])
        if rng.random() < UNSPOKEN:
            part, named = torch.zeros_like(part), torch.zeros_like(named)
        missing = self.columns - len(named)
        return F.pad(part, (0, missing * STRIDE)), F.pad(named, (0, missing))

    def step(
        self, batch: ReaderBatch, ema: nn.Module, generator: torch.Generator, step: int
    ) -> Turns:
        """Cross entropy of every column's class."""
        device = self.model.out.weight.device
        heard = disturbed(batch.speech.to(device), batch.noise.to(device), generator)
        logits = self.model(heard)
        classes = batch.classes.to(device)
        yield "model", {"loss": F.cross_entropy(logits.transpose(1, 2).float(), classes)}

    def write_samples(self, ema: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Shares of held-out columns that are read rightly, clean and disturbed, by the best path."""
        device = next(ema.parameters()).device
        generator = torch.Generator(device).manual_seed(0)
        right: dict[str, list[np.ndarray]] = {"clean": [], "disturbed": []}
        for index, (magnitudes, classes) in enumerate(
            (self.rows["development"] or self.rows["train"])[:60]
        ):
            clean = magnitudes[None].float().to(device)
            under = self.noises[index % NOISES].to(device)
            under = under.repeat(1, clean.shape[2] // under.shape[1] + 1)[None, :, : clean.shape[2]]
            for name, heard in (
                ("clean", clean),
                ("disturbed", disturbed(clean, under, generator)),
            ):
                scores = F.log_softmax(ema(heard)[0].float(), 1).cpu().numpy()
                right[name].append(best_path(scores) == classes)
        return {
            f"heldout/right_{n}": float(np.concatenate(part).mean()) for n, part in right.items()
        }

    def finish(self, ema: nn.Module) -> None:
        """Nothing to add."""


def disturbed(speech: Tensor, under: Tensor, generator: torch.Generator) -> Tensor:
    """Mel magnitudes [B, M, N] as another throat, room and microphone, and other sounds [B, M, N], make them.

    Rows of silence get the other sounds alone, as loud as speech.
    """
    count, bins, columns = speech.shape
    device = speech.device

    def draw(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, 1, 1, generator=generator, device=device)

    def with_odds(share: float) -> Tensor:
        return (draw(0, 1) < share).float()

    # Throats of other lengths: formants move together.
    factor = 1 + with_odds(BENT) * draw(-0.13, 0.13)
    place = torch.arange(bins, device=device)[None, :, None] * factor
    low = place.long().clamp(0, bins - 1)
    high = (low + 1).clamp_max(bins - 1)
    bent = [part.expand(-1, -1, columns) for part in (low, high)]
    speech = torch.lerp(*(speech.gather(1, part) for part in bent), (place - low).clamp(0, 1))
    # Rooms: what was said goes on, weaker and weaker.
    fade = torch.exp(-6.9 / (100 * draw(0.15, 0.8)) * torch.arange(60, device=device))
    tail = _smear(speech, fade)
    speech = (speech.square() + with_odds(SMEARED) * 10 ** draw(-2.5, -1) * tail).sqrt()
    loud = speech.square().mean((1, 2), keepdim=True)
    ratio = 10 ** draw(-3, 0) * with_odds(NOISY) * loud + (loud < 1e-6) * 10 ** draw(-6, 0)
    level = under.square().mean((1, 2), keepdim=True).clamp_min(1e-9)
    heard = (speech.square() + under.square() * ratio / level).sqrt()
    # Microphones: gentle slopes and bumps, and now and then no highs at all.
    line = torch.linspace(0, 1, bins, device=device)[None, :, None]
    waves = sum(draw(-0.4, 0.4) * torch.cos(torch.pi * (n * line + draw(0, 2))) for n in (1, 2, 3))
    cut = 1 / (1 + torch.exp((line - draw(0.6, 1.4)) * 60))
    shaped = torch.exp(waves) * torch.lerp(torch.ones_like(cut), cut, with_odds(0.5))
    heard = heard * torch.where(with_odds(FILTERED) > 0, shaped, 1.0)
    return heard * 10 ** draw(-0.4, 0.3)


def _smear(speech: Tensor, fade: Tensor) -> Tensor:
    """Powers of magnitudes [B, M, N], each going on as `fade` [B, 1, R] says."""
    power = F.pad(speech.square(), (fade.shape[2] - 1, 0)).transpose(0, 1)
    return F.conv1d(power, fade.flip(2), groups=len(speech)).transpose(0, 1)
