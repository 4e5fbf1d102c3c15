"""How a film goes, one value for every 0.08 s of it: the voice's pitch, the mouth and the head."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mutual_forcing.audio import resample
from mutual_forcing.config import FPS, SAMPLE_RATE
from mutual_forcing.faces import find_faces
from mutual_forcing.landmarks import find_landmarks, follow_film

EVERY = 2
"""Frames from one value to the next."""
SECONDS = EVERY / FPS
_RATE = 8000
"""Voices are searched for their pitch at this sample rate."""
_LOWEST, _HIGHEST = 65.0, 450.0
_WINDOW = 0.03
_PERIODIC, _VOICED = 0.15, 0.3
"""How far a period may differ from the one before: the first lag below the former is taken, and none above
the latter.
"""
_QUIET = 1e-3
"""Of the loudest window's power: nobody speaks."""
_NOSE, _TOP, _CHIN, _SIDES, _LIPS = 1, 10, 152, (234, 454), (13, 14)
"""Of MediaPipe's 468 points: the tip of the nose, the face's rim, and the insides of both lips."""


@dataclass(frozen=True)
class Tracks:
    """float32 [N] each, the n-th of the time n * SECONDS.

    pitch: hertz, NaN where there is no voice. mouth: gap between the lips; turn and nod: how far the nose
    stands to the picture's right and below the middle of the face; all three in heights of the face, and NaN
    in a film without a face.
    """

    pitch: np.ndarray
    mouth: np.ndarray
    turn: np.ndarray
    nod: np.ndarray

    @property
    def pitch_spread(self) -> float | None:
        """Standard deviation of the pitch in semitones; None where there is hardly a voice."""
        voiced = self.pitch[~np.isnan(self.pitch)]
        return float(np.std(12 * np.log2(voiced))) if len(voiced) > 4 else None

    @property
    def head_motion(self) -> float | None:
        """Root mean square distance of the nose from its mean place, in percent of the face's height."""
        if np.isnan(self.turn).all():
            return None
        return float(100 * np.hypot(np.std(self.turn), np.std(self.nod)))


def read_tracks(
    frames: np.ndarray, audio: np.ndarray, ask: Callable[[], None] = lambda: None
) -> Tracks:
    """The tracks of frames uint8 [T, H, H, 3] and sound float mono [N] at 24 kHz.

    `ask` is called for every frame that is looked at.
    """
    count = -(-len(frames) // EVERY)
    pitch = read_pitch(audio)
    pitch = np.pad(pitch, (0, max(0, count - len(pitch))), constant_values=np.nan)[:count]
    points = _follow(frames[::EVERY], ask)
    if points is None:
        return Tracks(pitch, *(np.full(count, np.nan, np.float32) for _ in range(3)))
    height = np.linalg.norm(points[:, _CHIN] - points[:, _TOP], axis=1)
    lips = np.linalg.norm(points[:, _LIPS[0]] - points[:, _LIPS[1]], axis=1)
    middle = np.stack(
        [points[:, _SIDES, 0].mean(1), (points[:, _TOP, 1] + points[:, _CHIN, 1]) / 2], 1
    )
    away = (points[:, _NOSE] - middle) / height[:, None]
    return Tracks(pitch, *(x.astype(np.float32) for x in (lips / height, away[:, 0], away[:, 1])))


def _follow(frames: np.ndarray, ask: Callable[[], None]) -> np.ndarray | None:
    """The points [N, 478, 2] of the largest face; None if there is none in the first frame."""
    faces = find_faces(frames[0])
    if not faces:
        return None
    first = find_landmarks(frames[0], (faces[0].left_eye, faces[0].right_eye), faces[0].mouth)
    if first is None:
        return None
    points = [first.points]
    for found in follow_film(frames[1:], first):
        ask()
        points.append(found.points)
    return np.stack(points)


def read_pitch(audio: np.ndarray) -> np.ndarray:
    """Hertz of the voice in float mono [N] at 24 kHz, float32, one value for every SECONDS; NaN without one.

    The first lag at which the sound repeats itself, by the normalised difference of YIN (de Cheveigne and
    Kawahara 2002).
    """
    if len(audio) < SECONDS * SAMPLE_RATE:
        return np.zeros(0, np.float32)
    sound = resample(audio, SAMPLE_RATE, _RATE).astype(np.float64)
    hop, size, lags = round(SECONDS * _RATE), round(_WINDOW * _RATE), int(_RATE / _LOWEST) + 2
    count = len(sound) // hop
    padded = np.pad(sound, (size // 2, size + lags))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size + lags)[::hop][:count]
    # The difference of a window and itself, a lag later, from its correlation and both powers.
    fft = 1 << (size + 2 * lags).bit_length()
    spectrum = np.conj(np.fft.rfft(windows[:, :size], fft)) * np.fft.rfft(windows, fft)
    power = np.pad(np.square(windows).cumsum(1), ((0, 0), (1, 0)))
    power = power[:, size : size + lags] - power[:, :lags]
    difference = power[:, :1] + power - 2 * np.fft.irfft(spectrum, fft)[:, :lags]
    difference[:, 0] = 0
    mean = difference.cumsum(1) / np.maximum(np.arange(lags), 1)
    normal = difference / np.maximum(mean, 1e-12)
    shortest = int(_RATE / _HIGHEST)
    found = np.full(count, np.nan, np.float32)
    spoken = power[:, 0] > _QUIET * power[:, 0].max(initial=1e-9)
    for index in np.flatnonzero(spoken):
        row = normal[index]
        good = np.flatnonzero(row[shortest:-1] < _PERIODIC)
        lag = shortest + int(good[0] if len(good) else row[shortest:-1].argmin())
        while lag + 2 < lags and row[lag + 1] < row[lag]:
            lag += 1
        if row[lag] < _VOICED:
            before, here, after = row[lag - 1 : lag + 2]
            bend = before - 2 * here + after
            found[index] = _RATE / (lag + (0.5 * (before - after) / bend if bend > 0 else 0.0))
    return found
