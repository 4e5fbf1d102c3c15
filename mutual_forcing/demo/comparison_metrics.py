"""Measures a finished video with the networks and functions of the evaluation."""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import cv2
import numpy as np

from mutual_forcing.audio import resample
from mutual_forcing.canvas import film_size
from mutual_forcing.config import FPS, SAMPLE_RATE
from mutual_forcing.media import read_audio
from mutual_forcing.text.recognition import quiet_end
from mutual_forcing.types import GenerationRequest

if TYPE_CHECKING:
    from mutual_forcing.metrics.tracks import Tracks

log = logging.getLogger(__name__)
MEASURED_SIZE = 128
"""Pixels on each side of the frames that are measured."""
_MIN_RMS = 1e-4
"""A loudness below this gives no meaningful ratio."""
_STRETCH_SECONDS = (4.0, 8.0)
"""Of sound that is recognised at a time, cut where it is most quiet: about one second of work."""


class StoppedError(Exception):
    """Nobody wants the measurements any more."""


def animated_square(request: GenerationRequest) -> np.ndarray | None:
    """Return the affine map [2, 3] from the measured frames to the video's pixels.

    None stands for the whole frame.
    """
    crop, size = request.crop, MEASURED_SIZE
    if crop is None or request.framing == "face":
        return None
    scale = film_size(request.image.shape, crop, "whole", request.size)[0] / request.image.shape[1]
    linear = scale * replace(crop, tall=1.0).to_picture * (2 / size)
    middle = scale * np.array([crop.x, crop.y]) - 0.5
    return np.column_stack([linear, middle - linear @ np.full(2, (size - 1) / 2)])


@dataclass(frozen=True)
class Measurements:
    """What a video says about itself.

    figures: the fields of VariantMetrics that are measured on it. heard: for every word of the text in its
    order whether it was recognised; empty where none was looked for. tracks: how it goes.
    """

    figures: dict[str, float | None]
    heard: tuple[tuple[str, bool], ...]
    tracks: Tracks


def measure_video(
    video: Path,
    words: Sequence[str],
    square: np.ndarray | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Measurements:
    """Measure a video.

    Args:
        video: the MP4 file.
        words: what is said in it, in English; without words there is no word error rate.
        square: the affine map of `animated_square`; the rest of the frame does not move.
        stopped: asked between the parts of the work, and about once a second where words are recognised.

    Raises:
        StoppedError: when `stopped` says so.
    """
    from mutual_forcing.metrics.naturalness import RATE, can_judge, naturalness
    from mutual_forcing.metrics.tracks import read_tracks
    from mutual_forcing.metrics.words import normalise

    def ask() -> None:
        if stopped():
            raise StoppedError

    audio, frames = read_audio_or_silence(video), read_squares(video, square, ask)
    figures: dict[str, float | None] = dict(_drift(frames, audio))
    ask()
    figures["lip_sync"] = lip_sync(frames, audio)
    ask()
    tracks = read_tracks(frames, audio, ask)
    figures |= {"pitch_spread": tracks.pitch_spread, "head_motion": tracks.head_motion}
    if can_judge():
        try:
            figures["naturalness"] = naturalness(resample(audio, SAMPLE_RATE, RATE))
        except Exception:  # it is none of ours, and one figure of many
            log.exception("DistillMOS cannot judge.")
    heard: tuple[tuple[str, bool], ...] = ()
    if any(normalise(word) for word in words):
        figures["word_errors"], heard = _words(audio, words, ask)
    return Measurements(figures, heard, tracks)


def _words(
    audio: np.ndarray, words: Sequence[str], ask: Callable[[], None]
) -> tuple[float, tuple[tuple[str, bool], ...]]:
    """The word error rate, and for every word whether all of it was recognised."""
    from mutual_forcing.metrics.words import normalise, recognised, transcribe, word_error_rate

    found, begin = [], 0
    while begin < len(audio):
        ask()
        end = quiet_end(audio, begin, SAMPLE_RATE, _STRETCH_SECONDS)
        found.append(transcribe(audio[begin:end]))
        begin = end
    heard = normalise(" ".join(found))
    parts = [normalise(word) for word in words]
    right = iter(recognised([part for word in parts for part in word], heard))
    marks = tuple(
        (word, all([next(right) for _ in own])) for word, own in zip(words, parts, strict=True)
    )
    return word_error_rate(" ".join(words), " ".join(heard)), marks


def read_audio_or_silence(video: Path) -> np.ndarray:
    """Return the video's sound as float mono 24 kHz, or one second of silence if it has none."""
    try:
        return read_audio(video)
    except ValueError:
        return np.zeros(SAMPLE_RATE, np.float32)


def lip_sync(frames: np.ndarray, audio: np.ndarray) -> float | None:
    """Return the sync score's margin; None for a video that is too short."""
    from mutual_forcing.metrics.sync import embed, score

    # An encoder may cut the last samples.
    padding = max(0, len(frames) * SAMPLE_RATE // FPS - len(audio))
    try:
        return score(*embed(*_lip_sync_networks(), frames, np.pad(audio, (0, padding)))).margin
    except ValueError:
        return None


def read_squares(
    video: Path, square: np.ndarray | None = None, ask: Callable[[], None] = lambda: None
) -> np.ndarray:
    """Return the animated square of every frame, small: uint8 [T, 128, 128, 3]; `ask` is called for each."""
    squares = []
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            ask()
            squares.append(_cut_out(frame.to_ndarray(format="rgb24"), square))
    return np.stack(squares)


def _drift(frames: np.ndarray, audio: np.ndarray) -> dict[str, float | None]:
    from mutual_forcing.metrics.drift import by_window, describe

    half = len(frames) / FPS / 2
    result: dict[str, float | None] = {"motion": describe(frames, audio)["motion"]}
    halves = list(by_window(frames, audio, (0.0, half, 2 * half)).values())
    if len(halves) == 2:
        first, second = halves
        result["colour_drift"] = abs(second["colour"] - first["colour"])
        if min(first["loudness"], second["loudness"]) > _MIN_RMS:
            ratio = second["loudness"] / first["loudness"]
            result["loudness_drift"] = float(20 * np.log10(ratio))
    return result


@functools.lru_cache(maxsize=1)
def _lip_sync_networks() -> tuple[Any, Any]:
    from mutual_forcing.metrics.mouth import load_reader
    from mutual_forcing.metrics.sync import load_pair

    return load_pair(), load_reader()


def _cut_out(frame: np.ndarray, square: np.ndarray | None) -> np.ndarray:
    size = MEASURED_SIZE
    if square is None:
        return cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)
    # Sampled finely and then averaged, so that large faces are reduced without aliasing.
    fine = max(1, math.ceil(float(np.hypot(*square[:, 0]))))
    linear = square[:, :2] / fine
    finer = np.column_stack([linear, square[:, 2] - linear.sum(1) * (fine - 1) / 2])
    large = cv2.warpAffine(
        frame, finer, (size * fine, size * fine), borderMode=cv2.BORDER_REPLICATE,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )  # fmt: skip
    return cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA)
