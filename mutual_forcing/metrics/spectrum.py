"""The spectrogram that the judges share. The model's own is another one, on purpose."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from mutual_forcing.audio import mel_filters, mel_spectrogram, resample
from mutual_forcing.config import FPS, SAMPLE_RATE

BINS = 40
RATE = 16_000
"""What the judges hear, whatever the rate of the sound: figures of all checkpoints can be compared."""
HOP = RATE // 100
MEL_PER_FRAME = RATE // FPS // HOP
"""Spectrogram columns in one frame of video: 4."""
_FFT = 512
_FLOOR = 1e-4


def log_mel(audio: np.ndarray) -> Tensor:
    """Natural logarithm of the mel spectrum of float mono [N]: float32 [40, columns].

    Centred columns of 32 ms, 10 ms apart, from -9.2 (silence) up. Raises ValueError below 0.1 s.
    """
    if len(audio) < SAMPLE_RATE // 10:
        raise ValueError("The sound is shorter than 0.1 seconds.")
    samples = torch.from_numpy(resample(audio, SAMPLE_RATE, RATE))
    mel = mel_spectrogram(samples, _filters(), torch.hann_window(_FFT), HOP)
    return mel.clamp_min(_FLOOR).log()


@lru_cache(maxsize=1)
def _filters() -> Tensor:
    filters = mel_filters(BINS, _FFT, RATE)
    return filters / filters.sum(1, keepdim=True).clamp_min(1e-6)
