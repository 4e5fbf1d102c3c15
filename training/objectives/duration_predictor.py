"""Duration predictor: absolute error of log-seconds over the corpus's exact phoneme times."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mutual_forcing.models.duration import MAX_SECONDS, MIN_SECONDS, DurationPredictor
from mutual_forcing.text.inventory import PAUSE, is_pause, phoneme_id
from mutual_forcing.types import TimedPhoneme

from ..data.dataset import Clip, Corpus
from ..stage_config import Recipe, Sources, Turns

MAX_LENGTH = 256


@dataclass(frozen=True)
class DurationPredictorConfig:
    """Nothing to choose."""

    kind: ClassVar[str] = "duration"

    def build(self, sources: Sources, recipe: Recipe) -> DurationObjective:
        """See ObjectiveConfig."""
        model = sources.system().duration
        return DurationObjective(model, sources.corpus(), recipe.batch, recipe.seed)


@dataclass(frozen=True)
class DurationBatch:
    """ids long [B, P] (0 = padding), log-seconds [B, P], pace [B]."""

    ids: Tensor
    logs: Tensor
    pace: Tensor


class DurationObjective:
    """Whole utterances, in the form in which timing.py asks for them: with a pause after every word, which
    may last no time. The first and the last pause are inputs but not targets.
    """

    splits = False

    def __init__(self, model: DurationPredictor, corpus: Corpus, batch: int, seed: int) -> None:
        self.model, self.size, self.seed = model.requires_grad_(True), batch, seed
        self.networks: dict[str, nn.Module] = {"model": model}
        splits = ("train", "development")
        known = model.known_phonemes
        self.rows = {name: [_row(c, known) for c in corpus.split(name)] for name in splits}
        self.pace = float(np.mean([_pace(logs) for _, logs in self.rows["train"]]))

    def batch(self, step: int) -> DurationBatch:
        """Random utterances."""
        rng = np.random.default_rng([self.seed, step])
        rows = self.rows["train"]
        return self._join([rows[rng.integers(len(rows))] for _ in range(self.size)])

    def _join(self, rows: list[tuple[np.ndarray, np.ndarray]]) -> DurationBatch:
        length = max(len(ids) for ids, _ in rows)
        ids = np.stack([np.pad(i, (0, length - len(i))) for i, _ in rows])
        logs = np.stack([np.pad(v, (0, length - len(v))) for _, v in rows])
        pace = np.array([_pace(v) - self.pace for _, v in rows], np.float32)
        return DurationBatch(torch.from_numpy(ids), torch.from_numpy(logs), torch.from_numpy(pace))

    def step(
        self, batch: DurationBatch, ema: nn.Module, generator: torch.Generator, step: int
    ) -> Turns:
        """Mean absolute error in log-seconds; pace is dropped half the time, so 0 means average."""
        device = next(self.model.parameters()).device
        keep = torch.rand(len(batch.pace), generator=generator, device=device) < 0.5
        yield "model", {"loss": self._error(self.model, batch, batch.pace.to(device) * keep)}

    def _error(self, model: nn.Module, batch: DurationBatch, pace: Tensor) -> Tensor:
        ids = batch.ids.to(pace.device)
        counted = ids > 0
        counted[:, 0] = False
        counted[:, :-1] &= ids[:, 1:] > 0
        counted[:, -1] = False
        error = (model(ids, pace) - batch.logs.to(pace.device)).abs()
        return (error * counted).sum() / counted.sum()

    def write_samples(self, ema: nn.Module, folder: Path, step: int) -> dict[str, float]:
        """Error on held-out utterances."""
        batch = self._join((self.rows["development"] or self.rows["train"])[:128])
        device = next(ema.parameters()).device
        return {"heldout/log_seconds": float(self._error(ema, batch, batch.pace.to(device)))}

    def finish(self, ema: nn.Module) -> None:
        """Nothing to add."""


def _pace(logs: np.ndarray) -> float:
    """Mean log-seconds of what lies between the first pause and the last, whose lengths are chance."""
    return float(logs[1:-1].mean() if len(logs) > 2 else logs.mean())


def _row(clip: Clip, known: int) -> tuple[np.ndarray, np.ndarray]:
    begins = {word.start for word in clip.transcript.words}
    phonemes: list[TimedPhoneme] = []
    for p in clip.transcript.phonemes[:MAX_LENGTH]:
        if p.start in begins and phonemes and not is_pause(phonemes[-1].phoneme):
            phonemes.append(TimedPhoneme(PAUSE, p.start, p.start))
        phonemes.append(p)
    ids = np.array([phoneme_id(p.phoneme, known) for p in phonemes])
    seconds = np.array([p.end - p.start for p in phonemes])
    return ids, np.log(seconds.clip(MIN_SECONDS, MAX_SECONDS)).astype(np.float32)
