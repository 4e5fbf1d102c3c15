"""What torchaudio does here (nothing else imports it): resampling, mel spectrograms, loudness; and excerpts.

Uploads are resampled where they are decoded (media.py), frame by frame, so that a long one is never in
memory at its own rate.
"""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .config import SAMPLE_RATE

try:
    import torchaudio
except (OSError, RuntimeError):
    # PyPI's wheel links CUDA, and importing it beside a CPU build of torch (or one of another CUDA) fails
    # with that. What is used here is plain Python, which only asks `_extension` whether it may call the
    # compiled library: it is told no.
    _extension = types.ModuleType("torchaudio._extension")

    def _missing(function: Callable) -> Callable:
        def fail(*_: object, **__: object) -> None:
            raise RuntimeError(f"{function.__name__} needs torchaudio's compiled library.")

        return fail

    vars(_extension).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False, _IS_ALIGN_AVAILABLE=False, fail_if_no_align=_missing
    )
    sys.modules["torchaudio._extension"] = _extension
    import torchaudio

LOWEST_HERTZ = 20.0
"""Where the lowest mel filter begins; the highest ends at half the sample rate."""
SPEECH_LOUDNESS = -22.0
"""LUFS of the corpus's clips, all within 2 of it."""
_BLOCK_SECONDS, _STEP_SECONDS = 0.4, 0.1
_GATE, _OFFSET = -70.0, -0.691
_KERNEL_SECONDS = 0.1
"""The K-weighting's slowest part, a high-pass at 38 Hz, has died away to 1e-8 by then."""


def resample(audio: np.ndarray, rate: int, target: int = SAMPLE_RATE) -> np.ndarray:
    """Float [N] at `rate` to float32 [ceil(N * target / rate)] at `target`, both in the same unit."""
    samples = torch.from_numpy(np.ascontiguousarray(audio, np.float32))
    return resample_waveform(samples, rate, target).numpy()


def resample_waveform(audio: Tensor, rate: int, target: int) -> Tensor:
    """Float [..., N] at `rate` to [..., ceil(N * target / rate)] at `target`, on any device.

    A Kaiser-windowed sinc of 64 zero crossings: flat to 0.9 of the band, 100 dB down beyond it.
    """
    return torchaudio.functional.resample(
        audio,
        rate,
        target,
        lowpass_filter_width=64,
        rolloff=0.9475937167399596,
        resampling_method="sinc_interp_kaiser",
        beta=14.769656459379492,
    )


def excerpt(sound: np.ndarray, begin: int, count: int) -> np.ndarray:
    """`count` samples of a sound [N, ...] from sample `begin` on; before its start and after its end is
    silence.
    """
    part = sound[max(begin, 0) : max(begin + count, 0)]
    before = min(max(-begin, 0), count)
    around = (before, count - before - len(part))
    return np.pad(part, [around, *[(0, 0)] * (sound.ndim - 1)])


def mel_filters(bins: int, fft: int, rate: int = SAMPLE_RATE) -> Tensor:
    """Triangular filters, evenly spaced on the mel scale (HTK): float32 [bins, fft // 2 + 1]."""
    filters = torchaudio.functional.melscale_fbanks(
        fft // 2 + 1, LOWEST_HERTZ, rate / 2, bins, rate, norm=None, mel_scale="htk"
    )
    return filters.T.contiguous()


def mel_spectrogram(audio: Tensor, filters: Tensor, window: Tensor, hop: int) -> Tensor:
    """Magnitudes of float audio [..., N] through `filters` [bins, len(window) // 2 + 1].

    Returns [..., bins, N // hop], columns centred on multiples of the hop.
    """
    length = len(window)
    magnitudes = torchaudio.functional.spectrogram(
        audio, 0, window, length, hop, length, power=1.0, normalized=False
    )
    return filters @ magnitudes[..., : audio.shape[-1] // hop]


def loudness(audio: np.ndarray) -> float:
    """Integrated loudness of float mono 24 kHz [N] in LUFS (ITU-R BS.1770-4); -inf for silence.

    Where its library does not load, torchaudio's own `loudness` filters in Python, sample by sample (0.7 s
    for a second of sound): here its filters are asked once, for their impulse response.
    """
    block, step = (round(seconds * SAMPLE_RATE) for seconds in (_BLOCK_SECONDS, _STEP_SECONDS))
    samples = torch.from_numpy(np.pad(audio.astype(np.float32), (0, max(0, block - len(audio)))))
    weighted = torchaudio.functional.fftconvolve(samples, _k_weighting())[: len(samples)]
    energy = weighted.square().unfold(0, block, step).mean(1)
    # Pauses do not count: blocks below -70 LUFS, then those 10 LU below the mean of the others.
    energy = energy[energy > 10 ** ((_GATE - _OFFSET) / 10)]
    energy = energy[energy > 0.1 * energy.mean()]
    return _OFFSET + 10 * math.log10(energy.mean()) if len(energy) else -math.inf


def to_speech_loudness(audio: np.ndarray, tolerance: float) -> np.ndarray:
    """Float mono 24 kHz [N] as loud as the corpus's clips; unchanged where that is true within `tolerance`
    LU, and where there is nothing to hear.
    """
    difference = SPEECH_LOUDNESS - loudness(audio)
    if not math.isfinite(difference) or abs(difference) <= tolerance:
        return audio
    return audio * 10 ** (difference / 20)


@lru_cache(maxsize=1)
def _k_weighting() -> Tensor:
    """Impulse response of the K-weighting at 24 kHz: a high shelf for the head, then a high-pass."""
    impulse = torch.zeros(round(_KERNEL_SECONDS * SAMPLE_RATE))
    impulse[0] = 0.1  # torchaudio clips at 1
    shelved = torchaudio.functional.treble_biquad(impulse, SAMPLE_RATE, 4.0, 1500.0, 0.5**0.5)
    return 10 * torchaudio.functional.highpass_biquad(shelved, SAMPLE_RATE, 38.0, 0.5)
