"""The phonemes of a user's sound, for the lips to follow: pocketsphinx's phoneme recogniser.

The transformer reads lips from timed phonemes far better than from the latents of given audio, of which
training shows it little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..audio import resample
from ..config import SAMPLE_RATE
from ..types import TimedPhoneme, Transcript
from .inventory import ARPABET, PAUSE

if TYPE_CHECKING:
    from pocketsphinx import Decoder

VERSION = 2
"""Raised when other phonemes are heard, so that what was measured of driven lips is measured again."""
_RATE = 16_000
"""Samples a second of pocketsphinx."""
_FRAME_RATE = 100
"""Frames a second of pocketsphinx."""
_SILENCE = 1e-3
"""Peak amplitude below which nothing can be heard (-60 dB)."""
_STRETCH_SECONDS = (3.0, 5.0)


class PhonemeRecogniser:
    """Hears the phonemes of one sound, as far as they are asked for.

    By stretches of a few seconds, cut where it is most quiet: a stream then waits for the first of them
    alone, and of 90 s of held-out speech 60 % of the phonemes are heard in place, by 10 ms, where one
    whole utterance has 58 %. Takes about 0.06 s for a second of sound on one core.
    """

    def __init__(self, audio: np.ndarray) -> None:
        """Take float mono [N] within -1..1; nothing is heard yet."""
        self._audio = resample(audio, SAMPLE_RATE, _RATE)
        self._heard = 0
        self._phonemes: tuple[TimedPhoneme, ...] = ()
        self._decoder: Decoder | None = None

    def until(self, seconds: float) -> Transcript:
        """All phonemes of the sound until `seconds` and a few seconds more, without words.

        What is heard but no speech (noise, breath, silence) is a pause.
        """
        while self._heard < min(seconds * _RATE, len(self._audio)):
            end = quiet_end(self._audio, self._heard, _RATE, _STRETCH_SECONDS)
            stretch = self._audio[self._heard : end]
            offset = self._heard / _RATE
            self._phonemes += Transcript(self._recognise(stretch)).shifted(offset).phonemes
            self._heard = end
        if self._heard == len(self._audio):
            self._decoder = None  # 30 MB, and nothing is left to hear
        return Transcript(self._phonemes)

    def _recognise(self, audio: np.ndarray) -> tuple[TimedPhoneme, ...]:
        if is_silent(audio):
            return (TimedPhoneme(PAUSE, 0.0, len(audio) / _RATE),)
        # Of one speaker: what the decoder has learnt of the voice helps with the next stretch.
        self._decoder = self._decoder or _decoder()
        return tuple(
            TimedPhoneme(ARPABET.get(symbol.lower(), PAUSE), start, end)
            for symbol, start, end in segments(self._decoder, audio)
        )


def _decoder() -> Decoder:
    # Imported at first use: only driving audio needs it.
    from pocketsphinx import get_model_path

    return open_decoder(
        lm=None,
        allphone=get_model_path("en-us/en-us-phone.lm.bin"),
        lw=2.0,
        beam=1e-20,
        pbeam=1e-20,
    )


def open_decoder(**model: Any) -> Decoder:
    """A decoder of pocketsphinx's, for `segments`."""
    from pocketsphinx import Decoder

    return Decoder(samprate=_RATE, loglevel="FATAL", **model)


def hear(decoder: Decoder, audio: np.ndarray) -> list[tuple[str, float, float]]:
    """`segments` of float mono [N] at the rate of all sound here."""
    return segments(decoder, resample(audio, SAMPLE_RATE, _RATE))


def quiet_end(audio: np.ndarray, begin: int, rate: int, within: tuple[float, float]) -> int:
    """Where a stretch of mono [N] that begins at sample `begin` ends: in the quietest 50 ms so many seconds
    later.
    """
    least, most = (begin + round(seconds * rate) for seconds in within)
    if len(audio) <= most:
        return len(audio)
    width = rate // 20
    power = np.convolve(np.square(audio[least:most]), np.full(width, 1 / width), "valid")
    return least + int(power.argmin()) + width // 2


def is_silent(audio: np.ndarray) -> bool:
    """Whether nothing can be heard in it."""
    return bool(np.abs(audio).max(initial=0.0) < _SILENCE)


def segments(decoder: Decoder, audio: np.ndarray) -> list[tuple[str, float, float]]:
    """What a pocketsphinx decoder finds in float mono 16 kHz [N]: symbol or word, start and end in s."""
    listen_to(decoder, audio)
    if decoder.hyp() is None:
        return []
    return [
        (s.word, s.start_frame / _FRAME_RATE, (s.end_frame + 1) / _FRAME_RATE)
        for s in decoder.seg()
    ]


def listen_to(decoder: Decoder, audio: np.ndarray) -> None:
    """Let a pocketsphinx decoder hear float mono 16 kHz [N], whatever it is to find in it."""
    decoder.start_utt()
    decoder.process_raw((np.clip(audio, -1, 1) * 32767).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()
