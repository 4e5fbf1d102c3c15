"""Which phoneme is heard when, in a sound of any language that the model speaks.

Lips that follow a given sound are told its phonemes, as lips are told those of a text. Convolutions over mel
spectrograms that see a second to either side; a Viterbi path makes segments of what they find.

Shape letters: B batch, N samples, M mel bins, T columns (50 a second), K classes: pause and phonemes without
stress, in the order of text/inventory.PHONEMES.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..audio import mel_filters, mel_spectrogram
from ..config import SAMPLE_RATE, PhonemeReaderConfig

FFT, HOP = 600, 240
"""Samples of a spectrum, and from one to the next: 25 and 10 ms."""
STRIDE = 2
COLUMNS_PER_SECOND = SAMPLE_RATE // (HOP * STRIDE)
FLOOR = 1e-3
"""Magnitude below which nothing is heard: speech at the corpus's loudness is about 1."""
SWITCH = 3.0
"""Cost of going over to another phoneme, in nats: a phoneme of one column is mostly a mistake."""
DILATIONS = (1, 2, 4, 8)
KERNEL = 5


class PhonemeReader(nn.Module):
    """Mel spectrograms to what is said in every column."""

    filters: Tensor
    window: Tensor

    def __init__(self, config: PhonemeReaderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.register_buffer("filters", mel_filters(config.mel_bins, FFT), persistent=False)
        self.register_buffer("window", torch.hann_window(FFT), persistent=False)
        self.stem = nn.Conv1d(config.mel_bins, width, KERNEL, STRIDE, padding=KERNEL // 2)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(config.blocks))
        self.mixers = nn.ModuleList(
            nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2 * step, dilation=step)
            for step, _ in zip(itertools.cycle(DILATIONS), range(config.blocks), strict=False)
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, config.phonemes)

    @property
    def context(self) -> int:
        """Columns to either side that a column depends on."""
        steps = itertools.islice(itertools.cycle(DILATIONS), self.config.blocks)
        return KERNEL // 2 * (1 + sum(steps))

    def features(self, audio: Tensor) -> Tensor:
        """Mel magnitudes [B, M, N // HOP] of float audio [B, N]."""
        with torch.autocast(audio.device.type, enabled=False):
            return mel_spectrogram(audio.float(), self.filters, self.window, HOP)

    def forward(self, magnitudes: Tensor) -> Tensor:
        """Logits [B, T, K] of mel magnitudes [B, M, 2 T]."""
        hidden = self.stem(magnitudes.clamp_min(FLOOR).log())
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            hidden = hidden + mixer(F.gelu(norm(hidden.transpose(1, 2))).transpose(1, 2))
        return self.out(self.norm(hidden.transpose(1, 2)))


def best_path(scores: np.ndarray, switch: float = SWITCH) -> np.ndarray:
    """The class of every column, [T], with the highest sum of log-probabilities [T, K] less `switch` for
    every change.
    """
    total, stays = scores[0], np.zeros(scores.shape, bool)
    came_from = np.zeros(len(scores), int)
    for column in range(1, len(scores)):
        best = int(total.argmax())
        stays[column] = total >= total[best] - switch
        came_from[column] = best
        total = np.maximum(total, total[best] - switch) + scores[column]
    path = np.zeros(len(scores), int)
    path[-1] = total.argmax()
    for column in range(len(scores) - 1, 0, -1):
        path[column - 1] = path[column] if stays[column, path[column]] else came_from[column]
    return path
