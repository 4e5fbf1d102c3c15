"""Predicts how long each phoneme of an utterance lasts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import DurationConfig

MIN_SECONDS, MAX_SECONDS = 0.02, 1.0


class DurationPredictor(nn.Module):
    """Convolutions over the phoneme sequence; pauses are phonemes like any other."""

    def __init__(self, config: DurationConfig) -> None:
        super().__init__()
        width = config.width
        self.known_phonemes = config.phonemes
        self.phoneme = nn.Embedding(config.phonemes + 1, width, padding_idx=0)
        self.pace = nn.Linear(1, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.layers))
        self.mixers = nn.ModuleList(
            nn.Conv1d(width, width, 5, padding=2) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, 1)

    def forward(self, ids: Tensor, pace: Tensor) -> Tensor:
        """Log-seconds [B, P] of phoneme ids [B, P] (0 = padding) at `pace` [B].

        pace: mean log-duration of the utterance's phonemes and pauses relative to the corpus; 0 is average.
        """
        real = (ids > 0)[..., None]
        hidden = (self.phoneme(ids) + self.pace(pace[:, None])[:, None]) * real
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            mixed = mixer(F.gelu(norm(hidden)).transpose(1, 2)).transpose(1, 2)
            hidden = (hidden + mixed) * real
        return self.out(self.norm(hidden))[..., 0] - 2.5

    @torch.no_grad()
    def predict(self, ids: list[int], pace: float = 0.0) -> list[float]:
        """Seconds of each phoneme, within 0.02..1."""
        device = self.out.weight.device
        batch = torch.tensor([ids], device=device)
        logs = self(batch, torch.tensor([pace], device=device))
        return logs.exp().clamp(MIN_SECONDS, MAX_SECONDS)[0].tolist()
