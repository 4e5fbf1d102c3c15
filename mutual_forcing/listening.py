"""The phonemes of a user's sound, for the lips to follow: pocketsphinx's phoneme recogniser.

The transformer reads lips from timed phonemes far better than from the latents of given audio, of which
training shows it little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .config import SAMPLE_RATE
from .text import ARPABET, PAUSE
from .types import TimedPhoneme, Transcript

if TYPE_CHECKING:
    from pocketsphinx import Decoder

_RATE = 100
"""Frames a second of pocketsphinx."""
_SILENCE = 1e-3
"""Peak amplitude below which nothing can be heard (-60 dB)."""


def hear_phonemes(audio: np.ndarray) -> Transcript:
    """Phonemes and their times, without words, in float mono 16 kHz [N] within -1..1.

    What is heard but no speech (noise, breath) is a pause, and silence one long one. Takes about 0.06 s
    for a second of sound on one core.
    """
    if is_silent(audio):
        return Transcript((TimedPhoneme(PAUSE, 0.0, len(audio) / SAMPLE_RATE),))
    # Imported at first use: only driving audio needs it.
    from pocketsphinx import Decoder, get_model_path

    decoder = Decoder(
        samprate=SAMPLE_RATE,
        loglevel="FATAL",
        lm=None,
        allphone=get_model_path("en-us/en-us-phone.lm.bin"),
        lw=2.0,
        beam=1e-20,
        pbeam=1e-20,
    )
    return Transcript(
        tuple(
            TimedPhoneme(ARPABET.get(symbol.lower(), PAUSE), start, end)
            for symbol, start, end in segments(decoder, audio)
        )
    )


def is_silent(audio: np.ndarray) -> bool:
    """Whether nothing can be heard in it."""
    return bool(np.abs(audio).max(initial=0.0) < _SILENCE)


def segments(decoder: Decoder, audio: np.ndarray) -> list[tuple[str, float, float]]:
    """What a pocketsphinx decoder finds in float mono 16 kHz [N]: symbol or word, start and end in s."""
    decoder.start_utt()
    decoder.process_raw((np.clip(audio, -1, 1) * 32767).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
    if decoder.hyp() is None:
        return []
    return [(s.word, s.start_frame / _RATE, (s.end_frame + 1) / _RATE) for s in decoder.seg()]
