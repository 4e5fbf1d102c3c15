"""What is said in a sound, in the features in which the text encoder says what a text says.

A stream driven by sound so reads it where it would read phonemes, whatever the language; shape letters: B
batch, T tokens of 40 ms, W width of the text's features.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..audio import excerpt, mel_filters, mel_spectrogram
from ..chunks import FRAMES_PER_CHUNK
from ..config import FPS, SAMPLE_RATE, SoundReaderConfig
from ..text.timing import MAX_PHONEMES
from .text_encoder import EncodedText

VERSION = 1
"""Raised when a sound is read otherwise, so that what was measured of driven lips is measured again."""
HOP, WINDOW = SAMPLE_RATE // 100, SAMPLE_RATE // 40
SAMPLES = SAMPLE_RATE // FPS
"""Of one token."""
FLOOR = 1e-4
"""Magnitude that is taken for silence, -80 dB."""
DILATIONS = (1, 2, 4, 1, 2, 4)
KERNEL = 5
MARGIN = sum((KERNEL // 2) * dilation for dilation in DILATIONS) + 4
"""Tokens on each side that what is read of one may depend on."""


class SoundReader(nn.Module):
    """Log-mel spectrogram, strided convolutions to one token a frame, then dilated ones over neighbours."""

    filters: Tensor
    window: Tensor

    def __init__(self, config: SoundReaderConfig, text_width: int) -> None:
        super().__init__()
        width = config.width
        self.stem = nn.ModuleList(
            [nn.Conv1d(config.mel_bins, width, 5, 2, 2), nn.Conv1d(width, width, 4, 2, 1)]
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in DILATIONS)
        self.mixers = nn.ModuleList(
            nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2 * d, dilation=d) for d in DILATIONS
        )
        self.forwards = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width),
                nn.Linear(width, 2 * width),
                nn.GELU(),
                nn.Linear(2 * width, width),
            )
            for _ in DILATIONS
        )
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, text_width)
        with torch.device("cpu"):  # They are computed, also where weights are only shapes.
            filters = mel_filters(config.mel_bins, WINDOW)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Float [B, N] at 24 kHz within -1..1, N a multiple of 960, to features [B, N / 960, W]."""
        return self.read(self.spectrogram(audio))

    def spectrogram(self, audio: Tensor) -> Tensor:
        """Log-mel of float [B, N], [B, M, N / 240], about -1..1."""
        magnitudes = mel_spectrogram(audio, self.filters, self.window, HOP)
        return torch.log10(magnitudes.clamp_min(FLOOR)) / 2 + 0.5

    def read(self, mel: Tensor) -> Tensor:
        """Features [B, T, W] of a spectrogram [B, M, 4 T]."""
        x = mel
        for layer in self.stem:
            x = F.gelu(layer(x))
        x = x.transpose(1, 2)
        for norm, mixer, forward in zip(self.norms, self.mixers, self.forwards, strict=True):
            x = x + mixer(F.gelu(norm(x)).transpose(1, 2)).transpose(1, 2)
            x = x + forward(x)
        return self.out(self.norm(x))


AROUND = (MAX_PHONEMES - FRAMES_PER_CHUNK) // 2
"""Tokens before a chunk and after it that it reads: as many in all as there is room for phonemes."""
FIRST = -FRAMES_PER_CHUNK - AROUND
"""The first token that a stream reads, of the chunk before its first one."""
STRETCH = 128
"""Tokens that are read at once; a stream then waits for the first of them alone."""


class HeardSound:
    """What one sound says, read as far as it is asked for; the same as if it were read as a whole."""

    def __init__(self, reader: SoundReader, audio: np.ndarray) -> None:
        """Take float mono [N] at 24 kHz within -1..1; nothing is read yet. Before and after it is silence."""
        self._reader, self._audio = reader, audio
        self._features: dict[int, Tensor] = {}

    def under(self, text: EncodedText, chunk: int) -> EncodedText:
        """The text of one chunk, from -1 on, with what is heard around it in place of phonemes."""
        first = chunk * FRAMES_PER_CHUNK - AROUND
        features = torch.cat([self._token(first + n) for n in range(MAX_PHONEMES)], 1)
        start = (torch.arange(MAX_PHONEMES, device=features.device) - AROUND) / FPS
        return text.hearing(features[:, None], start, start + 1 / FPS)

    def _token(self, index: int) -> Tensor:
        """[1, 1, W]."""
        number, place = divmod(index - FIRST, STRETCH)
        if number not in self._features:
            # A chunk reads of two stretches at most.
            self._features = {n: f for n, f in self._features.items() if n >= number - 1}
            self._features[number] = self._read(number * STRETCH + FIRST)
        return self._features[number][:, place : place + 1]

    def _read(self, first: int) -> Tensor:
        begin, count = (first - MARGIN) * SAMPLES, (STRETCH + 2 * MARGIN) * SAMPLES
        samples = torch.from_numpy(excerpt(self._audio, begin, count).astype(np.float32))
        features = self._reader(samples[None].to(self._reader.out.weight.device))
        return features[:, MARGIN : MARGIN + STRETCH]
