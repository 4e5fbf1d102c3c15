"""Sounds in which nobody speaks: noise, hum and tunes, made from nothing.

Float32 mono at 24 kHz, about as loud as the corpus's speech.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

from mutual_forcing.config import SAMPLE_RATE

LOUDNESS = 0.08


def noise(rng: np.random.Generator, length: int) -> np.ndarray:
    """Air, traffic, fans, hum: noise of a random colour that swells, with or without a mains hum."""
    white = rng.standard_normal(length)
    colored = lfilter([1.0], [1.0, -rng.uniform(-0.5, 0.98)], white)
    time = np.arange(length) / SAMPLE_RATE
    swell = 1 + rng.uniform(0, 0.9) * np.sin(
        2 * np.pi * rng.uniform(0.1, 8) * time + rng.uniform(0, 6)
    )
    sound = colored / np.std(colored) * swell
    if rng.random() < 0.4:
        hum = rng.choice([50.0, 60.0]) * np.arange(1, 8)
        strong = rng.uniform(0, 1, 7) / np.arange(1, 8)
        sound = sound * rng.uniform(0, 1) + 3 * strong @ np.sin(2 * np.pi * hum[:, None] * time)
    if rng.random() < 0.3:  # knocks and clicks
        for start in rng.integers(0, length, rng.integers(2, 20)):
            knock = rng.standard_normal(min(2400, length - start))
            sound[start : start + len(knock)] += (
                6 * knock * np.exp(-np.arange(len(knock)) / rng.uniform(60, 800))
            )
    return _as_loud(sound)


def tune(rng: np.random.Generator, length: int) -> np.ndarray:
    """Chords and melodies of one or more instruments, with or without drums."""
    sound = np.zeros(length)
    beat = round(SAMPLE_RATE * rng.uniform(0.12, 0.7))
    scale = np.array([0, 2, 4, 5, 7, 9, 11])
    for _ in range(rng.integers(1, 4)):
        root, slow = rng.uniform(40, 66), rng.integers(1, 5)
        overtones = np.arange(1, rng.integers(3, 20))
        strong = overtones ** -rng.uniform(0.4, 2.0) * rng.uniform(0.3, 1, len(overtones))
        decay, attack = rng.uniform(0.05, 3), rng.uniform(0.002, 0.1)
        wobble = rng.uniform(0, 0.006) * rng.integers(0, 2)
        for start in range(0, length, beat * int(slow)):
            if rng.random() < 0.15:
                continue
            time = np.arange(min(round(beat * slow * 1.5), length - start)) / SAMPLE_RATE
            for _ in range(rng.integers(1, 4)):
                pitch = root + rng.choice(scale) + 12 * rng.integers(0, 2)
                hertz = 440 * 2 ** ((pitch - 69) / 12)
                phase = 2 * np.pi * hertz * (time + wobble * np.sin(2 * np.pi * 5.5 * time) / 5.5)
                kept = overtones[overtones * hertz < 10_000]
                note = strong[: len(kept)] @ np.sin(kept[:, None] * phase)
                sound[start : start + len(time)] += (
                    note * np.exp(-time / decay) * np.minimum(time / attack, 1)
                )
    sound = _as_loud(sound)
    if rng.random() < 0.5:
        for number, start in enumerate(range(0, length, beat)):
            time = np.arange(min(beat, length - start)) / SAMPLE_RATE
            drum = rng.standard_normal(len(time)) * np.exp(-time / rng.uniform(0.01, 0.06))
            if number % 2 == 0:
                drum += 3 * np.sin(2 * np.pi * 55 * time) * np.exp(-time / 0.1)
            sound[start : start + len(time)] += 0.15 * drum
    return _as_loud(sound)


def _as_loud(sound: np.ndarray) -> np.ndarray:
    return (sound / max(1e-9, float(np.std(sound))) * LOUDNESS).clip(-1, 1).astype(np.float32)
