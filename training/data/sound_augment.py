"""Speech as microphones and rooms leave it: other voices, rooms, noise, music and hum around it.

Everything draws from the generator that it is given, and works on float32 mono [N] at 24 kHz.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mutual_forcing.config import SAMPLE_RATE

LONGEST_ROOM = 0.7
"""Seconds in which the slowest room falls by 60 dB."""


@dataclass(frozen=True)
class Surroundings:
    """Probabilities of what may be done to a sound, each on its own."""

    room: float = 0.35
    noise: float = 0.5
    music: float = 0.15
    hum: float = 0.1
    filtered: float = 0.7
    nothing: float = 0.08
    """That nobody speaks: what is around is heard alone."""


def speed_of(rng: np.random.Generator) -> float:
    """How much faster a clip is played: a smaller or larger speaker, who also speaks faster or slower."""
    return float(np.exp(rng.normal(0, 0.09))) if rng.random() < 0.7 else 1.0


def played_faster(audio: np.ndarray, speed: float) -> np.ndarray:
    """Sound [N] as [N / speed], its pitch and formants higher by as much."""
    if speed == 1.0:
        return audio
    count = int(len(audio) / speed)
    return np.interp(np.arange(count) * speed, np.arange(len(audio)), audio).astype(np.float32)


def surround(
    speech: np.ndarray, others: np.ndarray, settings: Surroundings, rng: np.random.Generator
) -> np.ndarray:
    """Speech [N] as a film might have it; `others` [N] is what other people say, for babble."""
    from scipy.signal import fftconvolve  # a second, which whoever trains nothing need not wait for

    sound = speech
    if rng.random() < settings.room:
        sound = fftconvolve(sound, _room(rng))[: len(speech)]
    level = _level(sound)
    if rng.random() < settings.noise:
        around = others if rng.random() < 0.3 else noise(len(speech), rng)
        sound = sound + _at(around, level - rng.uniform(3, 30))
    if rng.random() < settings.music:
        sound = sound + _at(music(len(speech), rng), level - rng.uniform(3, 20))
    if rng.random() < settings.hum:
        sound = sound + _at(hum(len(speech), rng), level - rng.uniform(5, 30))
    if rng.random() < settings.filtered:
        sound = _filtered(sound, rng)
    sound = _at(sound, rng.uniform(-42, -14))
    return np.clip(sound, -1, 1).astype(np.float32)


def nobody(count: int, rng: np.random.Generator) -> np.ndarray:
    """Silence, noise, music or hum [N]."""
    kind = rng.integers(4)
    if kind == 0:
        return np.zeros(count, np.float32)
    sound = (noise, music, hum)[kind - 1](count, rng)
    return np.clip(_at(_filtered(sound, rng), rng.uniform(-60, -14)), -1, 1).astype(np.float32)


def _level(sound: np.ndarray) -> float:
    """Loudness of the louder half, in dB."""
    power = np.square(sound[: len(sound) // 480 * 480].reshape(-1, 480)).mean(1)
    return 10 * float(np.log10(np.mean(power[power >= np.median(power)]) + 1e-9))


def _at(sound: np.ndarray, level: float) -> np.ndarray:
    return sound * 10 ** ((level - _level(sound)) / 20)


def _room(rng: np.random.Generator) -> np.ndarray:
    """An impulse response: the direct sound, and a tail of noise that dies away."""
    seconds = rng.uniform(0.1, LONGEST_ROOM)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.normal(size=len(time)) * 10 ** (-3 * time / seconds)
    delay = round(rng.uniform(0.002, 0.02) * SAMPLE_RATE)
    tail[:delay] = 0
    tail *= 10 ** (rng.uniform(-18, 0) / 20) / np.sqrt(np.square(tail).sum() + 1e-9)
    tail[0] = 1.0
    return tail


def noise(count: int, rng: np.random.Generator) -> np.ndarray:
    """Noise that falls by 0 to 8 dB an octave, and swells."""
    spectrum = np.fft.rfft(rng.normal(size=count))
    spectrum *= np.maximum(np.fft.rfftfreq(count, 1 / SAMPLE_RATE), 50) ** -rng.uniform(0, 1.3)
    noise = np.fft.irfft(spectrum, count)
    knots = rng.normal(0, rng.uniform(0, 6), max(2, count // SAMPLE_RATE + 2))
    swell = np.interp(np.arange(count), np.linspace(0, count, len(knots)), knots)
    return noise * 10 ** (swell / 20)


def music(count: int, rng: np.random.Generator) -> np.ndarray:
    """Chords of three to five voices with overtones, a beat or more a second."""
    sound, at = np.zeros(count), 0
    beat = rng.uniform(0.2, 1.0)
    while at < count:
        length = min(count - at, round(beat * rng.choice([1, 1, 2]) * SAMPLE_RATE))
        time = np.arange(length) / SAMPLE_RATE
        for _ in range(rng.integers(1, 5)):
            pitch = 55 * 2 ** (rng.integers(0, 48) / 12)
            fall, decay = rng.uniform(0.3, 0.9), rng.uniform(0, 6)
            for k in range(1, 7):
                tone = np.sin(2 * np.pi * (k * pitch * time + rng.random()))
                sound[at : at + length] += fall**k * np.exp(-decay * time) * tone
        if rng.random() < 0.5:  # a drum
            sound[at : at + length] += rng.normal(size=length) * np.exp(-30 * time)
        at += length
    return sound


def hum(count: int, rng: np.random.Generator) -> np.ndarray:
    """A mains hum or a steady tone with overtones."""
    pitch = rng.choice([50.0, 60.0, rng.uniform(80, 400)])
    time = np.arange(count) / SAMPLE_RATE
    strengths = rng.uniform(0, 1, 8) / np.arange(1, 9)
    return sum(s * np.sin(2 * np.pi * (k + 1) * pitch * time) for k, s in enumerate(strengths))


def _filtered(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Through a microphone: a smooth curve of some dB over the octaves, and perhaps a telephone's band."""
    spectrum = np.fft.rfft(sound)
    frequency = np.maximum(np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE), 20)
    octave = np.log2(frequency / 20)
    knots = rng.normal(0, 4, 6)
    gain = np.interp(octave, np.linspace(0, octave[-1], 6), knots)
    if rng.random() < 0.4:
        gain = gain - 60 * np.clip(np.log2(frequency / rng.uniform(3000, 9000)), 0, 1)
    if rng.random() < 0.2:
        gain = gain - 40 * np.clip(np.log2(rng.uniform(80, 350) / frequency), 0, 1)
    return np.fft.irfft(spectrum * 10 ** (gain / 20), len(sound))
